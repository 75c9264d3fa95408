import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.yaml_positions import DEEPEST, MOST_NODES, Items, Scalar, Table, read_yaml
from zerogate.errors import DefinitionError


def table(text: str) -> Table:
    root, errors = read_yaml(text, "z.yaml")
    assert errors == []
    assert isinstance(root, Table)
    return root


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        read_yaml(text, "z.yaml")
    return str(caught.value)


def test_everything_has_its_line() -> None:
    root = table("a: 1\nb:\n  c: [x,\n    y]\n")
    assert root.lines == {"a": 1, "b": 2}
    inner = root.entries["b"]
    assert isinstance(inner, Table)
    assert inner.lines == {"c": 3}
    assert inner.entries["c"] == Items(3, [Scalar(3, "x", True), Scalar(4, "y", True)])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("''", ""),
        ("'5'", "5"),
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        ("2026-12-24", "2026-12-24"),
        ("1" + "0" * 30, 1e30),
        ("|\n  x\n", "x\n"),
    ],
)
def test_scalars_are_read_by_the_core_rules(text: str, value: object) -> None:
    node = table(f"a: {text}\n").entries["a"]
    assert isinstance(node, Scalar)
    assert node.value() == value
    assert type(node.value()) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n\tb: 1", "z.yaml:2: a tab indents the line"),
        ("a: [1\nb: 2", "z.yaml:2: is not YAML"),
        ("a: 'x\n", "never closed"),
        ("a: b: c", "z.yaml:1: is not YAML: mapping values"),
        ("x: y\na: {command: x --port {port}}", "z.yaml:2: is not YAML"),
        ("a: @x", "in quotes"),
        ("a: 1\nx: \x00", "z.yaml:2: the character U+0000"),
        ("a: \x1b[31m", "U+001B"),
        ('a: 1\nx: "b\\0"', "z.yaml:2: a text has a character"),
        ("a: \ufffe", "U+FFFE"),
        ("a: *x", "*x stands before its anchor"),
        ("a: &a [*a]", "*a stands before its anchor"),
        ("? [a]\n: b", "a key is a list or a table"),
        ("{a: 1}: b", "a key is a list or a table"),
        ("a: !!python/object/apply:os.system [x]", "the tag"),
        ("a: !x y", "the tag"),
        ("a: 1\n---\nb: 1", "z.yaml:2: a second document begins"),
        ("[" * 100_000, f"nested more than {DEEPEST} deep"),
        ("a: " + "{a: " * 100_000, f"nested more than {DEEPEST} deep"),
        ("- " * 5000 + "a", f"nested more than {DEEPEST} deep"),
    ],
)
def test_what_cannot_be_read_is_one_paragraph_with_a_line(text: str, said: str) -> None:
    message = refusal(text)
    assert said in message
    assert message.startswith("z.yaml:")
    assert "\n" not in message


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    levels = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    levels += [
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert f"more than {MOST_NODES} values" in refusal("\n".join(levels))


def test_a_few_aliases_are_fine() -> None:
    root = table("a: &p {x: 1}\nb: *p\n")
    assert root.entries["b"] == root.entries["a"]


def test_more_values_than_the_bound_are_refused() -> None:
    assert f"more than {MOST_NODES} values" in refusal(f"a: [{'x,' * MOST_NODES}]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "z.yaml:3: a: is given twice, first on line 1"),
        ("s:\n  a:\n    x: 1\n    x: 2\n", "z.yaml:4: s.a.x: is given twice, first on line 3"),
        ("1: x\n", 'z.yaml:1: the key 1 is not text. Write "1".'),
        ("true: x\n", "the key true is not text"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", "z.yaml:3: merge keys are not supported"),
    ],
)
def test_mistakes_that_leave_the_rest_readable_are_collected(text: str, said: str) -> None:
    root, errors = read_yaml(text, "z.yaml")
    assert isinstance(root, Table)
    assert [said in str(error) for error in errors] == [True]


def test_an_empty_text_has_no_root() -> None:
    assert read_yaml("# nothing\n", "z.yaml") == (None, [])


@given(st.text(alphabet="ab:-[]{},'\"&*!|>#%@\n\t ?<", max_size=40))
def test_no_text_is_answered_with_anything_but_a_tree_or_a_definition_error(text: str) -> None:
    try:
        root, _ = read_yaml(text, "z.yaml")
    except DefinitionError as error:
        message = str(error)
    else:
        message = repr(root)
    assert message
