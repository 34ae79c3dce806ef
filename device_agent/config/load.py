"""Loading of config.yaml: read, parse, check."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from .model import SYNONYMS, Config
from .rules import absences, contradictions
from .yaml_schema import Places, Violation, parse_yaml, read_file


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration without mistakes, its text, and where its keys stand there."""

    config: Config
    text: str = field(repr=False)
    places: Places = field(repr=False)


def load(path: str | os.PathLike[str]) -> Config:
    """Return the configuration in the file, with defaults for what it leaves out.

    Raises ConfigError. Its text lists every mistake as ``file:line:column: what is wrong and what to do`` and shows
    nothing that may be a key. Reads one small file; for any thread.
    """
    return parse_config(read_file(Path(path)), Path(path)).config


def parse_config(text: str, path: Path, *, alone: bool = False) -> LoadedConfig:
    """Return the configuration in *text*, the content of *path*. Raises ConfigError as ``load`` does.

    *alone*: without a check of what this machine lacks for it.
    """

    def rules(config: Config) -> Iterable[Violation]:
        return contradictions(config) if alone else chain(contradictions(config), absences(config))

    config, places = parse_yaml(text, path, Config, rules, SYNONYMS)
    return LoadedConfig(config, text, places)
