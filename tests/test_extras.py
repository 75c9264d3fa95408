"""What our own environment brings is skipped where it is missing, and missed in CI."""

from pathlib import Path

import pytest

from tests.extras import extra


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_module_that_is_not_there_is_no_test_and_in_ci_a_failure(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="nowhere is not here: `make environment-dev` brings it"):
        extra("nowhere")
    assert extra("tests.extras").extra is extra


def test_nobody_skips_past_this_rule() -> None:
    own = Path(__file__)
    users = [path.name for path in own.parent.rglob("*.py") if path != own and "importorskip" in path.read_text()]
    assert users == []
