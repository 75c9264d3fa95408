"""What a box remembers over a restart: pins, learned start and run times. One small JSON file in the state folder.

Written whole to a new file that then replaces the old one, so that a crash leaves one or the other. A file that cannot
be read or written is said once and costs nothing but memory: a service is never refused because of it. Invariant:
nothing is written before it was loaded, so that a zerogate that could not start does not forget for the one that runs;
one write at a time, in a thread (a slow disk must not hold up requests), and never an older state after a newer one.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.status import Saved

SAVE_EVERY_S: Final = 30.0

log = logging.getLogger(__name__)


class Remembered:
    """The file `learned.json` of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "learned.json"
        self._last = b""
        self._next_s = 0.0
        self._is_loaded = False
        self._is_failing = False
        self._asked = 0
        self._written = 0
        self._writing = threading.Lock()

    def load(self) -> dict[str, Saved]:
        """What was remembered; nothing where there is no file, or none that can be read."""
        self._is_loaded = True
        try:
            self._last = self._path.read_bytes()
            return msgspec.json.decode(self._last, type=dict[str, Saved])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as failure:
            log.warning("%s cannot be read, what was learned is lost: %s", self._path, failure)
            return {}

    async def save_if_due(self, export: Callable[[], dict[str, Saved]], now_s: float) -> None:
        """Save what `export` gives, at most every half minute."""
        if now_s >= self._next_s:
            self._next_s = now_s + SAVE_EVERY_S
            await self.save(export())

    async def save(self, learned: dict[str, Saved]) -> None:
        """Save it if it has changed since it was loaded or saved; on return it, or something newer, is in the file.

        May be called while another save is under way. One that is cancelled is written all the same.
        """
        if self._is_loaded:
            self._asked += 1
            await asyncio.to_thread(self._save, learned, self._asked)

    def _save(self, learned: dict[str, Saved], number: int) -> None:
        with self._writing:
            if number > self._written:
                self._written = number
                self._write(msgspec.json.encode(learned))

    def _write(self, content: bytes) -> None:
        if content == self._last:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(content)
            os.replace(new, self._path)
        except OSError as failure:
            if not self._is_failing:
                log.warning("%s cannot be written: %s", self._path, failure.strerror or failure)
            self._is_failing = True
        else:
            self._last = content
            self._is_failing = False
