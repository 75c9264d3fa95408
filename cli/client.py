"""The admin API from the other side: what the commands ask, with the standard library alone, so that they start fast.

Raises `UnreachableError` where no zerogate answers and `AnsweredError` where one says no. It blocks.
"""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from cli.exits import ExitCode, exit_of_status
from zerogate.admin.api import Explanation, Health, PinRequest, Plan, Problem, ReloadReport, ServiceStatus
from zerogate.errors import DefinitionError, ZerogateError, shown

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8081"
_TIMEOUT_S: Final = 10.0
"""On loopback an answer takes milliseconds; a process that takes longer hangs."""


class CommandError(ZerogateError):
    """A command that cannot do what it should; ends with `exit_code`."""

    exit_code = ExitCode.FAILED


class UnreachableError(CommandError):
    """No zerogate answers at the admin address."""

    exit_code = ExitCode.UNREACHABLE


class AnsweredError(CommandError):
    """zerogate answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.exit_code = exit_of_status(problem.status)
        super().__init__("\n".join(problem.errors) or problem.detail)


class Admin:
    """The admin API at `url`. Raises DefinitionError for something that is not such a URL.

    `program` and `nothing` are what commands say of themselves and of no services at all. Another way to the same API
    is a subclass that has its own `_connect`, `_send`, `_unreachable` and `_of_somebody_else`.
    """

    program = "zerogate"
    nothing = "No services. Name one under services: in the file, then `zerogate reload`."

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self.url = url if "://" in url else f"http://{url}"
        self._host, self._port = _place(self.url)

    def services(self) -> list[ServiceStatus]:
        return self._ask("GET", "/api/services", list[ServiceStatus])

    def service(self, name: str) -> ServiceStatus:
        return self._ask("GET", _service(name), ServiceStatus)

    def decisions(self, name: str) -> Explanation:
        return self._ask("GET", _service(name, "/decisions"), Explanation)

    def plan(self, name: str, count: int) -> Plan:
        return self._ask("GET", _service(name, f"/plan?count={count}"), Plan)

    def pin(self, name: str, request: PinRequest) -> ServiceStatus:
        return self._ask("POST", _service(name, "/pin"), ServiceStatus, body=request)

    def unpin(self, name: str) -> ServiceStatus:
        return self._ask("DELETE", _service(name, "/pin"), ServiceStatus)

    def reload(self) -> ReloadReport:
        return self._ask("POST", "/api/reload", ReloadReport)

    def health(self) -> Health:
        return self._ask("GET", "/healthz", Health, accepts=(200, 503))

    def metrics(self) -> str:
        """All metrics in the Prometheus text format."""
        with self._answer("GET", "/metrics") as answer:
            self._raise_problem(answer, (200,))
            return answer.read().decode()

    def logs(self, name: str, *, lines: int, follow: bool) -> Iterator[bytes]:
        """Blocks of the log as they come; without an end where it is followed."""
        path = _service(name, f"/logs?lines={lines}&follow={int(follow)}")
        with self._answer("GET", path, timeout_s=None if follow else _TIMEOUT_S) as answer:
            self._raise_problem(answer, (200,))
            while block := answer.read1(65536):
                yield block

    def _ask(self, method: str, path: str, kind: type[T], *, body: Any = None, accepts: tuple[int, ...] = (200,)) -> T:
        with self._answer(method, path, body=body) as answer:
            self._raise_problem(answer, accepts)
            content = answer.read()
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise UnreachableError(
                f"What answers at {self.url} is not zerogate's administration, or one of another version. --admin URL "
                f"or ZEROGATE_ADMIN says where it is; on the port of the traffic it is not."
            ) from error

    @contextmanager
    def _answer(
        self, method: str, path: str, *, body: Any = None, timeout_s: float | None = _TIMEOUT_S
    ) -> Iterator[HTTPResponse]:
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        connection = self._connect()
        try:
            self._send(connection, method, path, data, headers)
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        return HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)

    def _send(
        self, connection: HTTPConnection, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> None:
        connection.request(method, path, data, headers)

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"No zerogate answers at {self.url} ({cause_of(error)}). Start one with `zerogate up`, or say where it "
            "is with --admin URL or ZEROGATE_ADMIN."
        )

    def _raise_problem(self, answer: HTTPResponse, accepts: tuple[int, ...]) -> None:
        if answer.status in accepts:
            return
        content = answer.read()
        try:
            problem = msgspec.json.decode(content, type=Problem)
        except msgspec.MsgspecError:
            raise self._of_somebody_else(answer.status, answer.reason, content) from None
        raise AnsweredError(problem)

    def _of_somebody_else(self, status: int, reason: str, content: bytes) -> CommandError:
        """What answered no is not zerogate."""
        del content
        return UnreachableError(
            f"What answers at {self.url} is not zerogate's administration: it said {status} {reason}. --admin URL or "
            "ZEROGATE_ADMIN says where it is; on the port of the traffic it is not."
        )


def _service(name: str, rest: str = "") -> str:
    return f"/api/services/{quote(name, safe='')}{rest}"


def _place(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http" or parts.path not in ("", "/"):
        raise DefinitionError(
            f"{shown(url)} is not an admin address", key="--admin", hint="Write http://127.0.0.1:8081."
        )
    return host, port or 80


def cause_of(error: Exception) -> str:
    """Why nobody answered, in a few words."""
    if isinstance(error, TimeoutError):
        return f"nothing came within {_TIMEOUT_S:.0f} s"
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return "what answers there is no HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
