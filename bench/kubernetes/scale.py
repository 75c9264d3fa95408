"""One autoscaler, 5,000 workloads and 10,000 pods: what it costs, and how fast it is where everything comes at once.

The process is the real one (`tests/kubernetes/observed.py`), with the rights that the chart gives it, watching a real
API server; `tests/kubernetes/crowd.py` says how the crowd came into it, and `tests/kubernetes/sources.py` what reports.
One phase after the other:

1. **Start**: to the first decision, and until every workload was decided about; the longest turns of the loop.
2. **Sources.** Every pod's sidecar has a stream with a key and a token of its own, bound to its pod, every gateway one
   over TLS; all come at once. Known are those that have their welcome; then the API server is shown their tokens, and
   has judged the last one some time later.
3. **Steady.** Each sidecar beats every 5 s. One in ten of the services that run has requests, told each second by each
   of its sidecars and by each of three gateways. Processor time and memory of the process meanwhile.
4. **Wakes.** A request waits for each of 2,500 services at zero, all at once: how many conditional patches the API
   server accepts each second, and whose processor time they take.
5. **410.** The API server is started anew, and knows no version from which watches could be resumed: from its 410 until
   all that is there is listed and told again, and what that time went into. What of it is the server's and the way of
   the bytes shows a reader that lists all pods right afterwards, by the same pages, and does nothing with them.

Load, API server, etcd and autoscaler share the machine, so rates have all of them in it and processor times do not. No
controller runs: pods follow the numbers at the controllers' own rate. So who waited in phase 4 gives up at its end:
else 2,500 services would be told of and decided about each second to the end, for as much of a core as all the rest
takes. kwok leaves when its pods are there: after the 410 it would list 10,000 pods, too, for 4 s of a core, which on a
cluster kubelets do on machines of their own.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing

import msgspec
import uvloop

from bench.table import Figure, at_least, at_most
from tests.kubernetes.crowd import fast_client
from tests.kubernetes.harness.control_plane import ControlPlane, control_plane
from tests.kubernetes.harness.fake_nodes import fake_nodes
from tests.kubernetes.harness.processes import ClusterError
from tests.kubernetes.observed import Told
from tests.kubernetes.sources import Sources
from tests.kubernetes.stand import GATEWAYS, Observed, Stand, cpu_s, stand
from zerogate.clock import now
from zerogate.kube import objects

WORKLOADS, PODS = 5000, 10_000
NODES = 10
BUSY_ONE_IN = 10
"""Of the services that run: on most fleets of model servers far fewer have a request inside at any moment."""
STEADY_S = 30.0
_SETTLE_S = 15.0
"""After sources came or requests left: what they changed is decided by then, and each has beaten three times."""
_LIMIT_S = 420.0
"""The whole part ends by then, whatever hangs."""
_CHANGED = 100
"""Workloads whose pods are others when the API server is there again."""
_MIB = 2**20


class Steady(msgspec.Struct, frozen=True):
    cpu_ratio: float
    memory_bytes: int
    turn: Told
    readings_per_s: int
    beats_per_s: float


class Woken(msgspec.Struct, frozen=True):
    writes: int
    took_s: float
    ours_s: float
    """Processor time of the autoscaler."""
    server_s: float
    """Of API server and etcd."""
    turn: Told


def run() -> list[Figure]:
    with control_plane() as plane, ExitStack() as kwok:
        nodes = kwok.enter_context(fake_nodes(plane, NODES))
        return uvloop.run(_measured(plane, nodes, kwok.close))


async def _measured(plane: ControlPlane, nodes: Sequence[str], on_made: Callable[[], None]) -> list[Figure]:
    try:
        async with asyncio.timeout(_LIMIT_S):
            began_s = now()
            async with stand(plane, nodes, workloads=WORKLOADS, pods=PODS) as one:
                _say(f"the crowd is there after {now() - began_s:.0f} s")
                await asyncio.to_thread(on_made)
                return await _phases(one)
    except TimeoutError as error:
        raise ClusterError(f"scale: not done within {_LIMIT_S:.0f} s; is the machine busy?") from error


async def _phases(one: Stand) -> list[Figure]:
    began_s = now()
    process = one.observed()
    figures = await _start(process, began_s)
    bare_bytes = process.memory_bytes()
    awake = [workload.service for workload in one.crowd if workload.replicas]
    sources = await asyncio.to_thread(one.sources, process, busy=awake[::BUSY_ONE_IN])
    async with aclosing(sources):
        figures += await _known(one, process, sources)
        figures += _steady_figures(await _steady(process, sources), bare_bytes)
        asleep = [workload.service for workload in one.crowd if not workload.replicas]
        figures += _wake_figures(await _wake(one, process, sources, asleep))
        figures += await _relist(one, process)
    return figures


async def _start(process: Observed, began_s: float) -> list[Figure]:
    first = await process.until_told("first decision", within_s=60)
    leads = await process.until_told("leads", within_s=60)
    synced = await process.until_told("synced", within_s=1)
    before = await process.until_told("before lead", within_s=1)
    led = await process.until_told("led", within_s=60)
    for told in process.told():
        _say(f"{told.what} after {told.at_s - began_s:.2f} s, cpu {told.cpu_s:.2f} s, turns {_ms(told)}")
    starting = max(synced, before, key=lambda told: told.turn_cpu_s)
    note = f"everything listed and told after {synced.at_s - began_s:.1f} s, leading after {leads.at_s - began_s:.1f} s"
    return [
        Figure(name="start to first decision", value=f"{first.at_s - began_s:.1f} s", note=note),
        _turn("longest turn while starting", starting),
        _turn("longest turn while taking the lead", led),
    ]


async def _known(one: Stand, process: Observed, sources: Sources) -> list[Figure]:
    """All of them come at once, as after a start."""
    await process.how()
    pids = (process.process.pid, one.plane.api_server.pid)
    before, began_s = [cpu_s(pid) for pid in pids], now()
    known, known_s = await sources.connect(within_s=100)
    ours_s, server_s = (cpu_s(pid) - was_s for pid, was_s in zip(pids, before, strict=True))
    turn = await process.how()
    put_off, everybody = len(sources.turned_away), len(one.sidecars) + GATEWAYS
    _say(f"{known} sources known after {known_s:.1f} s; {put_off} times put off, {turn.doubted} tokens not judged yet")
    await process.until(lambda told: not told.doubted, what="all tokens judged", within_s=120)
    judged_s = now() - began_s
    cost = f"{ours_s:.1f} s of a core in the autoscaler and {server_s:.1f} s in the API server meanwhile"
    return [
        at_most("from a start until all sources are known", known_s, 15, "s", digits=0,
                note=f"{known} of {everybody} streams, {put_off} times put off; {cost}"),
        Figure(name="until the API server has judged all their tokens", value=f"{judged_s:.0f} s", note=""),
        _turn("longest turn while they come", turn),
    ]  # fmt: skip


async def _steady(process: Observed, sources: Sources) -> Steady:
    await asyncio.sleep(_SETTLE_S)
    await process.how()
    process.signal(signal.SIGUSR2)  # the look at turns has a price of its own
    before_s, began_s = cpu_s(process.process.pid), now()
    await asyncio.sleep(STEADY_S)
    ratio = (cpu_s(process.process.pid) - before_s) / (now() - began_s)
    process.signal(signal.SIGUSR2)
    memory = process.memory_bytes()
    await asyncio.sleep(10)
    turn = await process.how()
    _say(f"steady: {100 * ratio:.1f} % of a core, {memory / _MIB:.0f} MiB, turns {_ms(turn)}, {turn.writes} writes")
    return Steady(ratio, memory, turn, sources.readings_per_s, sources.beats_per_s)


async def _wake(one: Stand, process: Observed, sources: Sources, asleep: Sequence[str]) -> Woken:
    """All at once."""
    pids = (one.plane.api_server.pid, one.plane.etcd.pid)
    ours_s, server_s = cpu_s(process.process.pid), sum(map(cpu_s, pids))
    before = await process.how()
    began_s = now()
    sources.wake(asleep)
    while True:
        await asyncio.sleep(0.4)
        told = await process.how()
        written = told.writes - before.writes
        if written >= len(asleep) or now() - began_s > 60:
            break
    woken = Woken(
        written, told.at_s - began_s, cpu_s(process.process.pid) - ours_s, sum(map(cpu_s, pids)) - server_s,
        max((one for one in process.told() if one.at_s > began_s), key=lambda told: told.turn_cpu_s),
    )  # fmt: skip
    sources.leave()
    _say(f"wakes: {woken}")
    return woken


async def _relist(one: Stand, process: Observed) -> list[Figure]:
    await asyncio.sleep(_SETTLE_S)
    before = await process.how()
    began_s = now()
    changed = [workload for workload in one.crowd if workload.replicas][:_CHANGED]
    async with one.without_server():
        await one.maker.put(changed)
    served_s = now() - began_s
    told = await process.until_relisted(within_s=60)
    _say(f"listed anew: {told}")
    slowest, (_, longest) = max(told.relists.items(), key=lambda relist: relist[1][1].took_s)
    kinds = ", ".join(f"{kind} {relist.took_s:.1f} s" for kind, (_, relist) in told.relists.items())
    meanwhile = (
        f"{told.cpu_s - before.cpu_s:.1f} s of a core in the autoscaler in the {told.at_s - before.at_s:.0f} s since "
        f"the server's end, which was away for {served_s:.0f} s of them"
    )
    turn = max((each for each in process.told() if each.at_s > began_s), key=lambda each: each.turn_cpu_s)
    return [
        at_most("whole again after a 410", longest.took_s, 3, "s", note=f"{kinds}; {meanwhile}"),
        Figure(name=f"of it, the pause by chance before {slowest} were listed", value=f"{longest.paused_s:.1f} s",
               note="up to 0.5 s, so that not all clients of a server list at once"),
        Figure(name="waiting for the server's pages", value=f"{longest.awaited_s:.1f} s", note=await _read(one)),
        Figure(name="decoding them, and what else ran", value=f"{longest.collected_s:.1f} s", note=""),
        Figure(name="comparing and telling, and what else ran", value=f"{longest.told_s:.1f} s", note=""),
        _turn("longest turn meanwhile", turn),
    ]  # fmt: skip


async def _read(one: Stand) -> str:
    """What a list of all pods costs the server, and one who only splits it into objects."""
    pids = (one.plane.api_server.pid, one.plane.etcd.pid)
    server_s, began_s, own_s = sum(map(cpu_s, pids)), now(), time.thread_time()
    count, token = 0, ""
    async with fast_client(one.plane.access("reader", groups=["system:masters"])) as client:
        while count == 0 or token:
            page = await client.page(objects.PODS, token=token)
            count, token = count + len(page.items or ()), page.metadata.continue_token
    took_s, own_s = now() - began_s, time.thread_time() - own_s
    server_s = sum(map(cpu_s, pids)) - server_s
    return (
        f"afterwards {count} pods took a reader that decodes nothing {took_s:.1f} s: {server_s:.1f} s of a core in API "
        f"server and etcd and {own_s:.1f} s in itself"
    )


def _turn(name: str, told: Told) -> Figure:
    note = f"{1000 * told.turn_s:.0f} ms by the wall, with all that ran beside it"
    return at_most(name, 1000 * told.turn_cpu_s, 50, "ms", digits=0, note=note)


def _steady_figures(steady: Steady, bare_bytes: int) -> list[Figure]:
    load = f"{steady.beats_per_s:.0f} beats and {steady.readings_per_s} readings a second"
    return [
        at_most("processor, steady", 100 * steady.cpu_ratio, 30, "% of a core", note=load),
        at_most("memory (PSS)", steady.memory_bytes / _MIB, 300, "MiB", digits=0,
                note=f"{bare_bytes / _MIB:.0f} MiB before any source had a stream"),
        _turn("longest turn, steady", steady.turn),
    ]  # fmt: skip


def _wake_figures(woken: Woken) -> list[Figure]:
    each = 1000 / max(1, woken.writes)
    note = (
        f"{woken.writes} writes in {woken.took_s:.1f} s; for each of them {each * woken.server_s:.1f} ms of a core in "
        f"API server and etcd and {each * woken.ours_s:.1f} ms in the autoscaler"
    )
    return [
        at_least("accepted scale patches", woken.writes / woken.took_s, 200, "1/s", digits=0, note=note),
        _turn("longest turn while waking", woken.turn),
    ]


def _ms(told: Told) -> str:
    return f"{1000 * told.turn_s:.0f} ms by the wall, {1000 * told.turn_cpu_s:.0f} ms of a core"


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
