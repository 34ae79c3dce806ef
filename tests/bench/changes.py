"""Single changes of a source file, each of which its tests should notice: those of mutmut, and what mutmut leaves out.

``mutmut run`` copies functions and switches between the copies. So it cannot change a property, nor what stands outside
of functions: constants, and tables such as those of the conversation. Here its operators are asked for all of the file,
and each change is a whole file of its own. Added are: a call that is not made, a condition that is reversed, an entry
that a table lacks, and a row that leads elsewhere.

Left out are the words of errors, of the log and of enumerations, type variables, and None in the place of False.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

WORDS = m.SimpleStatementLine([m.Raise() | m.Expr(m.Call(m.Attribute(m.Name("log"))))])
NO_BEHAVIOUR = m.ClassDef(bases=[m.Arg(m.Name("Enum"))]) | m.Assign(
    value=m.Call(m.Name("TypeVar") | m.Attribute(m.Name("logging")))
)
FALSE, NONE = (
    m.Assign(value=m.Name(word)) | m.AnnAssign(value=m.Name(word)) | m.Arg(value=m.Name(word))
    for word in ("False", "None")
)
ROW = m.Tuple([m.Element(m.Name()), m.Element(m.Tuple())])
"""Where a table leads, and what is done on the way."""
Literal = cst.Dict | cst.List | cst.Set | cst.Tuple


@dataclass(frozen=True)
class Change:
    """A file with one thing changed: in which *line*, in which function or class, what was there and what is now."""

    line: int
    scope: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    source: str


def changes(code: str) -> Iterator[Change]:
    """Yield all single changes of *code* that another program comes of."""
    wrapper = MetadataWrapper(cst.parse_module(code))
    wrapper.visit(visitor := _Visitor())
    seen = {_meaning(code)}
    for mutation, place in zip(visitor.mutations, visitor.places, strict=True):
        changed = wrapper.module.visit(_Replacement(mutation.original_node, mutation.mutated_node, place.above)).code
        if (meaning := _meaning(changed)) is not None and meaning not in seen:
            seen.add(meaning)
            yield Change(place.line, place.scope, *_difference(code, changed), changed)


def _meaning(code: str) -> str | None:
    """Return the same for all that is the same to Python, None where it makes no sense."""
    try:
        return ast.dump(ast.parse(code))
    except SyntaxError:
        return None


def _difference(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that only *before* has, and those that only *after* has."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return tuple(line.strip() for line in old), tuple(line.strip() for line in new)


@dataclass(frozen=True)
class _Place:
    """Where a node is: its line, its function or class, and the nodes that it is part of, itself the last."""

    line: int
    scope: str
    above: tuple[cst.CSTNode, ...]


class _Replacement(cst.CSTTransformer):
    """Puts one node in the place of another. To look at nothing else saves minutes."""

    def __init__(self, old: cst.CSTNode, new: cst.CSTNode, above: tuple[cst.CSTNode, ...]) -> None:
        super().__init__()
        self._old, self._new, self._above = old, new, {id(node) for node in above}

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node is not self._old and id(node) in self._above

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:
        return self._new if original_node is self._old else updated_node


class _Visitor(MutationVisitor):
    """Collects what may be changed, and where that is."""

    def __init__(self) -> None:
        operators = [*mutation_operators, (cst.Expr, _not_done), (cst.CSTNode, _reversed), (Literal, _shorter)]
        super().__init__([*operators, (cst.Tuple, _elsewhere)], IgnoredCode(set(), set(), set()))
        self.places: list[_Place] = []
        self._above: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        self._above.append(node)
        descends = super().on_visit(node)
        self.mutations = [one for one in self.mutations if not _same(one.original_node, one.mutated_node)]
        if missing := len(self.mutations) - len(self.places):
            line = self.get_metadata(PositionProvider, node).start.line
            names = [each.name.value for each in self._above if isinstance(each, (cst.FunctionDef, cst.ClassDef))]
            self.places += missing * [_Place(line, ".".join(names), tuple(self._above))]
        return descends

    def on_leave(self, original_node: cst.CSTNode) -> None:
        super().on_leave(original_node)
        self._above.pop()

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            return False  # decorated or not
        return m.matches(node, WORDS | NO_BEHAVIOUR) or super()._skip_node_and_children(node)


def _same(before: cst.CSTNode, after: cst.CSTNode) -> bool:
    """Whether the change is None for False, where both count as no: True is tried as well."""
    pairs: list[tuple[cst.CSTNode, cst.CSTNode]] = [(before, after)]
    if isinstance(before, cst.Call) and isinstance(after, cst.Call) and len(before.args) == len(after.args):
        pairs += zip(before.args, after.args, strict=True)
    return any(m.matches(old, FALSE) and m.matches(new, NONE) for old, new in pairs)


def _not_done(node: cst.Expr) -> Iterable[cst.CSTNode]:
    if isinstance(node.value, (cst.Call, cst.Yield)):
        yield cst.Pass()


def _reversed(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if isinstance(node, (cst.If, cst.While, cst.CompIf)) and not isinstance(
        node.test, (cst.Comparison, cst.UnaryOperation)
    ):
        whole = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), whole))


def _shorter(node: Literal) -> Iterable[cst.CSTNode]:
    """Leave out each entry. Only in a bracket, and of no row: what is unpacked has to have its length."""
    if m.matches(node, ROW) or (isinstance(node, cst.Tuple) and not node.lpar):
        return
    for at in range(len(node.elements)):
        rest = [*node.elements[:at], *node.elements[at + 1 :]]
        if isinstance(node, cst.Tuple) and len(rest) == 1:
            rest = [rest[0].with_changes(comma=cst.Comma())]
        if rest or not isinstance(node, cst.Set):
            yield node.with_changes(elements=rest)


def _elsewhere(node: cst.Tuple) -> Iterable[cst.CSTNode]:
    if m.matches(node, ROW):
        to = cst.ensure_type(node.elements[0].value, cst.Name)
        other = to.with_changes(value="LISTENING" if to.value == "REST" else "REST")
        yield node.with_changes(elements=[node.elements[0].with_changes(value=other), node.elements[1]])
