"""The documents' check finds references that lead nowhere."""

from pathlib import Path

import pytest

from tools.check_docs import dead_references


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "cli.md").write_text("")
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "api.py").write_text("")
    return tmp_path


@pytest.mark.parametrize("text", ["[a](docs/no.md)", "see `cli/no.py`", "`cli/*.yaml`", "[a](../x.md#part)"])
def test_a_reference_to_nothing_is_found(root: Path, text: str) -> None:
    dead = dead_references(f"first\n{text}\n", root, root)
    assert [one.line for one in dead] == [2]


@pytest.mark.parametrize(
    "text",
    ["[a](docs/cli.md#exit-codes)", "`cli/api.py` and `cli/`", "`cli/*.py`", "[a](https://example.org/x)", "[a](#b)",
     "```\n`cli/no.py`\n```", "`client/no.py`"],
)  # fmt: skip
def test_what_exists_or_is_not_ours_passes(root: Path, text: str) -> None:
    assert dead_references(text, root, root) == []


def test_links_are_relative_to_their_document_and_paths_to_the_root(root: Path) -> None:
    assert dead_references("[a](cli.md) `cli/api.py`", root / "docs", root) == []
