"""A WebSocket through zerogate, as a dialogue between a client, a replica and the owner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from tests.zerogate.http.frames import BINARY, CLOSE, PING, TEXT, closing, frame
from zerogate.http.exchange import Exchange
from zerogate.http.handshake import mask_of, take_offer
from zerogate.http.heads import ResponseHead
from zerogate.http.parse_heads import parse_response
from zerogate.http.phases import ENDED, TUNNEL, IllegalTransitionError
from zerogate.http.sides import RequestTerms
from zerogate.http.tunnel import CLOSE_S, HALF_CLOSED_S, LEAVE_S, Tunnel
from zerogate.http.websocket import FrameFollower, close_frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"
TO_CLIENT = f"client: {close_frame(1001).hex()}"
TO_REPLICA = f"replica: {close_frame(1001, mask=mask_of(KEY.encode())).hex()}"


def switching() -> ResponseHead:
    return parse_response(101, b"Switching Protocols", "1.1", [], keep_alive=True)


def offered(sides: Sides) -> Exchange:
    head = request(
        Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Key=KEY, Sec_WebSocket_Version="13"
    )  # fmt: skip
    take_offer(head)
    exchange = exchange_of(sides, head)
    exchange.on_request_end([], 0.0)
    exchange.dispatch(sides, 0.0)
    sides.hear()
    return exchange


def opened(sides: Sides, now_s: float = 1.0) -> tuple[Exchange, Tunnel]:
    exchange = offered(sides)
    tunnel = exchange.on_switched(switching(), now_s)
    assert sides.hear() == ["owner: a tunnel", "client: 101"]
    return exchange, tunnel


def test_frames_pass_as_they_come_and_are_counted() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    there, back = frame(TEXT, b"\xffhello", mask=MASK), frame(BINARY, b"\xffhi")
    tunnel.on_client_data(there[:3], 1.1)
    tunnel.on_client_data(there[3:], 1.2)
    tunnel.on_replica_data(back, 1.3)
    assert sides.hear() == [f"replica: {there[:3].hex()}", f"replica: {there[3:].hex()}", f"client: {back.hex()}"]
    assert exchange.phase == TUNNEL
    assert (exchange.bytes_in, exchange.bytes_out) == (len(there), len(back))


def test_a_close_from_both_sides_ends_it_in_order() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    mine, theirs = closing(4001, b"bye", mask=MASK), closing(4001, b"bye")
    tunnel.on_client_data(mine, 2.0)
    assert tunnel.close_codes == (4001, None)
    tunnel.on_replica_data(theirs, 2.1)
    assert sides.hear() == [
        f"replica: {mine.hex()}", f"client: {theirs.hex()}", "replica: finish", "client: finish", "owner: served",
    ]  # fmt: skip
    assert (exchange.phase, exchange.status) == (ENDED, 101)


def test_a_client_that_is_gone_ends_it_at_once_and_the_replica_gets_no_close() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    tunnel.on_client_end(2.0)
    assert sides.hear() == ["replica: finish", "client: finish", "owner: abandoned"]
    exchange.on_downstream_gone(2.0)
    assert sides.hear() == []


def test_a_client_that_closes_and_stops_sending_still_gets_the_close_of_the_replica() -> None:
    sides = Sides()
    _, tunnel = opened(sides)
    tunnel.on_client_data(frame(CLOSE, b"", mask=MASK), 2.0)
    tunnel.on_client_end(2.0)
    sides.hear()
    assert sides.visit_s == 2.0 + HALF_CLOSED_S
    tunnel.on_replica_data(frame(CLOSE, b""), 2.1)
    assert sides.hear() == ["client: 8800", "replica: finish", "client: finish", "owner: served"]


def test_it_does_not_wait_for_ever_for_a_replica_to_close() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    tunnel.on_client_data(frame(CLOSE, b"", mask=MASK), 2.0)
    tunnel.on_client_end(2.0)
    sides.hear()
    assert exchange.due(2.1) == 2.0 + HALF_CLOSED_S
    exchange.due(2.0 + HALF_CLOSED_S)
    assert sides.hear() == ["replica: finish", "client: finish", "owner: cut close_timeout"]


@pytest.mark.parametrize(
    ("closes", "ends"),
    [("client", "client: finish"), ("replica", "client: finish, lingering")],
)
def test_a_close_that_the_other_side_does_not_answer_ends_it_in_time_whatever_else_still_comes(
    closes: str, ends: str
) -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    if closes == "client":
        tunnel.on_client_data(closing(1000, mask=MASK), 2.0)
        tunnel.on_replica_data(frame(TEXT, b"more"), 9.0)
    else:
        tunnel.on_replica_data(closing(1000), 2.0)
        tunnel.on_client_data(frame(TEXT, b"more", mask=MASK), 9.0)
    assert sides.visit_s == 2.0 + CLOSE_S
    assert exchange.due(2.0 + CLOSE_S - 0.1) == 2.0 + CLOSE_S
    sides.hear()
    assert exchange.due(2.0 + CLOSE_S) is None
    assert sides.hear() == ["replica: finish", ends, "owner: cut close_timeout"]


def test_leaving_gives_no_more_time_to_a_close_that_is_missing_already() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    tunnel.on_client_data(closing(1000, mask=MASK), 2.0)
    exchange.leave_tunnel(3.0)
    assert exchange.due(3.0) == 2.0 + CLOSE_S


def test_a_replica_that_is_gone_ends_it_and_the_client_gets_no_close() -> None:
    sides = Sides()
    exchange, _ = opened(sides)
    exchange.on_upstream_lost("reset", 2.0)
    assert sides.hear() == ["client: finish, lingering", "owner: cut replica_lost"]


def test_a_replica_that_closes_and_leaves_is_in_order() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    tunnel.on_replica_data(closing(1011), 2.0)
    exchange.on_upstream_lost("the connection was closed", 2.0)
    assert sides.hear()[1:] == ["client: finish, lingering", "owner: served"]


def test_whoever_sends_what_is_no_frame_is_told_1002_and_the_other_side_just_loses_its_connection() -> None:
    sides = Sides()
    _, tunnel = opened(sides)
    tunnel.on_client_data(frame(TEXT, b"no mask"), 2.0)
    assert sides.hear() == [
        f"client: {close_frame(1002).hex()}", "replica: finish", "client: finish, lingering",
        "owner: cut websocket_violation",
    ]  # fmt: skip
    _, tunnel = opened(sides)
    tunnel.on_replica_data(frame(TEXT, b"a mask", mask=MASK), 2.0)
    told = close_frame(1002, mask=mask_of(KEY.encode())).hex()
    assert sides.hear()[:2] == [f"replica: {told}", "replica: finish"]


def test_leaving_puts_our_close_between_frames_and_waits_for_theirs() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    big = frame(BINARY, bytes(1000))
    tunnel.on_replica_data(big[:10], 2.0)
    sides.hear()
    exchange.leave_tunnel(3.0)
    assert sides.hear() == [TO_REPLICA]
    tunnel.on_replica_data(big[10:] + frame(TEXT, b"more"), 3.1)
    assert sides.hear() == [f"client: {big[10:].hex()}", TO_CLIENT]
    tunnel.on_client_data(frame(TEXT, b"in flight", mask=MASK) + closing(1001, mask=MASK), 3.2)
    assert sides.hear() == []
    tunnel.on_replica_data(closing(1001), 3.3)
    assert sides.hear() == ["replica: finish", "client: finish", "owner: served going_away"]


def test_leaving_adds_no_close_to_one_that_went_by() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    tunnel.on_client_data(closing(1000, mask=MASK), 2.0)
    sides.hear()
    exchange.leave_tunnel(3.0)
    exchange.leave_tunnel(3.0)
    assert sides.hear() == [TO_CLIENT]


def test_a_close_that_was_on_its_way_when_we_left_is_the_only_one() -> None:
    sides = Sides()
    exchange, tunnel = opened(sides)
    theirs = closing(4000)
    tunnel.on_replica_data(theirs[:1], 2.0)
    exchange.leave_tunnel(2.0)
    tunnel.on_replica_data(theirs[1:], 2.0)
    assert sides.hear() == [f"client: {theirs[:1].hex()}", TO_REPLICA, f"client: {theirs[1:].hex()}"]


def test_leaving_has_an_end() -> None:
    sides = Sides()
    exchange, _ = opened(sides)
    exchange.leave_tunnel(2.0)
    assert sides.visit_s == 2.0 + LEAVE_S
    sides.hear()
    exchange.due(2.0 + LEAVE_S)
    assert sides.hear() == ["replica: finish", "client: finish, lingering", "owner: cut close_timeout"]


@pytest.mark.parametrize("terms", [RequestTerms(first_byte_s=1, idle_s=1, total_s=1)])
def test_no_timer_cuts_it(terms: RequestTerms) -> None:
    sides = Sides(terms=terms)
    exchange, _ = opened(sides)
    assert exchange.due(1e9) is None
    assert exchange.phase == TUNNEL


def test_it_is_quiet_without_data_frames_and_pings_are_none() -> None:
    sides = Sides(terms=RequestTerms(quiet_s=10))
    exchange, tunnel = opened(sides, now_s=0.0)
    assert sides.visit_s == 10
    tunnel.on_client_data(frame(TEXT, b"x", mask=MASK), 4.0)
    tunnel.on_client_data(frame(PING, b"x", mask=MASK), 12.0)
    sides.hear()
    assert exchange.due(12.0) == 14.0
    assert exchange.due(14.0) is None
    assert sides.hear() == ["owner: quiet"]
    tunnel.on_replica_data(frame(0xA, b"x"), 15.0)
    assert "owner: roused" not in sides.hear()
    tunnel.on_replica_data(frame(TEXT, b"x"), 16.0)
    assert sides.hear()[-1] == "owner: roused"
    assert sides.visit_s == 26.0


def test_backpressure_goes_both_ways() -> None:
    sides = Sides()
    exchange, _ = opened(sides)
    exchange.on_downstream_writable(False, 2.0)
    exchange.on_upstream_writable(False)
    exchange.on_upstream_writable(True)
    exchange.on_downstream_writable(True, 2.1)
    assert sides.hear() == ["replica: pause", "client: pause", "client: resume", "replica: resume"]


def test_a_101_is_for_who_asked_for_it() -> None:
    sides = Sides()
    exchange = exchange_of(sides)
    exchange.dispatch(sides, 0.0)
    with pytest.raises(IllegalTransitionError):
        exchange.on_switched(switching(), 1.0)


def test_a_101_that_is_wrong_is_a_bad_gateway_and_is_not_asked_for_again() -> None:
    sides = Sides()
    exchange = offered(sides)
    exchange.on_bad_switch("it is wrong", 1.0)
    assert sides.hear() == ["replica: abort", "client: refused 502 bad_handshake", "owner: refused bad_handshake"]


def test_an_answer_that_is_no_101_is_an_answer() -> None:
    sides = Sides()
    exchange = offered(sides)
    exchange.on_response_head(parse_response(403, b"Forbidden", "1.1", [], keep_alive=True), 1.0)
    exchange.on_response_end([], 1.0)
    assert sides.hear() == ["client: 403 +body", "client: end", "owner: served"]


class Life:
    """A tunnel whose sides are read by followers of their own: what they are sent has to be frames."""

    def __init__(self) -> None:
        self.sides = Sides(terms=RequestTerms(quiet_s=5))
        self.exchange, self.tunnel = opened(self.sides)
        self.to_client, self.to_replica = FrameFollower(masked=False), FrameFollower(masked=True)
        self.now_s = 1.0
        self.ends = 0

    def do(self, act: tuple[str, bytes | float]) -> None:
        kind, value = act
        if isinstance(value, bytes):
            (self.tunnel.on_client_data if kind == "client" else self.tunnel.on_replica_data)(value, self.now_s)
        elif kind == "wait":
            self.now_s += value
            self.exchange.due(self.now_s)
        elif kind == "client end":
            self.tunnel.on_client_end(self.now_s)
        elif kind == "client lost":
            self.exchange.on_downstream_gone(self.now_s)
        elif kind == "replica lost":
            self.exchange.on_upstream_lost("reset", self.now_s)
        else:
            self.exchange.leave_tunnel(self.now_s)
        self.hear()

    def hear(self) -> None:
        for line in self.sides.hear():
            side, _, said = line.partition(": ")
            if side == "owner" and said.startswith(("served", "cut", "abandoned")):
                self.ends += 1
            elif side in ("client", "replica") and not said.startswith("finish"):
                assert not self.ends
                data = said[5:].encode() if said.startswith("data ") else bytes.fromhex(said)
                follower = self.to_client if side == "client" else self.to_replica
                assert follower.feed(data) == len(data), "nothing follows a Close, and all of it is frames"


def _stream(mask: bytes) -> st.SearchStrategy[list[bytes]]:
    """The bytes of some frames, perhaps with a Close at the end, in pieces."""
    one = st.integers(0, 3).map(lambda size: frame(BINARY, bytes(size), mask=mask))
    end = st.sampled_from([b"", closing(1000, mask=mask), frame(CLOSE, b"", mask=mask)])
    whole = st.tuples(st.lists(one, max_size=2), end).map(lambda parts: b"".join(parts[0]) + parts[1])
    return st.tuples(whole, st.integers(1, 9)).map(
        lambda cut: [cut[0][at : at + cut[1]] for at in range(0, len(cut[0]), cut[1])]
    )


ACTS = ["client", "client", "replica", "replica", "client", "replica", "wait", "leave", "client end", "replica lost"]


@given(
    _stream(MASK),
    _stream(b""),
    st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from([0.5, 6.0, 40.0])), max_size=30),
)
def test_whatever_comes_in_whatever_order_it_ends_once_and_each_side_gets_frames_and_at_most_one_close(
    mine: list[bytes], theirs: list[bytes], acts: list[tuple[str, float]]
) -> None:
    life = Life()
    for kind, wait_s in [*acts, ("client lost", 0.0)]:
        pieces = {"client": mine, "replica": theirs}.get(kind)
        if life.exchange.phase != TUNNEL or pieces == []:
            continue
        life.do((kind, pieces.pop(0) if pieces else wait_s))
    assert life.ends == 1
    assert life.exchange.tunnel is None
    assert life.exchange.connection is None
