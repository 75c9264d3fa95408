"""Services with real servers behind: uvicorn and aiohttp with the same model server, and nginx with files.

Paths of the model server: POST `/echo` (the body back, in pieces), `/events?n=N` (N server-sent events with ids; each
after the first waits for a request to `/allow`, which a test sends to the replica itself; behind `Last-Event-ID` where
that is given), a WebSocket at `/socket`
that echoes and at the text `close CODE REASON` closes so, one at `/refused` that is refused with 403, and anything
else answers with what it was asked.
"""

import os
import sys
from pathlib import Path
from typing import Final

from tests.e2e.harness import Box, Service
from tests.programs import NGINX

FOLDER: Final = Path(__file__).parent
COMMANDS: Final = {
    "uvicorn": [
        sys.executable,
        "-m",
        "uvicorn",
        "asgi_app:app",
        "--port",
        "{port}",
        "--log-level",
        "warning",
        "--timeout-graceful-shutdown",
        "1",
    ],
    "aiohttp": [sys.executable, "aiohttp_server.py"],
}
_NGINX_CONF: Final = """
{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_max_body_size 0; gzip on; gzip_min_length 1; types {{ text/html html; }}
  {temporary}
  server {{
    listen 127.0.0.1:@PORT@;
    {server}
  }}
}}
"""
_KINDS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def behind(server: str, **policy: object) -> Service:
    """The model server on `server`, one of `COMMANDS`."""
    keys = {name.replace("_", "-"): value for name, value in policy.items()}
    return {"command": COMMANDS[server], "cwd": str(FOLDER), "policy": {"idle-timeout": "1h", **keys}}


def nginx(folder: Path, server: str) -> Service:
    """nginx with so much of a `server` block."""
    user = "user root;" if os.getuid() == 0 else ""
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in _KINDS)
    conf = _NGINX_CONF.format(user=user, folder=folder, temporary=temporary, server=server)
    (folder / "nginx.conf.in").write_text(conf)
    script = (
        f'sed "s/@PORT@/$PORT/" nginx.conf.in > nginx.conf && exec {NGINX} -c "$PWD/nginx.conf" -e "$PWD/error.log"'
    )
    return {"command": ["sh", "-c", script], "cwd": str(folder), "policy": {"idle-timeout": "1h"}}


async def allow(box: Box, service: str = "chat") -> None:
    """Let the one replica send its next event, past zerogate."""
    (replica,) = (await box.status(service))["replicas"]
    await box.tell(replica, "/allow")
