"""What must hold between the keys of one policy, each right by itself. Pure.

Called once by the parser, after every key was read. An error names the key that is to be changed, and says the other.
"""

from collections.abc import Collection, Iterator
from typing import Any

from zerogate.errors import DefinitionError, shown
from zerogate.http.grpc import HEALTH_CHECK
from zerogate.policy import Policy
from zerogate.quantities import format_duration


def with_linked_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the defaults that depend on other keys.

    A replica that takes fewer at once than the default target would never look busy enough for a second one, so the
    target follows a lower limit. Over `h2c` most replicas are servers of gRPC, which have a health service of their own
    and no other path.
    """
    if values.get("protocol") == "h2c" and "ready_path" not in values:
        values = {**values, "ready_path": HEALTH_CHECK.decode()}
    limit = values.get("concurrency_limit", 0)
    if limit and "target_concurrency" not in values and limit < Policy().target_concurrency:
        return {**values, "target_concurrency": float(limit)}
    return values


def contradictions(policy: Policy, *, given: Collection[str]) -> Iterator[DefinitionError]:
    """What cannot hold together, most basic first. `given`: fields that the user wrote; the others are defaults."""
    yield from _bounds(policy, given)
    yield from _targets(policy, given)
    yield from _windows(policy, given)


def _bounds(policy: Policy, given: Collection[str]) -> Iterator[DefinitionError]:
    most = f"max-replicas ({policy.max_replicas}{_by_default('max_replicas', given)})"
    raise_it = "Raise max-replicas, or lower this."
    if policy.min_replicas > policy.max_replicas:
        yield DefinitionError(f"{policy.min_replicas} is above {most}", key="min-replicas", hint=raise_it)
    for window in policy.schedule:
        if window.floor > policy.max_replicas:
            problem = f"{shown(window.text)}: the floor {window.floor} is above {most}"
            yield DefinitionError(problem, key="schedule", hint=raise_it)


def _targets(policy: Policy, given: Collection[str]) -> Iterator[DefinitionError]:
    limit = policy.concurrency_limit
    if limit and "target_concurrency" in given and policy.target_concurrency > limit:
        problem = f"{policy.target_concurrency:g} is above concurrency-limit ({limit})"
        hint = "A replica never has more requests than its limit, so it would never be at its target: lower this."
        yield DefinitionError(problem, key="target-concurrency", hint=hint)
    if policy.metric == "rps" and policy.target_rps is None:
        yield DefinitionError("rps needs target-rps", key="metric", hint="Give the requests per second of one replica.")
    if policy.metric != "rps" and policy.target_rps is not None:
        yield DefinitionError(
            "is used only with metric: rps", key="target-rps", hint="Add metric: rps, or take it out."
        )


def _windows(policy: Policy, given: Collection[str]) -> Iterator[DefinitionError]:
    if policy.panic_window_s < policy.stable_window_s:
        return
    stable = f"{format_duration(policy.stable_window_s)}{_by_default('stable_window_s', given)}"
    panic = f"{format_duration(policy.panic_window_s)}{_by_default('panic_window_s', given)}"
    hint = "Give both; a tenth of the stable window is usual."
    yield DefinitionError(f"{panic} is not shorter than stable-window ({stable})", key="panic-window", hint=hint)


def _by_default(field: str, given: Collection[str]) -> str:
    return "" if field in given else " by default"
