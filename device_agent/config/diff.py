"""Keys of a configuration: differences between two, and places in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..core.errors import AgentError, ConfigError
from .load import LoadedConfig
from .model import Config
from .yaml_schema import Places


def located(error: AgentError, path: Path, loaded: LoadedConfig, key: str = "") -> ConfigError:
    """Return *error* with its place in the file: that of *key*, or of a key or a file that its text names."""
    text, places = str(error), loaded.places
    if text.startswith(f"{path}:"):
        return ConfigError(text)
    named = [each for each in places if re.search(rf"(?<![\w.]){re.escape(each)}(?![\w.])", text)]
    files = [each for each, value in leaves(loaded.config) if each.endswith("_file") and value and value in text]
    return ConfigError(f"{path}:{place_of(places, key, *sorted(named, key=len, reverse=True), *files)} {error}")


def place_of(places: Places, *keys: str) -> str:
    """Return line and column of the first of *keys* that is in the file, as the beginning of a message."""
    found = next((places[key] for key in keys if key in places), None)
    return f"{found[0]}:{found[1]}:" if found else ""


def leaves(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of a configuration and its value; a list of plain values is one value, as is an empty list."""
    if is_dataclass(section):
        for each in fields(section):
            yield from leaves(getattr(section, each.name), f"{path}.{each.name}".strip("."))
    elif isinstance(section, tuple) and section and is_dataclass(section[0]):
        for index, item in enumerate(section):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, section


def differences(one: Config, other: Config) -> list[str]:
    """Return the keys in which two configurations differ."""
    before, after = dict(leaves(one)), dict(leaves(other))
    nothing = object()
    keys = dict.fromkeys((*before, *after))
    return [key for key in keys if before.get(key, nothing) != after.get(key, nothing)]
