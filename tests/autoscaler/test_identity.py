"""What a source may say is what its token proves, not what it claims."""

import pytest

from autoscaler.identity import Identity, Refused, Source, source_of
from zerogate.reporting.wire import Hello

POD = Identity(name="team-a/chat-7", pod="team-a/chat-7", service="team-a/chat")
GATEWAY = Identity(name="zerogate-gateway", pod="zerogate-system/gateway-0")
ANYBODY = Identity(name="anybody")


@pytest.mark.parametrize(
    ("hello", "identity", "source"),
    [
        (Hello("chat-7", "i", "sidecar", service="team-a/chat"), POD, Source("team-a/chat-7", "i", "team-a/chat")),
        (Hello("somebody-else", "i", "sidecar"), POD, Source("team-a/chat-7", "i", "team-a/chat")),
        (Hello("w-1", "i", "gateway"), GATEWAY, Source("zerogate-system/gateway-0/w-1", "i", None, holds=True)),
        (Hello("w-1", "i", "activator"), GATEWAY, Source("zerogate-system/gateway-0/w-1", "i", None, holds=True)),
        (Hello("chat-1", "i", "sidecar", service="chat"), ANYBODY, Source("chat-1", "i", "chat")),
        (Hello("gateway", "i", "gateway"), ANYBODY, Source("gateway", "i", None, holds=True)),
    ],
)
def test_a_source_is_named_and_limited_by_its_token(hello: Hello, identity: Identity, source: Source) -> None:
    assert source_of(hello, identity) == source


@pytest.mark.parametrize(
    ("hello", "identity", "said"),
    [
        (Hello("chat-7", "i", "gateway"), POD, "may report team-a/chat as a sidecar, and not as gateway"),
        (Hello("chat-7", "i", "activator"), POD, "may report team-a/chat as a sidecar, and not as activator"),
        (Hello("chat-7", "i", "sidecar", service="team-b/chat"), POD, 'may report team-a/chat, and not "team-b/chat"'),
        (Hello("", "i", "gateway"), GATEWAY, "1 to 253"),
        (Hello("x" * 254, "i", "gateway"), ANYBODY, "1 to 253"),
        (Hello("x", "", "gateway"), ANYBODY, "1 to 253"),
    ],
)
def test_who_claims_more_is_refused(hello: Hello, identity: Identity, said: str) -> None:
    refused = source_of(hello, identity)
    assert isinstance(refused, Refused)
    assert said in refused.reason
