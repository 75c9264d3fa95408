"""`--keep`: zerogate stays up after the story, with the lines to try it by hand."""

import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from cli.client import DEFAULT_URL
from cli.demo.cast import SERVICE, Cast
from cli.demo.child import Box
from cli.demo.errors import StoryError
from cli.demo.teller import Teller


def encore(teller: Teller, cast: Cast, box: Box) -> None:
    """Until Ctrl-C. Raises StoryError where zerogate ends by itself."""
    teller.chapter("It stays up until Ctrl-C. To try in another terminal:")
    for line in lines(cast, traffic=box.traffic, admin=box.admin.url):
        teller.as_typed(line)
    try:
        code = box.process.wait()
    except KeyboardInterrupt:
        return
    raise StoryError(f"zerogate ended by itself, with exit code {code}.")


def lines(cast: Cast, *, traffic: str, admin: str) -> list[str]:
    """What to type."""
    body = msgspec.json.encode(
        {"model": cast.model, "stream": True, "messages": [{"role": "user", "content": cast.cold_question}]}
    ).decode()
    zerogate = _called() if admin == DEFAULT_URL else f"{_called()} --admin {admin}"
    return [
        f"curl -N {traffic}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}",
        f"curl {traffic}/v1/models",
        f"curl {admin}/api/services/{SERVICE}",
        f"curl {admin}/metrics",
        f"{zerogate} status --watch",
        f"{zerogate} explain {SERVICE}",
    ]


def _called() -> str:
    """How this very zerogate is called from here."""
    if shutil.which("zerogate"):
        return "zerogate"
    script = Path(sys.argv[0]).absolute()
    if script.name != "zerogate":
        return "python -m cli"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)
