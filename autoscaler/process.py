"""The autoscaler of a cluster as a process: its flags, and how it ends. What it is made of: `autoscaler.running`."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import uvloop

from autoscaler.running import RunningAutoscaler
from autoscaler.settings import Settings, read
from zerogate import startup
from zerogate.kube.access import way_in

log = logging.getLogger("autoscaler")


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    return startup.run(
        "autoscaler",
        lambda: read(arguments, environ),
        lambda settings: uvloop.run(_main(settings, environ)),
        log_format="%(asctime)s %(name)s: %(message)s",
    )


async def _main(settings: Settings, environ: Mapping[str, str]) -> None:
    access = await way_in(settings.kubeconfig, environ)
    running = RunningAutoscaler(settings, access)
    left = startup.told_to_leave()
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
