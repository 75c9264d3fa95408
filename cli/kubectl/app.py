"""The commands of `kubectl zerogate`: those of `zerogate` that are about services, with kubectl's own options.

They print what the commands of a box print (`cli.commands`), from the same JSON; only the way to it differs.
"""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.app import AsJson, Length, Replicas, Version, Watch, program, say_version, show_status
from cli.kubectl.way import RELEASE, Api, ClusterAdmin, access_of, find_system
from zerogate.errors import DefinitionError, shown

_NAME = r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?"


class Chosen(msgspec.Struct, frozen=True):
    """The options before the command."""

    kubeconfig: Path | None
    context: str | None
    namespace: str | None
    system: str | None
    release: str


app = program("kubectl zerogate")

Service = Annotated[
    str, typer.Argument(metavar="SERVICE", help="The workload's name, or NAMESPACE/NAME.")
]  # fmt: skip


@app.callback()
def settings(
    ctx: typer.Context,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="The workload's; else the context's own.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Else KUBECONFIG or ~/.kube/config, as kubectl has it.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the kubeconfig; else the current one.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Where zerogate itself is; else as its webhook says.")
    ] = None,
    release: Annotated[str, typer.Option(metavar="NAME", help="The Helm release's name.")] = RELEASE,
    version: Version = False,
) -> None:
    """Services of a Kubernetes cluster that zerogate scales: how they stand, why, and what a person says of them."""
    ctx.obj = Chosen(kubeconfig, context, namespace, system, release)


@app.command()
def status(
    ctx: typer.Context,
    watch: Watch = False,
    json: AsJson = False,
) -> None:
    """Show how all services stand, or those of a namespace."""
    show_status(lambda: _admin(ctx.obj), watch=watch, json=json)


@app.command()
def explain(ctx: typer.Context, service: Service) -> None:
    """Say why SERVICE has the replicas it has, what comes next, and when."""
    from cli.commands.explain import explain as show
    from cli.terminal import out

    admin = _admin(ctx.obj)
    show(admin, admin.full_name(service), out())


@app.command()
def plan(
    ctx: typer.Context,
    service: Service,
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=1000, help="How many at most.")] = 20,
) -> None:
    """Show the next transitions of SERVICE's calendar."""
    from cli.commands.explain import plan as show
    from cli.terminal import out

    admin = _admin(ctx.obj)
    show(admin, admin.full_name(service), count, out())


@app.command()
def pin(
    ctx: typer.Context,
    service: Service,
    replicas: Replicas,
    length: Length = None,
) -> None:
    """Hold SERVICE at a number of replicas, whatever its traffic."""
    from cli.commands.change import pin as ask
    from cli.terminal import out

    admin = _admin(ctx.obj)
    ask(admin, admin.full_name(service), replicas, length, out())


@app.command()
def unpin(ctx: typer.Context, service: Service) -> None:
    """Let SERVICE's policy decide again."""
    from cli.commands.change import unpin as ask
    from cli.terminal import out

    admin = _admin(ctx.obj)
    ask(admin, admin.full_name(service), out())


@app.command()
def doctor(ctx: typer.Context) -> None:
    """Say what is wrong with zerogate on this cluster, and name the rule, object or setting that is missing."""
    from cli.kubectl.doctor import examine
    from cli.terminal import out

    chosen: Chosen = ctx.obj
    api = Api(access_of(chosen.kubeconfig, chosen.context))
    raise typer.Exit(examine(api, chosen.system, chosen.release, out()))


@app.command("version")
def show_version() -> None:
    """Say which zerogate this command is of."""
    say_version(app.info.name)


class _NamespacedAdmin(ClusterAdmin):
    """Knows the namespace in which a name without one is looked for."""

    def __init__(self, api: Api, system: str, release: str, namespace: str | None) -> None:
        super().__init__(api, system, release)
        self._shown = namespace
        self._namespace = namespace or api.access.namespace or "default"

    def services(self) -> list[Any]:
        """All, or those of the namespace that was asked for."""
        return [
            one for one in super().services() if self._shown is None or one.name.partition("/")[0] == self._shown
        ]  # fmt: skip

    def full_name(self, service: str) -> str:
        """NAMESPACE/NAME."""
        if not re.fullmatch(f"(?:{_NAME}/)?{_NAME}", service):
            hint = "Write the workload's name, or NAMESPACE/NAME."
            raise DefinitionError(f"{shown(service)} is not the name of a service", key="SERVICE", hint=hint)
        return service if "/" in service else f"{self._namespace}/{service}"


def _admin(chosen: Chosen) -> _NamespacedAdmin:
    api = Api(access_of(chosen.kubeconfig, chosen.context))
    return _NamespacedAdmin(api, chosen.system or find_system(api), chosen.release, chosen.namespace)
