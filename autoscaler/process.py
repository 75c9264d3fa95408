"""The autoscaler of a cluster as a process: flags, signals, exit codes. What it is made of: `autoscaler.running`."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from autoscaler.running import RunningAutoscaler
from autoscaler.settings import Settings, read
from zerogate.errors import DefinitionErrors, ZerogateError
from zerogate.kube.access import by_kubeconfig, in_pod
from zerogate.process import raise_open_files

log = logging.getLogger("autoscaler")


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    try:
        settings = read(arguments, environ)
    except DefinitionErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"autoscaler: {error}\n")
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    raise_open_files()
    try:
        uvloop.run(_main(settings, environ))
    except ZerogateError as error:
        sys.stderr.write(f"autoscaler: {error}\n")
        return 1
    return 0


async def _main(settings: Settings, environ: Mapping[str, str]) -> None:
    access = in_pod(environ) if not settings.kubeconfig else await by_kubeconfig(Path(settings.kubeconfig))
    running = RunningAutoscaler(settings, access)
    left = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, left.set)
    starting = running.nursery.start(running.start(), name="start")
    leaving = running.nursery.start(left.wait(), name="leave")
    try:
        await asyncio.wait((starting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("reports on port %d, %d services", running.stats_port, len(running.services.entries))
            await left.wait()
        log.info("leaving: the lead is given away")
    finally:
        await running.stop()
