"""What zerogate notes on a workload, as annotations with the prefix `state.zerogate.dev/`: written and read back. Pure.

    replicas   how many the workload asked for when it was put under zerogate: given back when it is taken away again
    hpa        `floor` as long as the floor of its HPA may be ours: given back when the policy says otherwise
    pin        a person's word (`zerogate.kube.pins`)
    learned    start and run times, so that the next leader need not learn them again
    status     how the service stands, for people and their tools; nobody here reads it

They live and die with the workload, are seen by every autoscaler through the watch that is there anyway, and have no
common bound as one object for all would. What cannot be read back is taken as not there.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from autoscaler.decision import Pin
from autoscaler.status import Saved
from zerogate.errors import UNREADABLE
from zerogate.kube.keys import RECORDS, REPLICAS
from zerogate.kube.pins import PIN, read_pin
from zerogate.kube.times import wall_time

HPA: Final = f"{RECORDS}hpa"
LEARNED: Final = f"{RECORDS}learned"
STATUS: Final = f"{RECORDS}status"
ALL: Final = (REPLICAS, HPA, PIN, LEARNED, STATUS)

_MOST_BOOTS: Final = 8
"""Of the 32 that are remembered: enough for a p95 that a restart does not make worse than the longest of eight."""

Notes = Mapping[str, str] | None
"""Annotations, as an object has them."""


class _Learned(msgspec.Struct, frozen=True, omit_defaults=True):
    boots_s: tuple[float, ...] = ()
    run_s: float = 0.0
    runs: float = 0.0


def pin_of(notes: Notes) -> Pin | None:
    """The number that a person has said; None where nothing is noted, or nothing that can be read."""
    noted = read_pin((notes or {}).get(PIN, ""))
    if noted is None or noted.replicas is None:
        return None
    until_wall_s = None if noted.until is None else wall_time(noted.until)
    return Pin(replicas=noted.replicas, until_wall_s=until_wall_s)


def learned_text(saved: Saved) -> str:
    """What was learned, in tenths of seconds."""
    learned = _Learned(
        boots_s=tuple(round(boot_s, 1) for boot_s in saved.boots_s[-_MOST_BOOTS:]),
        run_s=round(saved.completed_s, 1),
        runs=round(saved.completions, 1),
    )
    return msgspec.json.encode(learned).decode()


def saved_of(notes: Notes) -> Saved:
    """What is noted of a service, pin included; empty where nothing is."""
    pin = pin_of(notes)
    try:
        learned = msgspec.json.decode((notes or {}).get(LEARNED, "{}"), type=_Learned)
    except UNREADABLE:
        learned = _Learned()
    numbers = (*learned.boots_s, learned.run_s, learned.runs)
    if any(not 0.0 <= number < 1e9 for number in numbers):
        learned = _Learned()
    return Saved(pin=pin, boots_s=learned.boots_s, completed_s=learned.run_s, completions=learned.runs)
