"""Answers of the API as errors of our own."""

import pytest

from zerogate.kube.decoding import status_of
from zerogate.kube.errors import (
    AlreadyExists,
    Asked,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    ServerFault,
    TooManyRequests,
    Unauthorized,
    VersionTooLarge,
    refusal,
)

ASKED = Asked(verb="patch", group="apps", resource="deployments/scale", namespace="models", name="llama")


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, b"{}", Invalid),
        (401, b"{}", Unauthorized),
        (403, b"{}", Forbidden),
        (404, b"{}", NotFound),
        (409, b'{"reason": "Conflict"}', Conflict),
        (409, b'{"reason": "AlreadyExists"}', AlreadyExists),
        (410, b"{}", Gone),
        (422, b"{}", Invalid),
        (429, b"{}", TooManyRequests),
        (500, b"{}", ServerFault),
        (503, b"<html>no such luck</html>", ServerFault),
        (504, b'{"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}', VersionTooLarge),
        (418, b"", KubeError),
    ],
)
def test_each_status_is_an_error_of_its_own(code: int, body: bytes, kind: type[KubeError]) -> None:
    error = refusal(ASKED, code, status_of(body))
    assert type(error) is kind
    assert error.status == code
    assert "deployments/scale.apps models/llama" in str(error)


def test_a_missing_permission_is_said_as_the_rule_that_would_give_it() -> None:
    status = status_of(b'{"message": "User \\"u\\" cannot patch resource \\"deployments/scale\\""}')
    assert str(refusal(ASKED, 403, status)) == (
        "patch deployments/scale.apps models/llama: not permitted. Add this rule to a Role in namespace models "
        'of zerogate: {apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}'
    )


def test_a_refusal_by_admission_names_no_rule() -> None:
    error = refusal(ASKED, 403, status_of(b'{"message": "exceeded quota: gpus"}'))
    assert isinstance(error, Forbidden)
    assert error.rule == ""
    assert str(error).endswith("refused: exceeded quota: gpus")


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("3", b"{}", 3.0),
        (None, b'{"details": {"retryAfterSeconds": 5}}', 5.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", b"{}", None),
        (None, b"{}", None),
    ],
)
def test_the_time_to_try_again_is_read_where_the_server_names_one(
    header: str | None, body: bytes, seconds: float | None
) -> None:
    assert refusal(ASKED, 429, status_of(body), retry_after=header).retry_after_s == seconds
