"""What a policy means for the requests of its service."""

import sys
from typing import Any

import pytest

from activator.terms import terms_of
from zerogate.http.sides import RequestTerms
from zerogate.policy import Policy

USUAL: dict[str, Any] = {
    "connect_timeout_s": 1.0, "first_byte_timeout_s": 2.0, "idle_stream_timeout_s": 3.0, "total_timeout_s": None,
}  # fmt: skip
PLAIN = RequestTerms(connect_s=1.0, first_byte_s=2.0, idle_s=3.0, total_s=None, body_limit_bytes=sys.maxsize)


def test_without_a_word_nothing_is_sent_twice_or_beaten_and_a_websocket_is_busy_until_it_is_closed() -> None:
    assert terms_of(Policy(**USUAL, idle_timeout_s=5.0)) == PLAIN


@pytest.mark.parametrize(
    ("policy", "term", "value"),
    [
        ({"total_timeout_s": 4.0}, "total_s", 4.0),
        ({"hold_heartbeat_s": 15.0}, "heartbeat_s", 15.0),
        ({"retry": "stale"}, "retries_stale", True),
        ({"idle_websocket": "quiet", "idle_timeout_s": 5.0}, "quiet_s", 5.0),
        ({"body_limit_bytes": 6}, "body_limit_bytes", 6),
    ],
)
def test_each_key_means_its_own_term_and_no_other(policy: dict[str, Any], term: str, value: object) -> None:
    found = terms_of(Policy(**{**USUAL, **policy}))
    changed = {name for name in RequestTerms.__struct_fields__ if getattr(found, name) != getattr(PLAIN, name)}
    assert (changed, getattr(found, term)) == ({term}, value)
