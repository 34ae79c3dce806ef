"""Fallback after a refused ``session.update``: the same settings without the refused one, if it is optional.

OpenAI voids a whole update because of one field (seen in the field), and models of transcription are shut down: a
speaker without a transcript still talks. Pure.
"""

from __future__ import annotations

import copy
from typing import Any

from .json_fields import Fields, text

OPTIONAL_SETTINGS: dict[str, tuple[str, ...]] = {  # -> their path in the session
    "transcription": ("audio", "input", "transcription"),
    "noise_reduction": ("audio", "input", "noise_reduction"),
    "speed": ("audio", "output", "speed"),
    "reasoning": ("reasoning",),
    "resumption": ("resumption",),
}


def without_refused(settings: Fields, parameter: str, message: str) -> tuple[str, Fields] | None:
    """Return the name of the optional setting that was refused and *settings* without it; None if another one was.
    *parameter* is the path in the error event; if that is "", the words of *message* decide."""
    for name, path in OPTIONAL_SETTINGS.items():
        found = _at(settings, path)
        if found is None:
            continue
        about = ".".join(path) in parameter or parameter.endswith(f".{name}")
        model = text(found, "model") if isinstance(found, dict) else ""
        named = name in message.lower() or bool(model and model in message)
        if about or (not parameter and named) or (named and name in parameter):
            left = copy.deepcopy(settings)
            del _at(left, path[:-1])[path[-1]]
            return name, left
    return None


def _at(settings: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings
