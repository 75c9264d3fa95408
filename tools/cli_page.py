"""The page `docs/cli.md`: a few words, and what each command says about itself. Written by `tools/write_docs.py`."""

from typing import Final

from typer.testing import CliRunner

from cli.app import app
from cli.exits import MEANINGS

_HEAD: Final = """# Commands

`zerogate up` runs a box; the others ask a running one through its admin API
([openapi.json](openapi.json)), or look at a file or a machine before. This page is made by `make docs`.

```
zerogate check zerogate.yaml       # is the file right, what would run?
zerogate up zerogate.yaml          # run it until Ctrl-C (twice: at once)
zerogate status --watch            # how everything stands
zerogate explain chat              # why it has the replicas it has, what comes next
zerogate pin chat 1 --for 2h       # keep one replica, whatever its traffic
zerogate reload                    # apply the changed file
```

The admin API is looked for at `http://127.0.0.1:8081`; `--admin URL` before the command, or the variable
`ZEROGATE_ADMIN`, names another place. `status --json` is for programs. With `ZEROGATE_DEBUG=1` an error that nobody
foresaw shows its traceback.
"""


def cli_page() -> str:
    """The whole page."""
    codes = "\n".join(f"| {code.value} | {says} |" for code, says in MEANINGS.items())
    parts = [_HEAD, f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n"]
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        parts.append(f"## zerogate {name}\n\n```\n{_help(name)}\n```\n")
    return "\n".join(parts)


def _help(name: str) -> str:
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"}, prog_name="zerogate")
    return done.output.strip()
