"""What a gateway works by, in editions: a file, read again when somebody asks, or what a cluster process tells.

The parent's. A wrong file changes nothing. Who has to take an edition yet, and who waits to hear of it, is decided in
`gateway.reloads`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.changes import NOTHING, encode
from gateway.cluster_side import amendments
from gateway.file import GatewayFile, read_file
from gateway.messages import Amend, Apply
from gateway.reloads import Asker, Reloads
from zerogate.errors import DefinitionErrors

log = logging.getLogger("gateway")


class Outcome(msgspec.Struct, frozen=True):
    """What an asker is told of a reload."""

    applied: bool
    detail: str


class Editions:
    """See the module's text. `path`: None where there is no file."""

    def __init__(self, path: str | None, file: GatewayFile) -> None:
        self._path = path
        self.file = file
        self.number = 1
        self.applied = self.refused = 0
        """Files that were read again."""
        self.reloads = Reloads()

    def amend(self, file: GatewayFile) -> list[Amend]:
        """Work by these services; what workers are to be told."""
        told = amendments(self.file, file, self.number + 1)
        self.number += len(told)
        self.file = file
        return told

    def read_again(self, workers: Sequence[int], asker: Asker | None, now_s: float) -> Apply | Amend | str:
        """What these workers are to be told, or what is wrong with the file. It blocks as long as reading takes."""
        if self._path is None:
            self.number += 1
            self.reloads.begin(self.number, workers, asker, now_s)
            return Amend(self.number, encode(NOTHING))
        try:
            data = Path(self._path).read_bytes()
            file = read_file(data, self._path)
        except (DefinitionErrors, OSError) as error:
            log.error("the file is wrong, nothing was changed:\n%s", error)
            return self.refuse(str(error))
        self.applied += 1
        self.number += 1
        self.file = file
        self.reloads.begin(self.number, workers, asker, now_s)
        log.info("reloaded %s: %s", self._path, self.services)
        return Apply(self.number, data)

    def refuse(self, why: str) -> str:
        """Nothing is read again; what whoever asked is told."""
        self.refused += 1
        return why

    @property
    def services(self) -> str:
        """How many there are, for a person."""
        count = len(self.file.services)
        return f"{count} service{'' if count == 1 else 's'}"

    def due(self, now_s: float) -> list[tuple[Asker, Outcome]]:
        """Who is told now that all workers work by the file, or that it takes longer."""
        return [(one.asker, _outcome(one.missing)) for one in self.reloads.due(now_s)]


def _outcome(missing: int) -> Outcome:
    if missing:
        return Outcome(applied=False, detail=f"{missing} workers have not taken the file yet; they will.")
    return Outcome(applied=True, detail="")
