"""`make image`: builds deploy/Dockerfile with docker, podman or buildah, the first of them that works here.

    python tools/build_image.py                                        # zerogate:VERSION
    python tools/build_image.py REGISTRY/zerogate:0.1.0 --with podman --base mirror/python:3.12-slim
    python tools/build_image.py -- --secret id=pip.conf,src=pip.conf   # words of the builder's own

Needs the standard library alone. A docker without its daemon does not count.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
BUILDERS = ("docker", "podman", "buildah")
_ANSWER_S = 30.0
"""A docker whose daemon is elsewhere and away says nothing for minutes."""


def command(name: str, builder: Sequence[str | Path], *, base: str = "", words: Sequence[str] = ()) -> list[str | Path]:
    """What builds the image called `name`; `builder` is a program and what stands before its `build`."""
    # docker finds what to leave out by the Dockerfile's name, older ones of the others have to be told
    left_out = [] if Path(builder[0]).name == "docker" else ["--ignorefile", f"{DOCKERFILE}.dockerignore"]
    chosen = ["--build-arg", f"BASE={base}"] if base else []
    return [*builder, "build", "--file", DOCKERFILE, *left_out, *chosen, "--tag", name, *words, ROOT]


def works(builder: str) -> bool:
    """Whether it is here and could build something."""
    if shutil.which(builder) is None:
        return False
    try:
        return not subprocess.run([builder, "info"], capture_output=True, timeout=_ANSWER_S).returncode
    except subprocess.TimeoutExpired:
        return False


def version() -> str:
    """The project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def main(arguments: Sequence[str]) -> int:
    """The builder's exit code."""
    parser = argparse.ArgumentParser(prog="make image ARGS=…", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", default=f"zerogate:{version()}", help="default: %(default)s")
    parser.add_argument("--base", default="", help="an image with Python 3.11 or newer, pip and a shell")
    parser.add_argument("--with", dest="builder", choices=BUILDERS, help="default: the first that works here")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    chosen, words = parser.parse_args(arguments[:end]), arguments[end + 1 :]
    builder = chosen.builder or next(filter(works, BUILDERS), None)
    if builder is None:
        print(f"None of {', '.join(BUILDERS)} works here. Install one; docker needs its daemon.", file=sys.stderr)
        return 1
    if shutil.which(builder) is None:
        print(f"{builder} is not installed. Leave --with out to take what is here.", file=sys.stderr)
        return 1
    build = command(chosen.name, [builder], base=chosen.base, words=words)
    print("zerogate:", *build, flush=True)
    # secrets need BuildKit; and one layer for each step, of which a node has most from the release before
    return subprocess.run(build, env={"DOCKER_BUILDKIT": "1", "BUILDAH_LAYERS": "true", **os.environ}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
