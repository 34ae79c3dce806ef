"""Conversion of YAML to dataclasses, with line and column of every mistake.

The only module that imports PyYAML. It reads the tree of nodes, which know their places, instead of constructed values:
so tags construct nothing, and an alias costs no more than what it stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ..core.errors import ConfigError
from ..core.printable import CONTROL, UNPRINTABLE
from ..core.redaction import SECRET, SECRET_NAME, SUSPECT
from ..runtime.atomic_file import read_stream

MAX_FILE_BYTES = 64 * 1024
MAX_LIST_ITEMS = 32
MAX_FREE_VALUES = 500
"""The most values below a key that takes any value."""
MAX_DEPTH = 64
"""The most levels; two are usual, the JSON schema of a tool has some more."""
MAX_MISTAKES = 50
"""The most mistakes that are told one by one; a file with more is the wrong one."""
MAX_SHOWN_CHARS = 40
"""The longest wrong value that is repeated; API keys are longer."""

NO_MERGE = "merge keys are not supported: write the values themselves"
NO_SECRETS = (
    "keys and tokens do not belong here: put it into a file of its own, and name that file in service.api_key_file"
)

_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"

Schema = TypeVar("Schema")
Violation = tuple[tuple[str, ...], str]
"""Keys whose values violate a rule, and a sentence that continues the first of them."""
Synonyms = Mapping[str, tuple[str, ...]]
"""What owners write -> what they may mean, best first, as suggestions."""
Places = Mapping[str, tuple[int, int]]
"""Key -> line and column of its value, for every key in the file."""


@dataclass(frozen=True)
class Must:
    """A condition on a value besides its type. *wish* completes "talk.vad should be ..."."""

    wish: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def whole(low: int, high: int) -> Must:
    """Return a range of whole numbers, both ends included."""
    return Must(f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def number(low: float, high: float) -> Must:
    """Return a range of numbers, both ends included."""
    return Must(f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def one_of(*names: str) -> Must:
    """Return a choice of words."""
    return Must(" or ".join(filter(None, [", ".join(names[:-1]), names[-1]])), lambda value: value in names, names)


def read_file(path: Path) -> str:
    """Return the text of a file. Raises ConfigError where it is too large, is not UTF-8 or cannot be read."""
    try:
        raw = read_stream(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES // 1024} KiB; is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(error.object[: error.start].decode())
        raise ConfigError(f"{path}:{place}: is not UTF-8; save the file as UTF-8") from None


def parse_yaml(
    text: str, path: Path, cls: type[Schema], rules: Callable[[Schema], Iterable[Violation]], synonyms: Synonyms
) -> tuple[Schema, Places]:
    """Return a *cls* made of *text*, the content of *path*, and the places of its keys. Raises ConfigError, with
    suggestions from *synonyms* or by spelling."""
    try:
        # The parser written in Python: the one in C may crash on a file of nothing but brackets.
        root = yaml.compose(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path}:{_syntax(error, text)}") from None  # the cause would quote the file
    reader = _Reader(synonyms)
    made: Schema = reader.section(cls, root, "") if root else cls()
    reader.note_violations(rules(made))
    if reader.mistakes:
        lines = [f"{path}:{line}:{column}: {sentence}" for line, column, sentence in sorted(reader.mistakes)]
        more = [f"{path}: and {len(lines) - MAX_MISTAKES} more mistakes"] if len(lines) > MAX_MISTAKES else []
        raise ConfigError("\n".join(lines[:MAX_MISTAKES] + more))
    return made, reader.places


def to_yaml(value: Any) -> str:
    """Return *value* as one line of YAML, which reads as the same value."""
    if value is None:
        return ""
    line: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf"))
    line = line.removesuffix("...\n").rstrip("\n")
    if not UNPRINTABLE.search(line):
        return line
    # With several lines, or characters that are not safe for a terminal: as JSON, which is YAML as well.
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


class _Loader(yaml.SafeLoader):
    """Stops at MAX_DEPTH: deeper levels would cost seconds, and the stack."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        self._check_depth(self.flow_level)
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        self._check_depth(len(self.indents))
        return bool(super().add_indent(column))

    def _check_depth(self, level: int) -> None:
        if level >= MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep"
            raise yaml.scanner.ScannerError(problem=problem, problem_mark=self.get_mark())


