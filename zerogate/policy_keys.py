"""The table of policy keys, and how raw values become a `Policy`. Pure.

One row per key, and everything is made from the rows: the parser, the JSON Schema, the page `docs/policy.md`. A key is
added here and in `Policy`, nowhere else. The same keys stand in annotations (`zerogate.dev/KEY`), in YAML and in the
console. A default is written once, in `Policy`; the row gives its reason. Keys that a later version will know are told
apart from typing errors, and are refused: a key that is silently ignored costs a night.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from zerogate.affinity import AffinityText
from zerogate.errors import DefinitionError, nearest, shown
from zerogate.http.grpc import HEALTH_CHECK
from zerogate.kinds import (
    Calendar,
    Choice,
    Duration,
    Kind,
    Number,
    Percent,
    Raw,
    Several,
    Size,
    Text,
    Whole,
)
from zerogate.policy import Policy
from zerogate.policy_checks import contradictions, with_linked_defaults
from zerogate.schedule_text import MOST_REPLICAS

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0
_MONTH_S: Final = 30 * _DAY_S

_SEGMENT: Final = r'[!-"$-.0->@-~]+'
_HOST_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = Text(
    rf"(?:\*\.)?{_HOST_LABEL}(?:\.{_HOST_LABEL})*",
    "a host name without a port,",
    "llm.example.org or *.example.org",
    lower=True,
)
_PATH_PREFIX: Final = Text(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?", "a path", "/asr", longest=1024, trim="/")
_PATH: Final = Text(r'/[!-"$->@-~]*', "a path", "/health", longest=1024)
_PATH_AND_QUERY: Final = Text(r'/[!-"$-~]*', "a path", "/health", longest=1024)
_MODEL: Final = Text(r"[!-+\--:<-~]+", "a model name", "Qwen/Qwen2.5-7B", longest=256)
_HEADER: Final = Text(r"[!#$%&'*+.^_`|~0-9a-z-]+", "the name of a request header", "x-priority", longest=64, lower=True)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a key as users write it, and what it means."""

    name: str
    field: str
    """Of `Policy`."""
    kind: Kind
    doc: str
    reason: str
    """Why the default is what it is."""
    scales: bool = False
    """Only for services that zerogate runs."""
    routes: bool = False
    """Says which requests are the service's; in the box file it may stand beside the command."""

    @property
    def default(self) -> Any:
        """From `Policy`, where the defaults stand."""
        return _DEFAULTS[self.field]

    def default_text(self) -> str:
        """The default as a user would write it; a dash for "not given" where that cannot be written."""
        if self.default is None and not isinstance(self.kind, Duration | Size | AffinityText):
            return "–"
        return self.kind.shown_as(self.default)


_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in msgspec.structs.fields(Policy)}

