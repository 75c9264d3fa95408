"""`docs/autoscaler.md`: flags and metrics of a cluster's autoscaler, from the tables that the code reads."""

from collections.abc import Iterable

from autoscaler.cluster.metrics import COUNTED, FAMILIES, SINGLE, SPECIAL
from autoscaler.settings import OPTIONS, PROG

_HEAD = f"""# The autoscaler of a cluster

`{PROG}` is what the chart runs; what it does is told in [kubernetes-behaviour.md](kubernetes-behaviour.md), what it
may do in [rights.md](rights.md). This page is written by `make docs`.
"""


def autoscaler_page() -> str:
    """The whole document."""
    return "\n".join((_HEAD, *_flags(), *_metrics()))


def _flags() -> Iterable[str]:
    yield "## Flags\n"
    yield "Each may also be given as the variable beside it; the flag wins. In a pod, `POD_NAMESPACE` and `POD_NAME`"
    yield "stand for their flags.\n"
    yield "| flag | variable | default | meaning |"
    yield "|---|---|---|---|"
    for option in OPTIONS:
        yield f"| `--{option.name}` | `{option.variable}` | `{option.default}` | {option.says} |"
    yield ""


def _metrics() -> Iterable[str]:
    yield "## Metrics\n"
    yield "`GET /metrics` on the admin port. Of services, with the label `service`: NAMESPACE/NAME of the workload."
    yield "A follower shows what it would do; `zerogate_leader` says who does it.\n"
    yield "| metric | kind | meaning |"
    yield "|---|---|---|"
    for family in FAMILIES:
        yield f"| `{family.name}` | {family.kind} | of a service: {_small(family.says)} |"
    for name, kind, says, _ in SINGLE:
        yield f"| `{name}` | {kind} | {_small(says)} |"
    for name, kind, says in [*SPECIAL, *((name, kind, says) for name, kind, says, _, _ in COUNTED)]:
        yield f"| `{name}` | {kind} | {_small(says)} |"
    yield ""


def _small(says: str) -> str:
    return f"{says[0].lower()}{says[1:].rstrip('.')}" if says[1:2].islower() else says.rstrip(".")
