"""YAML with the line of everything, and with bounds: text to a small tree. No I/O.

Built from libyaml's events rather than by a loader, because a loader forgets lines, makes Python objects out of tags,
recurses, and lets the last of two equal keys win. Plain scalars are read by YAML 1.2's core rules, as editors and
JSON Schema do: `on` and `off` are words, `1:30` is not a number. Refused: duplicate keys, tags, merge keys, several
documents, nesting and size beyond the bounds (aliases count as copies: no bombs). Broken syntax raises at once, as
what follows cannot be trusted; the rest is collected. `cli.file` reads the tree.
"""

import re
from typing import Final

import msgspec
import yaml

from zerogate.errors import DefinitionError, shown

MOST_NODES: Final = 200_000
"""Ten thousand services; as events they take a third of a second."""
DEEPEST: Final = 24
"""The file's own shape is six deep."""

_NOT_TEXT: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


_NOWHERE: Final = re.compile("[\0\ud800-\udfff]")
"""What an escape in quotes can write, and no argument, variable or path of the system can be."""


class Scalar(msgspec.Struct, frozen=True):
    """One value. `text` as written, without quotes; `is_plain`: it had none."""

    line: int
    text: str
    is_plain: bool

    def value(self) -> str | int | float | bool | None:
        """The value by YAML 1.2's core rules."""
        text = self.text
        if not self.is_plain:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) and len(text) <= 32 else text


class Items(msgspec.Struct, frozen=True):
    """A list."""

    line: int
    items: "list[Node]"


class Table(msgspec.Struct, frozen=True):
    """Keys and values. `lines` holds the line of each key, `entries` what stands behind it."""

    line: int
    entries: "dict[str, Node]"
    lines: dict[str, int]


Node = Scalar | Items | Table


def read_yaml(text: str, source: str) -> tuple[Node | None, list[DefinitionError]]:
    """The tree of one document (None: nothing in it) and what is wrong with it. Raises DefinitionError for syntax."""
    bad = _NOT_TEXT.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise DefinitionError(
            f"the character U+{ord(bad[0]):04X} is not allowed in YAML",
            source=source, line=line, hint="Is it a text file in UTF-8?",
        )  # fmt: skip
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, source) from error
    return builder.root, builder.errors


class _Open:
    """A table or list whose end has not come."""

    __slots__ = ("anchor", "before", "has_key", "key", "key_line", "node")

    def __init__(self, node: Table | Items, anchor: str | None, before: int) -> None:
        self.node = node
        self.anchor = anchor
        self.before = before
        self.has_key = False
        self.key = ""
        self.key_line = 0


class _Builder:
    """Events in, tree out. Invariant: `stack` holds exactly the nodes that are open, outermost first."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root: Node | None = None
        self.errors: list[DefinitionError] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """One event of the parser. Raises DefinitionError where nothing after it can be trusted."""
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event.tag, line)
            if _NOWHERE.search(event.value):
                hint = "Take the escape out: neither commands nor files can have it."
                raise self._error("a text has a character that is none", line, hint)
            node = Scalar(line, event.value, event.style in (None, ""))
            self._place(node, 1, line)
            self._remember(event.anchor, node, 1)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._refuse_tag(event.tag, line)
            self._begin(Table(line, {}, {}) if isinstance(event, yaml.MappingStartEvent) else Items(line, []), event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            closed = self._stack.pop()
            self._remember(closed.anchor, closed.node, self._nodes - closed.before)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(f"*{event.anchor} stands before its anchor &{event.anchor} is complete", line)
            self._place(*self._anchors[event.anchor], line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error("a second document begins", line, "Take the line --- out: a file is one document.")

    def _begin(self, node: Table | Items, event: yaml.CollectionStartEvent) -> None:
        before = self._nodes
        self._place(node, 1, node.line)
        if len(self._stack) >= DEEPEST:
            raise self._error(f"lists and tables are nested more than {DEEPEST} deep", node.line)
        self._stack.append(_Open(node, event.anchor, before))

    def _place(self, node: Node, size: int, line: int) -> None:
        """Put a finished or just begun node where it belongs."""
        self._nodes += size
        if self._nodes > MOST_NODES:
            raise self._error(f"there are more than {MOST_NODES} values, aliases counted as copies", line)
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        if isinstance(parent.node, Items):
            parent.node.items.append(node)
        elif parent.has_key:
            parent.has_key = False
            self._enter(parent.node, parent.key, parent.key_line, node)
        else:
            parent.has_key, parent.key, parent.key_line = True, self._key_of(node, line), line

    def _enter(self, table: Table, key: str, line: int, node: Node) -> None:
        if key in table.entries:
            self.errors.append(
                self._error(
                    f"is given twice, first on line {table.lines[key]}", line, "Take one out.", key=self._path()
                )
            )
            return
        table.entries[key] = node
        table.lines[key] = line

    def _key_of(self, node: Node, line: int) -> str:
        value = node.value() if isinstance(node, Scalar) else None
        if not isinstance(node, Scalar):
            raise self._error("a key is a list or a table", line, "Keys are words; put text with { or [ in quotes.")
        if not isinstance(value, str):
            self.errors.append(self._error(f"the key {shown(value)} is not text", line, f'Write "{node.text}".'))
        elif value == "<<" and node.is_plain:
            hint = "Write the keys out, or give a whole table by its alias."
            self.errors.append(self._error("merge keys are not supported", line, hint))
        return node.text

    def _remember(self, anchor: str | None, node: Node, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag is not None:
            raise self._error(f"the tag {shown(tag)} is not supported", line, "Put text that begins with ! in quotes.")

    def _path(self) -> str:
        return ".".join(
            level.key if isinstance(level.node, Table) else f"[{len(level.node.items)}]" for level in self._stack
        )

    def _error(self, problem: str, line: int, hint: str = "", *, key: str = "") -> DefinitionError:
        return DefinitionError(problem, source=self.source, line=line, hint=hint, key=key)


_HINTS: Final = (
    ("mapping values", "A value with ': ' in it must be in quotes, and keys of one table begin in the same column."),
    ("end of stream", "A quote is opened and never closed."),
    ("',' or", "A bracket is not closed, or text with { } [ ] or a comma needs quotes."),
    ("cannot start any token", "Text that begins with @, `, % or a tab must be in quotes."),
)


def _syntax_error(error: yaml.YAMLError, text: str, source: str) -> DefinitionError:
    """libyaml's complaint as one paragraph, with what it most often means."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    if mark is None:
        return DefinitionError(f"is not YAML: {problem}", source=source)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return DefinitionError("a tab indents the line", source=source, line=mark.line + 1, hint="Indent with spaces.")
    hint = next((hint for part, hint in _HINTS if part in problem), "Look at the line above it, too.")
    return DefinitionError(f"is not YAML: {problem}", source=source, line=mark.line + 1, hint=hint)
