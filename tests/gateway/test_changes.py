"""Differences between editions of services, in slices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.changes import SLICE, Change, decode, difference, encode
from gateway.file import EMPTY, GatewayFile, Service
from gateway.route_table import Route
from zerogate.affinity import Affinity
from zerogate.policy import Policy
from zerogate.runtime.interface import Address, Trouble

ROUTES = tuple((Route(service=name, hosts=(f"{name}.example",)),) for name in ("a", "b"))
SERVICES = st.builds(
    Service,
    policy=st.sampled_from([Policy(), Policy(queue_limit=3, affinity=Affinity("header", "x-user"))]),
    replicas=st.sampled_from([(), (Address("10.0.0.1", 8012),), (Address("fd00::1", 8012), Address("10.0.0.2", 1))]),
    routes=st.sampled_from([(), *ROUTES]),
    trouble=st.sampled_from([None, Trouble("not scheduled"), Trouble("no image", is_hopeless=True)]),
)
MANY = st.dictionaries(st.sampled_from([f"ns/{number}" for number in range(SLICE * 2)]), SERVICES)


@given(MANY, MANY)
def test_applied_in_order_they_make_the_one_of_the_other_and_no_route_leads_nowhere(
    before: dict[str, Service], after: dict[str, Service]
) -> None:
    file = GatewayFile(before)
    routed = {name: service.routes for name, service in before.items()}
    for change in difference(before, after):
        assert len(change.services) <= SLICE
        file = decode(encode(change)).applied_to(file)
        if change.reroute:
            routed = {name: service.routes for name, service in file.services.items()}
        assert routed.keys() <= file.services.keys()
    assert file.services == after
    assert routed == {name: service.routes for name, service in after.items()}


def test_nothing_different_is_no_change() -> None:
    services = {"a/b": Service(policy=Policy())}
    assert list(difference(services, {"a/b": Service(policy=Policy())})) == []


@pytest.mark.parametrize(
    ("after", "reroutes"),
    [
        (Service(policy=Policy(), routes=ROUTES[0], replicas=(Address("10.0.0.1", 1),)), False),
        (Service(policy=Policy(queue_limit=1), routes=ROUTES[0]), False),
        (Service(policy=Policy(), routes=ROUTES[1]), True),
    ],
    ids=["a replica", "a policy", "a route"],
)
def test_routes_are_made_anew_only_where_they_are_different(after: Service, reroutes: bool) -> None:
    [change] = difference({"a": Service(policy=Policy(), routes=ROUTES[0])}, {"a": after})
    assert change.reroute is reroutes


def test_a_change_of_one_replica_is_small() -> None:
    [change] = difference(EMPTY.services, {"ml/llama": Service(policy=Policy(), replicas=(Address("10.0.0.1", 8012),))})
    assert len(encode(change)) < 1200
    assert isinstance(change, Change)
