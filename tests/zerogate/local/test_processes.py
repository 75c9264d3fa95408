import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.zerogate.local.world import open_files_used_up
from zerogate import clock
from zerogate.local.leftovers import find_leftovers
from zerogate.local.mark import Mark
from zerogate.local.processes import (
    Handle,
    Process,
    Scanner,
    Table,
    has_dead_child,
    read_process,
    read_table,
    reap_strays,
    wait_for_end,
)

MARK = Mark(instance="i", service="s", replica_id="s-1", definition_hash="h", port=1)


def process(pid: int, *, parent: int = 1, session: int | None = None, state: str = "S", mark: str = "") -> Process:
    return Process(
        pid=pid,
        parent=parent,
        group=session or pid,
        session=session or pid,
        state=state,
        start_ticks=pid,
        mark=mark or None,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([process(10, mark="m"), process(20, mark="other"), process(30)], [10]),
        ([process(10), process(11, parent=10, session=10), process(12, session=10)], [10, 11, 12]),
        ([process(10), process(11, parent=10), process(12, parent=11)], [10, 11, 12]),
        ([process(10, state="Z", mark=""), process(12, session=10)], [12]),
        ([process(50), process(51, parent=50), process(60)], [50, 51]),
        ([process(70, mark="m", state="Z")], []),
    ],
    ids=["by mark", "by session", "by descent", "leader dead", "descent from known ones", "the dead do not count"],
)
def test_what_belongs_to_a_replica(found: list[Process], expected: list[int]) -> None:
    assert [p.pid for p in Table(found).members(mark="m", leader=10, roots=[50])] == expected


def test_leftovers_are_those_of_the_instance_with_their_leader() -> None:
    other = Mark(instance="other", service="s", replica_id="s-2", definition_hash="h", port=2)
    headless = Mark(instance="i", service="s", replica_id="s-3", definition_hash="h", port=3)
    found = find_leftovers(
        Table(
            [
                process(9, mark="rubbish"),
                process(10, mark=str(MARK)),
                process(11, mark=str(MARK)),
                process(12, mark=str(other)),
                process(13, session=7, mark=str(headless)),
            ]
        ),
        "i",
    )
    assert [(x.mark, x.leader.pid if x.leader else None) for x in found] == [(MARK, 10), (headless, None)]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"], env={"ZEROGATE_REPLICA": str(MARK)}, start_new_session=True)
    yield child
    child.kill()
    child.wait()


def test_the_table_shows_marks_and_sessions(sleeper: subprocess.Popen[bytes]) -> None:
    found = read_table().by_pid[sleeper.pid]
    assert (found.parent, found.session, found.mark) == (os.getpid(), sleeper.pid, str(MARK))
    assert read_table().by_pid[os.getpid()].mark is None


def test_a_command_with_brackets_and_spaces_is_read(tmp_path: object) -> None:
    name = "a) S (b"
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", f"open('/proc/self/comm','w').write('{name}'); print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    found = read_process(child.pid)
    child.communicate(b"\n")
    assert found is not None
    assert found.parent == os.getpid()


def test_a_handle_signals_its_process_once_and_knows_how_it_ended(sleeper: subprocess.Popen[bytes]) -> None:
    handle = Handle.of_child(sleeper.pid)
    assert handle.is_alive()
    assert handle.exit_code(reap=False) is None
    handle.signal(signal.SIGKILL)
    wait_for_end([handle], 5)
    assert not handle.is_alive()
    assert handle.exit_code(reap=False) == -signal.SIGKILL
    assert handle.exit_code(reap=False) == -signal.SIGKILL, "looking does not take it away"
    handle.signal(signal.SIGTERM)  # to nobody
    handle.close()
    handle.close()
    sleeper.returncode = -signal.SIGKILL


def test_a_handle_of_another_process_with_the_same_pid_is_refused(sleeper: subprocess.Popen[bytes]) -> None:
    seen = read_process(sleeper.pid)
    assert seen is not None
    same = Handle.of(seen)
    assert same is not None
    os.close(same.fd)
    older = Process(pid=seen.pid, parent=1, group=1, session=1, state="S", start_ticks=seen.start_ticks - 1)
    assert Handle.of(older) is None
    assert Handle.of(process(2**22 - 1)) is None


def test_waiting_for_nobody_takes_no_time() -> None:
    before = clock.now()
    wait_for_end([], 5)
    assert clock.now() - before < 1


def test_only_strays_that_were_dead_before_are_taken() -> None:
    owned, stray, someone_elses = (subprocess.Popen(["true"], start_new_session=n < 2) for n in range(3))
    for child in (owned, stray, someone_elses):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_dead_child()
    seen = reap_strays(read_table(), ours=[owned.pid], seen=())
    assert seen == {stray.pid}
    assert reap_strays(read_table(), ours=[owned.pid], seen=seen) == set()
    with pytest.raises(ChildProcessError):
        os.waitpid(stray.pid, os.WNOHANG)
    stray.returncode = 0
    assert owned.wait() == someone_elses.wait() == 0


async def test_a_table_is_never_older_than_the_question() -> None:
    scanner = Scanner()
    try:
        for _ in range(5):
            child = subprocess.Popen(["sleep", "60"])
            try:
                tables = await asyncio.gather(*(scanner.table() for _ in range(3)))
                assert all(child.pid in found.by_pid for found in tables)
                assert tables[0] is tables[1] or tables[1] is tables[2], "questions at the same time share a reading"
            finally:
                child.kill()
                os.waitpid(child.pid, 0)
                child.returncode = -9
    finally:
        scanner.close()


def test_half_a_table_is_no_table() -> None:
    with open_files_used_up(), pytest.raises(OSError, match="Too many open files"):
        read_table()
