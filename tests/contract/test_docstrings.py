"""Every public thing says what it is; where it is one of several of a kind, the contract of its kind may say it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

import pytest

import device_agent
from device_agent.core.errors import ConfigError


def modules() -> Iterator[ModuleType]:
    for each in pkgutil.walk_packages(device_agent.__path__, "device_agent."):
        if not each.name.endswith("__main__"):
            with suppress(ImportError, ConfigError):  # an extra that is not installed
                yield importlib.import_module(each.name)


MODULES = {each.__name__: each for each in modules()}


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the names and things that *module* gives to others."""
    for name, thing in vars(module).items():
        if not name.startswith("_") and not name.isupper() and getattr(thing, "__module__", None) == module.__name__:
            yield name, thing


def methods(cls: type) -> Iterator[tuple[str, object]]:
    for name, thing in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(thing) or isinstance(thing, (property, classmethod))):
            yield name, getattr(cls, name)


CONTRACTS = {
    name
    for module in MODULES.values()
    for _, thing in public(module)
    if getattr(thing, "_is_protocol", False)
    for name, method in methods(thing)
    if inspect.getdoc(method)
}
"""What methods are called that a protocol of ours explains."""


def silent(module: ModuleType) -> Iterator[str]:
    """Yield what says nothing."""
    for name, thing in public(module):
        if inspect.isfunction(thing) and not thing.__doc__:
            yield name
        elif inspect.isclass(thing):
            if not thing.__doc__:
                yield name
            for method, body in methods(thing):
                if not inspect.getdoc(body) and method not in CONTRACTS:
                    yield f"{name}.{method}"


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_is(name):
    assert MODULES[name].__doc__
    assert list(silent(MODULES[name])) == []


def test_there_is_something_to_look_at():
    assert len(MODULES) > 100
    assert {"show", "drain"} <= CONTRACTS
