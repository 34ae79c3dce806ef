"""Judges events by the types of the ``openai`` package, which other people wrote.

The package itself is no strict judge: its models accept unknown fields, and pydantic does not see how its unions are
told apart. So the class of an event is picked by its ``type`` here, and what no class declares is reported.
"""

from __future__ import annotations

import json
import types
import typing
from collections import defaultdict
from functools import cache

import pytest

pydantic = pytest.importorskip("pydantic", reason="the judge needs the openai package: pip install openai")
realtime = pytest.importorskip("openai.types.realtime", reason="the judge needs the openai package: pip install openai")

UNDECLARED = ("obfuscation", "phase", "session.id", "session.object", "session.expires_at")
"""Fields that the live service sends and the package does not declare; ``phase`` is what other clients read of it."""


def judge(event: dict, side: str) -> list[str]:
    """Return what is wrong with an event of the "client" or the "server", in sentences."""
    models = _models(side).get(event.get("type"), [])
    verdicts = [_against(model, event) for model in models]
    return min(verdicts, key=len, default=[f"{event.get('type')!r} is no event of the {side}"])


@cache
def _models(side: str) -> dict[str, list[type]]:
    union = {"client": realtime.RealtimeClientEvent, "server": realtime.RealtimeServerEvent}[side]
    found = defaultdict(list)
    for model in _members(union):
        for name in typing.get_args(model.model_fields["type"].annotation):
            found[name].append(model)
    return found


def _members(kind: object) -> typing.Iterator[type]:
    if typing.get_origin(kind) is typing.Annotated:
        yield from _members(typing.get_args(kind)[0])
    elif typing.get_origin(kind) in {typing.Union, types.UnionType}:
        for each in typing.get_args(kind):
            yield from _members(each)
    elif isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        yield kind


def _against(model: type, event: dict) -> list[str]:
    try:
        made = pydantic.TypeAdapter(model).validate_json(json.dumps(event), strict=True)
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    unknown = _unknown(event, made, event["type"])
    return [f"{path} is not declared" for path in unknown if not path.endswith(UNDECLARED)]


def _unknown(raw: object, made: object, path: str) -> typing.Iterator[str]:
    if isinstance(made, pydantic.BaseModel) and isinstance(raw, dict):
        names = {field.alias or name: name for name, field in type(made).model_fields.items()}
        for key, value in raw.items():
            if key in names:
                yield from _unknown(value, getattr(made, names[key]), f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(made, list) and isinstance(raw, list):
        for index, (value, each) in enumerate(zip(raw, made, strict=True)):
            yield from _unknown(value, each, f"{path}[{index}]")
