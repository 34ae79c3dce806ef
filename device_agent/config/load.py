"""A file becomes a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import yaml_schema as schema
from .model import SYNONYMS, Config
from .rules import absences, contradictions
from .yaml_schema import Places


def load(path: str | os.PathLike[str]) -> Config:
    """Return what the file says, with defaults for what it does not say.

    Raises ConfigError. Its text lists every mistake as ``file:line:column: what is wrong and what to do`` and shows
    nothing that may be a key. Reads one small file; for any thread.
    """
    return parse_config(read(Path(path)), Path(path))[0]


def read(path: Path) -> str:
    """Return what stands in the file. Raises ConfigError."""
    return schema.read_file(path)


def parse_config(text: str, path: Path, *, alone: bool = False) -> tuple[Config, Places]:
    """Return what *text* says, and where it says so; *path* is where it stands. As ``load``, which reads it as well.

    *alone*: whatever of it this machine does not have just now.
    """
    return schema.parse_yaml(text, path, Config, contradictions if alone else _all_that_is_wrong, SYNONYMS)


def _all_that_is_wrong(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    yield from contradictions(config)
    yield from absences(config)


@dataclass(frozen=True)
class LoadedConfig:
    """What a file said once, and all of it was right."""

    config: Config
    text: str = field(repr=False)
    places: Places = field(repr=False)
