"""Which Services are answered for as Services, ports and leaders come and go, without a cluster."""

from collections.abc import Sequence

import msgspec
import pytest

from tests.zerogate.kube.pods import policy
from tests.zerogate.kube.test_fronts import entry, service
from tests.zerogate.kube.test_slice_book import HOME, a_slice
from zerogate.kube.catalog import Managed
from zerogate.kube.event_book import Happening
from zerogate.kube.fronts import TARGETS
from zerogate.kube.objects import EndpointSlice, Key, Pod, PodSpec, PodTemplate, Service
from zerogate.kube.port_ledger import REST_S
from zerogate.kube.slice_book import SliceBook
from zerogate.kube.taken import MOVE_AGAIN_S
from zerogate.kube.takeover import GIVE_BACK_S, SETTLE_S, WAIT_S, Act, Ask, Stand, WriteSlice, slice_name, slice_of
from zerogate.kube.takeover_book import Due, LookAgain, MayZero, Perform, Retarget, Revisit, TakeoverBook

TWO = (
    {"name": "a", "port": 80, "targetPort": "http"},
    {"name": "b", "port": 81, "targetPort": "http"},
)
PORT = {"name": "http", "containerPort": 8000}
SIDECAR = {"name": "zerogate-queueproxy", "ports": [{"name": "zg-http", "containerPort": 8012}]}
INJECTED = msgspec.convert({"initContainers": [SIDECAR]}, PodSpec)


class Leader:
    """A book that leads, and the Services that it sees."""

    def __init__(self, *services: Service, ports: tuple[int, int]) -> None:
        self.services: dict[Key, Service] = {one.key: one for one in services}
        self.slices = SliceBook(HOME)
        self.slices.on_slice(None, a_slice("activators", HOME[1], "10.0.0.1", namespace=HOME[0]))
        self.book = TakeoverBook(self.services, self.slices, ports=ports)
        self.due: list[Due] = []
        self.book.lead(True, start=ports[0], recovers=True)
        self.book.on_services({"ns/llm": entry()})

    def show(self, found: Service, now_s: float) -> list[Due]:
        self.services[found.key] = found
        self.book.on_service(None, found)
        self.due = self.book.flush(now_s)
        return self.due

    def delete(self, key: Key, now_s: float) -> list[Due]:
        self.book.on_service(self.services.pop(key), None)
        return self.book.flush(now_s)

    def perform(self, now_s: float) -> list[Due]:
        """Do what is due for slices until nothing is, as the shell does where all goes well; what else was due."""
        self.book.plan_whole()
        others: list[Due] = []
        while due := self.book.flush(now_s):
            others += [one for one in due if not isinstance(one, Perform)]
            for one in of(due, Perform):
                assert isinstance(one, Perform)
                self._perform(one.stand, one.act, now_s)
                self.book.plan(one.taken.front.key)
        return others

    def _perform(self, stand: Stand, act: Act, now_s: float) -> None:
        before = self.slices.named((stand.front.key[0], slice_name(stand.front, stand.family)))
        if isinstance(act, Ask):
            stand.on_listening(act.address)
            return
        after = None
        if isinstance(act, WriteSlice):
            after = msgspec.convert(slice_of(stand, act.addresses), EndpointSlice)
        self.slices.on_slice(before, after)
        self.book.on_slice(after or before or pytest.fail("there was nothing to delete"), after, now_s)
        stand.on_written(now_s)

    def ports(self) -> dict[str, tuple[int, ...]]:
        """Of the Services that are answered for."""
        return {
            taken.front.key[1]: stand.ports for taken in self.book.taken_of("ns/llm") for stand in taken.stands.values()
        }


def of(due: Sequence[Due], kind: type[Due]) -> list[Due]:
    return [one for one in due if isinstance(one, kind)]


def test_a_service_for_which_no_port_was_left_gets_one_that_has_rested() -> None:
    leader = Leader(service(), ports=(20000, 20000))
    leader.book.flush(0.0)
    assert leader.ports() == {"llm": (20000,)}
    assert LookAgain() in leader.show(service(name="second"), 1.0)
    said = "ns/second is not taken over: all ports of activators, 20000 to 20000, are taken."
    assert said in leader.book.troubles("ns/llm")
    leader.delete(("ns", "llm"), 2.0)
    leader.book.plan_whole()
    assert LookAgain() in leader.book.flush(1.0 + REST_S)
    leader.book.plan_whole()
    leader.book.flush(2.0 + REST_S)
    assert leader.ports() == {"second": (20000,)}
    assert not any("all ports" in why for why in leader.book.troubles("ns/llm"))


