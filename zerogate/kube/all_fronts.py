"""All Services in front of all workloads that are taken over, and what people are told of those that cannot be. Pure.

Which Service may be a front is said by `fronts.py`, for one workload. Called by `zerogate.kube.takeover_book`.
"""

from collections.abc import Iterable, Mapping

from zerogate.kube.catalog import Managed
from zerogate.kube.event_book import About, Happening
from zerogate.kube.fronts import Front, Refused, Selected, fronts_of
from zerogate.kube.objects import Key, Service


def fronts_among(
    workloads: Mapping[str, Managed], services: Iterable[Service]
) -> tuple[dict[Key, Front], dict[str, tuple[Refused, ...]]]:
    """(the fronts by their Services, what cannot be one by workload). `workloads`: those that are taken over."""
    selected = Selected(services)
    fronts: dict[Key, Front] = {}
    refused: dict[str, tuple[Refused, ...]] = {}
    for name, entry in workloads.items():
        found, unfit = fronts_of(entry, selected.near(entry))
        refused[name] = tuple(unfit) if found else (*unfit, _none(entry)) if len(unfit) != 1 else tuple(unfit)
        for front in found:
            fronts.setdefault(front.key, front)
    return fronts, refused


def happening_of(entry: Managed, one: Refused) -> Happening:
    """What is told of it, on the Service or on the workload."""
    version, kind = ("v1", "Service") if one.uid != entry.uid else (entry.resource.api_version, entry.kind)
    about = About(version, kind, *one.key, one.uid)
    return Happening(about=about, reason="TakeoverRefused", note=sentence_of(one), is_warning=True)


def _none(entry: Managed) -> Refused:
    return Refused(entry.key, entry.uid, "none of its Services can be, and it does not go to zero")


def sentence_of(one: Refused) -> str:
    """For people."""
    return f"{'/'.join(one.key)} is not taken over: {one.reason}."
