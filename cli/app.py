"""The console script `zerogate`: how commands are called, and how each may end.

Imports of what commands do stand inside them, so that `zerogate --help` and quick commands start fast and `up` loads
nothing that it does not run. Errors of ours become one paragraph and an exit code of `cli.exits`; nobody sees a
traceback unless ZEROGATE_DEBUG is set.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli.exits import MEANINGS, ExitCode

if TYPE_CHECKING:
    from cli.client import Admin


def epilog() -> str:
    """The exit codes, below the help."""
    codes = "\n".join(f"  {code.value:<4} {says}" for code, says in MEANINGS.items())
    return f"\b\nExit codes:\n{codes}"


class Commands(TyperGroup):
    """Turns what a command raises into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from zerogate.errors import DefinitionError, DefinitionErrors, ZerogateError

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail(ctx, "zerogate: interrupted", ExitCode.INTERRUPTED)
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(ExitCode.FAILED)
        except (DefinitionError, DefinitionErrors) as error:
            _fail(ctx, str(error), ExitCode.WRONG_INPUT)
        except ZerogateError as error:
            _fail(ctx, str(error), getattr(error, "exit_code", ExitCode.FAILED))
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            if os.environ.get("ZEROGATE_DEBUG"):
                raise
            if isinstance(error, OSError) and error.strerror:
                where = f" ({error.filename})" if error.filename else ""
                _silence_stdout()
                _fail(ctx, f"The machine refuses something: {error.strerror}{where}.", ExitCode.FAILED)
            says = f"zerogate failed in a way that nobody foresaw: {type(error).__name__}: {error}"
            _fail(ctx, f"{says}\nZEROGATE_DEBUG=1 shows where; please report it.", ExitCode.FAILED)


def program(name: str) -> typer.Typer:
    """A program without commands yet: `zerogate`, or its likeness for clusters."""
    return typer.Typer(
        name=name,
        cls=Commands,
        epilog=epilog(),
        rich_markup_mode=None,  # its help loads Markdown and highlighters: 200 ms
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def say_version(name: str | None) -> None:
    """For the command and for the option."""
    from zerogate.version import version as own

    print(f"{name} {own()}")


def _version_and_leave(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        say_version(ctx.command.name)
        raise typer.Exit


app = program("zerogate")

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: what the admin API answers.")]
Replicas = Annotated[int, typer.Argument(metavar="N", min=0, help="Exactly so many.")]
Length = Annotated[
    str | None, typer.Option("--for", metavar="LENGTH", help="30m, 2h, 1d; without it, until unpinned.")
]  # fmt: skip
Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_version_and_leave, help="As the command version.")
]
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="A name under services: in the file.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file that says what runs.")]
DEFAULT_FILE = Path("zerogate.yaml")


@app.callback()
def settings(
    ctx: typer.Context,
    admin: Annotated[
        str, typer.Option(metavar="URL", envvar="ZEROGATE_ADMIN", help="Where the running zerogate's admin API is.")
    ] = "http://127.0.0.1:8081",
    version: Version = False,
) -> None:
    """A serverless gateway for GPU model servers: holds requests while a model starts, scales to zero."""
    ctx.obj = admin


@app.command()
def up(file: File = DEFAULT_FILE) -> None:
    """Run everything that FILE names on this machine, until Ctrl-C."""
    from cli.up import run

    raise typer.Exit(run(file))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running at the end, and say what to try.")] = False,
) -> None:
    """See a real language model go from zero to one and back."""
    from cli.demo.story import run

    tidy_up_on_ctrl_c()
    raise typer.Exit(run(keep=keep))


@app.command()
def check(file: File = DEFAULT_FILE) -> None:
    """Say what is wrong with FILE, or what would run. Starts nothing."""
    from cli.check import run_check
    from cli.terminal import err, out

    raise typer.Exit(run_check(file, out=out(), err=err()))


@app.command()
def doctor(
    ctx: typer.Context, file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A file to check too.")] = None
) -> None:
    """Say what is wrong with this machine, and with FILE."""
    from cli.client import Admin
    from cli.commands.doctor import doctor as examine
    from cli.terminal import out

    raise typer.Exit(examine(file, Admin(ctx.obj), out()))


@app.command()
def status(
    ctx: typer.Context,
    watch: Watch = False,
    json: AsJson = False,
) -> None:
    """Show how all services stand."""
    from cli.client import Admin

    show_status(lambda: Admin(ctx.obj), watch=watch, json=json)


@app.command()
def explain(ctx: typer.Context, service: Service) -> None:
    """Say why SERVICE has the replicas it has, what comes next, and when."""
    from cli.client import Admin
    from cli.commands.explain import explain as show
    from cli.terminal import out

    show(Admin(ctx.obj), service, out())


@app.command()
def plan(
    ctx: typer.Context,
    service: Service,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many at most.")] = 20,
) -> None:
    """Show the next transitions of SERVICE's calendar."""
    from cli.client import Admin
    from cli.commands.explain import plan as show
    from cli.terminal import out

    show(Admin(ctx.obj), service, count, out())


@app.command()
def logs(
    ctx: typer.Context,
    service: Service,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many of the last lines.")] = 200,
) -> None:
    """Show what SERVICE's replicas printed."""
    from cli.client import Admin
    from cli.commands.change import logs as show

    tidy_up_on_ctrl_c()
    show(Admin(ctx.obj), service, lines=lines, follow=follow)


@app.command()
def pin(
    ctx: typer.Context,
    service: Service,
    replicas: Replicas,
    length: Length = None,
) -> None:
    """Hold SERVICE at a number of replicas, whatever its traffic."""
    from cli.client import Admin
    from cli.commands.change import pin as ask
    from cli.terminal import out

    ask(Admin(ctx.obj), service, replicas, length, out())


@app.command()
def unpin(ctx: typer.Context, service: Service) -> None:
    """Let SERVICE's policy decide again."""
    from cli.client import Admin
    from cli.commands.change import unpin as ask
    from cli.terminal import out

    ask(Admin(ctx.obj), service, out())


@app.command()
def reload(ctx: typer.Context) -> None:
    """Apply the changed file, as a whole or not at all."""
    from cli.client import Admin
    from cli.commands.change import reload as ask
    from cli.terminal import out

    ask(Admin(ctx.obj), out())


@app.command("version")
def show_version() -> None:
    """Say which zerogate this is."""
    say_version(app.info.name)


def show_status(admin_of: Callable[[], "Admin"], *, watch: bool, json: bool) -> None:
    """What `status` does, wherever the services are."""
    from cli.commands import status as show
    from cli.terminal import out

    if watch and json:
        raise typer.BadParameter("--watch and --json do not go together; ask for --json again and again instead")
    tidy_up_on_ctrl_c()
    chosen = show.show_json if json else show.watch if watch else show.show
    chosen(admin_of(), out())


def tidy_up_on_ctrl_c() -> None:
    """From here on Ctrl-C is an exception: there is a cursor, a connection or a child that must not stay behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _fail(ctx: Any, message: str, code: ExitCode) -> None:
    typer.echo(message, err=True)
    ctx.exit(code)


def _silence_stdout() -> None:
    """Nobody takes our output (`| head`, a full disk); Python would complain about it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
