"""The admin API: what `zerogate.admin.openapi` lists, served by aiohttp on its own port beside the traffic.

It runs on the loop that carries the traffic, so whatever grows with the number of services goes in slices and files are
read in threads. It knows the box, or the autoscaler of a cluster, by the `Box` protocol alone; the composition root
implements that and owns the server.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from zerogate.admin.api import Explanation, Health, PinRequest, Plan, Problem, Readiness, ReloadReport, ServiceStatus
from zerogate.admin.guard import refusal
from zerogate.admin.openapi import COUNT, FOLLOW, LINES, OPERATIONS, Parameter, document_text
from zerogate.admin.problems import MalformedRequestError, RefusedRequestError, UnknownServiceError, problem_of
from zerogate.admin.tail import Tail
from zerogate.errors import UNREADABLE, ZerogateError
from zerogate.exposition import Dialect, preferred
from zerogate.slices import Pace

log = logging.getLogger(__name__)

T = TypeVar("T")

_LARGEST_BODY_BYTES: Final = 64 * 1024
_FOLLOW_EVERY_S: Final = 0.2
"""How often a followed log is looked at: what a person still takes for "at once"."""
_CHUNK_BYTES: Final = 32 * 1024
_NAME: Final = "{name:[^/]+(?:/[^/]+)?}"
"""Of a service: on a cluster NAMESPACE/NAME. API servers make a slash of a `%2F` that they pass on."""


class Box(Protocol):
    """What the admin API shows and changes, called on the loop. A name that is not there raises UnknownServiceError."""

    def names(self) -> Sequence[str]:
        """The services, in the order of the file."""

    def service(self, name: str) -> ServiceStatus:
        """How it stands."""

    def explain(self, name: str) -> Explanation:
        """Its decisions."""

    def plan(self, name: str, count: int) -> Plan:
        """Its next `count` transitions at most."""

    async def pin(self, name: str, request: PinRequest) -> None:
        """Hold its number. Raises NotApplicableError for an endpoint, and MalformedRequestError over its maximum."""

    async def unpin(self, name: str) -> None:
        """Take the pin away, if there is one."""

    def log_path(self, name: str) -> Path:
        """Where its replicas' output goes; the file need not exist. Raises NotApplicableError for an endpoint."""

    async def reload(self) -> ReloadReport:
        """Apply the file as a whole or, with DefinitionErrors, not at all."""

    def health(self) -> Health:
        """Whether the process does its work."""

    def readiness(self) -> Readiness:
        """Whether traffic is taken."""

    def metrics(self, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        """All of them in parts, none of which takes more than a slice to make."""


def make_app(box: Box, *, bound_to: str) -> web.Application:
    """The application for a server that binds the host `bound_to`."""
    app = web.Application(middlewares=[_problems, _only_ours(bound_to)], client_max_size=_LARGEST_BODY_BYTES)
    handlers = _Handlers(box)
    app.on_shutdown.append(handlers.close)
    # the longest first: a name may have a slash, and `chat/plan` is none
    for operation in sorted(OPERATIONS, key=lambda one: one.path.count("/"), reverse=True):
        path = operation.path.replace("{name}", _NAME)
        app.router.add_route(operation.method, path, getattr(handlers, operation.operation_id))
    return app


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Whatever goes wrong is answered as a problem, and what nobody foresaw is logged."""
    try:
        return await handler(request)
    except ZerogateError as error:
        return _problem(problem_of(error))
    except web.HTTPException as error:
        detail = f"{request.method} {request.path}: {error.reason}. /openapi.json lists what there is."
        answer = _problem(Problem(title=error.reason, status=error.status, code="http", detail=detail))
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except ConnectionError:
        raise
    except Exception:
        log.exception("the admin API failed to answer %s %s", request.method, request.path)
        detail = "zerogate could not answer this; its log says more."
        return _problem(Problem(title="Internal Server Error", status=500, code="failed", detail=detail))


def _only_ours(bound_to: str) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if why := refusal(request.method, request.path, request.headers, bound_to=bound_to):
            raise RefusedRequestError(why)
        return await handler(request)

    return guard


class _Handlers:
    """One method for each operation id."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._closing = asyncio.Event()
        self._document = document_text()

    async def close(self, _: web.Application) -> None:
        """End the followers, which would go on for ever."""
        self._closing.set()

    async def list_services(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, "application/json", _as_list(self._statuses()))

    async def get_service(self, request: web.Request) -> web.Response:
        return _json(self._box.service(_name(request)))

    async def get_decisions(self, request: web.Request) -> web.Response:
        return _json(self._box.explain(_name(request)))

    async def get_plan(self, request: web.Request) -> web.Response:
        return _json(self._box.plan(_name(request), _integer(request, COUNT)))

    async def pin_service(self, request: web.Request) -> web.Response:
        name = _name(request)
        self._box.service(name)
        await self._box.pin(name, await _body(request, PinRequest))
        return _json(self._box.service(name))

    async def unpin_service(self, request: web.Request) -> web.Response:
        name = _name(request)
        await self._box.unpin(name)
        return _json(self._box.service(name))

    async def get_logs(self, request: web.Request) -> web.StreamResponse:
        path = self._box.log_path(_name(request))
        lines, follow = _integer(request, LINES), bool(_integer(request, FOLLOW))
        log_text = self._log(request, path, lines, follow=follow)
        return await _stream(request, "text/plain; charset=utf-8", log_text, at_once=True)

    async def reload(self, _: web.Request) -> web.Response:
        return _json(await self._box.reload())

    async def get_metrics(self, request: web.Request) -> web.StreamResponse:
        dialect = preferred(request.headers.get("Accept", ""))
        return await _stream(request, dialect.value, self._box.metrics(dialect))

    async def get_health(self, _: web.Request) -> web.Response:
        health = self._box.health()
        return _json(health, status=200 if health.healthy else 503)

    async def get_readiness(self, _: web.Request) -> web.Response:
        readiness = self._box.readiness()
        return _json(readiness, status=200 if readiness.ready else 503)

    async def get_document(self, _: web.Request) -> web.Response:
        return web.Response(text=self._document, content_type="application/json")

    async def _statuses(self) -> AsyncGenerator[bytes, None]:
        pace = Pace()
        for name in self._box.names():
            await pace.rest()
            try:
                status = self._box.service(name)
            except UnknownServiceError:
                continue  # a reload took it away between two slices
            yield msgspec.json.encode(status)

    async def _log(self, request: web.Request, path: Path, lines: int, *, follow: bool) -> AsyncGenerator[bytes, None]:
        with Tail(path) as tail:
            await asyncio.to_thread(tail.skip_to_last, lines)
            while True:
                block = await asyncio.to_thread(tail.read)
                if block:
                    yield block
                elif not follow or not await self._is_wanted(request):
                    return

    async def _is_wanted(self, request: web.Request) -> bool:
        """After a pause: whether somebody still reads along."""
        try:
            await asyncio.wait_for(self._closing.wait(), _FOLLOW_EVERY_S)
        except TimeoutError:
            return request.transport is not None and not request.transport.is_closing()
        return False


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _integer(request: web.Request, parameter: Parameter) -> int:
    text = request.query.get(parameter.name)
    if text is None:
        return parameter.default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and parameter.least <= int(text) <= parameter.most):
        raise MalformedRequestError(
            f"{parameter.name}={text[:20]} is not a number from {parameter.least} to {parameter.most}."
        )
    return int(text)


