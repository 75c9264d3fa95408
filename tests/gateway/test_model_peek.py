"""The JSON peek against the json module: the same verdict and the same name, however the body is cut."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import json_scan, model_peek
from gateway.model_peek import ModelPeek
from gateway.peeked import NAME_LIMIT_BYTES, Peeked, Verdict


def peek(*chunks: bytes) -> Peeked:
    reader = ModelPeek()
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            position = reader.feed(chunk, position)
    return reader.finish()


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def expected(body: bytes) -> Verdict | str:
    """What a JSON parser makes of the body."""
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return Verdict.MALFORMED
    if not isinstance(value, dict):
        return Verdict.MALFORMED
    if "model" not in value:
        return Verdict.MISSING
    name = value["model"]
    if not isinstance(name, str):
        return Verdict.NOT_TEXT
    return name if len(name.encode("utf-8", "surrogatepass")) <= NAME_LIMIT_BYTES else Verdict.TOO_LONG


def outcome(peeked: Peeked) -> Verdict | str:
    return peeked.name if peeked.verdict is Verdict.FOUND else peeked.verdict


@pytest.fixture(params=[1, 2, 3, 7, 64, json_scan.WINDOW], ids=lambda size: f"window={size}", scope="module")
def window(request: pytest.FixtureRequest) -> Iterator[int]:
    """Small windows put the seams of the expressions into every place of a short document."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_peek, "WINDOW", request.param)
        patch.setattr(json_scan, "WINDOW", request.param)
        patch.setattr(json_scan, "_REACH", max(2, request.param))
        yield request.param


space = st.text(alphabet=" \t\n\r", max_size=2)
nasty = st.text(alphabet='model"\\/[]{},:ü\u2028\U0001f600 \ud800', max_size=8).filter(
    lambda text: text.encode("utf-8", "ignore").decode() == text
)


@st.composite
def string_text(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """A string as JSON, some of its characters spelled as escapes that need not be."""
    value = draw(values)
    written = json.dumps(value, ensure_ascii=draw(st.booleans()))[1:-1]
    if "\\" in written or not draw(st.booleans()):
        return f'"{written}"'
    places = draw(st.sets(st.integers(0, max(0, len(value) - 1))))
    spelled = [f"\\u{ord(c):04x}" if i in places and ord(c) < 0x10000 else c for i, c in enumerate(value)]
    return '"' + "".join(spelled) + '"'


keys = string_text(st.sampled_from(["model", "Model", "model ", "modell", "mode", "messages", "", "m"]) | nasty)
scalars = (
    st.sampled_from(["null", "true", "false", "NaN", "-Infinity", "0", "-0.5e+7", "1" * 80])
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | string_text(nasty)
)


@st.composite
def container(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    if draw(st.booleans()):
        return "[" + ",".join(draw(space) + draw(values) + draw(space) for _ in range(draw(st.integers(0, 3)))) + "]"
    return draw(members(values))


@st.composite
def members(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    written = [
        draw(space) + draw(keys) + draw(space) + ":" + draw(space) + draw(values) + draw(space)
        for _ in range(draw(st.integers(0, 4)))
    ]
    return "{" + (",".join(written) or draw(space)) + "}"


values = st.recursive(scalars, lambda inner: container(inner), max_leaves=12)
documents = st.tuples(st.sampled_from(["", "", "\ufeff"]), space, members(values), space).map("".join)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(document=documents, cuts=cuts)
@example(document='{"a":"\\"","model":"x"}', cuts=[6])
def test_every_valid_object_gives_what_the_json_module_gives(window: int, document: str, cuts: list[int]) -> None:
    body = document.encode()
    assert outcome(peek(*pieces(body, cuts))) == expected(body)


@given(document=documents)
@example(document='{"model":"a","m\\u006fdel":"b","x":{"model":"c"}}')
@example(document='{"model":"a","model":1}')
@example(document='{"model":"%s"}' % ("é" * 300))
def test_a_body_that_comes_whole_gives_the_same_or_is_fed(document: str) -> None:
    whole = ModelPeek().read_whole(document.encode())
    assert whole is None or whole == peek(document.encode())


@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\model 1', max_size=40).map(str.encode))
def test_what_is_found_in_any_whole_body_is_what_feeding_it_finds(body: bytes) -> None:
    whole = ModelPeek().read_whole(b'{"model":"m"' + body)
    assert whole is None or whole == peek(b'{"model":"m"' + body)


def test_an_ordinary_chat_need_not_be_fed() -> None:
    body = b'{"messages":[{"role":"user","content":"hi"}],"model":"m","stream":true}'
    assert ModelPeek().read_whole(body) == Peeked(Verdict.FOUND, "m")


@given(document=documents)
def test_a_body_that_comes_byte_by_byte_gives_the_same(document: str) -> None:
    body = document.encode()
    assert peek(*(body[i : i + 1] for i in range(len(body)))) == peek(body)


@given(document=documents, cuts=cuts, place=st.integers(0, 10_000), noise=st.binary(max_size=3), drop=st.integers(0, 3))
def test_a_damaged_body_is_never_refused_where_a_parser_accepts_it(
    window: int, document: str, cuts: list[int], place: int, noise: bytes, drop: int
) -> None:
    body = document.encode()
    place %= len(body) + 1
    body = body[:place] + noise + body[place + drop :]
    try:
        wanted = expected(body)
    except UnicodeDecodeError:
        wanted = Verdict.MALFORMED
    found = outcome(peek(*pieces(body, cuts)))
    assert found == wanted or wanted is Verdict.MALFORMED


@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\model 1', max_size=40).map(str.encode), cuts=cuts)
def test_any_bytes_give_a_verdict_that_no_split_changes(window: int, body: bytes, cuts: list[int]) -> None:
    assert outcome(peek(*pieces(body, cuts))) == outcome(peek(body))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "  \n",
        "[]",
        '"model"',
        "null",
        "{",
        '{"model":"x"',
        '{"model":"x',
        '{"model":',
        '{"model"}',
        '{"model" "x"}',
        "{model:1}",
        "{'model':'x'}",
        '{"model":"x",}',
        '{,"model":"x"}',
        '{"model":"x"}}',
        '{"model":"x"} {"model":"y"}',
        '{"model":"x"},',
        '{"model":"\\x"}',
        '{"model":"\\u00g0"}',
        '{"model":"a\nb"}',
        '{"\\x":1,"model":"x"}',
        '{"stream":True,"model":"x"}',
        '{"stream":tru,"model":"x"}',
        '{"n":01,"model":"x"}',
        '{"n":1.,"model":"x"}',
        '{"n":-,"model":"x"}',
        '{"n":,"model":"x"}',
        '{"n":1 2,"model":"x"}',
        '{"a":[1,2,"model":"x"}',
        '{"a":"b" "c","model":"x"}',
        '{"a":"b\\","model":"x"}',
        "// no\n{}",
        "model=x",
        "\ufeff",
    ],
)
def test_a_fault_of_the_outermost_object_is_malformed(window: int, body: str) -> None:
    assert expected(body.encode()) is Verdict.MALFORMED
    assert peek(body.encode()).verdict is Verdict.MALFORMED
    assert peek(*(body.encode()[i : i + 1] for i in range(len(body.encode())))).verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('{"model":"a","model":"b"}', "b"),
        ('{"model":"a","model":1}', Verdict.NOT_TEXT),
        ('{"model":1,"model":"b"}', "b"),
        (f'{{"model":"{"x" * 9000}","model":"b"}}', "b"),
        ('{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a"}', "a"),
        ('{"messages":[{"model":"no"}],"model":"yes"}', "yes"),
        ('{"messages":[{"model":"no"}]}', Verdict.MISSING),
        ('{"a":"\\\\","model":"b"}', "b"),
        ('{"a":"\\\\\\",\\"model\\":\\"no","model":"b"}', "b"),
        ('{"model":"org/name:4bit \\u00e9 \\ud83d\\ude00"}', "org/name:4bit é 😀"),
        ('{"model":"\\ud800"}', "\ud800"),
        ('{"model":""}', ""),
        ('{"model":null}', Verdict.NOT_TEXT),
        ('{"model":["x"]}', Verdict.NOT_TEXT),
        ('{"model":{"model":"x"}}', Verdict.NOT_TEXT),
        ("{}", Verdict.MISSING),
    ],
)
def test_the_last_key_of_the_outermost_object_counts(window: int, body: str, wanted: Verdict | str) -> None:
    assert outcome(peek(body.encode())) == wanted == expected(body.encode())


