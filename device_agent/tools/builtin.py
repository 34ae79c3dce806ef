"""Built-in tools: volume, mute, stop, alarms and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..core.events import Event, MuteAsked, StopAsked, VolumeAsked
from ..state.alarms import Alarms
from .alarm_tools import Clock, alarm_tools
from .arguments import Arguments, number
from .base import Tool, ToolFailed
from .function import BuiltinTool, function
from .time_tools import time_tools

Tell = Callable[[Event], None]


def builtin_tools(
    names: Iterable[str],
    *,
    tell: Tell,
    volume: Callable[[], int],
    alarms: Alarms,
    wall: Clock = time.time,
    steady: Clock = time.monotonic,
) -> list[Tool]:
    """Return the tools of the groups *names*, some of ``config.ABILITIES``.

    *tell* takes the events, *volume* returns the present percent; both are called in any thread. *wall* is the time of
    day, *steady* the clock that ``alarms.due`` is called with; both in seconds.
    """
    groups: dict[str, Callable[[], list[BuiltinTool]]] = {
        "volume": lambda: [
            BuiltinTool(SET_VOLUME, partial(_set_volume, tell, volume)),
            BuiltinTool(GET_VOLUME, lambda _arguments: {"volume": volume()}),
        ],
        "mute": lambda: [BuiltinTool(MUTE, partial(_mute, tell))],
        "stop": lambda: [BuiltinTool(STOP, partial(_stop, tell), quiet=True)],
        "alarms": lambda: alarm_tools(alarms, wall, steady),
        "time": lambda: time_tools(wall),
    }
    return [tool for name in dict.fromkeys(names) for tool in groups[name]()]


SET_VOLUME = function(
    "set_volume",
    "Changes how loud this speaker is. Give either percent or change.",
    percent={"type": "integer", "description": "The volume from 0 (silent) to 100 (loudest)."},
    change={
        "type": "integer",
        "description": "How much louder, or if negative quieter; 10 is a good step. -100 to 100.",
    },
)
GET_VOLUME = function("get_volume", "Tells how loud this speaker is, from 0 to 100.")
MUTE = function(
    "mute",
    "Switches the microphone of this speaker off, so that it hears nothing any more, not even a request to hear again. "
    "Tell the user that only the button or switch on the device switches it on again. It does not change the volume.",
)
STOP = function(
    "stop",
    "Makes this speaker silent at once: it stops speaking, and an alarm or timer that rings stops ringing. Call it, "
    'and say nothing, whenever the user says something like "stop", "be quiet", "enough" or "never mind".',
)


def _set_volume(tell: Tell, volume: Callable[[], int], arguments: Arguments) -> dict[str, Any]:
    percent, change = number(arguments, "percent", 0, 100), number(arguments, "change", -100, 100)
    if percent is not None and not change:
        wanted = round(percent)
        tell(VolumeAsked(percent=wanted))
        return {"volume": wanted}
    if percent is not None:
        raise ToolFailed("percent and change were given; give the one that the user meant")
    if not change:
        raise ToolFailed("neither percent nor change was given; ask the user how loud they want it")
    before, by = volume(), round(change) or (1 if change > 0 else -1)
    tell(VolumeAsked(by=by))
    wanted = max(0, min(100, before + by))
    return {"volume": wanted, **({"note": "it was so already"} if wanted == before else {})}


def _mute(tell: Tell, _arguments: Arguments) -> dict[str, Any]:
    tell(MuteAsked(True))
    return {"microphone": "off", "on_again": "only by the button or switch on the device"}


def _stop(tell: Tell, _arguments: Arguments) -> dict[str, Any]:
    tell(StopAsked())
    return {"silent": True}
