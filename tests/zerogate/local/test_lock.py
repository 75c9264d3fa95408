import os
from pathlib import Path

import pytest

from zerogate.errors import MachineError
from zerogate.local.lock import InstanceLock


def test_it_is_held_by_one_until_released(tmp_path: Path) -> None:
    first, second = InstanceLock(tmp_path / "state"), InstanceLock(tmp_path / "state")
    first.acquire()
    with pytest.raises(MachineError, match=rf"Another zerogate \(pid {os.getpid()}\) keeps its state in .*state\. "):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_state_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be used"):
        InstanceLock(tmp_path / "file" / "state").acquire()
