"""The story of `zerogate demo`: zero, a held request, a start, tokens, a warm request, idling, zero.

The plot is fixed, what is told is not: every line waits for what it says to be seen, in the answers' own headers, in
the admin API or on the clock. What does not happen ends the story as a StoryError. Whatever ends it (Ctrl-C, SIGTERM, a
closed terminal), no process stays.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from types import FrameType
from typing import Final

from rich.console import Console, RenderableType

from cli.demo.background import FRAME_S, in_background, is_done
from cli.demo.cast import GEMMA, Cast
from cli.demo.chat import Chat, load_client
from cli.demo.child import Box, running
from cli.demo.encore import encore
from cli.demo.errors import StoryError
from cli.demo.figures import Figures, mebibytes, rows, seconds
from cli.demo.prepare import prepare
from cli.demo.teller import Teller, bar, moving_line, moving_quote, terminal
from zerogate.admin.api import ReplicaStatus, ServiceStatus
from zerogate.clock import now

_ZERO_SLACK_S: Final = 20.0
"""Over the idle timeout, until the process is gone: stopping may take 5 s, a busy machine is granted the rest."""


def run(*, keep: bool, cast: Cast = GEMMA, console: Console | None = None) -> int:
    """Tell it; the exit code. Raises StoryError, or MachineError where something of the machine is missing."""
    teller = Teller(console or terminal())
    with _ended_by_signals():
        teller.title(
            "zerogate: a model that runs only while somebody uses it", f"{cast.title}. Everything is measured."
        )
        teller.chapter("Zero")
        if cast.needs_weights:
            prepare(teller)
        client = in_background(load_client)
        with TemporaryDirectory(prefix="zerogate-demo-") as folder, running(cast, Path(folder)) as box:
            client.result()
            _tell(teller, cast, box)
            if keep:
                encore(teller, cast, box)
        teller.chapter("Done")
        teller.say("✓", "zerogate has left; no process of the demonstration runs any more")
    return 0


def _tell(teller: Teller, cast: Cast, box: Box) -> None:
    _say_zero(teller, box)
    teller.chapter("A request comes: from zero to one")
    cold = _ask(teller, cast, box, cast.cold_question)
    if cold.hold_s is None or cold.start_s is None:
        raise StoryError("The first request was answered without waiting for a start: the model was not at zero.")
    teller.chapter("Another one: warm")
    warm = _ask(teller, cast, box, cast.warm_question)
    if warm.hold_s is not None:
        raise StoryError(f"The second request was held for {seconds(warm.hold_s)}: the model did not stay up for it.")
    teller.chapter("Nobody asks: back to zero")
    memory_bytes = _wait_for_zero(teller, box)
    teller.chapter("Measured")
    figures = Figures(
        hold_s=cold.hold_s,
        start_s=cold.start_s,
        cold_first_token_s=cold.first_token_s or 0.0,
        warm_first_token_s=warm.first_token_s or 0.0,
        model_ran_s=box.replica_s(),
        lasted_s=box.admin.health().uptime_s,
        memory_bytes=memory_bytes,
    )
    teller.table(rows(figures))


def _say_zero(teller: Teller, box: Box) -> None:
    if box.taken:
        ports = " and ".join(map(str, box.taken))
        teller.say("●", f"taken on this machine: port {ports}; free ones are used instead")
    status = box.status()
    if status.replicas:
        raise StoryError(f"{status.name} already has replicas: {len(status.replicas)}.")
    teller.say("✓", f"zerogate is up: traffic on {box.traffic}, administration on {box.admin.url}")
    teller.say("○", "the model is at zero: no process, no memory")


def _ask(teller: Teller, cast: Cast, box: Box, question: str) -> Chat:
    """One request, told until its last token."""
    chat = Chat(f"{box.traffic}/v1", cast, question)
    teller.say("▸", f"openai client: “{question}”")
    work = in_background(chat.run)
    with teller.moving() as show:
        is_told = False
        while not is_done(work) and chat.head_s is None:
            status = box.status()
            if status.held and not is_told:
                is_told = True
                teller.say("●", "held: nothing runs, so zerogate keeps the request and starts the model")
            show(moving_line(_start(status, now() - chat.sent_s)))
    if chat.head_s is not None and chat.hold_s is not None:
        started = f"ready after {seconds(chat.start_s or 0.0)}; the request was held for {seconds(chat.hold_s)}"
        teller.say("●", bar(1.0, started))
    with teller.moving() as show:
        while not is_done(work):
            show(moving_quote(chat.text))
    work.result()
    teller.quote(chat.text)
    first = f"first token after {seconds(chat.first_token_s or 0.0)}"
    teller.say("✓", f"{first}; {chat.tokens} tokens, {chat.tokens_per_s:.0f} a second")
    return chat


def _start(status: ServiceStatus, waited_s: float) -> RenderableType:
    """The start as zerogate sees it: against the time that it learned, if it has."""
    starting = next((one for one in status.replicas if one.state == "starting"), None)
    if starting is None:
        return bar(None, f"waiting, {waited_s:.1f} s", age_s=waited_s)
    if status.start_s is None:
        return bar(None, f"starting, {starting.age_s:.1f} s (never seen before)", age_s=waited_s)
    words = f"starting, {starting.age_s:.1f} s of about {status.start_s:.1f} s (learned)"
    return bar(starting.age_s / status.start_s, words)


def _wait_for_zero(teller: Teller, box: Box) -> int | None:
    """Until no replica is left; how much memory the last one had."""
    status = box.status()
    if not status.replicas:
        raise StoryError("The model was gone before it had been idle.")
    replica, idle_timeout_s = status.replicas[0], status.idle_timeout_s or 0.0
    memory_bytes = _memory(replica)
    teller.say("●", f"idle: zero in {idle_timeout_s:.0f} s, unless somebody asks")
    deadline_s = now() + idle_timeout_s + _ZERO_SLACK_S
    with teller.moving() as show:
        while (status := box.status()).replicas:
            if now() > deadline_s:
                raise StoryError(
                    f"The model is not at zero {_ZERO_SLACK_S:.0f} s after its idle timeout: {status.why}."
                )
            show(moving_line(_countdown(status)))
            sleep(FRAME_S)
    if replica.pid is not None and Path(f"/proc/{replica.pid}").exists():
        raise StoryError(f"zerogate reports zero, but the model's process {replica.pid} is still there.")
    freed = "" if memory_bytes is None else f", {mebibytes(memory_bytes)} of memory are free again"
    teller.say("○", f"zero: process {replica.pid} is gone{freed}")
    return memory_bytes


def _countdown(status: ServiceStatus) -> RenderableType:
    if status.state != "ready":
        return bar(0.0, "stopping")
    idle_s, timeout_s = status.idle_s or 0.0, status.idle_timeout_s or 1.0
    left_s = max(0.0, timeout_s - idle_s)
    return bar(left_s / timeout_s, f"zero in {left_s:.1f} s")


def _memory(replica: ReplicaStatus) -> int | None:
    """Resident memory of its process."""
    try:
        pages = Path(f"/proc/{replica.pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the story as Ctrl-C does: with everything put away."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
