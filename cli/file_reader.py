"""From the YAML tree of a box file to a `BoxFile`, by the tables of keys. No I/O; environment and folder are arguments.

A mistake costs the reader one value, not the file: it is noted with its line, and reading goes on. Called by
`cli.file`, which throws all that was noted at once.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli import tls_reader
from cli.box import BoxFile, Command, Endpoint, EndpointTls, ServiceDefinition
from cli.file_conflicts import address_conflicts, route_conflicts
from cli.file_keys import BOX_KEYS, ENVIRONMENT, SERVICE_KEYS, SERVICE_NAME_PATTERN, FileKey
from cli.yaml_positions import Items, Node, Scalar, Table
from zerogate.errors import DefinitionError, MachineError, nearest, shown
from zerogate.home import home_folder
from zerogate.http.entrance import NOBODY
from zerogate.kinds import Raw
from zerogate.policy import Policy
from zerogate.policy_keys import KEYS, LATER_KEYS, read_policy

_ROUTE_KEYS = tuple(key.name for key in KEYS.values() if key.routes)
_BESIDE = ("env", "tls", "policy", *_ROUTE_KEYS)
_ONLY_RUNNING = (*(key.name for key in SERVICE_KEYS.values() if key.runs), "env")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class BoxReader:
    """Reads one tree. `errors` is what was wrong with it, each with its place."""

    def __init__(self, source: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.errors: list[DefinitionError] = []
        self._source = source
        self._folder = folder
        self._environ = environ
        self._lines: dict[str, int] = {}

    def read(self, root: Node | None) -> BoxFile | None:
        """The file; None where there is nothing to make it of. What has errors holds defaults in their places."""
        if not isinstance(root, Table):
            problem = "is empty" if root is None else "does not begin with a key"
            self.fail(DefinitionError(problem, hint="Write services: and under it a name with a command."), "", 1)
            return None
        self.unknown(root, "", [*BOX_KEYS, "tls", "services"])
        values = {name: self.value(root, key, name) for name, key in BOX_KEYS.items()}
        for name in ("listen", "listen-tls"):
            if values[name] is not None:
                values[name] = tls_reader.socket_path(self, values[name], name, root.lines.get(name))
        services = self._services(root)
        box = BoxFile(
            source=self._source,
            listen=values["listen"],
            admin=values["admin"],
            state_dir=self.path(values["state-dir"], "state-dir"),
            access_log=values["access-log"],
            max_connections=values["max-connections"],
            max_connections_per_client=values["max-connections-per-client"],
            body_memory_bytes=values["body-memory"],
            services=services,
            lines=self._lines,
            listen_tls=values["listen-tls"],
            tls=tls_reader.listen_tls(self, root, values),
            trusted_senders=values["proxy-protocol-from"] or NOBODY,
            trace_to=values["trace-to"],
            trace_ratio=values["trace-sample"],
        )
        for error in (*address_conflicts(box), *route_conflicts(box)):
            self.errors.append(error.at(source=self._source, line=box.line_of(*error.key.split("."))))
        return box

    def _services(self, root: Table) -> dict[str, ServiceDefinition]:
        table = self._table(root, "services", "services")
        if table is None or not table.entries:
            if "services" not in root.entries or table is not None:
                hint = "Write under services: a name with a command or an endpoint."
                self.fail(DefinitionError("there is no service", hint=hint), "services", root.lines.get("services", 1))
            return {}
        return {name: self._service(name, table) for name in table.entries}

    def _service(self, name: str, services: Table) -> ServiceDefinition:
        path = f"services.{name}"
        if not re.fullmatch(SERVICE_NAME_PATTERN[1:-1], name):
            hint = "Small letters, digits and -, at most 63, not at the ends: it becomes part of host and file names."
            self.fail(
                DefinitionError(f"{shown(name)} is not a name of a service", hint=hint), path, services.lines[name]
            )
        table = self._table(services, name, path)
        if table is None:
            return ServiceDefinition(name=name, command=None, endpoint=None, policy=Policy())
        has_unknown = self.unknown(table, path, [*SERVICE_KEYS, *_BESIDE])
        is_running = self._is_running(table, path, has_unknown=has_unknown)
        policy = self._policy(table, path, is_running=is_running)
        command = self._command(table, path) if "command" in table.entries else None
        endpoint = None if command else self._endpoint(table, f"{path}.endpoint")
        tls = None if command else self._endpoint_tls(table, f"{path}.tls", endpoint)
        return ServiceDefinition(name=name, command=command, endpoint=endpoint, policy=policy, tls=tls)

    def _endpoint(self, table: Table, path: str) -> Endpoint | None:
        endpoint: Endpoint | None = self.value(table, SERVICE_KEYS["endpoint"], path)
        if endpoint is not None and endpoint.address.path:
            return Endpoint(tls_reader.socket_path(self, endpoint.address, path, table.lines.get("endpoint")))
        return endpoint

    def _endpoint_tls(self, table: Table, path: str, endpoint: Endpoint | None) -> EndpointTls | None:
        inner = self._table(table, "tls", path)
        return tls_reader.endpoint_tls(self, inner, path, endpoint)

    def _is_running(self, table: Table, path: str, *, has_unknown: bool) -> bool:
        """Whether the service is run here; notes when that is not clear, and what then makes no sense.

        Where a key is unknown, a missing command is most likely that key, and was complained about.
        """
        has_command, has_endpoint = "command" in table.entries, "endpoint" in table.entries
        if has_command == has_endpoint and (has_command or not has_unknown):
            problem = "has a command and an endpoint" if has_command else "has neither a command nor an endpoint"
            hint = "Give a command to have it run here, or an endpoint where it runs elsewhere."
            self.fail(DefinitionError(problem, hint=hint), path, self._lines.get(path))
        for name in _ONLY_RUNNING:
            if name in table.entries and has_endpoint and not has_command:
                error = DefinitionError("is about a command, and this service has an endpoint", hint="Take it out.")
                self.fail(error, f"{path}.{name}", table.lines[name])
        if "tls" in table.entries and has_command and not has_endpoint:
            error = DefinitionError("is about an https endpoint, and this service has a command", hint="Take it out.")
            self.fail(error, f"{path}.tls", table.lines["tls"])
        return has_command or not has_endpoint

    def _policy(self, table: Table, path: str, *, is_running: bool) -> Policy:
        inner = self._table(table, "policy", f"{path}.policy") or Table(table.line, {}, {})
        raw: dict[str, Raw] = {}
        places: dict[str, str] = {}
        for place, names, level in ((path, _ROUTE_KEYS, table), (f"{path}.policy", tuple(inner.entries), inner)):
            for name in names:
                node = level.entries.get(name)
                if node is None:
                    continue
                self._lines[f"{place}.{name}"] = level.lines[name]
                if name in raw:
                    problem = f"is given twice, first on line {table.lines[name]}"
                    self.fail(DefinitionError(problem, hint="Take one out."), f"{place}.{name}", level.lines[name])
                    continue
                try:
                    raw[name] = _raw(node)
                    places[name] = f"{place}.{name}"
                except DefinitionError as error:
                    self.fail(error, f"{place}.{name}", level.lines[name])
        policy, errors = read_policy(raw, scaled=is_running)
        for wrong in errors:
            where = places.get(wrong.key, f"{path}.policy.{wrong.key}")
            line = self._lines.get(where) or self._lines.get(f"{path}.policy") or self._lines.get(path)
            self.fail(wrong, where, line)
        return policy

    def _command(self, table: Table, path: str) -> Command:
        values = {
            name: self.value(table, key, f"{path}.{name}") for name, key in SERVICE_KEYS.items() if name != "endpoint"
        }
        log_file = values["log-file"]
        return Command(
            argv=values["command"] or (),
            env=self._env(table, f"{path}.env"),
            cwd=self.path(values["cwd"], f"{path}.cwd"),
            start_timeout_s=values["start-timeout"],
            stop_grace_s=values["stop-grace"],
            log_file=None if log_file is None else self.path(log_file, f"{path}.log-file"),
        )

    def _env(self, table: Table, path: str) -> dict[str, str]:
        variables = self._table(table, "env", path)
        env: dict[str, str] = {}
        for name, node in (variables.entries if variables else {}).items():
            try:
                env[name] = ENVIRONMENT.parse_entry(name, _text(node))
            except DefinitionError as error:
                self.fail(error, f"{path}.{name}", variables.lines[name] if variables else None)
        return env

    def value(self, table: Table, key: FileKey, path: str) -> Any:
        """The parsed value of a key, its default where it is not given or not right."""
        node = table.entries.get(key.name)
        if node is None:
            return key.default_value()
        self._lines[path] = table.lines[key.name]
        try:
            return key.kind.parse(_words(node) if key.name == "command" else _raw(node))
        except DefinitionError as error:
            self.fail(error, path, table.lines[key.name])
            return key.default_value()

    def _table(self, parent: Table, name: str, path: str) -> Table | None:
        node = parent.entries.get(name)
        if node is None:
            return None
        self._lines[path] = parent.lines[name]
        if isinstance(node, Table):
            return node
        what, hint = "is not a table of keys", "Write its keys under it, indented."
        if isinstance(node, Scalar) and node.value() is None:
            what = "has nothing under it"
        elif isinstance(node, Items):
            hint = "Write NAME: and a value in each line under it, without hyphens and brackets."
        self.fail(DefinitionError(what, hint=hint), path, parent.lines[name])
        return None

    def unknown(self, table: Table, path: str, known: list[str]) -> bool:
        """Note the keys that are not known; whether there are any."""
        before = len(self.errors)
        for name in table.entries:
            if name in known:
                continue
            error = _unknown(name, table.entries[name], known, is_file=not path)
            self.fail(error, f"{path}.{name}".lstrip("."), table.lines[name])
        return len(self.errors) > before

    def path(self, text: str, path: str) -> str:
        """An absolute path: `~` and `${NAME}` from the environment, the rest seen from the file's folder."""

        def variable(match: re.Match[str]) -> str:
            value = self._environ.get(match[1]) or match[2]
            if value is None:
                problem = f"{shown(text)} needs ${match[1]}, which is not set"
                hint = "Set it, or write ${" + match[1] + ":-a default}."
                self.fail(DefinitionError(problem, hint=hint), path, self._lines.get(path))
            return value or ""

        expanded = _VARIABLE.sub(variable, text)
        if expanded == "~" or expanded.startswith("~/"):
            try:
                expanded = f"{home_folder(self._environ)}{expanded[1:]}"
            except MachineError:
                problem = "there is no home folder: this user has none, and HOME is not set"
                self.fail(DefinitionError(problem, hint="Set HOME, or write a path without ~."), path, None)
        return str((self._folder / expanded).resolve() if ".." in expanded else self._folder / expanded)

    def note(self, path: str, line: int) -> None:
        """Remember where something stands."""
        self._lines[path] = line

    def fail(self, error: DefinitionError, key: str, line: int | None) -> None:
        """Note a mistake."""
        self.errors.append(
            DefinitionError(error.problem, key=key, hint=error.hint, source=self._source, line=error.line or line)
        )


