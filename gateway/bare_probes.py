"""Asks pods without a sidecar whether they are ready: one prober for each gateway, in its cluster process.

What is asked of whom is said by `gateway.bare_book`, which is told of each change.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from gateway.bare_book import Question
from zerogate.http.probe import Probe

READY_S: Final = 1.0
"""Between two questions to one that is ready: as often as a kubelet asks that was told to ask often."""
PATIENCE: Final = 3
"""As many failures in a row as a kubelet takes by default."""


class BareProbes:
    """See the module's text. `on_change(uid, is_ready)` is called on the loop."""

    def __init__(self, on_change: Callable[[str, bool], None]) -> None:
        self._on_change = on_change
        self._asked: dict[str, tuple[Question, Probe]] = {}

    def keep(self, questions: Mapping[str, Question]) -> None:
        """Ask these, and nobody else."""
        for uid, (question, probe) in list(self._asked.items()):
            if questions.get(uid) != question:
                probe.close()
                del self._asked[uid]
                if probe.is_ready and uid in questions:
                    self._on_change(uid, False)
        for uid, question in questions.items():
            if uid not in self._asked:
                probe = Probe(
                    question.address, question.path, partial(self._on_change, uid),
                    ready_interval_s=READY_S, patience=PATIENCE, protocol=question.protocol,
                )  # fmt: skip
                self._asked[uid] = question, probe
                probe.start()

    def close(self) -> None:
        """Ask no more."""
        self.keep({})
