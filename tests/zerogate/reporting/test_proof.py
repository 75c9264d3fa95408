"""A sidecar's key, and what both sides of a stream make of it."""

import pytest

from zerogate.errors import DefinitionError
from zerogate.reporting.proof import (
    CODE_BYTES,
    MASTER_BYTES,
    NONCE_BYTES,
    Key,
    Session,
    key_named,
    new_key,
    parse_key,
)
from zerogate.reporting.wire import Beat, Frames, WireError, frame, read_from_source

MASTER, OTHER = b"m" * MASTER_BYTES, b"o" * MASTER_BYTES
KEY = new_key(MASTER, "team.a/llama-3.1", "s" * 22)


def sessions(key: Key = KEY, theirs: Key = KEY) -> tuple[Session, Session]:
    nonces = b"1" * NONCE_BYTES, b"2" * NONCE_BYTES
    return Session(key, *nonces, is_source=True), Session(theirs, *nonces, is_source=False)


def test_a_key_says_whose_it_is_and_can_be_made_again_from_its_name() -> None:
    assert KEY.service == "team.a/llama-3.1"
    assert parse_key(KEY.text()) == KEY
    assert key_named([OTHER, MASTER], KEY.name) == KEY
    assert key_named([OTHER], KEY.name) is None
    assert KEY.secret.hex() not in KEY.name


def test_a_name_that_was_changed_makes_another_key() -> None:
    forged = key_named([MASTER], KEY.name.replace("llama-3.1", "other"))
    assert forged is not None
    assert forged.secret != KEY.secret


@pytest.mark.parametrize("text", ["", "none", KEY.name, KEY.text()[:-1], KEY.text() + "\n", f"x{KEY.text()}"])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_key(text)
    assert KEY.secret.hex()[:8] not in str(refused.value)


def test_only_who_has_the_key_can_prove_it_and_no_proof_holds_twice() -> None:
    source, autoscaler = sessions()
    assert source.is_proven_by(autoscaler.proof)
    _, stranger = sessions(theirs=new_key(OTHER, KEY.service, "s" * 22))
    assert not source.is_proven_by(stranger.proof)
    again = Session(KEY, b"3" * NONCE_BYTES, b"2" * NONCE_BYTES, is_source=True)
    assert not again.is_proven_by(autoscaler.proof)


def test_messages_arrive_as_they_were_said_in_both_directions() -> None:
    source, autoscaler = sessions()
    for say, hear in ((source, autoscaler), (autoscaler, source)):
        (sealed,) = Frames(1000).feed(say.seal(frame(Beat())))
        assert read_from_source(hear.open(sealed)) == Beat()


def bodies(session: Session, count: int) -> list[bytes]:
    return [session.seal(frame(Beat()))[4:] for _ in range(count)]


def test_what_was_changed_repeated_left_out_turned_round_or_never_said_is_found_out() -> None:
    source, autoscaler = sessions()
    first, second = bodies(source, 2)
    with pytest.raises(WireError):
        autoscaler.open(second)
    changed = bytes([first[0] ^ 1]) + first[1:]
    with pytest.raises(WireError):
        autoscaler.open(changed)
    assert autoscaler.open(first)
    with pytest.raises(WireError):
        autoscaler.open(first)
    with pytest.raises(WireError):
        source.open(second)
    for short in (b"", second[:CODE_BYTES]):
        with pytest.raises(WireError):
            autoscaler.open(short)
    assert autoscaler.open(second)


def test_a_stream_begins_with_numbers_of_full_length() -> None:
    with pytest.raises(WireError):
        Session(KEY, b"", b"2" * NONCE_BYTES, is_source=True)
