"""An autoscaler of a whole crowd, its process watched: what the benchmark at scale and its small test share."""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.kubernetes.autoscalers import AUDIENCE, Autoscaler, rules
from tests.kubernetes.crowd import Maker, Source, Tokens, Workload, crowd_of, fast_client, maker
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import ClusterError
from tests.kubernetes.observed import Told
from tests.kubernetes.sources import Sources
from zerogate.clock import now
from zerogate.reporting.proof import new_key
from zerogate.reporting.stream import Asked
from zerogate.reporting.trust import Trust

HOME: Final = "zerogate"
GATEWAYS: Final = 3
_LOOK_S: Final = 0.02
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Observed(Autoscaler):
    """A process of `tests/kubernetes/observed.py`."""

    def __init__(self, plane: ControlPlane, account: Access, *, name: str) -> None:
        self.file = plane.folder / f"{name}.told"
        super().__init__(
            plane, account, home=HOME, name=name, module=("tests.kubernetes.observed", str(self.file))
        )  # fmt: skip

    def told(self) -> list[Told]:
        """All that it has told."""
        if not self.file.exists():
            return []
        return [msgspec.json.decode(line, type=Told) for line in self.file.read_bytes().splitlines(keepends=True)
                if line.endswith(b"\n")]  # fmt: skip

    async def until_told(self, what: str, *, within_s: float, after: int = 0) -> Told:
        """The first word of that kind after so many; ClusterError where it does not come."""
        for _ in range(int(within_s / _LOOK_S)):
            found = [one for one in self.told() if one.what == what]
            if len(found) > after:
                return found[after]
            if not self.process.is_running:
                break
            await asyncio.sleep(_LOOK_S)
        raise ClusterError(f"{self.name}: no word of {what} within {within_s:.0f} s\n{self.process.end_of_log(40)}")

    async def how(self, *, within_s: float = 30.0) -> Told:
        """How it does now, with the longest turns since it was last asked."""
        before = sum(one.what == "asked" for one in self.told())
        self.signal(signal.SIGUSR1)
        return await self.until_told("asked", within_s=within_s, after=before)

    async def until(self, holds: Callable[[Told], bool], *, what: str, within_s: float) -> Told:
        """How it does once `holds`; ClusterError where that does not come to pass."""
        end_s = now() + within_s
        while not holds(told := await self.how()):
            if now() > end_s:
                raise ClusterError(f"{self.name}: {what}: not within {within_s:.0f} s; now {told}")
            await asyncio.sleep(0.2)
        return told

    async def until_relisted(self, *, within_s: float) -> Told:
        """Its pods and Deployments were listed anew."""
        kinds = ("pods", "deployments")
        return await self.until(
            lambda told: all(kind in told.relists for kind in kinds), what="listed anew", within_s=within_s
        )

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def memory_bytes(self) -> int:
        """Proportional, of the process alone."""
        return pss_bytes(self.process.pid)


class Stand:
    """One crowd in one API server. `observed` and `sources` may be called several times."""

    def __init__(
        self, plane: ControlPlane, maker: Maker, crowd: Sequence[Workload], sidecars: Sequence[Source]
    ) -> None:
        self.plane = plane
        self.maker = maker
        self.crowd = crowd
        self.sidecars = sidecars
        self._account = plane.account(
            HOME, "zerogate-autoscaler", rules=rules(at_home=True), cluster_rules=rules(at_home=False)
        )
        self._started: list[Observed] = []

    def observed(self, name: str = "autoscaler-0") -> Observed:
        """Started; what it tells is to be waited for."""
        one = Observed(self.plane, self._account, name=name)
        self._started.append(one)
        one.start()
        return one

    def sources(self, of: Observed, *, busy: Sequence[str]) -> Sources:
        """Of all pods, and so many gateways; not connected yet."""
        cluster = self.plane.cluster
        tokens = Tokens(self.plane.folder / "service-accounts.key", "https://kubernetes.default.svc")
        accounts = {
            account["metadata"]["namespace"]: account["metadata"]["uid"]
            for account in cluster.get("/api/v1/serviceaccounts")["items"] if account["metadata"]["name"] == "default"
        }  # fmt: skip
        path = f"/api/v1/namespaces/{HOME}/serviceaccounts"
        cluster.create(path, {"metadata": {"name": "zerogate-gateway"}})
        spec: dict[str, Any] = {"audiences": [AUDIENCE], "expirationSeconds": 3600}
        gateways = {
            f"gateway-{number}": cluster.create(f"{path}/zerogate-gateway/token", {"spec": spec})["status"]["token"]
            for number in range(GATEWAYS)
        }
        secret = cluster.get(f"/api/v1/namespaces/{HOME}/secrets/zerogate-webhook")["data"]
        master = bytes.fromhex(base64.b64decode(secret["stats.keys"]).split()[0].decode())
        authority = self.plane.folder / "stats-authority.crt"
        authority.write_bytes(base64.b64decode(secret["ca.crt"]))
        return Sources(
            of.stats, self.sidecars, gateways=gateways, busy=busy,
            token_of=lambda one: tokens.of_pod(one, accounts[one.service.partition("/")[0]]),
            key_of=lambda one: new_key(master, one.service, one.uid),
            trust=Asked(trust=Trust(str(authority)), name=f"zerogate-autoscaler-stats.{HOME}.svc"),
        )  # fmt: skip

    @asynccontextmanager
    async def without_server(self) -> AsyncIterator[None]:
        """The API server ends, and comes again afterwards. What is put into its store meanwhile no watch has told, and
        with the history of the store forgotten no watch can go on."""
        self.plane.api_server.stop()
        yield
        await self.maker.forget_history()
        await asyncio.to_thread(self.plane.start_api_server)

    def close(self) -> None:
        for one in self._started:
            one.stop()


@asynccontextmanager
async def stand(plane: ControlPlane, nodes: Sequence[str], *, workloads: int, pods: int) -> AsyncIterator[Stand]:
    """The crowd is in the API server; what was started is stopped at the end."""
    await asyncio.to_thread(plane.cluster.create, "/api/v1/namespaces", {"metadata": {"name": HOME}})
    access = plane.access("maker", groups=["system:masters"])
    async with fast_client(access) as client, maker(client, plane.etcd_url, nodes) as made:
        crowd = crowd_of(workloads, pods)
        sidecars = await made.add(crowd)
        found = await asyncio.to_thread(Stand, plane, made, crowd, sidecars)
        try:
            yield found
        finally:
            await asyncio.to_thread(found.close)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def pss_bytes(pid: int) -> int:
    """Its proportional memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024
