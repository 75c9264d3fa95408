"""The same key goes to the same replica, as long as that does not make it wait. Pure.

Rendezvous hashing (Thaler and Ravishankar 1998): each replica has a score for the key, and the highest wins, so that a
replica more or less moves only its own share. Bounded load (Mirrokni, Thorup and Zadimoghaddam 2018): a replica above
`LOAD_BOUND` times the mean is passed over.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from zerogate.affinity import Affinity
from zerogate.http.exchange import Exchange
from zerogate.http.heads import RequestHead
from zerogate.http.upstream import Upstream

LOAD_BOUND: Final = 1.25
"""A quarter more than the mean: loads stay even, and a key moves only while its replica is busier than that."""
LEAD_BYTES: Final = 4096
"""Of a body, in which the prompt has to begin: what stands before it are a model's name and some numbers."""
_PROMPT_KEYS: Final = (b'"messages"', b'"prompt"', b'"input"')


def key_of_text(text: bytes) -> int:
    """64 bits that stand for a header's value or the begin of a prompt; the same on every machine."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


@lru_cache(maxsize=4096)
def key_of_replica(name: str) -> int:
    """The same for the name of a replica."""
    return key_of_text(name.encode())


def key_of(exchange: Exchange, affinity: Affinity) -> int | None:
    """What tells where a request had better go; None where it says nothing. A prompt: by what has come of it."""
    head = exchange.head
    if affinity.kind == "header":
        text = head.field(affinity.name.encode())
    elif affinity.kind == "cookie":
        text = cookie_of(head, affinity.name.encode())
    else:
        text = prompt_of(_begin(exchange.chunks or [], enough(affinity)), affinity.size_bytes)
    return key_of_text(text) if text else None


def enough(affinity: Affinity) -> int:
    """Bytes of a body by which its prompt's begin is known; 0 where no body is looked at."""
    return LEAD_BYTES + affinity.size_bytes if affinity.kind == "prompt" else 0


def _begin(chunks: Sequence[bytes], size: int) -> bytes:
    begin = b""
    for chunk in chunks:
        begin += chunk[: size - len(begin)]
        if len(begin) == size:
            break
    return begin


def cookie_of(head: RequestHead, name: bytes) -> bytes | None:
    """The value of a cookie, or None."""
    for pair in (head.field(b"cookie") or b"").split(b";"):
        key, equals, value = pair.strip().partition(b"=")
        if equals and key == name:
            return value
    return None


def prompt_of(body: bytes, size: int) -> bytes:
    """The first `size` bytes of a JSON body from its prompt on; from its begin where none of the usual keys is."""
    lead = body[:LEAD_BYTES]
    starts = [at for at in (lead.find(key) for key in _PROMPT_KEYS) if at >= 0]
    start = min(starts, default=0)
    return body[start : start + size]


def score(key: int, replica: int) -> int:
    """How much this key likes this replica: both mixed by the finaliser of splitmix64."""
    mixed = (key ^ replica) & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return mixed ^ (mixed >> 31)


def in_order(upstreams: Sequence[Upstream], key: int, weight_of: Callable[[Upstream], float]) -> list[Upstream]:
    """The replicas for this key: those within the bound by their score, then those above it. `weight_of`: how much of
    an ordinary replica's load each may have, up to 1."""
    if not upstreams:
        return []
    mean = (sum(one.gate.in_flight for one in upstreams) + 1) / len(upstreams)
    bound = math.ceil(mean * LOAD_BOUND)
    return sorted(
        upstreams,
        key=lambda one: (one.gate.in_flight >= bound * weight_of(one), -score(key, key_of_replica(one.id))),
    )
