"""What answers behind the proxies: an nginx, which is cheaper than all of them, and `bench.peers.source`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.peers.closed import ASKS, GRPC_MESSAGE, GRPC_PATH
from bench.peers.contestants import nginx_conf
from bench.peers.processes import Cores, free_ports, process, wait_until_open, wait_until_served


@contextmanager
def files(folder: Path, cores: Cores) -> Iterator[tuple[int, int]]:
    """An nginx; its ports for HTTP/1.1 and, for gRPC, for HTTP/2."""
    place = folder / "backend"
    message = place / "files" / GRPC_PATH.lstrip("/")
    message.parent.mkdir(parents=True)
    message.write_bytes(GRPC_MESSAGE)
    (place / "files" / "large").write_bytes(b"x" * ASKS["large"].body_bytes)
    for directory in (place, place / "files", message.parent):
        directory.chmod(0o755)
    port, h2_port = free_ports(2)
    conf = place / "nginx.conf"
    conf.write_text(nginx_conf(place, "backend", _servers(place, port, h2_port)))
    log = place / "log"
    with process(["nginx", "-c", str(conf)], cores.backend, log) as child:
        wait_until_served(child, port, log)
        yield port, h2_port


def _servers(place: Path, port: int, h2_port: int) -> str:
    # a file is not to be had by POST; answered as an error that is none, it comes with the trailers of a call
    return f"""
  server {{ listen 127.0.0.1:{port} backlog=16384; root {place}/files; lingering_close off;
    location / {{ return 200 "hello world\\n"; }}
    location = /large {{ }} }}
  server {{ listen 127.0.0.1:{h2_port} http2 backlog=16384; root {place}/files; http2_max_requests 1000000000;
    default_type application/grpc; error_page 405 =200 $uri; add_trailer grpc-status 0; }}"""


@contextmanager
def source(folder: Path, cores: Cores) -> Iterator[int]:
    """The server of events, of silence and of WebSockets; its port."""
    (port,) = free_ports(1)
    log = folder / "source.log"
    with process([sys.executable, "-m", "bench.peers.source", str(port)], cores.backend, log) as child:
        wait_until_open(child, port, log)
        yield port


NEEDED: Final = {"nginx": "nginx-light", "wrk": "wrk"}
"""Programs without which there is nothing to measure, and the packages they come in."""