_ROWS: Final = (
    Key(
        name="min-replicas", field="min_replicas", kind=Whole(0, MOST_REPLICAS), scales=True,
        doc="Least replicas, whatever the traffic.",
        reason="Scaling to zero is what a user comes for.",
    ),
    Key(
        name="max-replicas", field="max_replicas", kind=Whole(1, MOST_REPLICAS), scales=True,
        doc="Most replicas, whatever the traffic.",
        reason="A second GPU is never taken without being asked for; on Kubernetes a workload may have as many as it "
        "had when it was put under zerogate.",
    ),
    Key(
        name="target-concurrency", field="target_concurrency", kind=Number(0.1, 10_000), scales=True,
        doc="Requests at once per replica that the scaler aims at; at most `concurrency-limit`, and that by default.",
        reason="About where batching on one GPU stops being free.",
    ),
    Key(
        name="concurrency-limit", field="concurrency_limit", kind=Whole(0, 100_000),
        doc="Most requests that a replica takes at once; the others wait. 0: as many as come, up to 16,384.",
        reason="Engines that batch have a queue of their own.",
    ),
    Key(
        name="metric", field="metric", kind=Choice(("concurrency", "rps"), later=("engine:",)), scales=True,
        doc="What replicas are counted by: requests at once, or requests per second (needs `target-rps`).",
        reason="Answers take between a second and minutes: requests per second say little about work.",
    ),
    Key(
        name="target-rps", field="target_rps", kind=Number(0.001, 100_000), scales=True,
        doc="Requests per second and replica that the scaler aims at, with `metric: rps`.",
        reason="Only a measurement of the model can tell it.",
    ),
    Key(
        name="idle-timeout", field="idle_timeout_s", kind=Duration(1, _MONTH_S, later=("auto",)), scales=True,
        doc="Quiet time after the last byte until the last replica is stopped.",
        reason="Longer than the pauses in a conversation, shorter than lunch.",
    ),
    Key(
        name="scale-down-delay", field="scale_down_delay_s", kind=Duration(1, _DAY_S), scales=True,
        doc="Demand must stay low for so long before replicas are taken away.",
        reason="One stable window: a load that was just paid for is not thrown away for a gap in the traffic.",
    ),
    Key(
        name="scale-down-rate", field="scale_down_rate", kind=Number(1.1, 1000), scales=True,
        doc="Replicas go down at most by this factor per delay.",
        reason="Halving, as Knative does: a mistake costs half the capacity at most.",
    ),
    Key(
        name="stable-window", field="stable_window_s", kind=Duration(2, _HOUR_S), scales=True,
        doc="Traffic is averaged over this window.",
        reason="Knative's.",
    ),
    Key(
        name="panic-window", field="panic_window_s", kind=Duration(1, _HOUR_S), scales=True,
        doc="A burst is noticed in this window; shorter than `stable-window`.",
        reason="Knative's: a tenth of the stable window.",
    ),
    Key(
        name="panic-threshold", field="panic_threshold_ratio", kind=Percent(1.1, 10.0), scales=True,
        doc="It is a burst when the panic window asks for so much of the present capacity.",
        reason="Knative's.",
    ),
    Key(
        name="drain-backlog-within", field="drain_backlog_within_s", kind=Duration(1, _HOUR_S), scales=True,
        doc="How fast held requests should be done once replicas are up.",
        reason="An estimate: half a stable window, so that the averages have settled by then.",
    ),
    Key(
        name="schedule", field="schedule", kind=Several(Calendar(), separators=";"), scales=True,
        doc="Floors and ceilings by the calendar; several are separated by `;` or given as a list.",
        reason="Only the owner knows the hours.",
    ),
    Key(
        name="queue-limit", field="queue_limit", kind=Whole(0, 1_000_000),
        doc="Most requests held at once; one more is answered with 429.",
        reason="Two or three MiB of heads, and more than a person would wait behind.",
    ),
    Key(
        name="queue-bytes", field="queue_bytes", kind=Size(64 * 1024, 1 << 40),
        doc="Most bytes of held requests.",
        reason="512 requests of half a MiB: a long prompt each, or a picture for some.",
    ),
    Key(
        name="priority", field="priority", kind=_HEADER,
        doc="Request header whose whole number orders the held requests, higher first.",
        reason="First come, first served, until somebody trusts a header.",
    ),
    Key(
        name="hold-timeout", field="hold_timeout_s", kind=Duration(1, _DAY_S),
        doc="How long a request waits for capacity before it is answered with 503.",
        reason="OpenAI's SDK gives up reading at 10 minutes: the hold answers before.",
    ),
    Key(
        name="hold-heartbeat", field="hold_heartbeat_s", kind=Duration(1, _HOUR_S, none=True),
        doc="How often a held request for a stream of events is sent a comment, so that nothing in between gives up. "
        "Its status is then 200 already: an error arrives as an event called `error`.",
        reason="A status that tells the truth is worth more, unless something in between is impatient.",
    ),
    Key(
        name="body-limit", field="body_limit_bytes", kind=Size(1024, 1 << 40, none=True),
        doc="Longest body of a request; a longer one is answered with 413: at once where its length is announced.",
        reason="Pictures and sound are long, and what is held has bounds of its own.",
    ),
    Key(
        name="connect-timeout", field="connect_timeout_s", kind=Duration(1, _HOUR_S),
        doc="How long a connection to a replica may take to open.",
        reason="A replica is near; five seconds allow for two lost packets.",
    ),
    Key(
        name="first-byte-timeout", field="first_byte_timeout_s", kind=Duration(1, _DAY_S),
        doc="How long a replica may take from the request's last byte to the head of its answer.",
        reason="OpenAI's SDK reads for so long; an answer without streaming comes all at its end.",
    ),
    Key(
        name="idle-stream-timeout", field="idle_stream_timeout_s", kind=Duration(1, _DAY_S),
        doc="How long a begun answer may be silent while its client could take more.",
        reason="No engine is silent between tokens for minutes, except when it hangs.",
    ),
    Key(
        name="total-timeout", field="total_timeout_s", kind=Duration(1, 7 * _DAY_S, none=True),
        doc="How long a request may take altogether once a replica has it.",
        reason="A long answer is not a wrong answer.",
    ),
    Key(
        name="hosts", field="hosts", kind=Several(_HOST), routes=True,
        doc="Host names whose requests are the service's: exact, or `*.example.org`.",
        reason="Any host: on one box, the model's name or the path tells services apart.",
    ),
    Key(
        name="path-prefix", field="path_prefix", kind=_PATH_PREFIX, routes=True,
        doc="Paths that begin so are the service's; the longest prefix wins.",
        reason="No prefix: model servers share the paths of OpenAI's API.",
    ),
    Key(
        name="models", field="models", kind=Several(_MODEL), routes=True,
        doc="Names by which the model is asked for: its own first, then aliases; `/v1/models` lists all of them.",
        reason="Only the owner knows them.",
    ),
    Key(
        name="protocol", field="protocol", kind=Choice(("http1", "h2c", "h2")),
        doc="What is spoken to the replicas: HTTP/1.1, or HTTP/2, which gRPC needs: `h2c` without TLS, `h2` over TLS, "
        "which only an `https://` endpoint has. Clients may speak either, whatever is written here.",
        reason="Every model server speaks it; HTTP/2 costs more per request.",
    ),
    Key(
        name="ready-path", field="ready_path", kind=_PATH_AND_QUERY,
        doc="A replica is ready when it answers here with a status below 500. With `protocol: h2c` the default is "
        f"`{HEALTH_CHECK.decode()}`: the health service of gRPC, which must not say NOT_SERVING; "
        "a server without it is ready as soon as it answers.",
        reason="vLLM, SGLang, llama.cpp and TGI all have it.",
    ),
    Key(
        name="health-paths", field="health_paths", kind=Several(_PATH),
        doc="Paths that are answered without waking the service.",
        reason="Which paths a monitor asks for, only its owner knows.",
    ),
    Key(
        name="retry", field="retry", kind=Choice(("unsent", "stale")),
        doc="`stale` also tries a POST again whose kept-alive connection turned out to be dead.",
        reason="RFC 9110 section 9.2.2: a request that may have arrived is not repeated.",
    ),
    Key(
        name="idle-websocket", field="idle_websocket", kind=Choice(("busy", "quiet")), scales=True,
        doc="An open WebSocket keeps its replica up: always (`busy`), or until no data frame came for `idle-timeout`.",
        reason="What a silent connection is worth, only its owner knows; an open one is not cut unasked.",
    ),
    Key(
        name="affinity", field="affinity", kind=AffinityText(),
        doc="What is to meet the same replica again, as long as it need not wait for that: a value of a header or of a "
        "cookie, or the begin of a prompt.",
        reason="Even load is worth more, until an engine's cache or a session is known to be worth as much.",
    ),
)  # fmt: skip

