import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.injector.review import Answer, MalformedReviewError, read_review, write_review
from tests.autoscaler.injector.reviews import posted, response


def test_a_review_is_read_as_the_api_server_writes_it() -> None:
    request = read_review(posted({"metadata": {"generateName": "a-"}}))
    assert (request.uid, request.kind.kind, request.operation, request.namespace) == (
        "705ab4f5", "Pod", "CREATE", "default",
    )  # fmt: skip
    assert request.object == {"metadata": {"generateName": "a-"}}
    assert request.old_object is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"request": {}}',
        b"\xff",
        b'{"apiVersion": "\xff"}',
        b'{"a": ' + b"[" * 50_000,
        posted({}).replace(b"/v1", b"/v1beta1"),
    ],
)
def test_what_is_no_review_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedReviewError, match="This is"):
        read_review(body)


def test_an_answer_without_a_refusal_allows() -> None:
    assert response(write_review("7", Answer())) == {"uid": "7", "allowed": True}


def test_a_patch_is_a_json_patch() -> None:
    operations = [{"op": "add", "path": "/a", "value": 1}]
    assert response(write_review("7", Answer(operations=operations)))["patch"] == operations


def test_a_refusal_says_why_and_patches_nothing() -> None:
    answer = response(write_review("7", Answer(refusal="no", operations=[{"op": "remove", "path": "/a"}])))
    assert answer == {"uid": "7", "allowed": False, "status": {"code": 422, "reason": "Invalid", "message": "no"}}


@given(st.lists(st.text(max_size=400), max_size=30))
def test_warnings_are_short_few_and_of_one_line(texts: list[str]) -> None:
    warnings = response(write_review("7", Answer(warnings=texts))).get("warnings", [])
    assert len(warnings) == min(len(texts), 12)
    assert all(len(line) <= 256 and line.startswith("zerogate: ") and "\n" not in line for line in warnings)
