import socket
from pathlib import Path

import pytest

from zerogate.errors import MachineError
from zerogate.local import ports
from zerogate.local.ports import Ports


def range_of(folder: Path, low: int) -> Path:
    file = folder / "range"
    file.write_text(f"{low}\t60999\n")
    return file


def test_ports_come_from_where_the_kernel_gives_none_to_connections(tmp_path: Path) -> None:
    chooser = Ports(range_file=range_of(tmp_path, 32768))
    chosen = [chooser.choose() for _ in range(50)]
    assert len(set(chosen)) == 50
    assert all(20000 <= port < 32768 for port in chosen)


@pytest.mark.parametrize("low", [1024, 20000])
def test_where_the_kernel_uses_every_port_it_chooses(tmp_path: Path, low: int) -> None:
    chooser = Ports(range_file=range_of(tmp_path, low))
    assert chooser.choose() > 1023


def test_a_machine_that_does_not_say_its_range_still_has_ports(tmp_path: Path) -> None:
    assert Ports(range_file=tmp_path / "none").choose() > 1023


def test_ports_that_are_listened_on_or_held_are_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        low = taken.getsockname()[1]
        monkeypatch.setattr(ports, "LOWEST", low)
        chooser = Ports(range_file=range_of(tmp_path, low + 1))
        assert chooser.choose() != low
    first = chooser.choose()
    monkeypatch.setattr(chooser, "_bind", lambda _: first)
    with pytest.raises(MachineError, match="No free port"):
        chooser.choose()
    chooser.release(first)
    assert chooser.choose() == first
    chooser.release(first)
    chooser.hold(first)
    with pytest.raises(MachineError):
        chooser.choose()
