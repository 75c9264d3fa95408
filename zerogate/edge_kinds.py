"""Kinds of values about the edge of a process that takes traffic: whose PROXY headers count, where spans go. Pure.

They follow the protocol of `zerogate.kinds`; the box's file and the gateway's flags have them.
"""

import re
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from zerogate.http.entrance import TrustedSenders
from zerogate.kinds import Fragment, Raw, wrong

_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"
_COLLECTOR: Final = rf"https?://(?:{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~/-]*)?"
_TRACES: Final = "/v1/traces"
_MOST_NETWORKS: Final = 256


class CollectorUrl(msgspec.Struct, frozen=True):
    """Where OTLP over HTTP is taken. Without a path of its own it gets the standard's, as OTEL_EXPORTER_OTLP_ENDPOINT
    does."""

    def parse(self, raw: Raw) -> str:
        if not isinstance(raw, str) or not re.fullmatch(_COLLECTOR, raw):
            raise wrong(raw, self.allowed())
        try:
            parts = urlsplit(raw)
            has_port = parts.port != 0
        except ValueError:
            raise wrong(raw, self.allowed()) from None
        if not has_port:
            raise wrong(raw, self.allowed())
        return raw if parts.path.endswith(_TRACES) else raw.rstrip("/") + _TRACES

    def allowed(self) -> str:
        return "a URL such as http://127.0.0.1:4318 or https://collector.lan/otlp"

    def shown_as(self, value: Any) -> str:
        return str(value)

    def fragment(self) -> Fragment:
        return {"type": "string", "pattern": f"^{_COLLECTOR}$"}


class Senders(msgspec.Struct, frozen=True):
    """Networks, and the word `unix`: who is believed."""

    def parse(self, raw: Raw) -> TrustedSenders:
        words = raw if isinstance(raw, list) else [raw]
        if not words or len(words) > _MOST_NETWORKS:
            raise wrong(raw, self.allowed())
        networks = []
        for word in words:
            if word == "unix":
                continue
            try:
                if not isinstance(word, str):
                    raise ValueError
                networks.append(ip_network(word))
            except ValueError:
                raise wrong(word, self.allowed(), _nearest_network(word)) from None
        return TrustedSenders(tuple(networks), unix="unix" in words)

    def allowed(self) -> str:
        return "an address or a network such as 10.0.0.0/8, the word unix, or a list of them"

    def shown_as(self, value: Any) -> str:
        return ", ".join([*map(str, value.networks), *(["unix"] if value.unix else [])])

    def fragment(self) -> Fragment:
        one = {"type": "string", "pattern": r"^(?:unix|[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?)$"}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": _MOST_NETWORKS}]}


def _nearest_network(word: Raw) -> str:
    """What was most likely meant: 10.1.2.3/8 is an address in a network, and neither."""
    try:
        return f"Write {ip_network(word, strict=False)}." if isinstance(word, str) else ""
    except ValueError:
        return ""