async def _body(request: web.Request, kind: type[T]) -> T:
    if request.content_type != "application/json":
        raise MalformedRequestError(f"The body is {request.content_type}; send application/json.")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except UNREADABLE as error:
        raise MalformedRequestError(f"The body cannot be read: {error}.") from error


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)


def _problem(problem: Problem) -> web.Response:
    body = msgspec.json.encode(problem)
    return web.Response(body=body, content_type="application/problem+json", status=problem.status)


async def _as_list(items: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    lead = b"["
    async for item in items:
        yield lead + item
        lead = b","
    yield b"]" if lead == b"," else b"[]"


async def _stream(
    request: web.Request, content_type: str, parts: AsyncGenerator[bytes, None], *, at_once: bool = False
) -> web.StreamResponse:
    """Send the parts as they come, small ones together unless `at_once`. A failure half way cuts the answer."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    waiting = bytearray()
    try:
        async for part in parts:
            waiting += part
            if at_once or len(waiting) >= _CHUNK_BYTES:
                await response.write(bytes(waiting))
                waiting.clear()
        await response.write_eof(bytes(waiting))
    except ConnectionError:
        pass  # the reader went away
    except Exception:
        log.exception("the admin API failed half way through %s %s", request.method, request.path)
        if request.transport is not None:
            request.transport.abort()
    finally:
        await parts.aclose()
    return response
