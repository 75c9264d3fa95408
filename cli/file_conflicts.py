"""What cannot hold between the parts of one box file, each right by itself. Pure.

An error names both sides with their lines, and stands at the later one. Called by `cli.file_reader`.
"""

from collections.abc import Iterator
from itertools import product
from urllib.parse import urlsplit

from cli.box import BoxFile, ServiceDefinition
from zerogate.errors import DefinitionError, shown
from zerogate.runtime.interface import Address

_WILDCARDS = ("0.0.0.0", "::")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def address_conflicts(box: BoxFile) -> Iterator[DefinitionError]:
    """The administration must have an address of its own, and an endpoint is somewhere else."""
    if _overlap(box.listen, box.admin):
        problem = f"admin ({box.admin}) and listen ({box.listen}) share a port"
        key = "admin" if "admin" in box.lines else "listen"
        yield DefinitionError(problem, key=key, hint="Give the administration a port of its own.")
    own_addresses = {"listen": box.listen, "admin": box.admin}
    if box.listen_tls is not None:
        for name, other in own_addresses.items():
            if _overlap(box.listen_tls, other):
                problem = f"listen-tls ({box.listen_tls}) and {name} ({other}) share a port"
                yield DefinitionError(problem, key="listen-tls", hint="Give TLS a port of its own, such as 8443.")
        own_addresses["listen-tls"] = box.listen_tls
    if box.trace_to is not None:
        collector = urlsplit(box.trace_to)
        port = collector.port or (443 if collector.scheme == "https" else 80)
        for name, own in own_addresses.items():
            if _leads_to(Address(collector.hostname or "", port), own):
                hint = "Each delivery would be traced in turn; write where the collector listens, usually port 4318."
                yield DefinitionError(f"{box.trace_to} is zerogate itself ({name})", key="trace-to", hint=hint)
    for service in box.services.values():
        yield from _misspoken(box, service)
        for name, own in own_addresses.items():
            if service.endpoint is not None and _leads_to(service.endpoint.address, own):
                problem = f"{service.endpoint} is zerogate itself ({name})"
                hint = "A request would be passed on in a circle; write where the model server listens."
                yield DefinitionError(problem, key=_key(box, service, "endpoint"), hint=hint)


def _misspoken(box: BoxFile, service: ServiceDefinition) -> Iterator[DefinitionError]:
    """Each of the two words for HTTP/2 says whether there is TLS below it, and so does the address."""
    endpoint, protocol = service.endpoint, service.policy.protocol
    is_secure = endpoint is not None and endpoint.is_secure
    where = f"the endpoint is {endpoint}" if endpoint is not None else "replicas of a command are spoken to without it"
    if protocol == "h2c" and is_secure:
        problem, hint = f"h2c is HTTP/2 without TLS, and {where}", "Write h2, which is HTTP/2 over TLS."
    elif protocol == "h2" and not is_secure:
        problem, hint = f"h2 is HTTP/2 over TLS, and {where}", "Write h2c, which is HTTP/2 without TLS."
    else:
        return
    yield DefinitionError(problem, key=_key(box, service, "protocol"), hint=hint)


def _overlap(one: Address, other: Address) -> bool:
    if one.path or other.path:
        return one.path == other.path
    same_host = one.host == other.host or one.host in _WILDCARDS or other.host in _WILDCARDS
    return same_host and one.port == other.port != 0


def _leads_to(endpoint: Address, own: Address) -> bool:
    if endpoint.path or own.path:
        return endpoint.path == own.path
    if endpoint.port != own.port:
        return False
    return endpoint.host == own.host or (endpoint.host in _LOOPBACK and own.host in (*_LOOPBACK, *_WILDCARDS))


def route_conflicts(box: BoxFile) -> Iterator[DefinitionError]:
    """Each model name, and each host with a path prefix, leads to one service.

    A service without hosts, prefix and models is reached by its own name as a host.
    """
    models: dict[str, ServiceDefinition] = {}
    routes: dict[tuple[str, str], ServiceDefinition] = {}
    for service in box.services.values():
        if service.command is None and service.endpoint is None:
            continue  # it has an error of its own
        for model in service.policy.models:
            other = models.setdefault(model, service)
            if other is not service:
                problem = f"the model {shown(model)} is served by {_named(box, other, 'models')} already"
                yield DefinitionError(problem, key=_key(box, service, "models"), hint="One name leads to one service.")
        for route in _routes(service):
            other = routes.setdefault(route, service)
            if other is not service:
                yield _taken(box, route, service, other)


def _routes(service: ServiceDefinition) -> Iterator[tuple[str, str]]:
    policy = service.policy
    if policy.hosts or policy.path_prefix or not policy.models:
        hosts = policy.hosts or (() if policy.path_prefix else (service.name,))
        yield from product(hosts or ("",), (policy.path_prefix or "/",))


def _taken(
    box: BoxFile, route: tuple[str, str], service: ServiceDefinition, other: ServiceDefinition
) -> DefinitionError:
    host, prefix = route
    at_host = f" at the host {host}" if host else ""
    what = f"the path prefix {prefix}{at_host}" if at_host or prefix != "/" else "every request without another route"
    name = "hosts" if host else "path-prefix"
    return DefinitionError(
        f"{what} goes to {_named(box, other, name)} already",
        key=_key(box, service, name),
        hint="Tell the services apart by models, hosts or path-prefix.",
    )


def _key(box: BoxFile, service: ServiceDefinition, name: str) -> str:
    """The path under which the service gives the key: beside the command, in the policy, or not at all."""
    for path in (f"services.{service.name}.{name}", f"services.{service.name}.policy.{name}"):
        if path in box.lines:
            return path
    return f"services.{service.name}"


def _named(box: BoxFile, service: ServiceDefinition, name: str) -> str:
    return f"{service.name} (line {box.line_of(*_key(box, service, name).split('.'))})"
