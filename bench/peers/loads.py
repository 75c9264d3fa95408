"""The loads: their names, and how each is put on every contestant in turns.

Those that only need processor time are put on contestants that run beside each other, idle but for the one that is
asked: runs alternate quickly, so that what else the machine does meets all of them. Those that are about memory start
a fresh process for every run.
"""

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from bench.peers import closed, crowd
from bench.peers.contestants import Contestant, Purpose, Running, UnavailableError
from bench.peers.paced import Latency, pace
from bench.peers.processes import StartError, cpu_s, rss_bytes
from bench.peers.world import Found, World, tell

MOST_PACED_PER_S: Final = 30_000.0
"""What the open load can send without being late itself, beside the backend on its core."""
STARTS: Final = 5
SETTLE_S: Final = 2.0

ERRORS: Final = (UnavailableError, StartError, OSError)


class Load(msgspec.Struct, frozen=True):
    """One load, or several that share their contestants. `measure` gives what was found by the load's key."""

    keys: tuple[str, ...]
    says: str
    measure: Callable[[World, tuple[str, ...]], dict[str, Found]]


class Rest(msgspec.Struct, frozen=True):
    """A contestant that nobody asks."""

    start_ms: float
    rss_mib: float
    idle_cpu_percent: float


class Paced(msgspec.Struct, frozen=True):
    """Latencies through a proxy less those without it, at the same rate, the backend's own included in neither."""

    per_s: float
    p50_ms: float
    p99_ms: float


