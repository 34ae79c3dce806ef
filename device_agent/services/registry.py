"""Names of the voice services, and how to load one."""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module

from .base import Service

SERVICES = {  # name in config.yaml -> module and class; the first is the default
    "xai": "xai:Xai",
    "xai-live": "xai_live:XaiLive",
    "openai": "openai:OpenAI",
    "litellm": "litellm:LiteLLM",
    "ultravox": "ultravox:Ultravox",
}


def load(name: str) -> type[Service]:
    """Return the class of the service called *name*, importing only that one."""
    module, _, cls = SERVICES[name].partition(":")
    service: type[Service] = getattr(import_module(f".{module}", __package__), cls)
    return service


def rules(name: str, dialect: str) -> type[Service]:
    """Return the class whose rules apply: that of the service behind a proxy, which speaks *dialect*, else its own."""
    cls = load(name)
    return cls.behind.get(dialect, cls)


def rate(name: str, wanted: int, audio: str) -> int:
    """Return the sample rate of a service, given ``service.rate`` and ``service.audio`` of the configuration."""
    return load(name).sample_rate(wanted, audio)


def reasons(cls: type[Service], model: str) -> bool:
    """Return whether *model* of the service *cls* accepts ``reasoning``."""
    refusing = cls.refuses_reasoning
    return bool(cls.efforts) and not (refusing and re.fullmatch(refusing, model))


def options(name: str) -> frozenset[str]:
    """Return the names of the settings that the service called *name* has."""
    return frozenset(each.name for each in dataclasses.fields(load(name)))
