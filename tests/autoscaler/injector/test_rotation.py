import asyncio
from collections.abc import Mapping

import pytest

from autoscaler.injector.authority import BUNDLE, LEAF, read_held
from autoscaler.injector.rotation import ChangedError, Rotation, Stored
from autoscaler.injector.validity import AUTHORITY_LIVES_S, SETTLE_S
from zerogate.errors import ZerogateError

NAMES = ("webhook.test.svc",)


class Store:
    """A Secret and a trusted bundle, as several replicas see them."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.version = 0
        self.trusted: list[bytes] = []
        self.log: list[str] = []
        self.is_publishing = True

    async def read(self) -> Stored:
        await asyncio.sleep(0)
        return Stored(dict(self.data), str(self.version))

    async def write(self, data: Mapping[str, bytes], version: str) -> None:
        await asyncio.sleep(0)
        if version != str(self.version):
            raise ChangedError("It was changed.")
        self.data, self.version = dict(data), self.version + 1
        self.log.append("write")

    async def publish(self, bundle: bytes) -> bool:
        if not self.is_publishing:
            raise ZerogateError("The webhook configuration cannot be written.")
        if self.trusted[-1:] != [bundle]:
            self.trusted.append(bundle)
            self.log.append("publish")
            return True
        return False


class Replica:
    def __init__(self, store: Store) -> None:
        self.now_at = 1_800_000_000.0
        self.served: list[bytes] = []
        self.rotation = Rotation(store, NAMES, lambda leaf, _: self.served.append(leaf), lambda: self.now_at)


async def test_the_first_round_makes_publishes_and_serves() -> None:
    store = Store()
    replica = Replica(store)
    revisit_at = await replica.rotation.round()
    assert store.log == ["write", "write", "publish", "write"]
    assert replica.served == [store.data[LEAF]]
    assert store.trusted == [store.data[BUNDLE]]
    assert revisit_at > replica.now_at


async def test_replicas_that_start_together_end_with_one_authority_and_serve_the_same() -> None:
    store = Store()
    replicas = [Replica(store) for _ in range(4)]
    await asyncio.gather(*(replica.rotation.round() for replica in replicas))
    assert len(read_held(store.data).authorities) == 1
    assert [replica.served for replica in replicas] == [[store.data[LEAF]]] * 4


async def test_what_another_replica_renewed_is_served_at_the_next_look() -> None:
    store = Store()
    one, other = Replica(store), Replica(store)
    await one.rotation.round()
    await other.rotation.round()
    one.now_at += 70 * 86400
    await one.rotation.round()
    assert len(one.served) == 2
    await other.rotation.round()
    assert other.served == one.served
    await other.rotation.round()
    assert len(other.served) == 2


async def test_nothing_is_signed_by_an_authority_that_could_not_be_published() -> None:
    store = Store()
    replica = Replica(store)
    await replica.rotation.round()
    replica.now_at += AUTHORITY_LIVES_S * 0.7
    await replica.rotation.round()
    store.is_publishing = False
    replica.now_at += SETTLE_S
    served = list(replica.served)
    with pytest.raises(ZerogateError, match="cannot be written"):
        await replica.rotation.round()
    assert replica.served == served
    store.is_publishing = True
    await replica.rotation.round()
    assert len(replica.served) == len(served) + 1


async def test_a_bundle_that_somebody_changed_is_published_again() -> None:
    store = Store()
    replica = Replica(store)
    await replica.rotation.round()
    store.trusted.append(b"nonsense")
    await replica.rotation.round()
    assert store.trusted[-1] == store.data[BUNDLE]


async def test_a_failure_is_tried_again_and_ends_with_the_task() -> None:
    store = Store()
    store.is_publishing = False
    replica = Replica(store)
    task = asyncio.ensure_future(replica.rotation.run())  # noqa: TID251 - ended by this test
    while not store.data:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
