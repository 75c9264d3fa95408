from zerogate.policy import Policy
from zerogate.policy_checks import contradictions, with_linked_defaults
from zerogate.schedule_text import parse_window


def test_the_default_policy_does_not_contradict_itself() -> None:
    assert list(contradictions(Policy(), given=())) == []


def test_every_contradiction_is_told_not_only_the_first() -> None:
    policy = Policy(
        min_replicas=3, max_replicas=2, schedule=(parse_window("daily 08:00-09:00 UTC = 4"),), panic_window_s=90
    )
    errors = list(contradictions(policy, given=("min_replicas", "max_replicas", "panic_window_s")))
    assert [error.key for error in errors] == ["min-replicas", "schedule", "panic-window"]
    assert "max-replicas (2)" in errors[0].problem
    assert "stable-window (1m by default)" in errors[2].problem


def test_a_target_that_was_given_is_not_replaced() -> None:
    assert with_linked_defaults({"concurrency_limit": 2, "target_concurrency": 9.0})["target_concurrency"] == 9.0
    assert "target_concurrency" not in with_linked_defaults({"concurrency_limit": 0})
