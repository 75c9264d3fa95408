"""What a request costs while it is held, and what it is counted as once it is over. Pure.

The same for every holder, so that a bound in bytes and a counter mean the same in the activator and in the sidecar.
"""

from typing import Final

from zerogate.counters import SERVED, Result, ServiceCounters
from zerogate.http.exchange import Exchange
from zerogate.http.record import BUFFER_BYTES
from zerogate.meter import Meter

KEEP_BYTES: Final = 16 * 1024 * 1024
"""A held body of at most this length is read to its end, so that a client that goes away is seen; of a longer one, or
one of unknown length, only the beginning is."""
HEAD_OVERHEAD_BYTES: Final = 4096
"""What a held request costs besides its fields and its body, its connection included: 4.2 KiB with the OpenAI client's
head (18 fields, 700 bytes), 3.0 where many send the very same one."""


def kept_bytes(exchange: Exchange) -> int:
    """How much of the body is kept while it is held, beyond what was read already."""
    length = exchange.head.content_length
    return length if length is not None and length <= KEEP_BYTES else BUFFER_BYTES


def held_bytes(exchange: Exchange) -> int:
    """What the queue reckons with for it: reserved at once, so that the bound holds while the body comes in, or what
    the client of a WebSocket says too early."""
    head = exchange.head
    is_coming = head.websocket_key is not None or (head.has_body and not exchange.is_request_done)
    coming = kept_bytes(exchange) if is_coming else 0
    return HEAD_OVERHEAD_BYTES + len(head.lines) + max(exchange.buffered_bytes, coming)


def count(exchange: Exchange, meter: Meter, counters: ServiceCounters) -> None:
    """Add an exchange that has ended to what is counted of its service; slots and integrals are the holder's."""
    meter.bytes_in += exchange.bytes_in
    meter.bytes_out += exchange.bytes_out
    if exchange.ticket is not None:
        counters.hold.observe(exchange.hold_s)
    if exchange.first_byte_s is not None:
        counters.first_byte.observe(exchange.first_byte_s - exchange.dispatched_s)
    result = exchange.result
    if result is SERVED:
        counters.served += 1
        counters.status_classes[exchange.status // 100] += 1
        if exchange.tunnel is None:
            counters.request.observe(exchange.ended_s - exchange.received_s)
    elif result is Result.REFUSED:
        meter.refused += 1
        counters.refuse(exchange.code)
    elif result is Result.ABANDONED:
        if exchange.upstream is None:
            meter.abandoned += 1
        counters.abandoned += 1
    else:
        counters.cut += 1
