"""The answers to `GET /v1/models` and `/v1/models/NAME`, merged over services. Pure.

OpenAI's shape with one more key, `zerogate`, which says whether the model is loaded. zerogate answers by itself, so
that a client that lists models wakes none. Called by the gateway's shell for `router.ListModels` and `ShowModel`.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Final

import msgspec

from zerogate.names import PRODUCT

LISTED_LIMIT: Final = 2000
"""Names in one list: OpenAI's API has no pages, and more of them would keep the loop for over 2 ms."""


class ModelState(StrEnum):
    """How far away the first token is."""

    READY = "ready"
    STARTING = "starting"
    ZERO = "zero"
    """Nothing runs; the first request wakes it."""
    FAILING = "failing"
    """Starts are suspended after repeated failures."""


class ServedModels(msgspec.Struct, frozen=True, kw_only=True):
    """What one service has to say. `models`: its name first, then aliases; `replicas`: ready ones."""

    service: str
    models: tuple[str, ...]
    state: ModelState
    replicas: int
    created_at_s: float
    """Wall clock: when the service was defined."""


class _About(msgspec.Struct, frozen=True, omit_defaults=True):
    service: str
    state: ModelState
    replicas: int
    alias_of: str | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str
    created: int
    zerogate: _About
    object: str = "model"
    owned_by: str = PRODUCT


class _List(msgspec.Struct, frozen=True):
    data: list[_Model]
    object: str = "list"


def list_models(served: Iterable[ServedModels], names: Mapping[str, str]) -> bytes:
    """The list as JSON, in the order of `served`, aliases as entries of their own; cut after LISTED_LIMIT names.

    `names`: which names to show, and whose they are, as `Scope.all_models` gives them.
    """
    entries = (entry for service in served for entry in _entries(service, names))
    return msgspec.json.encode(_List(list(islice(entries, LISTED_LIMIT))))


def show_model(served: ServedModels, name: str) -> bytes:
    """One model as JSON. Raises KeyError where the service has no such name: a bug in the caller."""
    for entry in _entries(served, {name: served.service}):
        return msgspec.json.encode(entry)
    raise KeyError(name)


def _entries(served: ServedModels, names: Mapping[str, str]) -> Iterator[_Model]:
    created, own = int(served.created_at_s), _About(served.service, served.state, served.replicas)
    alias: _About | None = None
    for name in served.models:
        if name != served.models[0] and alias is None:
            alias = msgspec.structs.replace(own, alias_of=served.models[0])
        if names.get(name) == served.service:
            yield _Model(name, created, alias or own)
