"""The form peek against forms as clients encode them, however the body is cut."""

from importlib import import_module
from itertools import pairwise

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import multipart_peek
from gateway.body_peek import peek_for
from gateway.multipart_peek import MultipartPeek, parse_parameters
from gateway.peeked import NAME_LIMIT_BYTES, Peek, Peeked, Verdict
from tests.extras import extra
from zerogate.errors import Refusal

cuts = st.lists(st.integers(0, 10_000), max_size=12)
FIELD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
MODEL = FIELD % (b"model", b"whisper-1")


def drive(reader: Peek, *chunks: bytes) -> Peeked:
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            position = reader.feed(chunk, position)
    return reader.finish()


def peek(*chunks: bytes) -> Peeked:
    return drive(MultipartPeek(b"b"), *chunks)


def pieces(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def single(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def reader_of(content_type: bytes) -> Peek:
    reader = peek_for(content_type)
    assert isinstance(reader, MultipartPeek)
    return reader


contents = st.binary(max_size=40) | st.text(alphabet="\r\n-bound", max_size=40).map(str.encode)
names = st.sampled_from(["file", "Model", "model ", "prompt", 'a"model', "mödel", "models"])


@given(
    before=st.lists(st.tuples(names, contents), max_size=3),
    after=st.lists(st.tuples(names, contents), max_size=3),
    model=st.none() | st.text(alphabet="whisper-/:é \r\n", max_size=12),
    cuts=cuts,
)
def test_httpx_forms_give_their_model(
    before: list[tuple[str, bytes]], after: list[tuple[str, bytes]], model: str | None, cuts: list[int]
) -> None:
    fields: list[tuple[str, tuple[str | None, bytes]]] = [(name, ("a;b.wav", content)) for name, content in before]
    if model is not None:
        fields.append(("model", (None, model.encode())))
    fields += [(name, (None, content)) for name, content in after]
    headers = {"content-type": "multipart/form-data; boundary=--bound"}
    request = httpx.Request("POST", "http://x", files=fields or {"": b""}, headers=headers)
    wanted = Peeked(Verdict.MISSING) if model is None else Peeked(Verdict.FOUND, model)
    assume(not any(b"----bound" in content for _, content in before + after))
    found = drive(reader_of(request.headers["content-type"].encode()), *pieces(request.read(), cuts))
    assert found == wanted


@pytest.mark.parametrize("size", [0, 1, 70_000], ids=lambda size: f"{size} bytes of audio")
def test_the_openai_client_s_transcription_gives_its_model(size: int) -> None:
    openai = extra("openai")
    sent: list[tuple[bytes, bytes]] = []

    # openai 3 brings its own successor of httpx
    encoder = import_module(openai.DefaultHttpxClient.__base__.__module__)

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.headers["content-type"].encode(), request.read()))
        response: httpx.Response = encoder.Response(200, json={"text": "hello"})
        return response

    with encoder.Client(transport=encoder.MockTransport(answer)) as http:
        client = openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http, max_retries=0)
        client.audio.transcriptions.create(file=("a.wav", b"\r\n--" * size), model="whisper-1")
    content_type, body = sent[0]
    assert drive(reader_of(content_type), *pieces(body, [9, 99, 999, 9999])) == Peeked(Verdict.FOUND, "whisper-1")


