"""The services by name, and how one is loaded."""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module
from typing import Any

SERVICES = {  # name in config.yaml -> module and class; the first is the default
    "xai": "xai:Xai",
    "xai-live": "xai_live:XaiLive",
    "openai": "openai:OpenAI",
    "litellm": "litellm:LiteLLM",
    "ultravox": "ultravox:Ultravox",
}


def load(name: str) -> Any:
    """Return the class of the service called *name*, importing only that one."""
    module, _, cls = SERVICES[name].partition(":")
    return getattr(import_module(f".{module}", __package__), cls)


def rules(name: str, dialect: str) -> Any:
    """Return the class whose rules count for the service called *name*: that of the service behind a proxy, which
    speaks *dialect*, else its own."""
    cls = load(name)
    return cls.behind.get(dialect, cls)


def reasons(cls: Any, model: str) -> bool:
    """Return whether *model* of the service *cls* takes ``reasoning``. A model that does not take it refuses all other
    settings with it."""
    refusing = cls.refuses_reasoning
    return bool(cls.efforts) and not (refusing and re.fullmatch(refusing, model))


def options(name: str) -> frozenset[str]:
    """Return the names of the settings that the service called *name* understands."""
    return frozenset(each.name for each in dataclasses.fields(load(name)))
