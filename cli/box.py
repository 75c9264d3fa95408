"""What a box file says, as checked values: the services of one machine. Pure.

Made by `cli.file`; the composition root runs it, `reload` compares two of them. Behind this border nothing is checked
again. Two services are the same service to a reload when their `definition_hash` and their policy are equal: lines
are kept beside the services, so that moving one in the file changes nothing.
"""

import hashlib
from typing import Literal

import msgspec

from zerogate.http.certificate_files import ListenTls
from zerogate.http.certificates import KeyPair
from zerogate.http.entrance import NOBODY, TrustedSenders
from zerogate.policy import Policy
from zerogate.runtime.interface import Address


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run. Paths are absolute; `argv` and `env` still hold `{port}`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    """Added to zerogate's own environment."""
    cwd: str
    start_timeout_s: float
    stop_grace_s: float
    log_file: str | None
    """None: one per service in the state folder."""

    @property
    def port_note(self) -> str:
        """What has to be known of a command that is not told its port in so many words; empty where it is."""
        if any("{port}" in word or "PORT" in word for word in (*self.argv, *self.env.values())):
            return ""
        return (
            "neither its command nor its env has {port}: it must listen on the number that is in the variable PORT, "
            "another one at each start"
        )


class Endpoint(msgspec.Struct, frozen=True):
    """Where a service is that runs elsewhere."""

    address: Address
    is_secure: bool = False

    def __str__(self) -> str:
        """The URL, with the port only where it is not the scheme's own; `unix:PATH` for a Unix socket."""
        if self.address.path:
            return str(self.address)
        return f"{'https' if self.is_secure else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """What stands in its Host field."""
        address = self.address
        if address.path:
            return "localhost"
        if self.is_secure and address.port == 443:
            return f"[{address.host}]" if ":" in address.host else address.host
        return str(address)


class EndpointTls(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint over TLS is known, and what it is shown. Paths are absolute."""

    authority: str | None = None
    """None: those that the system trusts."""
    pair: KeyPair | None = None
    server_name: str
    verify: bool = True


class ServiceDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One service of the file: exactly one of `command` (run here) and `endpoint` (runs elsewhere) is set."""

    name: str
    command: Command | None
    endpoint: Endpoint | None
    policy: Policy
    tls: EndpointTls | None = None
    """Set where the endpoint is secure."""


class BoxFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file. `lines` maps a dotted path (`services.chat.command`) to its line, for later complaints."""

    source: str
    listen: Address
    admin: Address
    state_dir: str
    access_log: Literal["off", "sampled", "on"]
    max_connections: int
    max_connections_per_client: int
    body_memory_bytes: int
    services: dict[str, ServiceDefinition]
    lines: dict[str, int]
    listen_tls: Address | None = None
    tls: ListenTls | None = None
    """Set together with `listen_tls`."""
    trusted_senders: TrustedSenders = NOBODY
    """Whose PROXY headers are believed."""
    trace_to: str | None = None
    """The whole URL that spans are sent to; None: nothing is traced."""
    trace_ratio: float = 1.0

    @property
    def traffic(self) -> str:
        """Where requests are taken, for a person."""
        addresses = [str(self.listen) if self.listen.path else f"http://{self.listen}"]
        if self.listen_tls is not None:
            addresses.append(f"{self.listen_tls} (TLS)" if self.listen_tls.path else f"https://{self.listen_tls}")
        return " and ".join(addresses)

    def line_of(self, *path: str) -> int | None:
        """The line of the key at `path`, or of the nearest one above it."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(".".join(path[:length]))
            if line is not None:
                return line
        return None


def definition_hash(service: ServiceDefinition) -> str:
    """What makes a running process the right one: command, environment, folder, log. Not the policy, not the timers.

    Twelve hexadecimal digits, the same on every machine and in every version that runs the same process.
    """
    command = service.command
    what = (
        ["endpoint", str(service.endpoint)]
        if command is None
        else ["command", list(command.argv), sorted(command.env.items()), command.cwd, command.log_file]
    )
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:12]
