"""A cold request on a whole cluster: chart, gateway, autoscaler, sidecar, kubelet. Two spans of it are ours.

**First byte → write.** From the request's bytes leaving a client inside of the cluster, on a connection that is there
already, to the API server having read the head of the autoscaler's write: the gateway, its report, the decision, the
way of the write. What the API server takes from there until its answer is its own time and stated beside it; both
instants are its own words (its audit log), on the clock of the machine that all of this runs on.

**Ready → first byte.** From the instant at which the model server would answer its ready path (it says so itself; one
machine has one monotonic clock) to the answer's first byte at the client: the sidecar's probe, its word to the gateway,
the release, the model's answer. The model is ready half a second after its start. That is sooner than any model server,
and later than the kubelet tells the pod's address, which it does when it starts the model: of one that is ready after
50 ms the address was seen to come up to 0.1 s later, and nobody can go there before.

Both are of one replica at most, as is the default. Where there may be more, the decision waits up to 8 ms for the crowd
that a request may belong to, so that one write is enough.
"""

import json
import random
import sys
import time

import msgspec

from bench.table import Figure, at_most, percentile
from tests.kubernetes.harness.audit import Audited
from tests.kubernetes.harness.node import node
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, Model, Numbers, Whole, ask, watched
from zerogate.clock import now, wall

ROUNDS = 40
"""Of six seconds each; the first one on top reads the image's files. A p99 of so few is the slowest."""
WRITE_GOAL_MS = 10.0
ANSWER_GOAL_MS = 50.0
_NAMESPACE = "bench"
_WRITES = Audited("patch", "apps", "deployments/scale")
_READY_AFTER_S = "0.5"
_QUIET_S = 0.5
"""Pods that went leave notices behind; then up to a second more, so that wakes meet all that ticks at any phase."""


class Wake(msgspec.Struct, frozen=True):
    """One cold request, in milliseconds."""

    write_ms: float
    server_ms: float
    answer_ms: float


def run() -> list[Figure]:
    wakes: list[Wake] = []
    chance = random.Random(1)
    with node(audited=[_WRITES]) as one, installed(one, ALL):
        one.cluster.create("/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
        with watched(one) as numbers:
            whole = Whole(one, numbers)
            model = Model(whole, _NAMESPACE, "model", flags=["--ready-after", _READY_AFTER_S], idle_timeout="1s")
            for turn in range(ROUNDS + 1):
                wake = _round(whole, model, numbers, quiet_s=_QUIET_S + chance.random())
                if turn:
                    wakes.append(wake)
                spans = f"{wake.write_ms:.1f}, {wake.server_ms:.1f}, {wake.answer_ms:.1f}"
                print(f"  {turn}/{ROUNDS} to the API server, there, ready to answer: {spans} ms", file=sys.stderr)
    return _figures(wakes)


def _round(whole: Whole, model: Model, numbers: Numbers, *, quiet_s: float) -> Wake:
    model.until_gone()
    numbers.until(_NAMESPACE, "model", 0)
    time.sleep(quiet_s)
    connection = whole.connected()
    try:
        sent_at_s = wall()
        answer = ask(connection, model.host, "/echo")
        ended_s = now()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the request was answered {answer.status}: {answer.error or answer.body!r}")
    seen = model.call("/stats")
    assert whole.node.plane.audit is not None
    write = whole.node.plane.audit.first_since(sent_at_s, _NAMESPACE, "model")
    if write.code != 200:
        raise RuntimeError(f"the first write was answered {write.code}")
    return Wake(
        write_ms=1000 * (write.received_at_s - sent_at_s),
        server_ms=1000 * write.took_s,
        answer_ms=1000 * (ended_s - json.loads(seen.body)["ready_at_s"]),
    )


def _figures(wakes: list[Wake]) -> list[Figure]:
    writes, servers, answers = ([getattr(wake, name) for wake in wakes] for name in Wake.__struct_fields__)
    write_note = (
        f"median {percentile(writes, 50):.1f} ms; then the API server's own time: median "
        f"{percentile(servers, 50):.1f} ms, p99 {percentile(servers, 99):.1f} ms; of {len(wakes)} wakes"
    )
    answer_note = f"median {percentile(answers, 50):.1f} ms, p90 {percentile(answers, 90):.1f} ms"
    return [
        at_most("first byte to write, without the API server, p99", percentile(writes, 99), WRITE_GOAL_MS, "ms",
                note=write_note),
        at_most("ready to first byte, p99", percentile(answers, 99), ANSWER_GOAL_MS, "ms", note=answer_note),
    ]  # fmt: skip
