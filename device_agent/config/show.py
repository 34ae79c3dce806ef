"""``device-agent config``: the configuration in use and the origin of each value, without keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..core.redaction import MASK, masked
from .credentials import key_and_place
from .diff import leaves
from .load import parse_config
from .model import Config, services_of
from .yaml_schema import Places, read_file, to_yaml

COLUMN = 44
"""The column of the remarks, if there is room."""


def as_yaml(path: Path) -> str:
    """Return a whole config.yaml, with a remark behind each value. Raises ConfigError."""
    loaded = parse_config(read_file(path), path)
    keys = {section: f"# its key: {said}" for section, said in _keys(loaded.config)}
    return "\n".join((f"# {path}", *_section(loaded.config, loaded.places, path.name, "", "", keys))) + "\n"


def as_json(path: Path) -> str:
    """Return the same as JSON. Raises ConfigError."""
    loaded = parse_config(read_file(path), path)
    found = {
        "file": str(path.absolute()),
        "values": masked(loaded.config),
        "origins": {key: _origin(key, loaded.places, str(path)) for key, _ in leaves(loaded.config)},
        "keys": dict(_keys(loaded.config)),
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _section(section: Any, places: Places, file: str, path: str, indent: str, keys: dict[str, str]) -> Iterator[str]:
    """Yield the lines of one section."""
    for each in fields(section):
        value, key = getattr(section, each.name), f"{path}.{each.name}".strip(".")
        if is_dataclass(value):
            yield f"{indent}{each.name}:"
            yield from _section(value, places, file, key, f"{indent}  ", keys)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            yield f"{indent}{each.name}:"
            for index, item in enumerate(value):
                first, *rest = _section(item, places, file, f"{key}[{index}]", f"{indent}    ", keys)
                yield f"{indent}  - {first.strip()}"
                yield from rest
        else:
            line = f"{indent}{each.name}: {to_yaml(masked(value))}".rstrip()
            yield f"{line:{COLUMN}}  # {_origin(key, places, file)}"
    if path in keys:
        yield f"{indent}{keys[path]}"


def _origin(key: str, places: Places, file: str) -> str:
    return f"{file}:{places[key][0]}" if key in places else "default"


def _keys(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each service, and where its key comes from, or why there is none."""
    for section, service in services_of(config):
        try:
            secret, place = key_and_place(service, config.service)
        except ConfigError as error:
            yield section, str(error)
        else:
            yield section, f"{MASK} from {place}" if secret else place
