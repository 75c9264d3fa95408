"""The webhook alone, as a process in a pod: what an autoscaler serves beside its other work.

`python3 -m tests.webhook_server IMAGE`: sidecars are of IMAGE, which nodes have to have. Names are those of the chart;
port 8443.
"""

import asyncio
import logging
import os
import signal
import socket
import sys

from autoscaler.injector.injector import RATES, Injector, Terms
from zerogate.kube.access import in_pod
from zerogate.kube.client import KubeClient
from zerogate.kube.happenings import Happenings
from zerogate.kube.sidecar import SidecarTerms

PORT = 8443


async def main(image: str) -> None:
    """Until SIGTERM."""
    left = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, left.set)
    client = KubeClient(in_pod(os.environ), rates=RATES)
    happenings = Happenings(client, controller="zerogate.dev/autoscaler", instance=os.environ.get("HOSTNAME", "test"))
    happenings.start()
    terms = Terms(sidecar=SidecarTerms(image=image, pull_policy="Never"))
    injector = Injector(client, terms, tell=happenings.tell)
    await injector.start(socket.create_server(("0.0.0.0", PORT)))
    await left.wait()
    await injector.aclose()
    await happenings.aclose()
    await client.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1]))
