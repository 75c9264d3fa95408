"""`zerogate up`: the process around a running box: its loop, its signals, its words.

Ctrl-C or SIGTERM once: finish what runs, stop the model servers, leave. Twice: at once, with nothing left behind.
SIGHUP: read the file again. Exit codes: 0 left in order, 1 something of the machine was missing, 2 the file is wrong.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop

from cli.box import BoxFile
from cli.box_view import BoxView
from cli.runnable import read_runnable
from cli.running import RunningBox
from zerogate.admin.server import AdminServer
from zerogate.errors import DefinitionErrors, MachineError, PortTakenError, ZerogateError
from zerogate.garbage import set_aside
from zerogate.local.listening import who_listens
from zerogate.process import raise_open_files
from zerogate.startup import told_to_leave

log = logging.getLogger("zerogate")


def run(path: Path) -> int:
    """Run what the file says until told to leave; the exit code. Raises DefinitionErrors and MachineError."""
    box = read_runnable(path)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    raise_open_files()
    return uvloop.run(_main(path, box))


async def _main(path: Path, box: BoxFile) -> int:
    try:
        running = RunningBox(box)
        view = BoxView(running, path)
        admin = AdminServer(view, box.admin)
        admin.bind()
    except PortTakenError as error:
        raise MachineError(f"{error}{who_listens(error.port)}") from error
    left = told_to_leave(running.stop_at_once)
    _reload_on_signal(running, view)
    try:
        await running.start()
        await admin.start()
        _greet(box)
        set_aside()
        await left.wait()
        log.info(
            "leaving: answers on their way are finished, then the model servers are stopped (Ctrl-C again: at once)"
        )
    finally:
        await running.stop()
        await admin.stop()
    return 0


def _reload_on_signal(running: RunningBox, view: BoxView) -> None:
    async def reload() -> None:
        try:
            report = await view.reload()
        except DefinitionErrors as errors:
            log.error("the file is wrong, nothing was changed:\n%s", errors)
        except (ZerogateError, OSError) as error:
            log.error("the file could not be applied: %s", error)
        else:
            log.info("reloaded: %s", report)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: running.nursery.start(reload(), name="reload"))


def _greet(box: BoxFile) -> None:
    count = len(box.services)
    log.info("traffic on %s, administration on http://%s", box.traffic, box.admin)
    log.info("%d service%s, state in %s", count, "" if count == 1 else "s", box.state_dir)
    for service in box.services.values():
        if service.command is not None and service.command.port_note:
            log.info("%s: %s", service.name, service.command.port_note)
