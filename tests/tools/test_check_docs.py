"""The documents' check finds references that lead nowhere."""

from pathlib import Path

import pytest

from tools.check_docs import anchors, dead_references, unlisted_pages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "cli.md").write_text("# Commands\n\n## Exit codes\n")
    (tmp_path / "cli" / "demo").mkdir(parents=True)
    (tmp_path / "cli" / "api.py").write_text("")
    (tmp_path / "cli" / "demo" / "story.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    ["[a](docs/no.md)", "see `cli/no.py`", "`cli/*.yaml`", "[a](../x.md#part)", "[a](docs/cli.md#exit-code)", "[a](#b)",
     "`no.py`", "`story/api.py`", "`pi.py`"],
)  # fmt: skip
def test_a_reference_to_nothing_is_found(root: Path, text: str) -> None:
    dead = dead_references(f"first\n{text}\n", root, root)
    assert [one.line for one in dead] == [2]


@pytest.mark.parametrize(
    "text",
    ["[a](docs/cli.md#exit-codes)", "`cli/api.py` and `cli/`", "`cli/*.py`", "[a](https://example.org/x)",
     "# B\n[a](#b)", "[a](cli/api.py#L3)", "```\n`cli/no.py`\n```", "`client/no.yaml`", "`api.py`", "`demo/story.py`"],
)  # fmt: skip
def test_what_exists_or_is_not_ours_passes(root: Path, text: str) -> None:
    assert dead_references(text, root, root) == []


def test_links_are_relative_to_their_document_and_paths_to_the_root(root: Path) -> None:
    assert dead_references("[a](cli.md) `cli/api.py`", root / "docs", root) == []


def test_anchors_are_those_that_github_makes() -> None:
    text = "# The `zerogate` file\n## What's in, or out?\n### Seen [here](x.md)\n## Again\n## Again\n```\n# none\n```\n"
    assert anchors(text) == {"the-zerogate-file", "whats-in-or-out", "seen-here", "again", "again-1"}


def test_a_page_that_the_index_does_not_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("[001](001-one.md)")
    (tmp_path / "001-one.md").write_text("")
    (tmp_path / "002-two.md").write_text("")
    assert unlisted_pages(tmp_path) == ["002-two.md"]
