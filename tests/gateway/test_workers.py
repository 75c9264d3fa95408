"""A gateway with workers from outside: real processes, real sidecars, real model servers."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.activator.fleet import Replica, replica
from tests.queueproxy.world import Program
from tests.zerogate.http.rig import LONGEST_S, Client, Clients
from zerogate.runtime.interface import Address

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


class Gateway:
    """`python -m gateway`; `port` takes traffic, `admin_port` the admin's requests."""

    def __init__(self, program: Program, path: Path) -> None:
        self.program = program
        self.path = path
        self.port = self.admin_port = self.tls_port = 0
        self.clients = Clients()

    async def leave(self) -> None:
        """Tell it twice to leave, and wait until it has."""
        if self.program.process.returncode is None:
            self.program.signal(signal.SIGTERM)
            self.program.signal(signal.SIGTERM)
            await self.program.end()

    async def connect(self, port: int | None = None) -> Client:
        return await self.clients.connect("127.0.0.1", port or self.port)

    async def ask(self, path: str, *, port: int | None = None, method: str = "GET") -> tuple[int, bytes]:
        """(status, body) of a request on a connection of its own; raises OSError where that is cut."""
        client = await self.connect(port)
        try:
            await client.send(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            if not head:
                raise ConnectionResetError("closed without an answer")
            return int(head.split()[1]), body
        finally:
            self.clients.disown(client)

    async def admin(self, path: str, method: str = "GET") -> tuple[int, Any]:
        status, body = await self.ask(path, port=self.admin_port, method=method)
        return status, json.loads(body)

    async def metric(self, name: str) -> float:
        _, body = await self.ask("/metrics", port=self.admin_port)
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", body.decode(), re.MULTILINE))

    async def served(self) -> float:
        return await self.metric('zerogate_requests_total{service="chat",result="served"}')

    async def in_flight(self) -> float:
        return await self.metric('zerogate_in_flight{service="chat"}')

    async def until(self, seen: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is so: a state of other processes that tell nothing by themselves."""
        async with asyncio.timeout(LONGEST_S):
            while not await seen():
                await asyncio.sleep(0.02)

    async def until_in_flight(self, wanted: int) -> None:
        async def seen() -> bool:
            return await self.in_flight() == wanted

        await self.until(seen)

    def pids(self, kind: str = "worker") -> list[int]:
        """Its children by what they are, as the system names them."""
        parent = self.program.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(pid) for pid in children if kind in Path(f"/proc/{pid}/comm").read_text()]

    async def stream(self, events: int = 100000) -> tuple[Client, asyncio.Task[bytes]]:
        """A stream whose head has come, and the task that reads it to its end."""
        client = await self.connect()
        await client.send(f"GET /sse?events={events}&gap_ms=20 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.until(b"\r\n\r\n")
        return client, asyncio.ensure_future(client.reader.read())  # noqa: TID251 - a reader of one test

    def write(self, *replicas: Replica, **policy: object) -> None:
        self.write_addresses(*(one.address for one in replicas), **policy)

    def write_addresses(self, *addresses: Address, **policy: object) -> None:
        replicas = [str(one) for one in addresses]
        self.path.write_text(json.dumps({"services": {"chat": {"policy": policy, "replicas": replicas}}}))


@asynccontextmanager
async def gateway(
    path: Path, *flags: str, replicas: tuple[Replica, ...] = (), ready: int = 2, **policy: object
) -> AsyncIterator[Gateway]:
    """A gateway of two workers in front of these replicas, once so many workers take requests."""
    it = Gateway(None, path / "gateway.json")  # type: ignore[arg-type]
    it.write(*replicas, **policy)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", str(it.path), *PORTS, "--workers", "2", *flags, stderr=asyncio.subprocess.PIPE
    )
    it.program = Program(process, process.stderr)
    try:
        numbers = re.findall(r":([0-9]+)", (await it.program.line_with("requests on")).partition("requests on")[2])
        it.port, it.admin_port = int(numbers[0]), int(numbers[1])
        it.tls_port = int(numbers[2]) if "--listen-tls" in flags else 0
        for _ in range(ready):
            await it.program.line_with("takes requests")
        yield it
    finally:
        await it.clients.aclose()
        await it.leave()


class Load:
    """Requests on new connections, one after the other from several clients, and how they ended."""

    def __init__(self, it: Gateway, path: str = "/sleep?ms=5") -> None:
        self.it = it
        self.path = path
        self.answers = 0
        self.others: list[str] = []
        """What was no 200: a status, or the name of an exception."""
        self._goes_on = True

    async def client(self) -> None:
        while self._goes_on:
            try:
                status, _ = await self.it.ask(self.path)
            except OSError as error:
                self.others.append(type(error).__name__)
            else:
                if status == 200:
                    self.answers += 1
                else:
                    self.others.append(str(status))

    async def until_answers(self, count: int) -> None:
        """Wait for so many more."""
        wanted = self.answers + count
        async with asyncio.timeout(LONGEST_S):
            while self.answers < wanted:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._goes_on = False


@contextmanager
def stopping(load: Load) -> Iterator[Load]:
    try:
        yield load
    finally:
        load.stop()


@asynccontextmanager
async def load(it: Gateway, clients: int = 8) -> AsyncIterator[Load]:
    """Such clients while the block runs."""
    one = Load(it)
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one.client())
        with stopping(one):
            yield one


async def test_requests_are_spread_over_workers_and_replicas_and_counted_once(tmp_path: Path) -> None:
    async with replica() as one, replica() as other, gateway(tmp_path, replicas=(one, other)) as it:
        async with load(it) as requests:
            await requests.until_answers(200)
        assert requests.others == []

        async def counted() -> bool:
            return await it.served() == requests.answers

        await it.until(counted)
        assert await it.metric('zerogate_arrivals_total{service="chat"}') == requests.answers
        assert await it.admin("/readyz") == (200, {"ready": True, "detail": "2 of 2 workers take requests"})
        sidecars = [await it.ask("/metrics", port=one.admin_port) for one in (one, other)]
        for _, text in sidecars:
            assert b'zerogate_gateways{service="service"} 2\n' in text
            served = re.search(rb'zerogate_requests_total{service="service",result="served"} (\d+)', text)
            assert served is not None
            assert int(served[1]) > 20
        cpu = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in it.pids()]
        assert min(cpu) > max(cpu) / 10


async def test_when_a_worker_is_killed_only_its_requests_are_reset_and_no_counter_falls(tmp_path: Path) -> None:
    async with replica() as one, replica() as other, gateway(tmp_path, replicas=(one, other)) as it:
        streams = [await it.stream() for _ in range(8)]
        await it.until_in_flight(8)
        async with load(it) as requests:
            await requests.until_answers(100)
            before = await it.served()
            victim = it.pids()[0]
            os.kill(victim, signal.SIGKILL)
            said = await it.program.line_with("ended with signal SIGKILL")
            assert "it is replaced at once" in said
            await it.program.line_with("takes requests")
            assert await it.served() >= before
            await requests.until_answers(100)
        # of eight clients those were inside whose connection the victim had accepted
        assert len(requests.others) <= 8
        assert set(requests.others) <= {"ConnectionResetError"}

        async def settled() -> bool:
            return await it.in_flight() == sum(not task.done() for _, task in streams)

        await it.until(settled)
        ended = [task for _, task in streams if task.done()]
        assert 0 < len(ended) < 8
        assert len(it.pids()) == 2
        assert await it.metric("zerogate_worker_replacements_total") == 1
        assert await it.served() >= before
        for task in ended:
            assert b"[DONE]" not in (b"" if task.exception() else task.result())
        for client, task in streams:
            client.abort()
            await asyncio.gather(task, return_exceptions=True)


async def test_f1_a_rolling_restart_fails_no_request_and_cuts_no_stream(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        before = it.pids()
        _, stream = await it.stream(events=60)
        async with load(it) as requests:
            await requests.until_answers(50)
            it.program.signal(signal.SIGUSR2)
            await it.program.line_with("all workers were replaced")
            await requests.until_answers(100)
        assert requests.others == []
        assert b"[DONE]" in await stream

        async def replaced() -> bool:
            return len(it.pids()) == 2

        await it.until(replaced)
        assert not set(before) & set(it.pids())
        assert await it.metric("zerogate_worker_replacements_total") == 0

        async def counted() -> bool:
            return await it.served() == requests.answers + 1

        await it.until(counted)


async def test_what_waits_in_a_worker_that_is_replaced_is_served_by_it(tmp_path: Path) -> None:
    async with replica("--concurrency-limit", "1") as one, gateway(tmp_path, replicas=(one,)) as it:
        _, stream = await it.stream(events=60)
        waiting = await it.connect()
        await waiting.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")

        async def held() -> bool:
            return await it.metric('zerogate_held{service="chat"}') == 1

        await it.until(held)
        it.program.signal(signal.SIGUSR2)
        await it.program.line_with("all workers were replaced")
        assert b"[DONE]" in await stream
        assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_n1_sigterm_counts_streams_to_their_end_and_resets_nobody(tmp_path: Path) -> None:
    async with (
        replica() as one,
        gateway(tmp_path, "--drain-wait", "2s", replicas=(one,)) as it,
    ):
        streams = [await it.stream(events=400) for _ in range(20)]
        kept = await it.connect()
        await kept.get()
        await it.until_in_flight(20)
        it.program.signal()
        await it.program.line_with("leaving")
        assert await it.admin("/readyz") == (503, {"ready": False, "detail": "draining"})
        assert (await it.ask("/"))[0] == 200, "the balancer has not heard of it yet"
        await kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Connection: close" in await kept.until(b"\r\n\r\n")

        async def closed() -> bool:
            try:
                await it.ask("/")
            except ConnectionRefusedError:
                return True
            return False

        await it.until(closed)
        assert await it.in_flight() == 20
        for _, stream in streams:
            assert b"[DONE]" in await stream
        assert await it.program.end() == 0


async def test_no_connection_that_was_made_is_reset_when_all_leave(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        async with load(it, clients=16) as requests:
            await requests.until_answers(200)
            it.program.signal()
            assert await it.program.end() == 0
        assert set(requests.others) <= {"ConnectionRefusedError"}


async def test_what_does_not_end_by_the_drain_deadline_is_reset_and_what_waits_is_refused(tmp_path: Path) -> None:
    async with (
        replica("--concurrency-limit", "1") as one,
        gateway(tmp_path, "--drain-deadline", "1s", replicas=(one,)) as it,
    ):
        _, stream = await it.stream()
        waiting = await it.connect()
        await waiting.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")

        async def held() -> bool:
            return await it.metric('zerogate_held{service="chat"}') == 1

        await it.until(held)
        it.program.signal()
        assert (await waiting.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        assert not (await stream).endswith(b"0\r\n\r\n")
        assert await it.program.end() == 0


async def test_a_second_signal_ends_what_runs_at_once(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        _, stream = await it.stream()
        it.program.signal()
        await it.program.line_with("leaving: what is in flight is finished")
        it.program.signal()
        await it.program.line_with("leaving at once")
        assert not (await asyncio.wait_for(stream, 10)).endswith(b"0\r\n\r\n")
        assert await it.program.end() == 0


async def test_a_worker_that_cannot_leave_is_killed_some_seconds_after_the_deadline(tmp_path: Path) -> None:
    async with gateway(tmp_path, "--drain-deadline", "1s", "--hung-after", "10m") as it:
        stopped = it.pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        it.program.signal()
        assert f"process {stopped} does not leave: it is killed" in await it.program.line_with("does not leave")
        assert await it.program.end() == 0


async def test_drain_answers_when_nothing_is_in_flight_and_the_process_waits_to_be_told(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        _, stream = await it.stream(events=30)
        assert await it.admin("/drain") == (200, {"drained": True, "in_flight": 0})
        assert stream.done() or b"[DONE]" in await stream
        assert await it.admin("/healthz") == (200, {"status": "ok"})
        assert it.pids() == []
        it.program.signal()
        assert await it.program.end() == 0


@pytest.mark.parametrize("way", ["admin", "signal"])
async def test_a_changed_file_is_applied_by_all_workers_or_by_none(tmp_path: Path, way: str) -> None:
    async with replica() as one, replica() as other, gateway(tmp_path, replicas=(one,)) as it:

        async def reload() -> tuple[int, Any]:
            if way == "admin":
                return await it.admin("/reload", "POST")
            it.program.signal(signal.SIGHUP)
            said = await it.program.line_with("gateway: ")
            return (200 if "reloaded" in said else 422), {"detail": said}

        pids = it.pids()
        it.path.write_text('{"services": {"chat": {"policy": {"hold-timeout": "soon"}}}}')
        status, answer = await reload()
        assert status == 422
        assert "is wrong" in answer["detail"] or "services.chat.policy.hold-timeout" in answer["detail"]
        assert (await it.ask("/hello"))[0] == 200
        it.write(other, **{"path-prefix": "/new"})
        assert (await reload())[0] == 200

        async def is_new() -> bool:
            statuses = [(await it.ask(path))[0] for path in ("/old", "/new/x") * 8]
            return statuses == [404, 200] * 8

        await it.until(is_new)
        assert it.pids() == pids


async def test_without_replicas_a_request_is_held_until_a_file_brings_one(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path) as it:
        client = await it.connect()
        await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")

        async def held() -> bool:
            return await it.metric('zerogate_held{service="chat"}') == 1

        await it.until(held)
        it.write(one)
        assert (await it.admin("/reload", "POST"))[0] == 200
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_worker_that_crashes_at_once_does_not_spin(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    # every worker ends as soon as it is asked to open its channel
    (broken / "sitecustomize.py").write_text("import os, gateway.worker as w\nw.serve = lambda start: os._exit(9)\n")
    (tmp_path / "gateway.json").write_text('{"services": {}}')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", str(tmp_path / "gateway.json"), *PORTS,
        stderr=asyncio.subprocess.PIPE, env={"PYTHONPATH": f"{broken}:{Path.cwd()}"},
    )  # fmt: skip
    program = Program(process, process.stderr)
    it = Gateway(program, tmp_path)
    numbers = re.findall(r":([0-9]+)", (await program.line_with("requests on")).partition("requests on")[2])
    it.port, it.admin_port = int(numbers[0]), int(numbers[1])
    assert "exit code 9; it is replaced at once" in await program.line_with("ended with")
    for pause in ("0.1", "0.2", "0.4", "0.8"):
        assert f"it is replaced in {pause} s" in await program.line_with("ended with")
    assert await it.admin("/readyz") == (503, {"ready": False, "detail": "0 of 1 workers take requests"})
    assert await it.metric("zerogate_worker_replacements_total") == 5
    program.signal()
    assert await program.end() == 0


async def test_the_admin_process_is_replaced_and_the_sums_are_not_lost(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        await it.ask("/hello")

        async def counted() -> bool:
            return await it.served() == 1

        await it.until(counted)
        [pid] = it.pids("admin")
        os.kill(pid, signal.SIGKILL)
        await it.program.line_with("the admin process")
        assert await it.served() == 1


async def test_workers_whose_parent_is_killed_finish_what_they_have_and_leave_the_port(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        _, stream = await it.stream(events=60)
        it.program.signal(signal.SIGKILL)
        await it.program.line_with("the parent is gone")
        assert b"[DONE]" in await stream
        await it.program.rest()  # all of them have closed their standard error
        await it.program.end()
        with pytest.raises(ConnectionRefusedError):
            await it.ask("/")


async def test_workers_whose_parent_is_killed_give_the_balancer_its_time_to_notice(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, "--drain-wait", "3s", replicas=(one,)) as it:
        it.program.signal(signal.SIGKILL)
        for _ in range(2):
            await it.program.line_with("the parent is gone")
        assert (await it.ask("/hello"))[0] == 200
        await it.program.rest()
        await it.program.end()


async def test_no_process_holds_what_the_parent_has_of_the_others(tmp_path: Path) -> None:
    """Who held a sibling's channel would keep it from noticing that the parent is gone."""
    async with gateway(tmp_path) as it:
        for pid in (*it.pids(), *it.pids("admin")):
            held = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
            assert "anon_inode:[pidfd]" not in held
        assert "anon_inode:[pidfd]" in [
            os.readlink(one) for one in Path(f"/proc/{it.program.process.pid}/fd").iterdir()
        ]


async def test_a_worker_that_is_told_to_leave_has_a_successor_at_once(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:
        async with load(it) as requests:
            await requests.until_answers(20)
            os.kill(it.pids()[0], signal.SIGTERM)
            await it.program.line_with("another one takes its place")
            await it.program.line_with("takes requests")
            await requests.until_answers(50)
        assert requests.others == []


async def test_requests_come_through_a_unix_socket_too(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sock"
    async with replica() as one, gateway(tmp_path, "--listen-unix", f"unix:{path}", replicas=(one,)) as it:
        for _ in range(4):
            client = it.clients.own(*await asyncio.open_unix_connection(str(path)))
            await client.get()
            it.clients.disown(client)
        it.program.signal(signal.SIGUSR2)
        await it.program.line_with("all workers were replaced")
        client = it.clients.own(*await asyncio.open_unix_connection(str(path)))
        await client.get()
        it.clients.disown(client)
        it.program.signal()
        assert await it.program.end() == 0
        assert not path.exists()


async def test_a_taken_port_and_a_wrong_file_are_said_without_a_traceback(tmp_path: Path) -> None:
    async with gateway(tmp_path) as it:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", str(it.path), "--listen", str(it.port), stderr=asyncio.subprocess.PIPE
        )
        said = await Program(process, process.stderr).rest()
        assert "is taken by another program" in said
        assert await process.wait() == 1
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", str(tmp_path / "none.json"), stderr=asyncio.subprocess.PIPE
    )
    said = await Program(process, process.stderr).rest()
    assert said.startswith("gateway: ")
    assert "none.json: cannot be read" in said
    assert await process.wait() == 2


async def test_no_process_has_loaded_what_it_does_not_need(tmp_path: Path) -> None:
    code = "import sys, gateway.__main__ as m; sys.argv = ['x', 'none']; m.main(); print(*sys.modules, sep='\\n')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    loaded = {name.split(".")[0] for name in (await process.communicate())[0].decode().split()}
    assert {"gateway", "httptools", "uvloop"} <= loaded
    assert not loaded & {
        "aiohttp",
        "yaml",
        "kubernetes_asyncio",
        "prometheus_client",
        "rich",
        "typer",
        "cli",
        "autoscaler",
    }