def test_a_service_of_two_ports_for_which_one_is_left_is_refused_for_good_and_takes_none() -> None:
    leader = Leader(service(*TWO), ports=(20000, 20000))
    (told,) = of(leader.book.flush(0.0), Happening)
    said = leader.book.troubles("ns/llm")
    assert isinstance(told, Happening)
    assert told.about.name == "llm"
    assert said == (told.note,)
    assert "it needs 2 ports of activators, and fewer of 20000 to 20000 are free" in told.note
    for now_s in (30.0, 60.0, 60.0 + REST_S, 90.0 + REST_S):
        leader.book.plan_whole()
        assert leader.book.flush(now_s) == [LookAgain()]
        assert leader.book.troubles("ns/llm") == said
        assert not leader.book.may_zero("ns/llm", now_s)
    leader.show(service(name="second"), 100.0 + REST_S)
    assert leader.ports() == {"second": (20000,)}


def test_a_service_that_gets_a_port_more_than_are_left_is_answered_for_on_those_that_it_has() -> None:
    leader = Leader(service(TWO[0]), ports=(20000, 20000))
    leader.book.flush(0.0)
    leader.show(service(*TWO), 1.0)
    assert leader.ports() == {"llm": (20000,)}
    assert "it needs 2 ports" in leader.book.troubles("ns/llm")[0]
    assert not leader.book.may_zero("ns/llm", 2.0)
    leader.show(service(TWO[0]), 3.0)
    assert leader.ports() == {"llm": (20000,)}
    assert not any("ports" in why for why in leader.book.troubles("ns/llm"))


def test_a_port_that_a_service_no_longer_has_is_anothers_when_it_has_rested() -> None:
    leader = Leader(service(*TWO), ports=(20000, 20001))
    leader.book.flush(0.0)
    leader.show(service(TWO[0]), 1.0)
    leader.show(service(name="second"), 1.0 + REST_S)
    assert leader.ports() == {"llm": (20000,), "second": (20001,)}


def test_a_family_that_a_service_no_longer_has_is_given_up_and_keeps_nobody_from_zero() -> None:
    leader = Leader(service(ipFamilies=["IPv4", "IPv6"]), ports=(20000, 20001))
    leader.book.flush(0.0)
    leader.show(service(ipFamilies=["IPv4"]), 1.0)
    leader.book.plan_whole()
    leader.book.flush(2.0)
    (taken,) = leader.book.taken_of("ns/llm")
    assert {family: stand.is_leaving for family, stand in taken.stands.items()} == {"IPv4": False, "IPv6": True}
    assert [stand.family for stand in taken.present] == ["IPv4"]
    leader.show(service(ipFamilies=["IPv4", "IPv6"]), 3.0)
    assert not any(stand.is_leaving for stand in taken.stands.values())


def test_a_service_that_is_a_front_again_before_it_was_given_up_is_answered_for_as_before() -> None:
    leader = Leader(service(), ports=(20000, 20001))
    leader.book.flush(0.0)
    leader.book.may_zero("ns/llm", 0.0)
    leader.show(service(selector={"app": "other"}), 1.0)
    leader.show(service(), 2.0)
    (taken,) = leader.book.taken_of("ns/llm")
    stand = taken.stands["IPv4"]
    stand.pods_answer = True
    assert not stand.is_leaving
    assert stand.is_needed(1000.0), "its workload still heads for zero"


def test_pods_of_a_workload_that_was_let_go_are_forgotten() -> None:
    moved = service({"port": 80, "targetPort": 8000})
    leader = Leader(moved, ports=(20000, 20001))
    both = {"ns/llm": entry(), "ns/plain": msgspec.structs.replace(_other("plain"), wanted=policy(takeover="false"))}
    leader.book.on_services(both)
    leader.book.on_pod("ns/plain", _pod())
    leader.book.on_services({"ns/llm": entry()})
    leader.book.on_services({"ns/llm": entry(), "ns/plain": _other("plain")})
    leader.show(service({"port": 80, "targetPort": 8000}, name="plain", selector={"app": "plain"}), 1.0)
    (taken,) = leader.book.taken_of("ns/plain")
    retargeted = [due.taken for due in leader.due if isinstance(due, Retarget)]
    assert taken in retargeted, "that it had a pod without the port's name is long ago"


def test_a_deleted_service_is_not_looked_at_again() -> None:
    leader = Leader(service(), ports=(20000, 20001))
    assert of(leader.book.flush(0.0), Perform)
    assert Revisit(("ns", "llm"), None) in leader.delete(("ns", "llm"), 1.0)
    leader.book.plan(("ns", "llm"))
    assert leader.book.flush(2.0) == []


def test_a_follower_knows_what_cannot_be_taken_over_and_has_nothing_to_do() -> None:
    leader = Leader(service(clusterIP="None"), service(name="other"), ports=(20000, 20001))
    leader.book.lead(False, start=20000, recovers=True)
    assert leader.book.flush(0.0) == []
    assert "headless" in leader.book.troubles("ns/llm")[0]
    assert leader.ports() == {}


