"""The page `docs/policy.md`, made from the table of keys. Pure. Written by `tools/write_docs.py`."""

from collections.abc import Iterable

from zerogate.kube.keys import CLUSTER_KEYS, ClusterKey
from zerogate.policy_keys import KEYS, LATER_KEYS, Key

_HEAD = """# Policy keys

What a service's owner can ask for. The same keys stand under `policy:` in `zerogate.yaml` and in annotations
(`zerogate.dev/KEY`). `hosts`, `path-prefix` and `models` may also stand beside the command. A number of seconds or
bytes always has its unit: `15s`, `10m`, `1h30m`, `2d`; `256Mi` (times 1024), `1G` (times 1000).

This page is made by `make docs` from `zerogate/policy_keys.py`.
"""

_CALENDAR = """## Calendars

A window says when, and after `=` how many replicas there are at least, or at least and at most:

    Mon-Fri 08:00-18:00 Asia/Shanghai = 2
    Fri,Sat 22:00-02:00 Europe/Berlin = 1..3
    daily 00:00-24:00 UTC = 1
    cron(0 22 * * *) for 4h Europe/Berlin = 1

Days are `Mon` to `Sun`, as a list or a range, or `daily`; a weekly window ends at the wall clock, the next day where
its end is before its start. `cron(…)` has the five fields of Debian's cron and keeps its real length. Where windows
overlap, the largest floor and the smallest ceiling hold. When the clocks are put forward, a time that is skipped means
the first one after the gap, and a window that lies wholly in the gap keeps its length from there; when they are put
back, a time that comes twice means the first. A floor is brought forward by the service's measured start time, so that
it is ready when the window opens.
"""


def policy_page() -> str:
    """The whole page."""
    keys = list(KEYS.values())
    running = _table(key for key in keys if key.scales)
    others = _table(key for key in keys if not key.scales)
    later = "\n".join(
        f"- `{name}`{f' (other than `{key.neutral}`)' if key.neutral else ''}" for name, key in LATER_KEYS.items()
    )
    parts = (
        _HEAD,
        f"## Scaling\n\nOnly for services with a `command`.\n\n{running}\n",
        f"## Holding, timers and routes\n\nAlso for services with an `endpoint`.\n\n{others}\n",
        f"## On Kubernetes\n\nOnly as annotations: see [kubernetes.md](kubernetes.md).\n\n"
        f"{_table(CLUSTER_KEYS.values())}\n",
        _CALENDAR,
        "## Known, but not available in this version\n\n"
        f"These are refused rather than ignored, like `idle-timeout: auto` and `metric: engine:…`:\n\n{later}\n",
    )
    return "\n".join(parts)


def _table(keys: Iterable[Key | ClusterKey]) -> str:
    rows = (
        f"| {' | '.join(map(_cell, (f'`{key.name}`', key.default_text(), key.kind.allowed(), key.doc, key.reason)))} |"
        for key in keys
    )
    return "\n".join(("| key | default | allowed | meaning | why this default |", "|---|---|---|---|---|", *rows))


def _cell(text: str) -> str:
    """Text that does not end the cell of a table."""
    return text.replace("|", "\\|")