def _unknown(name: str, node: Node, known: list[str], *, is_file: bool) -> DefinitionError:
    """What a key that is not known was probably meant to be."""
    if is_file and isinstance(node, Table) and not node.entries.keys().isdisjoint(("command", "endpoint")):
        return DefinitionError("stands where keys of the file stand", hint="Put the service under services:, indented.")
    hyphened = name.replace("_", "-")
    if not is_file and (hyphened in KEYS or hyphened in LATER_KEYS):
        right = "it" if hyphened == name else hyphened
        return DefinitionError("is a key of the policy", hint=f"Put {right} under policy: of the service.")
    if not is_file and name in ("port", "ports"):
        return DefinitionError("is not a key of a service", hint="zerogate chooses the port: write {port} in command.")
    near = "env" if name == "environment" else nearest(name, known)
    problem = "is not a key of the file" if is_file else "is not a key of a service"
    return DefinitionError(problem, hint=f"Did you mean {near}?" if near else f"Known keys are {', '.join(known)}.")


def _raw(node: Node) -> Raw:
    """The value of a scalar or list. Raises DefinitionError for a table, with its line."""
    if isinstance(node, Scalar):
        return node.value()
    if isinstance(node, Items):
        return [_raw(item) for item in node.items]
    raise DefinitionError("a table of keys stands where a value belongs", line=node.line)


def _words(node: Node) -> Raw:
    """As `_raw`, but the items of a list as they are written: `1.10` is no number in a command."""
    if isinstance(node, Items):
        return [_text(item) for item in node.items]
    return _raw(node)


def _text(node: Node) -> str | None:
    """A scalar as it is written; None for a value that is left out."""
    if not isinstance(node, Scalar):
        raise DefinitionError("a list or table stands where one text belongs", line=node.line)
    return None if node.value() is None else node.text
