"""Where reports go, as people write it."""

import pytest

from zerogate.errors import DefinitionError
from zerogate.reporting.targets import parse_targets, resolve
from zerogate.runtime.interface import Address


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("none", ()),
        ("zerogate-autoscaler.zerogate-system:8014", (Address("zerogate-autoscaler.zerogate-system", 8014),)),
        ("127.0.0.1:1, [::1]:2", (Address("127.0.0.1", 1), Address("::1", 2))),
    ],
)
def test_names_and_addresses(text: str, targets: tuple[Address, ...]) -> None:
    assert parse_targets(text) == targets


@pytest.mark.parametrize(
    "text", ["8014", "host", "host:0", "host:65536", "http://host:1", "a b:1", ":1", "h:1,", "-:1"]
)
def test_what_is_no_target_is_said(text: str) -> None:
    with pytest.raises(DefinitionError, match="with a port from 1 to 65535"):
        parse_targets(text)


async def test_an_address_stands_for_itself_and_a_name_for_all_that_it_has() -> None:
    assert await resolve(Address("127.0.0.1", 5)) == [Address("127.0.0.1", 5)]
    assert Address("127.0.0.1", 5) in await resolve(Address("localhost", 5))


@pytest.mark.both_loops
async def test_what_cannot_be_a_name_is_a_failure_like_one_that_nobody_has() -> None:
    with pytest.raises(OSError, match="is no name"):
        await resolve(Address("a..b", 5))
