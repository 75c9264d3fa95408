"""`make cluster`: a node to try things on, in a shell with KUBECONFIG and kubectl, gone when the shell ends.

python -m tests.kubernetes.harness [command ...]      # a command in place of the shell
"""

import os
import signal
import subprocess
import sys
import time

from tests.kubernetes.harness import binaries, images, node
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.processes import ClusterError, say


def main(command: list[str]) -> int:
    """Run a shell beside a node; its exit code."""
    try:
        node.require()
        found = binaries.ensure([*node.PROGRAMS, "helm"])
        began = time.monotonic()
        say("starting a node")
        with node.node() as one:
            say(f"the node is ready after {time.monotonic() - began:.0f} s, in {one.folder}")
            say(f"images: {images.ZEROGATE} (the working tree, imagePullPolicy: Never)")
            say(f"a program in the node's network: {' '.join(map(str, one.room.within(['PROGRAM'])))}")
            path = os.pathsep.join(sorted({str(program.parent) for program in found.values()}))
            env = {
                **os.environ,
                "KUBECONFIG": str(one.cluster.kubeconfig),
                "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
            }
            signal.signal(signal.SIGINT, lambda *_: None)  # the shell's business
            return subprocess.run(command or [os.environ.get("SHELL", "/bin/sh")], env=env).returncode
    except (UnavailableError, ClusterError) as reason:
        say(f"{reason}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
