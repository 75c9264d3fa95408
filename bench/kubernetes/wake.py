"""A cold request on a whole cluster: chart, gateway, autoscaler, sidecar, kubelet. Two spans of it are ours.

**First byte → write.** From the request's bytes leaving here to the watch of the Deployment showing the new number. The
API server's part (take the patch, write it to etcd, tell the watch) is measured in the same rounds by a patch of our
own to another Deployment, in the same way, and what is above its median is stated as the overhead. The overhead still
has in it: the tunnel into the node's network, the gateway, its report, the decision, the client's rate limit.

**Ready → first byte.** From the instant at which the model server would answer its ready path (it says so itself; one
machine has one monotonic clock) to the answer's first byte here: the sidecar's probe, its word to the gateway, the
release, the model's answer and the tunnel back.
"""

import json
import sys

from bench.table import Figure, at_most, percentile
from tests.kubernetes.harness.manifests import STUB, container, deployment
from tests.kubernetes.harness.node import node
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, Model, Numbers, Whole, watched
from zerogate.clock import now

ROUNDS = 20
WRITE_GOAL_MS = 10.0
ANSWER_GOAL_MS = 50.0
_NAMESPACE = "bench"


def run() -> list[Figure]:
    written: list[float] = []
    of_server: list[float] = []
    answered: list[float] = []
    with node() as one, installed(one, ALL):
        one.cluster.create("/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
        with watched(one) as numbers:
            whole = Whole(one, numbers)
            model = Model(whole, _NAMESPACE, "model", idle_timeout="1s")
            by_hand = deployment("by-hand", container("model", STUB), replicas=0, nodeSelector={"no": "where"})
            one.cluster.apply(by_hand, namespace=_NAMESPACE)
            for turn in range(ROUNDS + 1):
                patch_s, write_s, answer_s = _round(whole, model, numbers)
                if turn:  # the first reads the image's files
                    of_server.append(patch_s)
                    written.append(write_s)
                    answered.append(answer_s)
                spans = " ".join(f"{1000 * span:.1f}" for span in (patch_s, write_s, answer_s))
                print(f"  {turn}/{ROUNDS} own patch, first byte to write, ready to answer: {spans} ms", file=sys.stderr)
    return _figures(written, of_server, answered)


def _round(whole: Whole, model: Model, numbers: Numbers) -> tuple[float, float, float]:
    """(own patch until the watch shows it, request until the watch shows its write, ready until answer)."""
    model.until_gone()
    numbers.until(_NAMESPACE, "model", 0)
    path = f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments/by-hand/scale"
    patches = []
    for number in (1, 0):
        began_s = now()
        whole.cluster.patch(path, {"spec": {"replicas": number}})
        patches.append(numbers.until(_NAMESPACE, "by-hand", number) - began_s)
    began_s = now()
    answer = model.call("/stats")
    ended_s = now()
    if answer.status != 200:
        raise RuntimeError(f"the request was answered {answer.status}: {answer.error or answer.body!r}")
    return (
        min(patches),
        numbers.until(_NAMESPACE, "model", 1) - began_s,
        ended_s - json.loads(answer.body)["ready_at_s"],
    )


def _figures(written: list[float], of_server: list[float], answered: list[float]) -> list[Figure]:
    server_ms = 1000 * percentile(of_server, 50)
    writes_ms = [1000 * span for span in written]
    answers_ms = [1000 * span for span in answered]
    write_note = (
        f"with the server's part median {percentile(writes_ms, 50):.1f} ms, p99 {percentile(writes_ms, 99):.1f} ms; "
        f"its part alone, a patch of our own: median {server_ms:.1f} ms; {len(written)} wakes"
    )
    answer_note = f"median {percentile(answers_ms, 50):.1f} ms"
    return [
        at_most("first byte to write, overhead, p99", percentile(writes_ms, 99) - server_ms, WRITE_GOAL_MS, "ms",
                note=write_note),
        at_most("ready to first byte, p99", percentile(answers_ms, 99), ANSWER_GOAL_MS, "ms", note=answer_note),
    ]  # fmt: skip
