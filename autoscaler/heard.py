"""What a source that is known says: its reports, its wakes, what its gate answers; and to whom that goes.

One per stream, made when the source has proved who it is (`autoscaler.stream`). Invariant: who may speak for one
service alone is turned away with the first word about another.
"""

from typing import TYPE_CHECKING, Final

from autoscaler.identity import Source
from zerogate.errors import shown
from zerogate.reporting.wire import (
    MOST_REFUSED,
    Ack,
    Beat,
    Bye,
    FromSource,
    Quiesced,
    Readings,
    Wake,
    WireError,
    frame,
    stat_of,
)

if TYPE_CHECKING:
    from autoscaler.receiver import Receiver
    from autoscaler.stream import Stream

LEADING: Final = frame(Ack(0, leading=True))
FOLLOWING: Final = frame(Ack(0, leading=False))


class Heard:
    """See the module's text."""

    __slots__ = ("_receiver", "_source", "_stream")

    def __init__(self, source: Source, stream: "Stream", receiver: "Receiver") -> None:
        self._source = source
        self._stream = stream
        self._receiver = receiver

    def take(self, message: FromSource) -> int:
        """Deal with one message; how many readings it had. Raises WireError."""
        source, receiver = self._source, self._receiver
        if isinstance(message, Readings):
            return self._report(message)
        if isinstance(message, Beat):
            receiver.taker.heartbeat(source.name, source.incarnation, service=source.scope)
            if source.holds and source.scope is None:
                receiver.listener.on_inside(source.name, message.inside)
            self._stream.write(LEADING if receiver.is_leading() else FOLLOWING)
        elif isinstance(message, Wake):
            self._wake(message)
            return 1
        elif isinstance(message, Quiesced):
            receiver.listener.on_quiesced(source.name, source.incarnation, message)
            return 1
        elif isinstance(message, Bye):
            receiver.taker.farewell(source.name, source.incarnation)
            if source.holds and source.scope is None:
                receiver.listener.on_holder_left(source.name)
            self._stream.leave()
        else:
            raise WireError("a second hello")
        return 0

    def _report(self, message: Readings) -> int:
        source, receiver = self._source, self._receiver
        for reading in message.readings:
            if source.scope is not None and reading.service != source.scope:
                self._forged(reading.service)
                return 0
            receiver.taker.report(stat_of(reading, source.name, source.incarnation))
        receiver.figures.reports += len(message.readings)
        if source.scope is not None and message.readings:
            receiver.listener.on_in_flight(source.name, message.readings[-1].in_flight)
        return len(message.readings)

    def _wake(self, message: Wake) -> None:
        receiver, source, service = self._receiver, self._source, message.reading.service
        if source.scope is not None and service != source.scope:
            self._forged(service)
            return
        receiver.figures.wakes += 1
        receiver.taker.report(stat_of(message.reading, source.name, source.incarnation))
        is_leading = receiver.is_leading()
        if is_leading:
            receiver.taker.wake(service)
        refused = receiver.refusal(service)[:MOST_REFUSED] if is_leading else ""
        self._stream.write(frame(Ack(message.number, is_leading, refused)))

    def _forged(self, service: str) -> None:
        self._receiver.figures.forged += 1
        self._stream.turn_away("forged", f"This source may report {self._source.scope}, and not {shown(service)}.")
