"""What `decide` sees, remembers and says: values only. Pure.

Times called `now_s`, `*_at_s` are monotonic; `wall_s` is UTC since 1970 and serves calendars alone. "Not known" is
`None` with that one meaning, and `decide` treats it as a reason to leave things as they are, never as zero.
"""

from enum import StrEnum

import msgspec


class Traffic(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the live sources report, summed. Means are time-weighted over the window or the part of it that was seen."""

    in_flight: int = 0
    held: int = 0
    mean_running_stable: float | None = None
    mean_running_panic: float | None = None
    arrival_rate_stable: float | None = None
    """Arrivals per second."""
    arrival_rate_panic: float | None = None
    run_time_s: float | None = None
    """W: learned seconds that one request spends in a replica; None where none ever completed or ran."""
    since_byte_s: float | None = None
    """Since the last byte of any request; None where none was ever seen."""
    is_fresh: bool = True
    """Every source that is listed has reported lately: only then may anything be lowered to zero."""
    is_settled: bool = True
    """False for the first seconds after a gap in which nobody was heard: then nothing may be lowered at all."""


class Replicas(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The replicas of the service as the runtime tells them."""

    starting: int = 0
    overdue: int = 0
    """Of those that start: nobody waits for them any more, since what is in the way does not pass."""
    ready: int = 0
    draining: int = 0
    last_ready_at_s: float | None = None
    """When a replica last became ready: the idle clock starts no earlier."""
    boot_time_s: float | None = None
    """Learned p95 from spawn to ready; None where none was ever ready."""
    starting_for_s: float | None = None
    """Age of the oldest start under way, a lower bound of the boot time; None where nothing starts."""
    next_try_at_s: float | None = None
    """Starts are suspended until then (back-off); None: they are not."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word: exactly `replicas` until `until_wall_s` (None: until taken away)."""

    replicas: int
    until_wall_s: float | None = None


class Observation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything that one decision is made from, besides policy and memory."""

    service: str
    wall_s: float
    traffic: Traffic
    replicas: Replicas
    pin: Pin | None = None
    unmetered: str = ""
    """Why requests may reach the service that nobody counts, as a clause that says what to do; empty: all are counted.
    Zero is withheld as long as it is so."""
    is_behind: bool = False
    """Replicas may be there unseen: that none is seen says nothing then."""


class Memory(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one decision leaves for the next. Nothing else is remembered between two of them."""

    since_s: float
    """When the service was first decided about: the idle clock of a service that never had traffic starts here."""
    granted: int
    """Replicas asked of the runtime in the end, after everything that gates an effect: not what was wished."""
    shaped: int
    """What demand alone had after its delays and rates. Floors do not enter: when one ends, it ends at once."""
    low_since_s: float | None = None
    """Since when demand has been below `shaped` without a break."""
    low_peak: int = 0
    """The most that demand asked for in that time."""
    panic_at_s: float | None = None
    """When the panic window last exceeded its threshold."""


class Ask(StrEnum):
    """Who asked for a number of replicas."""

    DEMAND = "demand"
    MINIMUM = "minimum"
    SCHEDULE = "schedule"
    ACTIVATION = "activation"
    PIN = "pin"
    MAXIMUM = "maximum"
    IDLE = "idle"
    HOLDING = "holding"
    """Nothing lower is allowed yet: a delay, a rate, an unknown."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One voice: `ask` wanted `replicas` (as a floor, a ceiling or the demand), because `why`."""

    ask: Ask
    replicas: int
    why: str


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many replicas, who won, and what would change it: the one record behind logs, `explain` and the console."""

    service: str
    wall_s: float
    current: int
    """Replicas starting or ready when it was decided."""
    desired: int
    winner: Ask
    why: str
    """One sentence for a person."""
    candidates: tuple[Candidate, ...] = ()
    held_back: str | None = None
    """What keeps it from going lower (or higher) now, as a sentence."""
    revisit_at_s: float | None = None
    """Decide again at this monotonic time even if nothing happens; None: only an event can change it."""
    next_change: str | None = None
    """What comes next if nothing happens, as a sentence: "to 0 in 4m 12s (idle timeout)"."""
