"""The policy of a workload: who asks for what, who has the last word, and within which bounds. Pure.

Layers, each stronger than the one before: the cluster's defaults (a ConfigMap), the namespace's annotations, the
workload's, those of its pod template. Invariants: a wrong value changes nothing (the layer below stays); a value out
of the cluster's bounds is a wrong value; what nobody gave keeps its default, moved into the bounds. Every mistake
carries the object and the key as its owner wrote them, with the words of `zerogate check`, and whether it is the
object's that is looked at: an admission webhook refuses only that one. Called by the webhook and by whoever watches
workloads.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from zerogate.errors import DefinitionError, nearest, shown
from zerogate.kinds import Choice, Duration, Number, Percent, Size, Whole
from zerogate.kube.keys import CLUSTER_KEYS, HINTS_HERE, PREFIX, ClusterKey, OnCluster, not_of_several
from zerogate.policy import Policy
from zerogate.policy_checks import contradictions, with_linked_defaults
from zerogate.policy_keys import KEYS, LATER_KEYS, Key, key_for
from zerogate.schedule_text import MOST_REPLICAS

ORDERED: Final = (Whole, Number, Duration, Size, Percent)
"""Kinds whose values have a least and a most."""
_NO_LIMIT: Final = float("inf")
_DEFAULT, _LEAST, _MOST, _ONLY = "default", "least", "most", "only"
_SECTIONS: Final = (_DEFAULT, _LEAST, _MOST, _ONLY)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What one object says. `raw`: by key without the prefix. `source` names the object to a person."""

    source: str
    raw: Mapping[str, str]
    is_of_one_workload: bool = True
    is_own: bool = False
    """Whether this is the object that is looked at, whose owner can put it right."""
    prefix: str = PREFIX
    """What stands before a key in this object."""


class Bound(msgspec.Struct, frozen=True):
    """Within what annotations may ask. `texts`: the words of the ConfigMap, for errors."""

    least: Any = None
    most: Any = None
    only: tuple[str, ...] = ()
    texts: Mapping[str, str] = {}


class Defaults(msgspec.Struct, frozen=True):
    """The cluster's: values by key as written, and bounds by key."""

    layer: Layer | None = None
    bounds: Mapping[str, Bound] = {}


NO_DEFAULTS: Final = Defaults()
_ANYTHING: Final = Bound()


class WorkloadPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that is asked for of one workload. `given`: the keys that somebody wrote."""

    policy: Policy
    cluster: OnCluster
    given: tuple[str, ...] = ()


class Mistake(msgspec.Struct, frozen=True):
    """A wrong key or value; `str(error)` is one paragraph for a person."""

    error: DefinitionError
    is_own: bool


class Reading(msgspec.Struct, frozen=True):
    """The policy, as far as it could be read, and all that was wrong."""

    policy: WorkloadPolicy
    mistakes: tuple[Mistake, ...] = ()


def ours(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """The annotations that are policy keys, without their prefix."""
    found = annotations or {}
    return {name.removeprefix(PREFIX): value for name, value in found.items() if name.startswith(PREFIX)}


def read_workload(defaults: Defaults, layers: Sequence[Layer], *, had: int = 0) -> Reading:
    """The policy of `layers`, weakest first, above `defaults`. `had`: with how many replicas the workload was put under
    zerogate. So many it may have where nobody says otherwise: they were asked for, by whoever deployed it."""
    return _Reader(defaults, had).read([*([defaults.layer] if defaults.layer else []), *layers])


class _Reader:
    def __init__(self, defaults: Defaults, had: int) -> None:
        self._bounds = defaults.bounds
        self._had = had
        self._values: dict[str, Any] = {}
        self._layer_of: dict[str, Layer] = {}
        self._mistakes: list[Mistake] = []

    def read(self, layers: Iterable[Layer]) -> Reading:
        strongest = None
        for layer in layers:
            if layer.raw:
                strongest = layer
            for name, raw in layer.raw.items():
                self._take(layer, name, raw)
        values = self._policy_values()
        policy = Policy(**values)
        if strongest is not None:
            given = [KEYS[name].field for name in self._values if name in KEYS]
            for error in contradictions(policy, given=given):
                self._contradiction(error, strongest)
        cluster = OnCluster(**{key.field: self._value(key) for key in CLUSTER_KEYS.values()})
        whole = WorkloadPolicy(policy=policy, cluster=cluster, given=tuple(self._values))
        return Reading(whole, tuple(self._mistakes))

    def _take(self, layer: Layer, name: str, raw: str) -> None:
        try:
            if name in CLUSTER_KEYS or name in KEYS:
                value = _value_of(_key(name, layer), raw)
                _check(self._bounds.get(name, _ANYTHING), value, raw, name)
                self._values[name] = value
                self._layer_of[name] = layer
            else:
                refuse_unknown(name, raw)
        except DefinitionError as error:
            self._note(error, name, layer)

    def _note(self, error: DefinitionError, name: str, layer: Layer) -> None:
        self._mistakes.append(Mistake(error.at(source=layer.source, key=layer.prefix + name), layer.is_own))

    def _contradiction(self, error: DefinitionError, strongest: Layer) -> None:
        """The last who had a say could have said otherwise; where the value is another's, that is told too."""
        name = error.key
        layer = self._layer_of.get(name, strongest)
        elsewhere = f"It comes from {layer.source}." if layer is not strongest else ""
        hint = f"{error.hint} {elsewhere}".strip()
        self._note(DefinitionError(error.problem, hint=hint), name, strongest)

    def _policy_values(self) -> dict[str, Any]:
        given = {KEYS[name].field: value for name, value in self._values.items() if name in KEYS}
        values = dict(with_linked_defaults(given))
        if "max_replicas" not in given and self._had > Policy().max_replicas:
            values["max_replicas"] = min(self._had, MOST_REPLICAS)
        for name, bound in self._bounds.items():
            key = KEYS.get(name)
            if key is not None and key.field not in given:
                values[key.field] = _within(bound, values.get(key.field, key.default), name)
        return values

    def _value(self, key: ClusterKey) -> Any:
        if key.name in self._values:
            return self._values[key.name]
        bound = self._bounds.get(key.name)
        return key.default if bound is None else _parsed_back(key, _within(bound, key.default, key.name))


def _key(name: str, layer: Layer) -> Key | ClusterKey:
    key = CLUSTER_KEYS.get(name) or KEYS[name]
    if is_of_one_workload(key) and not layer.is_of_one_workload:
        raise not_of_several(name)
    return key


def is_of_one_workload(key: Key | ClusterKey) -> bool:
    """It makes no sense as a default for several."""
    return key.of_one_workload if isinstance(key, ClusterKey) else key.routes


def refuse_unknown(name: str, raw: str) -> None:
    """Raises DefinitionError for a key that is none, or of a later version; that may ask for what is anyway."""
    if name not in LATER_KEYS:
        near = nearest(name, [*KEYS, *CLUSTER_KEYS, *LATER_KEYS])
        hint = f"Did you mean {PREFIX}{near}?" if near else f"Known keys are {', '.join([*CLUSTER_KEYS, *KEYS])}."
        raise DefinitionError("is not a key of a policy", hint=hint)
    try:
        key_for(name, raw, scaled=True)
    except DefinitionError as error:
        raise DefinitionError(error.problem, hint=HINTS_HERE.get(name, error.hint)) from error


def _value_of(key: Key | ClusterKey, raw: str) -> Any:
    return key.parse(raw) if isinstance(key, ClusterKey) else key.kind.parse(raw)


def _measure(value: Any, name: str) -> float:
    """A value on the scale on which bounds are compared: no limit at all is more than any."""
    return _NO_LIMIT if value is None or (name == "concurrency-limit" and value == 0) else float(value)


def _check(bound: Bound, value: Any, raw: str, name: str) -> None:
    if bound.only and raw not in bound.only:
        raise _out_of_bounds(raw, f"only {' or '.join(bound.only)}")
    if bound.least is not None and _measure(value, name) < _measure(bound.least, name):
        raise _out_of_bounds(raw, f"at least {bound.texts[_LEAST]}")
    if bound.most is not None and _measure(value, name) > _measure(bound.most, name):
        raise _out_of_bounds(raw, f"at most {bound.texts[_MOST]}")