KEYS: Final[Mapping[str, Key]] = {row.name: row for row in _ROWS}
"""All keys of this version, in the order of the documentation."""


class LaterKey(msgspec.Struct, frozen=True):
    """A key that this version knows but does not act upon; `neutral` is the value that asks for nothing."""

    neutral: str | None = None
    instead: str = "Take it out."


ELSEWHERE_KEYS: Final[Mapping[str, str]] = {
    "enabled": "Take a service out of the file to switch it off.",
    "inject": "On one box zerogate stands in front of each replica itself; take it out.",
    "takeover": "On one box clients come to zerogate's own address; take it out.",
    "hpa": "On one box nothing else scales a service; take it out.",
    "port": "A command is told its port: {port} in it, and $PORT in its environment.",
    "drain-deadline": "Write stop-grace beside the command: the time from SIGTERM to SIGKILL.",
    "uncounted": "On one box all requests come through zerogate; take it out.",
    "start-timeout": "Write it beside the command, not in its policy.",
}
"""Keys that only an annotation on Kubernetes can mean (`zerogate.kube.keys` reads them there); what to do elsewhere."""

LATER_KEYS: Final[Mapping[str, LaterKey]] = {
    "tier": LaterKey(neutral="A"),
    "learn": LaterKey(neutral="off", instead="Say the hours yourself with schedule."),
    "gpu-memory": LaterKey(),
    "gpu-memory-target": LaterKey(),
    "gpus": LaterKey(instead="Choose devices in the environment of the command, with CUDA_VISIBLE_DEVICES."),
    "quota": LaterKey(),
    "pin": LaterKey(instead="Use the command `zerogate pin SERVICE N --for 2h`."),
}
"""Known, but not available in this version."""


