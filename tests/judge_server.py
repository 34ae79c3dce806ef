"""Judges what our OpenAI-shaped service says by the types of the ``openai`` package, which others wrote.

Three traps are worked around. The package's models let unknown fields pass, so the tree is walked for fields that they
do not declare. Its unions carry a discriminator that pydantic does not see, so the class is picked by ``type`` here.
And the package never validates what it receives, so that it could read an event proves little.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from typing import Any

from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

RECORDED = {"obfuscation", "session.id", "session.object", "session.expires_at"}
"""What the live service was recorded to send and the package does not declare."""


def problems(event: dict[str, Any]) -> list[str]:
    """Return what is wrong with *event*, nothing where it is right."""
    model = models().get(event.get("type", ""))
    if model is None:
        return [f"{event.get('type')!r} is no event of the service"]
    return judged(event, model)


def judged(value: dict[str, Any], model: Any) -> list[str]:
    """Return what is wrong with *value* as a *model*."""
    try:
        read = TypeAdapter(model).validate_json(json.dumps(value), strict=True)  # strict: "1" is not 1
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return [path for path in undeclared(value, read) if path not in RECORDED and path.split(".")[-1] not in RECORDED]


@functools.cache
def models() -> dict[str, type[BaseModel]]:
    return {kind: model for model in members(RealtimeServerEvent) for kind in kinds(model)}


def members(union: Any) -> list[type[BaseModel]]:
    if typing.get_origin(union) is typing.Annotated:
        return members(typing.get_args(union)[0])
    if typing.get_origin(union) in (typing.Union, types.UnionType):
        return [model for each in typing.get_args(union) for model in members(each)]
    return [union]


def kinds(model: type[BaseModel]) -> list[str]:
    return [each for each in typing.get_args(model.model_fields["type"].annotation) if isinstance(each, str)]


def undeclared(raw: Any, read: Any, path: str = "") -> list[str]:
    """Return the paths in *raw* that the model *read* from it does not declare."""
    found: list[str] = []
    if isinstance(read, BaseModel) and isinstance(raw, dict):
        declared = {field.alias or name: name for name, field in type(read).model_fields.items()}
        for name, value in raw.items():
            inner = f"{path}.{name}" if path else name
            found += undeclared(value, getattr(read, declared[name]), inner) if name in declared else [inner]
    elif isinstance(read, list):
        for each, model in zip(raw, read, strict=True):
            found += undeclared(each, model, path)
    return found
