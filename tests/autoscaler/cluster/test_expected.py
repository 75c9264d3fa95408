"""Who should report is told as changes, of which none is lost and none is for nothing."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.cluster.expected import MOST_WORKERS, Expected


def test_what_came_and_went_before_it_was_told_is_not_told() -> None:
    it = Expected()
    it.set("ns/a", "ns/s")
    it.remove("ns/a")
    changes = it.take(10)
    assert (changes.added, changes.gone) == ({}, [])


def test_what_went_and_came_again_is_told_only_where_it_sees_something_else() -> None:
    it = Expected()
    it.set("ns/a", "ns/s")
    it.take(10)
    it.remove("ns/a")
    it.set("ns/a", "ns/s")
    assert it.take(10).added == {}
    it.set("ns/a", "ns/other")
    assert it.take(10).added == {"ns/a": "ns/other"}


def test_a_gateways_pod_that_is_told_of_twice_keeps_its_workers() -> None:
    it = Expected()
    it.set_gateway(("system", "gw"))
    it.hear("system/gw/0")
    it.take(10)
    it.set_gateway(("system", "gw"))
    changes = it.take(10)
    assert (changes.added, changes.gone) == ({}, [])


def test_of_workers_that_end_one_after_the_other_the_last_ones_are_expected() -> None:
    it = Expected()
    it.set_gateway(("system", "gw"))
    told: dict[str, str | None] = {}
    for number in range(3 * MOST_WORKERS):
        it.hear("system/gw/first")
        it.hear(f"system/gw/{number}")
        changes = it.take(1000)
        told.update(changes.added)
        for name in changes.gone:
            told.pop(name)
    assert len(told) == MOST_WORKERS
    assert {"system/gw/first", f"system/gw/{3 * MOST_WORKERS - 1}"} <= set(told)


STEPS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from("abc"), st.sampled_from(["s", "t"])),
    st.tuples(st.just("remove"), st.sampled_from("abc"), st.just("")),
    st.tuples(st.just("take"), st.just(""), st.just("")),
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 4))
def test_all_changes_together_come_to_what_is_so(steps: list[tuple[str, str, str]], most: int) -> None:
    it, is_so, told = Expected(), dict[str, str | None](), dict[str, str | None]()

    def take() -> int:
        changes = it.take(most)
        assert len(changes.added) + len(changes.gone) <= most
        told.update(changes.added)
        for name in changes.gone:
            del told[name]
        return len(changes.added) + len(changes.gone)

    for what, name, service in steps:
        if what == "set":
            it.set(name, service)
            is_so[name] = service
        elif what == "remove":
            it.remove(name)
            is_so.pop(name, None)
        else:
            take()
    while take():
        pass
    assert told == is_so
