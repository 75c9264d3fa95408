"""What the documents tell people to type works: YAML blocks are right files, and blocks marked runnable run.

A block marked `sh runnable` is run line by line against a real `zerogate up` with a stub in the place of the model;
only the addresses are changed to those of the test. `sh` alone is for what installs, does not end, or needs a GPU.
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from cli.check import run_check
from tests.certificates import Authority
from tests.e2e.harness import ROOT, Box, stub, zerogate

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([\w ]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CERTIFICATE = re.compile(r"tls/(\w+)\.crt")
PROGRAMS = ("vllm", "llama-server", "ollama")
"""Model servers of the examples, which a machine that runs tests need not have."""


class Block(NamedTuple):
    document: str
    line: int
    kind: str
    text: str


def blocks(kind: str) -> list[Block]:
    """All blocks with that word (or words) behind the fence."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        for match in BLOCK.finditer(text):
            if match[1] == kind:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(document.name, line, kind, match[2]))
    return found


def place(block: Block) -> str:
    return f"{block.document}:{block.line}"


FILES = [one for one in blocks("yaml") if re.search(r"^services:", one.text, re.MULTILINE) and "…" not in one.text]
RUNNABLE = blocks("sh runnable")


def test_there_are_files_and_commands_to_try() -> None:
    assert len(FILES) >= 5
    assert {block.document for block in RUNNABLE} >= {"README.md", "getting-started.md", "operations.md"}


@pytest.mark.parametrize("block", FILES, ids=place)
def test_each_file_in_the_documents_passes_zerogate_check(block: Block, tmp_path: Path) -> None:
    for program in PROGRAMS:
        (tmp_path / program).touch(0o755)
    authority = Authority()
    for stem in set(CERTIFICATE.findall(block.text)):
        authority.issue(tmp_path / "tls", stem)
    file = tmp_path / "zerogate.yaml"
    file.write_text(block.text)
    out, err = (Console(file=io.StringIO(), width=200) for _ in range(2))
    code = run_check(file, out=out, err=err, environ={"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path)})
    assert isinstance(err.file, io.StringIO)
    assert code == 0, err.file.getvalue()


@pytest.mark.slow
@pytest.mark.may_block
@pytest.mark.parametrize("document", sorted({block.document for block in RUNNABLE}))
async def test_each_runnable_block_runs(document: str, tmp_path: Path) -> None:
    """In their order, as somebody who reads the page would type them."""
    service = stub(definition={"models": ["qwen2.5-7b"]}, schedule="Mon-Fri 08:00-09:00 Europe/Berlin = 0..1")
    async with zerogate({"chat": service}, tmp_path) as box:
        for block in [block for block in RUNNABLE if block.document == document]:
            done = _run(block, box)
            assert done.returncode == 0, f"{place(block)}:\n{done.args[-1]}\n{done.stdout}{done.stderr}"
            assert done.stdout.strip(), f"{place(block)} printed nothing"


def _run(block: Block, box: Box) -> subprocess.CompletedProcess[str]:
    command = box.folder / "zerogate"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m cli "$@"\n')
    command.chmod(0o755)
    script = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{box.listen}")
    script = script.replace("127.0.0.1:8081", f"127.0.0.1:{box.admin}").replace("curl -s", "curl -sf")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=box.folder,
        env={**os.environ, "PATH": f"{box.folder}:{os.environ['PATH']}", "ZEROGATE_ADMIN": box.admin_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