def _closed(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    found = {key: Found() for key in keys}
    with here.together(here.backend) as (running, failed):
        _give_up(found, failed)
        for key in keys:
            tell(f"  {key}: {', '.join(running)}")
            run = partial(closed.ask, closed.ASKS[key], core=here.cores.load, folder=here.folder)
            _in_turns(here, found[key], running, run, is_fresh=key == keys[0])
    return found


def _give_up(found: dict[str, Found], failed: dict[str, Exception]) -> None:
    for load in found.values():
        for key, error in failed.items():
            load.give_up(key, error)


def _grpc(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    found = {key: Found() for key in keys}
    with here.together(here.h2, Purpose.GRPC) as (running, failed):
        _give_up(found, failed)
        for key in keys:
            tell(f"  {key}: {', '.join(running)}")
            _in_turns(here, found[key], running, partial(closed.call, core=here.cores.load, folder=here.folder))
    return found


def _in_turns(
    here: World, found: Found, running: dict[str, Running], run: Callable[..., msgspec.Struct], *, is_fresh: bool = True
) -> None:
    """The turns, every other one in the opposite order.

    Where the contestants are fresh, one short run of each comes first and is not counted.
    """
    for turn in range(0 if is_fresh else 1, here.extent.turns + 1):
        for key, one in list(running.items())[:: -1 if turn % 2 else 1]:
            if key in found.unavailable:
                continue
            try:
                result = run(one, seconds=here.extent.seconds if turn else 1.0)
            except ERRORS as error:
                found.give_up(key, error)
                continue
            if turn:
                found.add(key, result)


def _latency(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    """Each at half of what it can do (`half`), and all at half of what Knative can do (`same`)."""
    found = {key: Found() for key in keys}
    with here.together(here.backend) as (running, failed):
        _give_up(found, failed)
        capacity = _capacity(here, running)
        tell(f"  {' '.join(keys)}: {', '.join(f'{key} {per_s:,.0f}/s' for key, per_s in capacity.items())}")
        yardstick = capacity.get("knative") or min(capacity.values(), default=0)
        for _ in range(here.extent.latency_turns):
            for key, load in found.items():
                without = None
                for who, per_s in capacity.items():
                    half = min(MOST_PACED_PER_S, (per_s if key == "half" else yardstick) / 2)
                    if key == "half" or without is None:
                        without = pace(here.backend, half, here.extent.seconds / 2)
                    _pace_one(here, load, running[who], half, without)
    return found


def _capacity(here: World, running: dict[str, Running]) -> dict[str, float]:
    """Small requests per second that each could do with its core for itself: taken from the cost of one."""
    costs = {}
    for key, one in running.items():
        try:
            costs[key] = _cost_us(here, one)
        except ERRORS as error:
            tell(f"  {key}: {error}")
    return {key: 1e6 / cpu_us for key, cpu_us in costs.items()}


def _cost_us(here: World, running: Running) -> float:
    return closed.ask(closed.ASKS["small"], running, seconds=1.0, core=here.cores.load, folder=here.folder).cpu_us


def _pace_one(here: World, found: Found, running: Running, per_s: float, without: Latency) -> None:
    if running.key in found.unavailable:
        return
    try:
        found.add(running.key, _added(pace(running.port, per_s, here.extent.seconds), without))
    except ERRORS as error:
        found.give_up(running.key, error)


def _added(through: Latency, without: Latency) -> Paced:
    return Paced(through.per_s, through.p50_ms - without.p50_ms, through.p99_ms - without.p99_ms)


def _rest(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    found = {key: Found() for key in keys}
    (load,) = found.values()
    starts_ms: dict[str, float] = {}
    for contestant in here.contestants:
        tell(f"  start: {contestant.key}")
        try:
            starts_ms[contestant.key] = median(_start_ms(here, contestant) for _ in range(STARTS))
        except ERRORS as error:
            load.give_up(contestant.key, error)
    with here.together(here.backend) as (running, _):
        tell(f"  rest: {', '.join(running)}")
        time.sleep(SETTLE_S)
        used_s = {key: cpu_s(one.pid) for key, one in running.items()}
        time.sleep(here.extent.quiet_s)
        for key, one in running.items():
            percent = (cpu_s(one.pid) - used_s[key]) / here.extent.quiet_s * 100
            load.add(key, Rest(starts_ms[key], rss_bytes(one.pid) / 1024 / 1024, percent))
    return found


def _start_ms(here: World, contestant: Contestant) -> float:
    began_s = time.perf_counter()
    with here.alone(contestant, here.backend):
        return (time.perf_counter() - began_s) * 1000


def _crowded(
    here: World, key: str, purpose: Purpose, turns: int, run: Callable[[Running], Coroutine[Any, Any, msgspec.Struct]]
) -> dict[str, Found]:
    """A fresh process of every contestant, turn by turn."""
    found = Found()
    for turn in range(1, turns + 1):
        for contestant in here.contestants:
            if contestant.key in found.unavailable:
                continue
            tell(f"  {key}: {contestant.key}, turn {turn} of {turns}")
            try:
                with here.alone(contestant, here.source, purpose) as running:
                    found.add(contestant.key, uvloop.run(run(running)))
            except ERRORS as error:
                found.give_up(contestant.key, error)
    return {key: found}


def _sse(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    run = partial(crowd.stream, streams=here.extent.streams, seconds=here.extent.seconds * 1.5)
    return _crowded(here, keys[0], Purpose.PASS_ON, here.extent.turns, run)


def _held(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    run = partial(crowd.hold, source=here.source, count=here.extent.held, seconds=here.extent.seconds)
    return _crowded(here, keys[0], Purpose.HOLD, 1, run)


def _websocket(here: World, keys: tuple[str, ...]) -> dict[str, Found]:
    run = partial(crowd.idle_websockets, count=here.extent.websockets, seconds=here.extent.seconds)
    return _crowded(here, keys[0], Purpose.PASS_ON, 1, run)


LOADS: Final = (
    Load(("rest",), "nobody asks: start to first answer, memory, processor time", _rest),
    Load(tuple(closed.ASKS), "as fast as answers come back, keep-alive, by wrk", _closed),
    Load(("half", "same"), "small GETs at a given rate: latency added", _latency),
    Load(("sse",), "1,000 streams of 20 events a second", _sse),
    Load(("held",), "10,000 requests before a model server that is full", _held),
    Load(("websocket",), "1,000 idle WebSockets", _websocket),
    Load(("grpc",), "unary calls over h2c, by h2load", _grpc),
)
GROUPS: Final = {
    "small": ("small-1", "small", "small-256"),
    "latency": ("half", "same"),
}
"""Names that stand for several."""


def selected(names: Iterable[str]) -> list[tuple[Load, tuple[str, ...]]]:
    """The loads with these names, each with the keys that are wanted; all where none is named. Raises KeyError."""
    wanted = {key for name in names for key in GROUPS.get(name, (name,))}
    unknown = wanted - {key for load in LOADS for key in load.keys}
    if unknown:
        raise KeyError(*sorted(unknown))
    chosen = ((load, tuple(key for key in load.keys if not wanted or key in wanted)) for load in LOADS)
    return [(load, keys) for load, keys in chosen if keys]