def test_what_cannot_be_taken_over_is_told_once_by_each_leader() -> None:
    leader = Leader(service(clusterIP="None"), service(name="other"), ports=(20000, 20001))
    assert len(of(leader.book.flush(0.0), Happening)) == 1
    leader.book.plan_whole()
    assert not of(leader.book.flush(1.0), Happening)
    leader.book.lead(True, start=20000, recovers=True)
    assert len(of(leader.book.flush(2.0), Happening)) == 1


def test_target_ports_are_written_once_at_a_time() -> None:
    leader = Leader(service({"port": 80, "targetPort": 8000}), ports=(20000, 20001))
    (due,) = of(leader.book.flush(0.0), Retarget)
    leader.book.plan(("ns", "llm"))
    assert not of(leader.book.flush(1.0), Retarget)
    assert isinstance(due, Retarget)
    due.taken.on_not_moved(5.0)
    leader.book.plan(("ns", "llm"))
    assert Revisit(("ns", "llm"), 5.0) in leader.book.flush(2.0)
    leader.book.plan(("ns", "llm"))
    assert of(leader.book.flush(5.0), Retarget)


def test_a_service_that_is_a_front_no_longer_gets_its_numbers_back_though_its_workload_is_still_taken_over() -> None:
    leader = Leader(service({"port": 80, "targetPort": 8000}), ports=(20000, 20001))
    (due,) = of(leader.book.flush(0.0), Retarget)
    assert isinstance(due, Retarget)
    due.taken.on_moved(due.move, 1.0)
    record = {TARGETS: '{"80": 8000}'}
    unfit = service({"port": 80, "targetPort": "zg-http"}, annotations=record, publishNotReadyAddresses=True)
    (back,) = of(leader.show(unfit, 2.0), Retarget)
    assert isinstance(back, Retarget)
    assert back.move.is_back
    assert not any(stand.is_leaving for stand in back.taken.stands.values()), "the numbers come back first"
    back.taken.on_moved(back.move, 3.0)
    leader.show(service({"port": 80, "targetPort": 8000}, publishNotReadyAddresses=True), 4.0)
    assert all(stand.is_leaving for stand in back.taken.stands.values())


def test_one_that_is_a_front_again_leads_to_the_sidecars_again() -> None:
    number = {"port": 80, "targetPort": 8000}
    leader = Leader(service(number, publishNotReadyAddresses=True), service(name="second"), ports=(20000, 20003))
    left = a_slice("llm-zerogate-ipv4", "llm", ours=True, ports=({"name": "", "port": 20000},))
    leader.slices.on_slice(None, left)
    leader.book.flush(0.0)
    (due,) = of(leader.show(service(number), 1.0), Retarget)
    assert isinstance(due, Retarget)
    assert not due.move.is_back


def test_slices_wait_for_target_ports_that_are_being_written_when_their_service_is_a_front_no_longer() -> None:
    leader = Leader(service({"port": 80, "targetPort": 8000}), ports=(20000, 20001))
    (due,) = of(leader.book.flush(0.0), Retarget)
    assert isinstance(due, Retarget)
    (stand,) = due.taken.stands.values()
    unfit = service({"port": 80, "targetPort": 8000}, publishNotReadyAddresses=True)
    leader.show(unfit, 1.0)
    assert not stand.is_leaving, "they may be the sidecars' name by now"
    assert not due.taken.is_over(unfit)
    due.taken.on_not_moved(2.0)
    leader.show(unfit, 3.0)
    assert stand.is_leaving


def test_nothing_of_a_takeover_is_over_while_its_target_ports_are_being_written_back() -> None:
    leader = Leader(service({"port": 80, "targetPort": 8000}), ports=(20000, 20001))
    (due,) = of(leader.book.flush(0.0), Retarget)
    assert isinstance(due, Retarget)
    due.taken.stands.clear()
    assert not due.taken.is_over(service({"port": 80, "targetPort": 8000})), "its record is yet to be taken away"
    due.taken.on_moved(due.move, 1.0)
    assert due.taken.is_over(service({"port": 80, "targetPort": 8000}))


def test_while_some_pods_have_the_name_and_some_do_not_the_target_stays_what_it_is() -> None:
    record = {TARGETS: '{"80": 8000}'}
    leader = Leader(service({"port": 80, "targetPort": "zg-http"}, annotations=record), ports=(20000, 20001))
    leader.book.on_pod("ns/llm", _pod())
    with_sidecar = msgspec.structs.replace(_pod(), metadata=msgspec.structs.replace(_pod().metadata, name="q"))
    leader.book.on_pod("ns/llm", msgspec.structs.replace(with_sidecar, spec=INJECTED))
    assert not of(leader.book.flush(0.0), Retarget)
    leader.book.on_pod_gone("ns/llm", "q")
    (back,) = of(leader.book.flush(1.0), Retarget)
    assert isinstance(back, Retarget)
    assert back.move.is_back


