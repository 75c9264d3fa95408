"""A small API server for the tests of `zerogate.kube`: the real wire over a dictionary.

Lists in pages, watches with bookmarks and watch-list, 410 as a status and inside a watch, optimistic concurrency, JSON
and merge patches, `/scale`, refusals with a Status. It checks nothing of what it stores. The faults are those of the
proxy before the real server, by the same names; the same contract (`contract.py`) is run against both.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.e2e.harness import free_port
from zerogate.kube.access import Access

Object = dict[str, Any]

KINDS = {
    ("v1", "configmaps"): ("ConfigMap", False),
    ("v1", "pods"): ("Pod", False),
    ("v1", "events"): ("Event", False),
    ("apps/v1", "deployments"): ("Deployment", True),
    ("apps/v1", "statefulsets"): ("StatefulSet", True),
    ("v1", "namespaces"): ("Namespace", False),
    ("coordination.k8s.io/v1", "leases"): ("Lease", False),
    ("events.k8s.io/v1", "events"): ("Event", False),
    ("discovery.k8s.io/v1", "endpointslices"): ("EndpointSlice", False),
}
"""apiVersion and plural → kind, and whether it has `/scale`."""

PATH = re.compile(
    r"/(?:api|apis)/(?P<version>(?:[^/]+/)?v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)


class Watcher:
    """A watch under way; None in its queue ends it."""

    def __init__(self, what: str, request: web.Request, wanted: Callable[[Object], bool]) -> None:
        self.what = what
        self.request = request
        self.wanted = wanted
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()


class RefusedError(Exception):
    def __init__(self, status: int, reason: str, message: str = "", **more: Any) -> None:
        self.status = status
        self.body = {"kind": "Status", "code": status, "reason": reason, "message": message or reason, **more}


class ApiDouble:
    """One API server. `start` and `aclose` around its use."""

    def __init__(self) -> None:
        self.version = 100
        self.oldest = 0
        """Watches and tokens of versions below are too old."""
        self.serves_watch_list = True
        self.forbidden: set[tuple[str, str]] = set()
        """Verb and resource that nobody may."""
        self.seen: list[str] = []
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self._history: list[tuple[int, tuple[str, str], str, Object]] = []
        self._watchers: set[Watcher] = set()
        self._answers: list[list[Any]] = []
        self._stalled: list[re.Pattern[str]] = []
        self._moved = asyncio.Event()
        self._port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def access(self) -> Access:
        return Access(f"http://127.0.0.1:{self._port}", namespace="default")

    async def start(self) -> None:
        await self.up()

    async def aclose(self) -> None:
        self.resume()
        await self.down()

    # faults

    def count(self, match: str) -> int:
        return sum(bool(re.search(match, what)) for what in self.seen)

    def answer(self, match: str, status: int, *, times: float = float("inf"), retry_after_s: int | None = None) -> None:
        self._answers.append([re.compile(match), status, times, retry_after_s])

    def stall(self, match: str = "") -> None:
        self._stalled.append(re.compile(match))

    def resume(self) -> None:
        self._answers.clear()
        self._stalled.clear()
        self._moved.set()
        self._moved = asyncio.Event()

    def cut(self, match: str = "") -> None:
        for watcher in self._matching(match):
            assert watcher.request.transport is not None
            watcher.request.transport.abort()

    def end(self, match: str) -> None:
        for watcher in self._matching(match):
            watcher.lines.put_nowait(None)

    def tell_gone(self, match: str) -> None:
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        for watcher in self._matching(match):
            watcher.lines.put_nowait(_line("ERROR", status))
            watcher.lines.put_nowait(None)

    async def down(self) -> None:
        if self._runner:
            self.cut()
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def up(self) -> None:
        if self._runner is None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handle)
            self._runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    def compact(self) -> None:
        """Forget all versions but the present one."""
        self.oldest = self.version

    def store(self, version: str, plural: str, key: tuple[str, str], body: Object) -> None:
        """Write an object as it is, past all requests."""
        self._store((version, plural), key, body, "MODIFIED")

    def bookmark(self) -> None:
        for watcher in self._watchers:
            watcher.lines.put_nowait(_line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}}))

    def _matching(self, match: str) -> list[Watcher]:
        return [watcher for watcher in self._watchers if re.search(match, watcher.what)]

    # requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        what = f"{request.method} {request.path_qs}"
        self.seen.append(what)
        await self._passable(what)
        for rule in self._answers:
            pattern, status, times, retry_after_s = rule
            if times > 0 and pattern.search(what):
                rule[2] -= 1
                headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
                body = {"kind": "Status", "code": status, "message": "said by the tests"}
                return web.json_response(body, status=status, headers=headers)
        try:
            return await self._answer(request, what)
        except RefusedError as refused:
            return web.json_response(refused.body, status=refused.status)

    async def _passable(self, what: str) -> None:
        while any(pattern.search(what) for pattern in self._stalled):
            await self._moved.wait()

    async def _answer(self, request: web.Request, what: str) -> web.StreamResponse:
        if version := re.fullmatch(r"/apis?/((?:[^/]+/)?v[^/]+)", request.path):
            return web.json_response({"resources": self._discovery(version[1])})
        if not (found := PATH.fullmatch(request.path)):
            raise RefusedError(404, "NotFound")
        kind = (found["version"], found["plural"])
        if kind not in KINDS:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        full = "/".join(part for part in (found["plural"], found["sub"]) if part)
        verb = self._verb(request, found["name"])
        if (verb, full) in self.forbidden:
            raise RefusedError(403, "Forbidden", f'User "tests" cannot {verb} resource "{full}"')
        if verb == "watch":
            return await self._watch(request, what, kind, found["namespace"] or "")
        if verb == "list":
            return web.json_response(self._list(request, kind, found["namespace"] or ""))
        body = await request.json() if request.can_read_body else None
        key = (found["namespace"] or "", found["name"] or "")
        return web.json_response(self._one(request, kind, key, found["sub"], verb, body))

    @staticmethod
    def _verb(request: web.Request, name: str | None) -> str:
        if request.method == "GET":
            return "watch" if request.query.get("watch") else "get" if name else "list"
        return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]

    @staticmethod
    def _discovery(version: str) -> list[Object]:
        found = [(plural, *about) for (api, plural), about in KINDS.items() if api == version]
        if not found:
            raise RefusedError(404, "NotFound")
        listed = [{"name": plural, "kind": kind, "namespaced": True} for plural, kind, _ in found]
        return listed + [
            {"name": f"{plural}/scale", "kind": "Scale", "namespaced": True} for plural, _, scales in found if scales
        ]

    def _one(
        self, request: web.Request, kind: tuple[str, str], key: tuple[str, str], sub: str | None, verb: str, body: Any
    ) -> Object:
        objects = self._objects.setdefault(kind, {})
        if verb == "create":
            key = (key[0], body["metadata"]["name"])
            if key in objects:
                raise RefusedError(409, "AlreadyExists")
            return self._store(kind, key, body, "ADDED")
        if key not in objects and verb == "patch" and "apply" in request.content_type:
            return self._store(kind, key, body, "ADDED")
        if key not in objects:
            raise RefusedError(404, "NotFound", f'{kind[1]} "{key[1]}" not found')
        present = objects[key]
        if verb == "get":
            return _scale(present) if sub == "scale" else present
        if verb == "delete":
            if body and body["preconditions"]["uid"] != present["metadata"]["uid"]:
                raise RefusedError(409, "Conflict", "the UID in the precondition is another")
            self._changed(kind, "DELETED", objects.pop(key))
            return {"kind": "Status", "status": "Success"}
        seen = _scale(present) if sub == "scale" else present
        fresh = _patched(request.content_type, seen, body)
        if fresh["metadata"].get("resourceVersion", "") != present["metadata"]["resourceVersion"]:
            raise RefusedError(409, "Conflict", "the object has been modified")
        if sub == "scale":
            spec = {**present["spec"], "replicas": fresh["spec"].get("replicas", 0)}
            return _scale(self._store(kind, key, {**present, "spec": spec}, "MODIFIED"))
        return self._store(kind, key, fresh, "MODIFIED")

    def _store(self, kind: tuple[str, str], key: tuple[str, str], body: Object, change: str) -> Object:
        old = self._objects.setdefault(kind, {}).get(key)
        own = {"namespace": key[0], "name": key[1], "uid": old["metadata"]["uid"] if old else f"uid-{self.version}"}
        fresh = {**body, "metadata": {**body.get("metadata", {}), **own}}
        self._objects[kind][key] = fresh
        self._changed(kind, change, fresh)
        return fresh

    def _changed(self, kind: tuple[str, str], change: str, fresh: Object) -> None:
        self.version += 1
        fresh["metadata"] = {**fresh["metadata"], "resourceVersion": str(self.version)}
        self._history.append((self.version, kind, change, fresh))
        for watcher in self._watchers:
            if watcher.wanted({"of": kind, **fresh}):
                watcher.lines.put_nowait(_line(change, fresh))

    # collections

    def _list(self, request: web.Request, kind: tuple[str, str], namespace: str) -> Object:
        wanted = _wanted(request, kind, namespace)
        limit, token = int(request.query.get("limit", 0)), request.query.get("continue")
        version, after = json.loads(token) if token else (self.version, ["", ""])
        if version < self.oldest:
            raise RefusedError(410, "Expired", "The provided continue parameter is too old")
        keys = [key for key in sorted(self._objects.get(kind, {})) if key > tuple(after)]
        keys = [key for key in keys if wanted({"of": kind, **self._objects[kind][key]})]
        page = keys[:limit] if limit else keys
        more = {"continue": json.dumps([version, page[-1]])} if len(page) < len(keys) else {}
        items = [self._objects[kind][key] for key in page]
        return {"metadata": {"resourceVersion": str(version), **more}, "items": items or None}

    async def _watch(
        self, request: web.Request, what: str, kind: tuple[str, str], namespace: str
    ) -> web.StreamResponse:
        initial = "sendInitialEvents" in request.query
        if initial and not self.serves_watch_list:
            raise RefusedError(422, "Invalid", "sendInitialEvents is forbidden for watch")
        wanted = _wanted(request, kind, namespace)
        watcher = Watcher(what, request, wanted)
        if initial:
            for fresh in self._objects.get(kind, {}).values():
                if wanted({"of": kind, **fresh}):
                    watcher.lines.put_nowait(_line("ADDED", fresh))
            ends = {"k8s.io/initial-events-end": "true"}
            about = {"resourceVersion": str(self.version), "annotations": ends}
            watcher.lines.put_nowait(_line("BOOKMARK", {"metadata": about}))
        elif (since := int(request.query["resourceVersion"])) < self.oldest:
            status = {"code": 410, "reason": "Expired", "message": "too old resource version"}
            watcher.lines.put_nowait(_line("ERROR", status))
            watcher.lines.put_nowait(None)
        else:
            for version, of, change, fresh in self._history:
                if version > since and wanted({"of": of, **fresh}):
                    watcher.lines.put_nowait(_line(change, fresh))
        self._watchers.add(watcher)
        try:
            return await self._stream(watcher, float(request.query.get("timeoutSeconds", 60)))
        finally:
            self._watchers.discard(watcher)

    async def _stream(self, watcher: Watcher, length_s: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(watcher.request)
        try:
            async with asyncio.timeout(length_s):
                while (line := await watcher.lines.get()) is not None:
                    await self._passable(watcher.what)
                    await response.write(line)
        except TimeoutError:
            await response.write_eof()
        except ConnectionError:
            return response
        return response


def _wanted(request: web.Request, kind: tuple[str, str], namespace: str) -> Callable[[Object], bool]:
    labels = dict(pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair)

    def wanted(fresh: Object) -> bool:
        about = fresh["metadata"]
        return (
            fresh["of"] == kind
            and namespace in ("", about["namespace"])
            and labels.items() <= about.get("labels", {}).items()
        )

    return wanted


def _line(change: str, fresh: Object) -> bytes:
    return json.dumps({"type": change, "object": fresh}).encode() + b"\n"


def _scale(present: Object) -> Object:
    """As the API writes it: no `replicas` where it is 0."""
    number = present["spec"].get("replicas", 1)
    spec = {"replicas": number} if number else {}
    return {"kind": "Scale", "metadata": present["metadata"], "spec": spec, "status": {"replicas": 0}}


def _patched(content: str, present: Object, body: Any) -> Object:
    fresh: Object = json.loads(json.dumps(present))
    if content != "application/json-patch+json":
        _merge(fresh, body)
        return fresh
    for operation in body:
        *way, last = operation["path"].strip("/").split("/")
        place = fresh
        for part in way:
            place = place.get(part, {})
        if operation["op"] in ("test", "replace", "remove") and last not in place:
            raise RefusedError(422, "Invalid", "the server rejected our request due to an error in our request")
        if operation["op"] == "test" and place[last] != operation["value"]:
            raise RefusedError(422, "Invalid", "the server rejected our request due to an error in our request")
        if operation["op"] in ("add", "replace"):
            place[last] = operation["value"]
        elif operation["op"] == "remove":
            del place[last]
    return fresh


def _merge(into: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