def _out_of_bounds(raw: str, allowed: str) -> DefinitionError:
    return DefinitionError(f"{shown(raw)} is out of this cluster's bounds", hint=f"Allowed is {allowed} here.")


def _within(bound: Bound, value: Any, name: str) -> Any:
    """A default, moved to the nearest value that is allowed; with `only`, its first word."""
    if bound.only:
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        return value if text in bound.only else bound.only[0]
    if bound.least is not None and _measure(value, name) < _measure(bound.least, name):
        return bound.least
    if bound.most is not None and _measure(value, name) > _measure(bound.most, name):
        return bound.most
    return value


def _parsed_back(key: ClusterKey, value: Any) -> Any:
    return key.parse(value) if isinstance(value, str) else value


def read_defaults(data: Mapping[str, str], source: str) -> tuple[Defaults, list[DefinitionError]]:
    """The cluster's defaults and bounds from a ConfigMap's `data`, and all that is wrong with it.

    `default.KEY` is a default; `least.KEY` and `most.KEY` bound numbers, durations, sizes and percentages; `only.KEY`
    lists the words that may be chosen. What is wrong is left out. Defaults have to be within the bounds.
    """
    errors: list[DefinitionError] = []
    bounds: dict[str, Bound] = {}
    raw: dict[str, str] = {}
    for entry, text in data.items():
        section, _, name = entry.partition(".")
        try:
            if section == _DEFAULT:
                raw[name] = text
            else:
                bounds[name] = _bounded(bounds.get(name, _ANYTHING), section, _bounded_key(section, name, text), text)
        except DefinitionError as error:
            errors.append(error.at(source=source, key=entry))
    for name in [name for name, bound in bounds.items() if _is_empty(bound, name)]:
        problem = f"{bounds[name].texts[_LEAST]} is above most.{name} ({bounds[name].texts[_MOST]})"
        errors.append(DefinitionError(problem, source=source, key=f"{_LEAST}.{name}", hint="Both are left out."))
        del bounds[name]
    layer = Layer(source=source, raw=raw, is_of_one_workload=False, prefix=f"{_DEFAULT}.")
    mistakes = [mistake.error for mistake in read_workload(Defaults(layer, bounds), []).mistakes]
    wrong = {error.key.removeprefix(layer.prefix) for error in mistakes}
    right = {name: text for name, text in raw.items() if name not in wrong}
    return Defaults(msgspec.structs.replace(layer, raw=right), bounds), [*errors, *mistakes]


def _bounded_key(section: str, name: str, text: str) -> Key | ClusterKey:
    if section not in _SECTIONS:
        near = nearest(section, _SECTIONS)
        hint = f"Did you mean {near}.{name}?" if near else f"Write one of {', '.join(_SECTIONS)}, a dot and a key."
        raise DefinitionError("is not an entry of the cluster's policy", hint=hint)
    key = CLUSTER_KEYS.get(name) or KEYS.get(name)
    if key is None:
        refuse_unknown(name, text)
        raise DefinitionError("has no bounds, it is of a later version", hint="Take it out.")
    return key


def _bounded(bound: Bound, section: str, key: Key | ClusterKey, text: str) -> Bound:
    texts = {**bound.texts, section: text}
    if section == _ONLY:
        if not isinstance(key.kind, Choice):
            raise DefinitionError(
                "has no words to choose from", hint=f"Write {_LEAST}.{key.name} or {_MOST}.{key.name}."
            )
        words = tuple(word.strip() for word in text.split(","))
        return Bound(bound.least, bound.most, tuple(key.kind.parse(word) for word in words), texts)
    if not isinstance(key.kind, ORDERED):
        raise DefinitionError("has no order, so there is neither least nor most", hint="Take it out.")
    value = _value_of(key, text)
    if section == _LEAST:
        return Bound(value, bound.most, bound.only, texts)
    return Bound(bound.least, value, bound.only, texts)


def _is_empty(bound: Bound, name: str) -> bool:
    return (
        bound.least is not None and bound.most is not None and _measure(bound.least, name) > _measure(bound.most, name)
    )
