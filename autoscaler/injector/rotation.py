"""Keeps the autoscalers' certificates valid: reads the Secret, takes the next step, publishes trust, serves what is
new.

The masters of sidecars' keys are kept in the same Secret, and made once. Where somebody else gives the certificate,
those are all that is kept. Every replica does so; a write that came second is dropped and read again. Trust is
published before a step that relies on it: while that fails, nothing new is signed, and what is served goes on being
served. Owned by the autoscaler's process.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from autoscaler.injector.authority import BUNDLE, LEAF, LEAF_KEY, read_held, take
from autoscaler.injector.validity import plan
from zerogate.errors import ZerogateError
from zerogate.reporting.proof import MASTER_BYTES

MASTERS: Final = "stats.keys"
"""Of the Secret's data: hexadecimal, one in each line. The first one makes the keys of new sidecars; all are
believed."""
LOOK_EVERY_S: Final = 60.0
"""What another replica has made is served within this time, and trust that somebody's apply took away is back; three
reads."""
RETRY_S: Final = 10.0
_MOST_STEPS: Final = 12
"""In one round; four make everything from nothing."""

log = logging.getLogger(__name__)


class ChangedError(ZerogateError):
    """The Secret is not what it was when it was read."""


class Stored(msgspec.Struct, frozen=True):
    """A Secret's data; `version` says which, empty where there is no Secret yet."""

    data: Mapping[str, bytes]
    version: str


class Given(msgspec.Struct, frozen=True):
    """A certificate that somebody else keeps valid, as PEM."""

    certificate: bytes
    key: bytes


class CertificateStore(Protocol):
    """The Secret and the webhook configurations. All may raise ZerogateError."""

    async def read(self) -> Stored:
        """The Secret as it is."""

    async def write(self, data: Mapping[str, bytes], version: str) -> None:
        """Write or create it. Raises ChangedError where it is not `version` any more."""

    async def publish(self, bundle: bytes) -> bool:
        """Let the API server trust `bundle` (PEM) for our webhooks. Whether that took a write."""


class Rotation:
    """See the module. `use(certificate, key)` is called with PEM whenever they are others than before.

    `given` reads the certificate where it is somebody else's; it may raise ZerogateError.
    """

    def __init__(
        self,
        store: CertificateStore,
        names: Sequence[str],
        use: Callable[[bytes, bytes], None],
        wall: Callable[[], float],
        *,
        on_masters: Callable[[tuple[bytes, ...]], None] = lambda _: None,
        given: Callable[[], Given] | None = None,
    ) -> None:
        self._on_masters = on_masters
        self._given = given
        self._store = store
        self._names = tuple(names)
        self._use = use
        self._wall = wall
        self._used = b""
        self.fault = ""
        """Why the last round came to nothing; empty: it did not."""

    @property
    def is_serving(self) -> bool:
        """Whether there is a certificate in use."""
        return bool(self._used)

    async def round(self) -> float:
        """Do all that is due; the stamp of the wall clock at which something is due again."""
        for _ in range(_MOST_STEPS):
            stored = await self._store.read()
            if not (masters := read_masters(stored.data)):
                await self._write({**stored.data, MASTERS: secrets.token_hex(MASTER_BYTES).encode()}, stored.version)
                continue
            self._on_masters(masters)
            if self._given is not None:
                given = self._given()
                self._serve(given.certificate, given.key)
                return self._wall() + LOOK_EVERY_S
            if stored.data.get(BUNDLE) and await self._store.publish(stored.data[BUNDLE]):
                continue  # meanwhile another may have written, and published, what is newer
            now_at = self._wall()
            due = plan(read_held(stored.data), self._names, now_at)
            if due.step is None:
                self._serve(stored.data[LEAF], stored.data[LEAF_KEY])
                return due.revisit_at
            await self._write(take(due.step, stored.data, self._names, now_at), stored.version)
        raise ZerogateError("The webhook's certificates are written by somebody else all the time.")

    async def _write(self, data: Mapping[str, bytes], version: str) -> None:
        try:
            await self._store.write(data, version)
        except ChangedError:
            log.info("another replica has written the webhook's certificates")

    def _serve(self, certificate: bytes, key: bytes) -> None:
        if certificate != self._used:
            self._use(certificate, key)
            self._used = certificate

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                wait_s = await self.round() - self._wall()
                self.fault = ""
            except ZerogateError as error:
                if str(error) != self.fault:
                    log.warning("the webhook's certificates could not be looked after: %s", error)
                self.fault = str(error)
                wait_s = RETRY_S
            await asyncio.sleep(min(max(wait_s, RETRY_S), LOOK_EVERY_S))


def read_masters(data: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Those that can be read."""
    found: list[bytes] = []
    for line in data.get(MASTERS, b"").decode("ascii", "replace").split():
        try:
            master = bytes.fromhex(line)
        except ValueError:
            continue
        if len(master) == MASTER_BYTES:
            found.append(master)
    return tuple(found)