def test_a_name_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert peek(json.dumps({"model": "x" * NAME_LIMIT_BYTES}).encode()).name == "x" * NAME_LIMIT_BYTES
    assert peek(json.dumps({"model": "é" * (NAME_LIMIT_BYTES // 2)}).encode()).name == "é" * (NAME_LIMIT_BYTES // 2)
    assert peek(json.dumps({"model": "x" * (NAME_LIMIT_BYTES + 1)}).encode()).verdict is Verdict.TOO_LONG
    assert peek(json.dumps({"model": "x" * 100_000}).encode()).verdict is Verdict.TOO_LONG


def test_a_name_that_is_not_utf8_is_malformed() -> None:
    assert peek(b'{"model":"\xff"}').verdict is Verdict.MALFORMED


def test_the_model_is_found_behind_a_long_image() -> None:
    image = json.dumps({"messages": [{"content": [{"url": "data:" + "QUJD" * 500_000}]}], "model": "m"}).encode()
    assert peek(*pieces(image, list(range(0, len(image), 65_536)))).name == "m"


def test_a_million_lines_without_a_model_are_missing_it() -> None:
    body = b"{" + b",\n".join(b'"line%d": %d' % (i, i) for i in range(1_000_000)) + b"}"
    assert peek(body).verdict is Verdict.MISSING


def test_depth_is_only_counted() -> None:
    body = b'{"a":' + b'[{"b":' * 200_000 + b"0" + b"}]" * 200_000 + b',"model":"x"}'
    assert peek(body).name == "x"


def test_one_call_reads_a_bounded_part_of_dense_json() -> None:
    body = json.dumps({"rows": [[i, str(i)] for i in range(20_000)], "model": "m"}).encode()
    reader = ModelPeek()
    position, calls = 0, 0
    while position < len(body):
        after = reader.feed(body, position)
        assert position < after <= position + model_peek._WORK + json_scan.WINDOW
        position, calls = after, calls + 1
    assert calls >= 4
    assert reader.finish().name == "m"


def test_memory_does_not_grow_with_the_body() -> None:
    reader = ModelPeek()
    chunk = b"x" * 4096
    for part in [b'{"', *[chunk] * 64, b'":"', *[chunk] * 64, b'","model":"', *[chunk] * 64]:
        reader.feed(part)
        assert len(reader._text) <= model_peek._RAW_NAME_LIMIT_BYTES


def test_a_body_that_cannot_be_json_is_settled_at_once() -> None:
    form, fine = ModelPeek(), ModelPeek()
    form.feed(b"model=x&y=" + b"z" * 1000)
    fine.feed(b'{"model":"x"}')
    assert (form.is_settled, fine.is_settled) == (True, False)
    assert form.finish().verdict is Verdict.MALFORMED
