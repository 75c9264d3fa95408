"""The parts of the box file about TLS: `listen-tls` with its certificates, and `tls` beside an endpoint.

The paths are made absolute and nothing is opened: whether the files are there and belong together is
`cli.tls_files`' question. Called by `cli.file_reader`, whose `Reading` it borrows for values, paths and complaints.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from cli.box import Endpoint, EndpointTls
from cli.file_keys import ENDPOINT_TLS_KEYS, PAIR_KEYS, FileKey
from cli.yaml_positions import Items, Node, Scalar, Table
from zerogate.errors import DefinitionError
from zerogate.http.certificate_files import ListenTls
from zerogate.http.certificates import ClientCertificates, KeyPair
from zerogate.runtime.interface import Address

_MOST_PAIRS = 1000
_PAIR_HINT = "Write [{certificate: FILE, key: FILE}], or the path of a folder with NAME.crt and NAME.key in it."
_LONGEST_SOCKET = 107
"""Bytes of a path that the kernel takes for a socket, its end not counted (unix(7))."""


class Reading(Protocol):
    """What the reader of the whole file lends."""

    def value(self, table: Table, key: FileKey, path: str) -> Any: ...
    def path(self, text: str, path: str) -> str: ...
    def unknown(self, table: Table, path: str, known: list[str]) -> bool: ...
    def note(self, path: str, line: int) -> None: ...
    def fail(self, error: DefinitionError, key: str, line: int | None) -> None: ...


def socket_path(reading: Reading, address: Address, key: str, line: int | None) -> Address:
    """The address with an absolute path, where it is one of a Unix socket."""
    if not address.path:
        return address
    path = reading.path(address.path, key)
    if len(path.encode()) > _LONGEST_SOCKET:
        problem = f"the path of the socket is longer than {_LONGEST_SOCKET} bytes"
        reading.fail(DefinitionError(problem, hint="Give a shorter one, such as /run/zerogate.sock."), key, line)
    return Address("", 0, path)


def listen_tls(reading: Reading, root: Table, values: Mapping[str, Any]) -> ListenTls | None:
    """How the TLS listener is set up; None where there is none."""
    has_listener = values["listen-tls"] is not None
    for name in ("tls", "client-ca", "client-certificates"):
        if name in root.entries and not has_listener:
            error = DefinitionError("is about listen-tls, which is not given", hint="Write listen-tls: 127.0.0.1:8443.")
            reading.fail(error, name, root.lines[name])
    if not has_listener:
        return None
    node = root.entries.get("tls")
    clients = None
    if values["client-ca"] is not None:
        is_required = values["client-certificates"] == "required"
        clients = ClientCertificates(reading.path(values["client-ca"], "client-ca"), is_required)
    elif "client-certificates" in root.entries:
        error = DefinitionError("needs client-ca", hint="Say whose certificates are taken: client-ca: FILE.")
        reading.fail(error, "client-certificates", root.lines["client-certificates"])
    if node is None:
        error = DefinitionError("needs tls", hint=_PAIR_HINT)
        reading.fail(error, "listen-tls", root.lines["listen-tls"])
        return ListenTls(clients=clients)
    reading.note("tls", root.lines["tls"])
    if isinstance(node, Scalar) and isinstance(node.value(), str):
        return ListenTls(folder=reading.path(node.text, "tls"), clients=clients)
    return ListenTls(pairs=_pairs(reading, node, root.lines["tls"]), clients=clients)


def _pairs(reading: Reading, node: Node, line: int) -> tuple[KeyPair, ...]:
    if not isinstance(node, Items) or not node.items or len(node.items) > _MOST_PAIRS:
        reading.fail(DefinitionError("is neither a list of certificates nor a folder", hint=_PAIR_HINT), "tls", line)
        return ()
    found = []
    for at, item in enumerate(node.items):
        key = f"tls.[{at}]"
        if not isinstance(item, Table):
            reading.fail(DefinitionError("is not a certificate with its key", hint=_PAIR_HINT), key, item.line)
            continue
        reading.note(key, item.line)
        pair = _pair(reading, item, key)
        if pair is not None:
            reading.unknown(item, key, [*PAIR_KEYS])
            found.append(pair)
    return tuple(found)


def _pair(reading: Reading, table: Table, path: str) -> KeyPair | None:
    """Certificate and key of a table; None where one is missing, which is noted."""
    for name, other in (("certificate", "key"), ("key", "certificate")):
        if name not in table.entries:
            error = DefinitionError(f"has no {name}", hint=f"Give {other} and {name}: FILE.")
            reading.fail(error, path, table.line)
            return None
    texts = {name: reading.value(table, key, f"{path}.{name}") for name, key in PAIR_KEYS.items()}
    if None in texts.values():
        return None
    paths = {name: reading.path(text, f"{path}.{name}") for name, text in texts.items()}
    return KeyPair(paths["certificate"], paths["key"])


def endpoint_tls(reading: Reading, table: Table | None, path: str, endpoint: Endpoint | None) -> EndpointTls | None:
    """How an endpoint is known; None where it is not secure."""
    if endpoint is None or not endpoint.is_secure:
        if table is not None and endpoint is not None:
            error = DefinitionError("is about an https endpoint", hint="Write endpoint: https://…, or take it out.")
            reading.fail(error, path, table.line)
        return None
    table = table or Table(0, {}, {})
    reading.unknown(table, path, [*ENDPOINT_TLS_KEYS])
    values = {name: reading.value(table, key, f"{path}.{name}") for name, key in ENDPOINT_TLS_KEYS.items()}
    has_pair = "certificate" in table.entries or "key" in table.entries
    return EndpointTls(
        authority=None if values["ca"] is None else reading.path(values["ca"], f"{path}.ca"),
        pair=_pair(reading, table, path) if has_pair else None,
        server_name=values["server-name"] or endpoint.address.host,
        verify=values["verify"],
    )
