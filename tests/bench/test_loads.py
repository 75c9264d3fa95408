"""What a name on the command line stands for."""

import pytest

from bench.peers.loads import LOADS, selected


def test_no_name_means_every_load() -> None:
    assert [keys for _, keys in selected([])] == [load.keys for load in LOADS]


def test_a_group_and_a_load_of_the_same_family_run_together_once() -> None:
    assert [keys for _, keys in selected(["small", "chat"])] == [("small-1", "small", "small-256", "chat")]


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(KeyError, match="smal'"):
        selected(["smal"])
