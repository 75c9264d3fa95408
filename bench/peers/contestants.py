"""The proxies that are compared, and how each is started so that the comparison is fair.

All of them keep connections to the backend, pass on where a request came from in the fields that they know, write no
access log, and have one core: nginx one worker, HAProxy one thread, Go and Python programs see one processor. None is
slowed by settings that its users would not have; what was set is all here. Knative's queue-proxy has the request
metrics on, as it has in a cluster, and binds the ports 8022, 9090 and 9091 besides its own: only one of it can run.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from bench.peers import knative_build
from bench.peers.processes import Cores, StartError, free_ports, process, wait_until_open, wait_until_served
from queueproxy.settings import OPTIONS


class Purpose(Enum):
    """What a contestant is started for."""

    PASS_ON = "pass on"
    HOLD = "hold what the backend does not take yet"
    GRPC = "speak HTTP/2 without TLS on both sides"


class UnavailableError(RuntimeError):
    """This contestant cannot do that, or is not there: why."""


class Setting(msgspec.Struct, frozen=True):
    """What a contestant has to know. `held`: so many requests are to wait, with `Purpose.HOLD`."""

    folder: Path
    port: int
    admin: int
    backend: int
    purpose: Purpose = Purpose.PASS_ON
    held: int = 0


class Launch(msgspec.Struct, frozen=True):
    """How to start it."""

    argv: list[str]
    environ: dict[str, str] = {}


class Contestant(msgspec.Struct, frozen=True):
    """One proxy. `launch` raises UnavailableError; `is_ours` is zerogate."""

    key: str
    name: str
    launch: Callable[[Setting], Launch]
    is_ours: bool = False


class Running(msgspec.Struct, frozen=True):
    """A started contestant."""

    key: str
    pid: int
    port: int


def nginx_conf(folder: Path, name: str, server: str) -> str:
    """A whole configuration: one worker, nothing outside of `folder`."""
    return f"""
worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.err crit; daemon off;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; types {{ }}
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
  client_max_body_size 0; client_body_buffer_size 128k;
  {server}
}}
"""


def _nginx(setting: Setting) -> Launch:
    if setting.purpose is Purpose.HOLD:
        raise UnavailableError("nginx cannot hold requests (only its paid edition has a queue)")
    fields = {
        "Connection": "$connection_or_upgrade", "Upgrade": "$http_upgrade", "Host": "$http_host",
        "X-Forwarded-For": "$proxy_add_x_forwarded_for", "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": "$http_host", "Forwarded": '"for=$remote_addr;host=\\"$http_host\\";proto=$scheme"',
    }  # fmt: skip
    lines = "\n    ".join(f"proxy_set_header {name} {value};" for name, value in fields.items())
    is_grpc = setting.purpose is Purpose.GRPC
    how = (
        "location / { grpc_pass grpc://b; }"
        if is_grpc
        # without a file on disk between, and streams unbuffered: as people set it for model servers
        else f"""proxy_http_version 1.1; proxy_max_temp_file_size 0;
    {lines}
    location / {{ proxy_pass http://b; }}
    location /events {{ proxy_pass http://b; proxy_buffering off; }}"""
    )
    conf = setting.folder / "nginx.conf"
    conf.write_text(
        nginx_conf(
            setting.folder,
            "nginx",
            f"""map $http_upgrade $connection_or_upgrade {{ default upgrade; '' ''; }}
  upstream b {{ server 127.0.0.1:{setting.backend}; keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{setting.port} backlog=16384{" http2" if is_grpc else ""};
    {how}
  }}""",
        )
    )
    return Launch([_tool("nginx", "nginx-light"), "-c", str(conf)])


def _haproxy(setting: Setting) -> Launch:
    proto = " proto h2" if setting.purpose is Purpose.GRPC else ""
    limit = " maxconn 1" if setting.purpose is Purpose.HOLD else ""
    conf = setting.folder / "haproxy.cfg"
    conf.write_text(
        f"""global
  nbthread 1
  maxconn 16000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  timeout queue 10m
  timeout tunnel 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{setting.port} backlog 16384{proto}
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Forwarded for=%[src];host="%[req.hdr(host)]";proto=http
  default_backend back
backend back
  server b 127.0.0.1:{setting.backend}{proto}{limit}
"""
    )
    return Launch([_tool("haproxy", "haproxy"), "-db", "-f", str(conf)])


def _knative(setting: Setting) -> Launch:
    if not knative_build.program().exists():
        _tool("go", "golang, or go.dev/dl")
    names = ("NAMESPACE", "SERVICE", "CONFIGURATION", "REVISION", "POD")
    # its queue is ten times the requests that run
    running = setting.held // 10 if setting.purpose is Purpose.HOLD else 0
    return Launch(
        [str(knative_build.built())],
        {
            **{f"SERVING_{name}": "bench" for name in names},
            "SERVING_POD_IP": "127.0.0.1",
            "SERVING_LOGGING_CONFIG": "",
            "SERVING_LOGGING_LEVEL": "error",
            "SERVING_REQUEST_METRICS_BACKEND": "prometheus",
            "SERVING_READINESS_PROBE": f'{{"tcpSocket":{{"host":"127.0.0.1","port":{setting.backend}}}}}',
            "SYSTEM_NAMESPACE": "knative-serving",
            "METRICS_DOMAIN": "knative.dev/internal/serving",
            "CONTAINER_CONCURRENCY": str(running),
            "QUEUE_SERVING_PORT": str(setting.port),
            "QUEUE_SERVING_TLS_PORT": str(setting.admin),
            "USER_PORT": str(setting.backend),
            "REVISION_TIMEOUT_SECONDS": "600",
        },
    )


def _aiohttp(setting: Setting) -> Launch:
    if setting.purpose is not Purpose.PASS_ON:
        raise UnavailableError("the plain proxy only passes HTTP/1.1 on")
    return Launch([sys.executable, "-m", "bench.peers.aiohttp_proxy", str(setting.port), str(setting.backend)])


def _sidecar(setting: Setting) -> Launch:
    flags = {"upstream": setting.backend, "listen": setting.port, "admin": setting.admin}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["--max-connections", "0"]  # the others have no bound either
    if setting.purpose is Purpose.HOLD:
        words += ["--concurrency-limit", "1", "--queue-depth", str(setting.held)]
    if setting.purpose is Purpose.GRPC:
        if "protocol" not in {option.name for option in OPTIONS}:
            raise UnavailableError("zerogate does not speak HTTP/2 yet")
        words += ["--protocol", "h2c"]
    return Launch([sys.executable, "-m", "queueproxy", *words])


def _gateway(setting: Setting) -> Launch:
    policy = {
        Purpose.PASS_ON: "{}",
        Purpose.HOLD: f"{{concurrency-limit: 1, queue-limit: {setting.held}, hold-timeout: 1h}}",
        Purpose.GRPC: "{protocol: h2c}",
    }[setting.purpose]
    to = f"endpoint: 'http://127.0.0.1:{setting.backend}', policy: {policy}"
    file = setting.folder / "zerogate.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{setting.port}\nadmin: 127.0.0.1:{setting.admin}\nstate-dir: {setting.folder}/state\n"
        f"access-log: 'off'\nservices:\n  web: {{{to}, path-prefix: /}}\n  llm: {{{to}, models: [m]}}\n"
    )
    return Launch([sys.executable, "-m", "cli", "up", str(file)])


CONTESTANTS: Final = (
    Contestant("sidecar", "zerogate, sidecar", _sidecar, is_ours=True),
    Contestant("gateway", "zerogate, gateway", _gateway, is_ours=True),
    Contestant("knative", "Knative queue-proxy", _knative),
    Contestant("nginx", "nginx", _nginx),
    Contestant("haproxy", "HAProxy", _haproxy),
    Contestant("aiohttp", "aiohttp", _aiohttp),
)


def _tool(name: str, package: str) -> str:
    if shutil.which(name) is None:
        raise UnavailableError(f"{name} is missing: install {package}")
    return name


@contextmanager
def started(
    contestant: Contestant,
    folder: Path,
    cores: Cores,
    backend: int,
    *,
    purpose: Purpose = Purpose.PASS_ON,
    held: int = 0,
) -> Iterator[Running]:
    """The contestant, serving, until the block ends. Raises UnavailableError, StartError."""
    port, admin = free_ports(2)
    place = folder / contestant.key
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    try:
        launch = contestant.launch(Setting(place, port, admin, backend, purpose, held))
    except knative_build.BuildError as error:
        raise UnavailableError(str(error)) from error
    log = place / "log"
    with process(launch.argv, cores.proxy, log, launch.environ) as child:
        wait = wait_until_open if purpose is Purpose.GRPC else wait_until_served
        try:
            wait(child, port, log)
        except StartError as error:
            raise StartError(str(error).replace(f"{place}/", "")) from error
        yield Running(contestant.key, child.pid, port)


def version_of(key: str) -> str:
    """What the program says about its version, or why it is not there."""
    commands = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"]}
    if key == "knative":
        return knative_build.version()
    if key not in commands or shutil.which(key) is None:
        return ""
    said = subprocess.run(commands[key], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).replace("/", " ").split()
    return next((word for word in words if word[:1].isdigit()), "")
