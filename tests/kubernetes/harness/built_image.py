"""The image of deploy/Dockerfile, really built: by buildah, without a daemon, on a base of what this machine has.

    with built() as image:
        image.inside("import sys; print(sys.path)")     # in a container of it, as its user
        image.save(archive, name)                       # for `Node.add_archive`

No registry is asked. What the locks name is fetched by pip as this machine has it configured; the build itself has it
from a folder and no network, by the secret `pip.conf` that users build with. Needs root.
"""

import ensurepip
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubernetes.harness import images
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.processes import PATH, RunFolder, run
from tools import build_image

_WITHIN_S = 500
"""Measured: 35 s on an idle machine with 2 cores, 100 s on a busy one."""
_NAME = "localhost/zerogate:tests"


class BuiltImage:
    """One image and one container of it, for looking inside."""

    def __init__(self, folder: Path) -> None:
        self._store: list[str | Path] = [
            "buildah",
            "--root",
            folder / "store",
            "--runroot",
            folder / "run",
            "--storage-driver",
            "vfs",
        ]
        self._container = ""

    def build(self, folder: Path) -> None:
        """`folder` is for what the build is made of."""
        base, wheels, settings = folder / "base.tar", folder / "wheels", folder / "pip.conf"
        images.write(images.python(_pip()), base)
        _fetch(wheels)
        settings.write_text("[global]\nno-index = true\nfind-links = /fetched\n")
        identity = self._ask("pull", "--quiet", f"oci-archive:{base}").split()[-1]
        self._ask("tag", identity, images.PYTHON)
        words = ["--isolation", "chroot", "--pull-never", "--secret", f"id=pip.conf,src={settings}"]
        words += ["--volume", f"{wheels}:/fetched:ro"]
        run(*build_image.command(_NAME, self._store, base=images.PYTHON, words=words), within_s=_WITHIN_S)
        self._container = self._ask("from", "--pull-never", _NAME).strip()

    def about(self) -> dict[str, Any]:
        """How containers of it start: `User`, `Env`, `Cmd` and the like."""
        found: dict[str, Any] = json.loads(self._ask("inspect", "--type", "image", _NAME))
        config: dict[str, Any] = found["OCIv1"]["config"]
        return config

    def inside(self, code: str, user: str = "65532:65532") -> str:
        """What a Python of it prints."""
        return self._ask("run", "--isolation", "chroot", "--user", user, self._container, "--", "python", "-c", code)

    def save(self, archive: Path, name: str) -> None:
        """Under this name."""
        self._ask("push", "--quiet", _NAME, f"docker-archive:{archive}:{name}")

    def _ask(self, *words: str | Path) -> str:
        return run(*self._store, *words, within_s=120)


@contextmanager
def built() -> Iterator[BuiltImage]:
    """The image of the working tree, gone at the end. Raises UnavailableError where it cannot be had."""
    require()
    folder = RunFolder("image")
    try:
        image = BuiltImage(folder.path)
        image.build(folder.path)
        yield image
    finally:
        folder.close()


def require() -> None:
    """Raises UnavailableError where this machine builds no images."""
    if platform.system() != "Linux":
        raise UnavailableError("images are built on Linux", is_mendable=False)
    if os.geteuid() != 0:
        raise UnavailableError("an image is built by root, who may change its root folder", is_mendable=False)
    if shutil.which("buildah", path=PATH) is None:
        raise UnavailableError("an image is built by buildah: apt install buildah", is_mendable=True)


def _pip() -> Path:
    """The wheel that comes with this Python."""
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    found = sorted(file for folder in folders for file in folder.glob("pip-*.whl"))
    if not found:
        raise UnavailableError(f"{sys.executable} comes without pip (Debian: python3-venv)", is_mendable=False)
    return found[0]


def _fetch(folder: Path) -> None:
    """What the locks name, for this machine's Python, into a folder."""
    locks = [word for name in ("tools", "image") for word in ("-r", images.ROOT / "locks" / f"{name}.lock")]
    fetch = [sys.executable, _pip() / "pip", "download", "--quiet", "--no-deps", "--require-hashes", *locks]
    done = subprocess.run([*fetch, "--dest", folder], capture_output=True, text=True, timeout=_WITHIN_S)
    if done.returncode:
        raise UnavailableError(f"what the locks name is not to be had: {done.stderr.strip()[-300:]}", is_mendable=False)
