"""What of a box file each part gets, in that part's own terms. Pure.

The router gets routes, the holds policies and addresses, the runtime definitions, the autoscaler the policies of what
it may scale. Called by `cli.running` at start and at each reload.
"""

from collections.abc import Mapping
from pathlib import Path

from cli.box import BoxFile, ServiceDefinition, definition_hash
from gateway.route_table import Route, route_for
from zerogate.http.dial import Secured
from zerogate.http.server import ConnectionLimits
from zerogate.http.upstream import EndpointWay
from zerogate.local.definition import LocalDefinition
from zerogate.policy import Policy


def routes(box: BoxFile) -> list[Route]:
    """How each service is reached."""
    is_alone = len(box.services) == 1
    return [route_for(name, service.policy, is_alone=is_alone) for name, service in box.services.items()]


def policies(box: BoxFile) -> dict[str, Policy]:
    """The policy of every service."""
    return {name: service.policy for name, service in box.services.items()}


def prefixes(box: BoxFile) -> dict[str, str]:
    """The path prefixes of the services that have one."""
    return {name: service.policy.path_prefix for name, service in box.services.items() if service.policy.path_prefix}


def scaled(box: BoxFile) -> dict[str, Policy]:
    """The policies of the services that run here."""
    return {name: service.policy for name, service in box.services.items() if service.command is not None}


def endpoints(box: BoxFile, secured: Mapping[str, Secured]) -> dict[str, EndpointWay]:
    """Where the services are that run elsewhere; `secured`: by name, of those over TLS."""
    return {
        name: EndpointWay(service.endpoint.address, service.endpoint.authority.encode(), secured.get(name))
        for name, service in box.services.items()
        if service.endpoint is not None
    }


def local_definitions(box: BoxFile) -> dict[str, LocalDefinition]:
    """What the local runtime runs."""
    return {
        name: _local(service, Path(box.state_dir))
        for name, service in box.services.items()
        if service.command is not None
    }


def _local(service: ServiceDefinition, state_dir: Path) -> LocalDefinition:
    command = service.command
    assert command is not None
    return LocalDefinition(
        service=service.name,
        command=command.argv,
        definition_hash=definition_hash(service),
        log_file=Path(command.log_file) if command.log_file else state_dir / "logs" / f"{service.name}.log",
        env=command.env,
        cwd=Path(command.cwd),
        protocol=service.policy.protocol,
        ready_path=service.policy.ready_path,
        start_timeout_s=command.start_timeout_s,
        stop_grace_s=command.stop_grace_s,
        max_replicas=service.policy.max_replicas,
    )


def connection_limits(box: BoxFile) -> ConnectionLimits:
    """For the server of the traffic port."""
    return ConnectionLimits(total=box.max_connections, per_client=box.max_connections_per_client)