def test_somebody_who_writes_the_number_again_is_answered_once_a_minute() -> None:
    leader = Leader(service({"port": 80, "targetPort": 8000}), ports=(20000, 20001))
    (due,) = of(leader.book.flush(0.0), Retarget)
    assert isinstance(due, Retarget)
    due.taken.on_moved(due.move, 1.0)
    again = leader.show(service({"port": 80, "targetPort": 8000}), 2.0)
    assert not of(again, Retarget)
    leader.perform(3.0)
    assert Revisit(("ns", "llm"), 1.0 + MOVE_AGAIN_S) in leader.perform(30.0)
    leader.book.plan(("ns", "llm"))
    assert of(leader.book.flush(1.0 + MOVE_AGAIN_S), Retarget)


def test_what_an_earlier_leader_left_as_it_has_to_be_is_not_written_again() -> None:
    leader = Leader(service(), ports=(20000, 20001))
    leader.perform(0.0)
    leader.book.lead(True, start=20001, recovers=True)
    assert [due.act for due in leader.book.flush(1.0) if isinstance(due, Perform)] == [Ask("10.0.0.1", (20000,))]
    assert leader.ports() == {"llm": (20000,)}


def test_a_family_that_is_gone_leaves_nothing_behind() -> None:
    leader = Leader(service(ipFamilies=["IPv4", "IPv6"]), ports=(20000, 20001))
    leader.perform(0.0)
    leader.show(service(ipFamilies=["IPv4"]), 1.0)
    leader.perform(1.0 + GIVE_BACK_S)
    (taken,) = leader.book.taken_of("ns/llm")
    assert list(taken.stands) == ["IPv4"]
    assert [one.address_type for one in leader.slices.all_of_ours()] == ["IPv4"]


def test_leave_for_zero_needs_all_services_and_is_told_to_who_asked_alone() -> None:
    leader = Leader(service(), ports=(20000, 20000))
    leader.slices.on_slice(None, a_slice("pods", "llm", "10.1.0.1"))
    assert not of([*leader.perform(0.0), *leader.perform(SETTLE_S)], MayZero)
    assert not leader.book.may_zero("ns/llm", SETTLE_S)
    leader.perform(SETTLE_S)
    told = of(leader.perform(SETTLE_S + WAIT_S), MayZero)
    assert told == [MayZero("ns/llm")]
    assert leader.book.may_zero("ns/llm", SETTLE_S + WAIT_S)
    leader.show(service(name="second"), SETTLE_S + WAIT_S)
    assert of(leader.due, MayZero) == [MayZero("ns/llm")]
    assert not leader.book.may_zero("ns/llm", SETTLE_S + WAIT_S), "there is no port for the second one"
    leader.book.stay_up("ns/llm", SETTLE_S + WAIT_S)
    leader.delete(("ns", "second"), SETTLE_S + WAIT_S)
    assert not of(leader.perform(2 * SETTLE_S), MayZero)


def test_another_service_under_the_name_of_one_that_was_deleted_unseen_gets_slices_of_its_own() -> None:
    before = service()
    leader = Leader(before, ports=(20000, 20001))
    leader.book.flush(0.0)
    again = msgspec.structs.replace(before, metadata=msgspec.structs.replace(before.metadata, uid="another"))
    leader.services[again.key] = again
    leader.book.on_service(before, again)
    leader.book.flush(1.0)
    (taken,) = leader.book.taken_of("ns/llm")
    assert taken.front.uid == "another"


def test_a_service_goes_over_to_the_workload_that_it_selects_by_now() -> None:
    leader = Leader(service(), ports=(20000, 20001))
    leader.book.flush(0.0)
    assert not leader.book.may_zero("ns/llm", 1.0)
    leader.book.on_services({"ns/llm": entry(), "ns/new": _other("new")})
    leader.show(service(selector={"app": "new"}), 2.0)
    assert leader.book.taken_of("ns/llm") == []
    assert [taken.front.key for taken in leader.book.taken_of("ns/new")] == [("ns", "llm")]


def _other(name: str) -> Managed:
    """A workload like the one of `entry`, whose pods have a label of their own."""
    labels = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "llm", "ports": [PORT]}]}}
    return msgspec.structs.replace(
        entry(), service=f"ns/{name}", key=("ns", name), uid=name, template=msgspec.convert(labels, PodTemplate)
    )


def _pod() -> Pod:
    """One that slipped through without a sidecar."""
    return msgspec.convert({"metadata": {"name": "p", "namespace": "ns"}, "status": {"phase": "Running"}}, Pod)
