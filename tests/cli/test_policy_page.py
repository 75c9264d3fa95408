from pathlib import Path

from cli.policy_page import policy_page
from zerogate.kube.keys import CLUSTER_KEYS
from zerogate.policy_keys import KEYS, LATER_KEYS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    assert page == policy_page(), "run `make docs`"


def test_the_page_names_every_key_with_as_many_cells_as_its_head() -> None:
    rows = [line for line in policy_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        *sorted(KEYS, key=lambda name: not KEYS[name].scales),
        *CLUSTER_KEYS,
    ]
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}
    assert all(f"- `{name}`" in policy_page() for name in LATER_KEYS)
