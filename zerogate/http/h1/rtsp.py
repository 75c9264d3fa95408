"""First lines of RTSP, the one other protocol whose GET, POST and OPTIONS llhttp reads as if they were HTTP's. Pure.

The parser does not tell what stood behind the target, so what came is searched, once for each read: a read may hold a
hundred requests. Called by `reader`.
"""

import re
from typing import Final

Line = tuple[bytes, bytes, bytes]
"""Method, target, and the name of the field that follows; empty where the head ends there."""

_PROTOCOL: Final = b"RTSP/"
_LINE: Final = re.compile(rb"(GET|POST|OPTIONS) +([^ \r\n]+) +RTSP/[0-9]\.[0-9]\r\n([^:\r\n]*)")
_NONE: Final[frozenset[Line]] = frozenset()


def rtsp_lines(data: bytes | bytearray) -> frozenset[Line]:
    """All that look like one, in bodies and fields too: whose method, target and first field a head has not is none."""
    return frozenset(_LINE.findall(data)) if _PROTOCOL in data else _NONE