@given(data=st.data())
def test_no_split_changes_the_verdict_of_any_bytes(data: st.DataObject) -> None:
    part = st.sampled_from(
        [b"--b", b"\r\n--b", b"--", b"-", b"\r\n", b"\r", b" ", MODEL, MODEL[:-2], b"x", FIELD % (b"x", b""), b"model"]
    )
    body = b"".join(data.draw(st.lists(part, max_size=8)))
    assert peek(*pieces(body, data.draw(cuts))) == peek(body) == peek(*single(body))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (MODEL + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (MODEL + b"--b--\r\nepilogue --b", Peeked(Verdict.FOUND, "whisper-1")),
        (b"preamble --b\r\n" + MODEL + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (MODEL.replace(b"--b\r", b"--b \t\r") + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (MODEL.replace(b'"model"', b"model") + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (MODEL.replace(b"C", b"c") + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (MODEL + MODEL + b"--b--", Peeked(Verdict.FOUND, "whisper-1")),
        (FIELD % (b"model", b"") + b"--b--", Peeked(Verdict.FOUND, "")),
        (FIELD % (b"x", b"") + b"--b--", Peeked(Verdict.MISSING)),
        (b"--b--", Peeked(Verdict.MISSING)),
        (MODEL + FIELD % (b"model", b"other") + b"--b--", Peeked(Verdict.AMBIGUOUS)),
        (MODEL.replace(b'l"\r', b'l"; filename="m.txt"\r') + b"--b--", Peeked(Verdict.NOT_TEXT)),
        (MODEL.replace(b"\r\n\r", b"\r\nContent-Transfer-Encoding: Base64\r\n\r") + b"--b--", Peeked(Verdict.NOT_TEXT)),
        (FIELD % (b"model", b"x" * 512) + b"--b--", Peeked(Verdict.FOUND, "x" * 512)),
        (FIELD % (b"model", b"x" * 513) + b"--b--", Peeked(Verdict.TOO_LONG)),
        (FIELD % (b"x", MODEL.replace(b"--b", b"-- b")) + b"--b--", Peeked(Verdict.MISSING)),
    ],
)
def test_well_formed_forms(body: bytes, wanted: Peeked) -> None:
    assert peek(body) == peek(*single(body)) == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        MODEL,
        MODEL + b"--b",
        MODEL + b"--b-",
        MODEL + b"--bb--",
        MODEL + b"--b-\r\n--b--",
        MODEL.replace(b"\r\n", b"\n") + b"--b--",
        MODEL.replace(b"\r\n\r", b"\r\n folded\r\n\r") + b"--b--",
        MODEL.replace(b"Content-Disposition", b"X") + b"--b--",
        MODEL.replace(b"\r\n\r", b"\r\nContent-Disposition: form-data; name=x\r\n\r") + b"--b--",
        MODEL.replace(b'"model"', b'"model"; name="x"') + b"--b--",
        MODEL.replace(b'name="model"', b'filename="model"') + b"--b--",
        MODEL.replace(b'"model"', b'"model') + b"--b--",
        MODEL.replace(b"form-data", b"attachment") + b"--b--",
        FIELD % (b"model", b"\xff") + b"--b--",
        FIELD % (b"x" * 10_000, b"") + b"--b--",
        b"--b\r\n\r\n\r\n--b--",
        b"--b" + b" " * 200 + MODEL[3:] + b"--b--",
    ],
)
def test_a_form_that_servers_could_read_in_two_ways_is_malformed(body: bytes) -> None:
    assert peek(body).verdict is Verdict.MALFORMED
    assert peek(*single(body)).verdict is Verdict.MALFORMED


def test_the_model_is_found_behind_a_long_file() -> None:
    body = FIELD % (b"file", b"\r\n-" * 2_000_000) + MODEL + b"--b--\r\n"
    assert peek(*pieces(body, list(range(0, len(body), 65_536)))).name == "whisper-1"


def test_one_call_reads_a_bounded_number_of_parts() -> None:
    body = FIELD % (b"x", b"") * 1000 + MODEL + b"--b--"
    reader = MultipartPeek(b"b")
    position, calls = 0, 0
    while position < len(body):
        after = reader.feed(body, position)
        assert position < after <= position + multipart_peek._TURNS * len(MODEL) or reader.is_settled
        position, calls = after, calls + 1
    assert calls >= 20
    assert reader.finish().name == "whisper-1"


def test_memory_does_not_grow_with_the_body() -> None:
    reader = MultipartPeek(b"b")
    for start in (FIELD % (b"model", b""))[:-2], b"", (FIELD % (b"x", b""))[:-2], b"\r\n--b\r\nx:":
        for chunk in [start, *[b"x" * 4096] * 64]:
            reader.feed(chunk)
            assert len(reader._carry) <= multipart_peek._HEAD_LIMIT_BYTES
            assert len(reader._text) <= 2 * (NAME_LIMIT_BYTES + 1)


def test_a_form_is_settled_behind_its_closing_delimiter() -> None:
    open_form, closed = MultipartPeek(b"b"), MultipartPeek(b"b")
    open_form.feed(MODEL)
    closed.feed(MODEL + b"--b--")
    assert (open_form.is_settled, closed.is_settled) == (False, True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"", {}),
        (b"; ", {}),
        (b"; Boundary=x", {b"boundary": b"x"}),
        (b'; boundary="a b"; charset=utf-8;', {b"boundary": b"a b", b"charset": b"utf-8"}),
        (b'; name="a\\"b\\\\c\\d"', {b"name": b'a"b\\c\\d'}),
        (b"; a=1; A=2", None),
        (b'; a="1', None),
        (b"; a", None),
        (b"; a=b c", None),
    ],
)
def test_parameters_are_read_in_one_way_or_not_at_all(text: bytes, wanted: dict[bytes, bytes] | None) -> None:
    assert parse_parameters(text) == wanted


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary=" + b"a" * 201,
    ],
)
def test_a_form_without_one_boundary_is_refused(content_type: bytes) -> None:
    refusal = peek_for(content_type)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


@pytest.mark.parametrize("content_type", [None, b"application/json", b"application/x-www-form-urlencoded", b"junk"])
def test_whatever_is_not_a_form_is_read_as_json(content_type: bytes | None) -> None:
    reader = peek_for(content_type, b"identity")
    assert not isinstance(reader, Refusal)
    assert drive(reader, b'{"model":"m"}').name == "m"


def test_a_compressed_body_is_refused() -> None:
    refusal = peek_for(b"application/json", b"gzip")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 415
