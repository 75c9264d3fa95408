"""The verbs of the Kubernetes API on `Resource`s: typed answers out of raw JSON. KubeError is all that they raise.

Called by watches, leases, scaling, events, and the composition roots. What an answer says beyond the few fields of a
struct is skipped while it is decoded. All writes name the field manager.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from zerogate.clock import now
from zerogate.kube.access import Access
from zerogate.kube.decoding import Page, decode
from zerogate.kube.errors import Asked, Unreadable
from zerogate.kube.objects import Json, Kind, Resource
from zerogate.kube.rate import Priority, Rates
from zerogate.kube.transport import Call, Transport, WatchStream

T = TypeVar("T", bound=Kind)
S = TypeVar("S")

FIELD_MANAGER = "zerogate"

PAGE = 250
"""Objects of a list page: 3 MB of pods with two containers each, split within 2 ms."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""


class KubeClient:
    """One API server. Made on the loop that it is used on; `aclose` at the end.

    `namespace` is "" for all namespaces and for kinds that have none. `labels` and `fields` are selectors as kubectl
    takes them.
    """

    def __init__(self, access: Access, *, rates: Rates | None = None, clock: Callable[[], float] = now) -> None:
        self.access = access
        self._transport = Transport(access, rates=rates, clock=clock)

    async def aclose(self) -> None:
        """Close all connections; watches that are open end with `Unreachable`."""
        await self._transport.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        asked: Asked,
        body: Json = None,
        accept: str = "",
        priority: Priority = Priority.READ,
    ) -> bytes:
        """Anything that the verbs below do not say, such as discovery or a TokenReview: the body of the answer.

        `accept`: its type, where the server calls it by another name than JSON.
        """
        data = None if body is None else msgspec.json.encode(body)
        return await self._transport.request(Call(method, path, asked, data=data, accept=accept, priority=priority))

    async def get(
        self,
        resource: Resource[T],
        name: str,
        *,
        namespace: str = "",
        subresource: str = "",
        priority: Priority = Priority.READ,
    ) -> T:
        """One object."""
        asked = _asked("get", resource, namespace, name, subresource)
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._typed(resource, Call("GET", path, asked, priority=priority))

    async def list(
        self, resource: Resource[T], *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[T], str]:
        """All objects that match, page by page, and the resource version they are of."""
        asked = _asked("list", resource, namespace)
        objects: list[T] = []
        token = ""
        while True:
            page = await self.page(resource, namespace=namespace, labels=labels, fields=fields, token=token)
            objects += [_decoded(asked, raw, resource.shape) for raw in page.items or ()]
            token = page.metadata.continue_token
            if not token:
                return objects, page.metadata.resource_version

    async def page(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        token: str = "",
        limit: int = PAGE,
    ) -> Page:
        """One page of a list, its objects not yet decoded. `Gone` where the token is too old."""
        query = _query(labelSelector=labels, fieldSelector=fields, limit=str(limit), **{"continue": token})
        asked = _asked("list", resource, namespace)
        data = await self._transport.request(Call("GET", resource.path(namespace=namespace), asked, query=query))
        return _decoded(asked, data, Page)

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource[T],
        *,
        version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        initial: bool = False,
        length_s: float,
        silence_s: float,
    ) -> AsyncIterator[WatchStream]:
        """Changes after `version`, one JSON line each. `initial`: first all objects there are (watch-list); `version`
        is "" then.

        The server ends it after `length_s`. Nothing read for `silence_s`: `Unreachable`.
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=version,
            timeoutSeconds=str(max(1, round(length_s))),
        )
        if initial:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        asked = _asked("watch", resource, namespace)
        call = Call("GET", resource.path(namespace=namespace), asked, query=query)
        async with self._transport.stream(call, silence_s=silence_s) as stream:
            yield stream

    async def create(
        self,
        resource: Resource[T],
        body: Mapping[str, Json],
        *,
        namespace: str = "",
        priority: Priority = Priority.WRITE,
    ) -> T:
        """`AlreadyExists` where the name is taken."""
        asked = _asked("create", resource, namespace)
        return await self._write(resource, "POST", resource.path(namespace=namespace), asked, body, priority=priority)

    async def delete(self, resource: Resource[T], name: str, *, namespace: str = "", uid: str = "") -> None:
        """Delete it; with `uid` only that very object (else `Conflict`)."""
        asked = _asked("delete", resource, namespace, name)
        body = msgspec.json.encode({"preconditions": {"uid": uid}}) if uid else None
        path = resource.path(namespace=namespace, name=name)
        await self._transport.request(Call("DELETE", path, asked, data=body, priority=Priority.WRITE))

    async def apply(
        self,
        resource: Resource[T],
        name: str,
        body: Mapping[str, Json],
        *,
        namespace: str = "",
        subresource: str = "",
        force: bool = True,
        manager: str = FIELD_MANAGER,
    ) -> T:
        """Server-side apply: the fields in `body` are ours from now on, and those left out no longer.

        `body` needs `apiVersion` and `kind`. Without `force`, fields that somebody else owns are a `Conflict`. What two
        parts of zerogate write on the same object needs two managers: each takes back what it leaves out.
        """
        asked = _asked("patch", resource, namespace, name, subresource)
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._write(resource, "PATCH", path, asked, body, content=APPLY_PATCH, query=query)

    async def merge_patch(
        self,
        resource: Resource[T],
        name: str,
        body: Mapping[str, Json],
        *,
        namespace: str = "",
        subresource: str = "",
        priority: Priority = Priority.WRITE,
        is_due: Callable[[], bool] | None = None,
    ) -> T:
        """RFC 7396. With `metadata.resourceVersion` in it: only if nobody wrote since (else `Conflict`).

        `is_due`: as of `json_patch`."""
        asked = _asked("patch", resource, namespace, name, subresource)
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write(
            resource, "PATCH", path, asked, body, content=MERGE_PATCH, priority=priority, is_due=is_due
        )  # fmt: skip

    async def json_patch(
        self,
        resource: Resource[T],
        name: str,
        operations: Sequence[Mapping[str, Json]],
        *,
        namespace: str = "",
        subresource: str = "",
        priority: Priority = Priority.WRITE,
        is_due: Callable[[], bool] | None = None,
    ) -> T:
        """RFC 6902. A `test` that fails is `Invalid`. `is_due`: asked right before it is sent, else `NotDue`."""
        asked = _asked("patch", resource, namespace, name, subresource)
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write(
            resource, "PATCH", path, asked, operations, content=JSON_PATCH, priority=priority, is_due=is_due
        )  # fmt: skip

    async def _write(
        self,
        resource: Resource[T],
        method: str,
        path: str,
        asked: Asked,
        body: Json,
        *,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
        priority: Priority = Priority.WRITE,
        is_due: Callable[[], bool] | None = None,
    ) -> T:
        call = Call(
            method,
            path,
            asked,
            query=query or {"fieldManager": FIELD_MANAGER},
            data=msgspec.json.encode(body),
            content=content,
            priority=priority,
            is_due=is_due,
        )
        return await self._typed(resource, call)

    async def _typed(self, resource: Resource[T], call: Call) -> T:
        return _decoded(call.asked, await self._transport.request(call), resource.shape)


def _decoded(asked: Asked, data: bytes | msgspec.Raw, shape: type[S]) -> S:
    try:
        return decode(data, shape)
    except msgspec.DecodeError as error:
        raise Unreadable(asked, f"the answer is not what was expected: {error}") from error


def _asked(verb: str, resource: Resource[T], namespace: str, name: str = "", subresource: str = "") -> Asked:
    full = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return Asked(verb=verb, group=resource.group, resource=full, namespace=namespace, name=name)


def _query(**words: str) -> dict[str, str]:
    return {word: value for word, value in words.items() if value}