class _Mistake(Exception):
    """A wrong value."""

    def __init__(self, node: yaml.Node, sentence: str) -> None:
        super().__init__(sentence)
        self.node = node


class _Reader:
    """Turns nodes into dataclasses, and collects the mistakes."""

    def __init__(self, synonyms: Synonyms) -> None:
        self._synonyms = synonyms
        self.mistakes: list[tuple[int, int, str]] = []
        """Line, column, sentence."""
        self._nodes: dict[str, yaml.Node] = {}  # by key
        self._wrong: set[str] = set()  # keys with a mistake

    @property
    def places(self) -> Places:
        """The places of the keys."""
        marks = {key: node.start_mark for key, node in self._nodes.items()}
        return {key: (mark.line + 1, mark.column + 1) for key, mark in marks.items()}

    def section(self, cls: Any, node: yaml.Node, path: str) -> Any:
        """Return a *cls* made of a section; keys that are missing or wrong get their default."""
        if not isinstance(node, yaml.MappingNode):
            if not _is_empty(node):
                self._note(node, f"{path or 'the file'} should be a section with keys, not {_shown(node)}")
                self._wrong.update(_join(path, name) for name in get_type_hints(cls))
            self._require(cls, node, path, set())
            return cls()
        hints, values = get_type_hints(cls, include_extras=True), {}
        for name, value in self._entries(node, path, list(hints)):
            key = _join(path, name)
            self._nodes[key] = value
            with self._noted(key):
                values[name] = self._value(hints[name], value, key)
        self._require(cls, node, path, set(values))
        return cls(**values)

    def _require(self, cls: Any, node: yaml.Node, path: str, given: set[str]) -> None:
        """Raises _Mistake where a key without a default is missing or wrong: then no *cls* can be made."""
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        missing = [name for name in missing if name not in given]
        unsaid = [name for name in missing if _join(path, name) not in self._wrong]
        if missing:
            raise _Mistake(node, f"{path} has no {unsaid[0]}" if unsaid else "")

    def note_violations(self, violations: Iterable[Violation]) -> None:
        """Note *violations* between keys in the file that are right each for itself."""
        for keys, sentence in violations:
            nodes = [self._nodes[key] for key in keys if key in self._nodes]
            if nodes and self._wrong.isdisjoint(keys):
                self._note(nodes[0], f"{keys[0]} {sentence}")

    def _note(self, node: yaml.Node, sentence: str) -> None:
        """Note a mistake; an empty sentence means that it is noted already."""
        if sentence:
            self.mistakes.append((node.start_mark.line + 1, node.start_mark.column + 1, sentence))

    @contextmanager
    def _noted(self, key: str) -> Iterator[None]:
        """Note a _Mistake in the value of *key*, and go on."""
        try:
            yield
        except _Mistake as mistake:
            self._wrong.add(key)
            self._note(mistake.node, str(mistake))

    def _entries(self, node: yaml.MappingNode, path: str, known: list[str]) -> Iterator[tuple[str, yaml.Node]]:
        """Yield name and value of every known key."""
        lines: dict[str, int] = {}
        for name_node, value in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
            if name not in known:
                self._note(name_node, self._unknown(name_node, path, known))
            elif name in lines:
                self._note(name_node, f"{_join(path, name)} is in line {lines[name]} already; remove one of them")
            else:
                lines[name] = name_node.start_mark.line + 1
                yield name, value

    def _value(self, hint: Any, node: yaml.Node, key: str) -> Any:
        """Return the value of *node* for a *hint*. Raises _Mistake."""
        wanted = key_type(hint)
        kind, musts = wanted.kind, wanted.musts
        if is_dataclass(kind):
            return self.section(kind, node, key)
        if get_origin(kind) is tuple:
            return self._items(get_args(kind)[0], node, key)
        if kind is Any:
            return self._anything(node, key, musts)
        if _is_empty(node):
            if wanted.optional:
                return None
            raise _Mistake(node, f"{key} is empty; it should be {wanted.wish}")
        if isinstance(node, yaml.ScalarNode) and SECRET.match(node.value.strip()):
            raise _Mistake(node, f"{key} looks like a key; {NO_SECRETS}")
        value = _scalar(kind, node, musts) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            quotes = "; put it in quotes" if kind is str and not musts and node.tag != _TEXT else ""
            hint = quotes or self._choice(node, musts)
            raise _Mistake(node, f"{key} should be {wanted.wish}, not {_shown(node)}{hint}")
        for must in musts:
            if not must.holds(value):
                raise _Mistake(node, f"{key} should be {must.wish}, not {_shown(node)}{self._choice(node, [must])}")
        return value

    def _choice(self, node: yaml.Node, musts: list[Must]) -> str:
        """Return a suggestion among the choices."""
        choices = [choice for must in musts for choice in must.choices]
        return _suggestion(node.value, choices, self._synonyms) if isinstance(node, yaml.ScalarNode) else ""

    def _unknown(self, node: yaml.Node, path: str, known: list[str]) -> str:
        """Return what is wrong with a key that is not *known*. Its value is never shown."""
        name = node.value if isinstance(node, yaml.ScalarNode) else ""
        if _is_merge(node):
            return f"{path or 'the file'} has <<; {NO_MERGE}"
        key = _join(path, name if re.fullmatch(r"\w{1,40}", name) and not _is_suspect(name) else _shown(node))
        if SECRET_NAME.search(name) or _is_suspect(name):
            return f"{key} is not allowed; {NO_SECRETS}"
        suggestion = _suggestion(name, known, self._synonyms)
        return f"{key} is unknown" + (suggestion or f"; {path or 'the file'} has {', '.join(known)}")

    def _anything(self, node: yaml.Node, key: str, musts: list[Must]) -> Any:
        """Return *node* as JSON types. Raises _Mistake."""
        try:
            value = self._free(node, key, [MAX_FREE_VALUES])
        except RecursionError:  # an alias in itself
            raise _Mistake(node, f"{key} is nested too deeply") from None
        for must in musts:
            if not must.holds(value):
                raise _Mistake(node, f"{key} should be {must.wish}")
        return value

    def _free(self, node: yaml.Node, key: str, budget: list[int]) -> Any:
        """Return *node* as JSON types. *budget* is how many nodes are left: an alias may multiply them."""
        budget[0] -= 1
        if budget[0] < 0:
            raise _Mistake(node, f"{key} holds more than {MAX_FREE_VALUES} values")
        if isinstance(node, yaml.SequenceNode):
            return [self._free(item, key, budget) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            for name, _ in node.value:
                self._check_name(name, key)
            return {str(name.value): self._free(value, key, budget) for name, value in node.value}
        if SECRET.match(node.value.strip()):
            raise _Mistake(node, f"{key} looks like a key; {NO_SECRETS}")
        if not _is_plain_text(node.value):
            raise _Mistake(node, f"{key} holds a control character")
        return _plain(node)

    def _check_name(self, node: yaml.Node, key: str) -> None:
        """Raises _Mistake where *node* is no name of JSON."""
        if _is_merge(node):
            raise _Mistake(node, f"{key} has <<; {NO_MERGE}")
        if not isinstance(node, yaml.ScalarNode) or not _is_plain_text(node.value):
            raise _Mistake(node, f"{key} has a name that is not a text")

    def _items(self, hint: Any, node: yaml.Node, key: str) -> tuple[Any, ...]:
        if _is_empty(node):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise _Mistake(node, f"{key} should be a list like [one, two], not {_shown(node)}")
        if len(node.value) > MAX_LIST_ITEMS:
            raise _Mistake(node, f"{key} should have {MAX_LIST_ITEMS} entries at most, not {len(node.value)}")
        values = []
        for index, item in enumerate(node.value):
            with self._noted(key):
                values.append(self._value(hint, item, f"{key}[{index}]"))
        return tuple(values)


class KeyType(NamedTuple):
    """The type hint of a key: bare type, conditions, whether it may be left empty."""

    kind: Any
    musts: list[Must]
    optional: bool

    @property
    def wish(self) -> str:
        """What the value should be, in words; "" for a section, a list and any value."""
        return self.musts[0].wish if self.musts else _SCALARS[self.kind][0] if self.kind in _SCALARS else ""


def key_type(hint: Any) -> KeyType:
    """Return what a type hint of the model says."""
    musts: list[Must] = []
    if get_origin(hint) is Annotated:
        hint, *musts = get_args(hint)
    if get_origin(hint) is Literal:
        hint, musts = str, [one_of(*get_args(hint))]
    if isinstance(hint, UnionType):
        return KeyType(get_args(hint)[0], musts, NoneType in get_args(hint))
    return KeyType(hint, musts, optional=False)


def _scalar(kind: Any, node: yaml.ScalarNode, musts: list[Must]) -> Any:
    """Return the value of *node* as a *kind*; None where it has none."""
    if any(node.value in must.choices for must in musts):
        return node.value  # "off", which YAML reads as false
    return _SCALARS[kind][1](node)


def _text(node: yaml.ScalarNode) -> str | None:
    text: str = node.value.strip()
    return text if node.tag == _TEXT and _is_plain_text(text) else None


def _is_plain_text(text: str) -> bool:
    """Return whether *text* has no control characters besides newline and tab."""
    return not CONTROL.search(text.translate(dict.fromkeys(map(ord, "\n\t"))))


def _digits(pattern: str, make: Callable[[str], Any]) -> Callable[[yaml.ScalarNode], Any]:
    # Not the resolver of YAML, which reads 010 as eight, 1:30 as ninety and 08 as a text.
    return lambda node: make(node.value) if node.style is None and re.fullmatch(pattern, node.value) else None


_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_SCALARS: dict[type, tuple[str, Callable[[yaml.ScalarNode], Any]]] = {
    str: ("text", _text),
    int: ("a whole number", _digits(r"[+-]?[0-9]{1,9}", int)),
    bool: ("true or false", lambda node: _CONSTANTS.get(node.value.lower()) if node.style is None else None),
    float: ("a number", _digits(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?", float)),
}
"""Type -> its name in a message, and what reads it or returns None."""


def _plain(node: yaml.Node) -> Any:
    """Return a scalar as a JSON type."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return node.value
    if node.value.lower() in _CONSTANTS:
        return _CONSTANTS[node.value.lower()]
    numbers = (_SCALARS[kind][1](node) for kind in (int, float))
    return next((number for number in numbers if number is not None), node.value)


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "<<" and node.style is None


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and (node.tag == _NULL or not node.value.strip())


def _shown(node: yaml.Node) -> str:
    """Return a value as the log may repeat it: short, in one line, and no API key."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a section"
    text: str = node.value
    if len(text) > MAX_SHOWN_CHARS or _is_suspect(text) or re.search("[@?]", text):  # a URL may hold a password
        return f"a text of {len(text)} characters"
    return text if node.tag != _TEXT and text.isprintable() else json.dumps(text, ensure_ascii=not text.isprintable())


def _is_suspect(text: str) -> bool:
    return bool(SUSPECT.match(text.strip()) or SECRET.match(text.strip()))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _suggestion(word: str, known: Sequence[str], synonyms: Synonyms) -> str:
    """Return a question for the *known* name that may be meant, by *synonyms* or by spelling; "" for none."""
    import difflib  # only needed after a mistake

    usual = synonyms.get(word.lower().replace("-", "_").replace(" ", "_"), ())
    near = [each for each in usual if each in known] or difflib.get_close_matches(word[:MAX_SHOWN_CHARS], known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _syntax(error: Exception, text: str) -> str:
    """Return place and kind of an *error* of PyYAML, without quoting what may be an API key."""
    if isinstance(error, RecursionError):
        return " is nested too deeply; it should have two levels"
    place, problem = "", str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark, problem = error.problem_mark or error.context_mark, error.problem or ""
        place = f"{mark.line + 1}:{mark.column + 1}:" if mark else ""
    elif isinstance(error, yaml.reader.ReaderError):
        place, problem = f"{_place(text[: error.position])}:", f"invisible character #x{ord(text[error.position]):04x}"
    problem = re.sub(r"'[^'<\s]{9,}'", "...", problem)
    return f"{place} is not YAML: {problem}; is a colon, quote or bracket missing, or a line indented by a tab?"


def _place(before: str) -> str:
    """Return line and column of the end of the text *before*."""
    lines = f"{before}.".splitlines()
    return f"{len(lines)}:{len(lines[-1])}"
