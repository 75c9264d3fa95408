"""Where reports go: names and addresses as people write them, and finding the addresses of names.

In a cluster the name is that of a headless Service, which stands for all autoscalers; reports go to each of them.
"""

import asyncio
import re
from ipaddress import ip_address
from typing import Final

from zerogate.errors import DefinitionError, shown
from zerogate.http import dial
from zerogate.runtime.interface import Address

MOST_ADDRESSES: Final = 16
"""Autoscalers are two; a name with more of them stands for something else."""
_RESOLVE_S: Final = 5.0
_TARGET: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\.?):([0-9]{1,5})")


def parse_targets(text: str) -> tuple[Address, ...]:
    """`autoscaler.zerogate-system:8014`, or several, separated by commas; `none` is empty. The host of each may be a
    name. Raises DefinitionError without a place."""
    if text == "none":
        return ()
    return tuple(_target(part.strip()) for part in text.split(",")[: MOST_ADDRESSES + 1])


def _target(text: str) -> Address:
    match = _TARGET.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise DefinitionError(
            f"{shown(text)} is not a name or an address with a port from 1 to 65535",
            hint="Write zerogate-autoscaler.zerogate-system:8014, 10.0.0.5:8014 or several, separated by commas.",
        )
    return Address(match[1].strip("[]"), int(match[2]))


async def resolve(target: Address) -> list[Address]:
    """The addresses of a target now, in a fixed order, at most MOST_ADDRESSES. Raises OSError, TimeoutError."""
    try:
        ip_address(target.host)
    except ValueError:
        async with asyncio.timeout(_RESOLVE_S):
            found = await dial.resolve(target.host, target.port)
        hosts = sorted({str(entry[4][0]) for entry in found})
        return [Address(host, target.port) for host in hosts[:MOST_ADDRESSES]]
    return [target]
