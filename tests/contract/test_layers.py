"""The folders are the architecture: imports run one way, from the ground up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.layers import MAY_IMPORT, PACKAGE, imported, modules, name_of

TOP = {"", "__main__", "cli"}
"""Modules above all packages."""


def allowed(name: str, target: str) -> bool:
    package = name.partition(".")[0]
    if name in TOP or target == "" or target.partition(".")[0] == package:
        return True
    return any(target == may or target.startswith(f"{may}.") for may in MAY_IMPORT[package])


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_its_package_may(path: Path):
    assert [target for target, _ in imported(path) if not allowed(name_of(path), target)] == []


def test_each_package_stands_above_those_that_it_imports():
    order = list(MAY_IMPORT)
    for package, may in MAY_IMPORT.items():
        assert all(order.index(each.partition(".")[0]) < order.index(package) for each in may)
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(order)


def test_no_module_imports_itself_by_way_of_others():
    graph = {name_of(path): {target for target, at_once in imported(path) if at_once} for path in modules()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*/__init__.py")), ids=name_of)
def test_a_package_holds_no_code_of_its_own(path: Path):
    docstring, *rest = ast.parse(path.read_text()).body
    assert isinstance(docstring, ast.Expr)
    names = [node for node in rest if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    assert all(isinstance(node, ast.ImportFrom) or node in names for node in rest)
    assert not rest or path.parent.name == "simulator"
