"""What a scrape of many services is answered with, in parts that leave the loop to others in between.

Called by processes that know thousands of services: the box's admin API, and the autoscaler of a cluster.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Protocol, TypeVar

from zerogate.exposition import END, Dialect, escaped, head
from zerogate.families import Family
from zerogate.slices import Pace


class OfService(Protocol):
    """A sample of one service, which its families know how to read."""

    @property
    def service(self) -> str: ...


S = TypeVar("S", bound=OfService)


async def parts(
    own: str, families: Sequence[Family], samples: Iterable[S], dialect: Dialect
) -> AsyncGenerator[bytes, None]:
    """The whole text: the process's `own`, then each family over all services. No part takes more than a slice to
    make; `samples` may be made as they are read."""
    pace = Pace()
    yield own.encode()
    labelled: list[tuple[str, S]] = []
    for sample in samples:
        labelled.append((f'service="{escaped(sample.service)}"', sample))
        await pace.rest()
    for family in families:
        yield head(family.name, family.kind, family.says, dialect).encode()
        for labels, sample in labelled:
            if text := "".join(family.lines(family.name, labels, sample, dialect)):
                yield text.encode()
            await pace.rest()
    if dialect is Dialect.OPENMETRICS:
        yield END.encode()