def parse_policy(raw: Mapping[str, Raw], *, scaled: bool) -> Policy:
    """The policy in `raw` (key → value as written). `scaled`: zerogate runs the service. Raises DefinitionError."""
    policy, errors = read_policy(raw, scaled=scaled)
    if errors:
        raise errors[0]
    return policy


def read_policy(raw: Mapping[str, Raw], *, scaled: bool) -> tuple[Policy, list[DefinitionError]]:
    """As `parse_policy`, but with all errors; the policy then holds what was right, with defaults for the rest."""
    values: dict[str, Any] = {}
    errors: list[DefinitionError] = []
    for name, value in raw.items():
        try:
            key = key_for(name, value, scaled=scaled)
            if key is not None:
                values[key.field] = key.kind.parse(value)
        except DefinitionError as error:
            errors.append(error.at(key=name))
    policy = Policy(**with_linked_defaults(values))
    if not errors:
        errors.extend(contradictions(policy, given=values.keys()))
    return policy, errors


def key_for(name: str, value: Raw, *, scaled: bool) -> Key | None:
    """The row of a key; None for a key of a later version that asks for nothing. Raises DefinitionError without a
    place for what is not to be read here."""
    key = KEYS.get(name)
    if key is not None:
        if key.scales and not scaled:
            hint = "Take it out, or give the service a command instead of an endpoint."
            raise DefinitionError("is about scaling, and zerogate does not run this service", hint=hint)
        return key
    if name in LATER_KEYS:
        later = LATER_KEYS[name]
        if later.neutral is not None and value == later.neutral:
            return None
        of_value = f" with the value {shown(value)}" if later.neutral else ""
        raise DefinitionError(f"is not available in this version{of_value}", hint=later.instead)
    if name in ELSEWHERE_KEYS:
        raise DefinitionError("is a key for Kubernetes alone", hint=ELSEWHERE_KEYS[name])
    near = nearest(name, [*KEYS, *LATER_KEYS, *ELSEWHERE_KEYS])
    hint = f"Did you mean {near}?" if near else f"Known keys are {', '.join(KEYS)}."
    raise DefinitionError("is not a key of a policy", hint=hint)
