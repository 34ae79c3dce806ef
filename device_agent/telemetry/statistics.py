"""What the agent does and has done, as figures: for ``device-agent status`` and whoever else wants to show them.

No word of what was said is here, and no key.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..core.actions import Action, InterruptReply, Play, Show, StartAlarm, StopAlarm
from ..core.conversation import MOODS, STARTING
from ..core.events import (
    DeviceReady,
    Event,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneLost,
    NoSpeech,
    PlaybackStarted,
    Port,
    Refused,
    ReplyEnded,
    ServiceError,
    SpeakerLost,
    ToolCall,
)
from ..core.redaction import quoted
from ..dsp.level_meter import LevelMeter
from .turn_timing import NO_ANSWER, STEPS, TurnTimer, TurnTimes

SNAPSHOT_TURNS = 20
"""How many of the last turns a snapshot shows."""
COUNTED = (
    "turns",
    "replies",
    "interruptions",
    "given_up",
    "nothing_said",
    "tool_calls",
    "connections",
    "reconnects",
    "refusals",
    "service_errors",
    "device_losses",
)
GAPS = ("overflows", "underruns", "starved")


@dataclass(frozen=True)
class Gauges:
    """What nobody tells, and one has to look at."""

    state: str = STARTING.value
    volume: int = 0
    muted: bool = False
    today: float = 0.0
    """Seconds connected; so are the next two."""
    total: float = 0.0
    cap: float = 0.0
    gaps: tuple[int, int, int] = (0, 0, 0)
    """In the microphone, in the loudspeaker, in what came of replies."""
    prefill: float = 0.0
    """Seconds that the beginning of a reply waits."""


class MeasuredDevice(Protocol):
    """What an agent shows besides events. Any thread may look."""

    def gauges(self) -> Gauges:
        """Return how things are."""

    @property
    def levels(self) -> tuple[LevelMeter, LevelMeter]:
        """Microphone and loudspeaker."""


class Statistics:
    """Watches agents, one after the other, as long as the process lives.

    It is shown what happens by the main thread, which also calls ``look_at`` and ``configured``; ``snapshot``,
    ``listen`` and ``levels`` belong to any thread. ``now`` is in seconds of one clock that never jumps; *wall* is the
    time of day.
    """

    def __init__(self, file: Path, price: float, began: float, wall: Callable[[], float] = time.time) -> None:
        """*file* is the configuration; *price* is what a connected minute costs, 0 if that is not known."""
        self._began, self._wall = began, wall
        self._file, self._price = file, price
        self._state = "in use"
        self._mistakes: list[str] = []
        self._stopwatch = TurnTimer()
        self._counted: TurnTimes | None = None  # the latest turn that is in the count
        self._counts = dict.fromkeys(COUNTED, 0)
        self._mood, self._mood_since = MOODS[STARTING], began
        self._ringing = False
        self._service = ""
        self._connected_at: float | None = None
        self._lost: dict[str, float] = {}  # since when
        self._error: tuple[str, str, float] | None = None
        self._cause: Event | None = None  # the latest event: actions follow from it
        self._agent: MeasuredDevice | None = None
        self._gaps_before = (0, 0, 0)  # of the agents before this one
        self._listening = False
        self._latency: tuple[int, dict[str, Any]] = (-1, {})
        self._lock = threading.Lock()

    # The main thread --------------------------------------------------------------------------------------------------

    def look_at(self, agent: MeasuredDevice) -> None:
        """From now on this is the agent; nothing is going on at one that is new."""
        with self._lock:
            if self._agent is not None:
                gaps = zip(self._gaps_before, self._agent.gauges().gaps, strict=True)
                self._gaps_before = tuple(sum(pair) for pair in gaps)  # type: ignore[assignment]
            self._agent = agent
            self._service, self._connected_at, self._ringing = "", None, False
            self._lost.clear()
            self._stopwatch.renew()
            self._want(self._listening)

    def configured(self, file: Path, price: float, state: str = "in use", mistakes: Iterable[str] = ()) -> None:
        """The configuration is another one, or there are *mistakes* in its file, and *state* says what is used."""
        with self._lock:
            self._file, self._price, self._state, self._mistakes = file, price, state, list(mistakes)

    def __call__(self, word: Event | Action, now: float) -> None:
        with self._lock:
            self._stopwatch(word, now)
            if isinstance(word, Event):
                self._cause = word
                self._note_event(word, now)
            else:
                self._note_action(word, now)
            turn = self._stopwatch.turn
            if turn is not None and turn is not self._counted and turn.said:
                self._counted = turn
                self._counts["turns"] += 1

    def _note_event(self, event: Event, now: float) -> None:
        match event:
            case PlaybackStarted():
                self._counts["replies"] += 1
            case ToolCall():
                self._counts["tool_calls"] += 1
            case NoSpeech():
                self._counts["nothing_said"] += 1
            case LinkUp() | LinkIdle() | LinkDown() | Refused():
                self._note_link(event, now)
            case ServiceError(problem) | ReplyEnded(_, problem) if problem:
                self._counts["service_errors"] += 1
                self._error = ("service", problem, now)
            case MicrophoneLost() | SpeakerLost() | DeviceReady():
                self._note_device(event, now)

    def _note_link(self, event: LinkUp | LinkIdle | LinkDown | Refused, now: float) -> None:
        self._service, self._connected_at = "", None
        match event:
            case LinkUp(service):
                self._counts["connections"] += 1
                self._service, self._connected_at = service, now
            case LinkDown(reason):
                self._counts["reconnects"] += 1
                self._error = ("link", reason, now)
            case Refused(reason):
                self._counts["refusals"] += 1
                self._error = ("refused", reason, now)

    def _note_device(self, event: MicrophoneLost | SpeakerLost | DeviceReady, now: float) -> None:
        if isinstance(event, DeviceReady):
            self._lost.pop(event.worker, None)
            return
        device = Port.MICROPHONE if isinstance(event, MicrophoneLost) else Port.SPEAKER
        if device not in self._lost:
            self._lost[device] = now
            self._counts["device_losses"] += 1
        self._error = (device, event.reason, now)

    def _note_action(self, action: Action, now: float) -> None:
        match action:
            case Show(mood):
                self._mood, self._mood_since = mood, now
            case InterruptReply() if self._mood == "speaking" and not isinstance(self._cause, SpeakerLost):
                self._counts["interruptions"] += 1
            case Play(cue) if cue in NO_ANSWER:
                self._counts["given_up"] += 1
            case StartAlarm() | StopAlarm():
                self._ringing = isinstance(action, StartAlarm)

    # Any thread -------------------------------------------------------------------------------------------------------

    def listen(self, wanted: bool) -> None:
        """Whether ``levels`` will be asked from now on."""
        with self._lock:
            self._listening = wanted
            self._want(wanted)

    def levels(self) -> dict[str, float] | None:
        """Return how loud it was since the last call, in dBFS; None where there is no agent."""
        agent = self._agent
        if agent is None:
            return None
        return {
            name: round(level.take(), 1)
            for name, level in zip((Port.MICROPHONE, Port.SPEAKER), agent.levels, strict=True)
        }

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return everything, as values that JSON knows:

        ==================================  ============================================================================
        ``at``, ``since``, ``uptime_s``     seconds since 1970 of this snapshot and of the start; seconds between them
        ``version``, ``pid``                of device-agent, and of its process
        ``mood``, ``mood_s``                what the light shows, and for how many seconds
        ``state``                           of the conversation, finer than the mood: sending, thinking, late
        ``ringing``                         whether an alarm rings
        ``service``                         who we are connected to, for people; "" for nobody
        ``volume``, ``muted``               percent; bool
        ``prefill_ms``                      how long the beginning of a reply waits that comes as fast as it sounds
        ``config``                          ``file``; ``state``: "in use", "wrong edit" (an older version is in use) or
                                            "last good" (it began with a copy); ``mistakes``: a list of lines
        ``connected``                       ``now``: bool; ``for_s``: this connection; ``today_s``, ``total_s``: kept
                                            over restarts; ``cap_s``: of a day, 0 for none; ``spent``: bool;
                                            ``price_per_minute``, ``cost_today``, ``cost_total``
        ``counts``                          COUNTED and GAPS; each only grows
        ``latency``                         ``turns``: how many of the last 100 were answered by sound; ``steps``: a
                                            list of ``name`` (STEPS, and the sums "device" and "service"), ``where``
                                            ("device", "service" or "whole"), ``text``, ``median_ms``, ``p99_ms``
                                            (both None without any) and ``count``
        ``lost``                            a list of ``device`` and ``for_s``
        ``last_error``                      None, or ``kind`` (link, refused, service, microphone, speaker), ``text``
                                            and ``age_s``
        ``turns``                           the last SHOWN, oldest first: ``ago_s`` since it began, ``segments`` (pairs
                                            of a part and its seconds), ``outcome``, ``wait_ms`` (None before a sound)
        ``levels``                          None; in the stream of ``status --watch`` ``microphone`` and ``speaker``
        ==================================  ============================================================================
        """
        with self._lock:
            gauges = self._agent.gauges() if self._agent is not None else Gauges()
            at, uptime = self._wall(), now - self._began
            gaps = (before + more for before, more in zip(self._gaps_before, gauges.gaps, strict=True))
            return {
                "at": round(at, 3),
                "since": round(at - uptime, 3),
                "uptime_s": _seconds(uptime),
                "version": __version__,
                "pid": os.getpid(),
                "mood": self._mood,
                "mood_s": _seconds(now - self._mood_since),
                "state": gauges.state,
                "ringing": self._ringing,
                "service": self._service,
                "volume": gauges.volume,
                "muted": gauges.muted,
                "prefill_ms": round(1000 * gauges.prefill),
                "config": {"file": str(self._file), "state": self._state, "mistakes": list(self._mistakes)},
                "connected": self._connection(gauges, now),
                "counts": {**self._counts, **dict(zip(GAPS, gaps, strict=True))},
                "latency": self._measured(),
                "lost": [{"device": name, "for_s": _seconds(now - since)} for name, since in self._lost.items()],
                "last_error": self._last_error(now),
                "turns": [_turn(turn, now) for turn in list(self._stopwatch.turns)[-SNAPSHOT_TURNS:]],
                "levels": None,
            }

    # Under the lock ---------------------------------------------------------------------------------------------------

    def _want(self, wanted: bool) -> None:
        for level in self._agent.levels if self._agent is not None else ():
            level.wanted = wanted

    def _connection(self, gauges: Gauges, now: float) -> dict[str, Any]:
        return {
            "now": self._connected_at is not None,
            "for_s": 0.0 if self._connected_at is None else _seconds(now - self._connected_at),
            "today_s": _seconds(gauges.today),
            "total_s": _seconds(gauges.total),
            "cap_s": gauges.cap,
            "spent": 0 < gauges.cap <= gauges.today,
            "price_per_minute": self._price,
            "cost_today": round(self._price * gauges.today / 60, 4),
            "cost_total": round(self._price * gauges.total / 60, 4),
        }

    def _measured(self) -> dict[str, Any]:
        """Sort only when there is something new: whoever watches asks many times a second."""
        if self._latency[0] != self._stopwatch.sounded:
            self._latency = self._stopwatch.sounded, latency(self._stopwatch.turns)
        return self._latency[1]

    def _last_error(self, now: float) -> dict[str, Any] | None:
        if self._error is None:
            return None
        kind, text, at = self._error
        return {"kind": kind, "text": quoted(text), "age_s": _seconds(now - at)}


def latency(turns: Iterable[TurnTimes]) -> dict[str, Any]:
    """Return median and 99th percentile of what the waits of *turns* were made of, split into device and service."""
    waits = [wait for wait in (turn.waits() for turn in turns) if "whole" in wait]
    steps = [
        _step(name, where, text, [wait[name] for wait in waits if name in wait])
        for name, (where, text) in STEPS.items()
    ]
    for whose in ("device", "service"):
        sums = [sum(wait.get(name, 0.0) for name, (where, _) in STEPS.items() if where == whose) for wait in waits]
        steps.insert(-1, _step(whose, whose, f"of these, the {whose}", sums))
    return {"turns": len(waits), "steps": steps}


def _step(name: str, where: str, text: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        "name": name,
        "where": where,
        "text": text,
        "median_ms": percentile(values, 50),
        "p99_ms": percentile(values, 99),
        "count": len(values),
    }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return in ms the smallest of *values*, in seconds, that so many *percent* do not exceed; None without any."""
    if not values:
        return None
    return round(1000 * sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1], 1)


def _turn(turn: TurnTimes, now: float) -> dict[str, Any]:
    wait = turn.waits().get("whole")
    return {
        "ago_s": _seconds(now - turn.began),
        "segments": [[part, round(length, 3)] for part, length in turn.segments(now)],
        "outcome": turn.outcome,
        "wait_ms": None if wait is None else round(1000 * wait, 1),
    }


def _seconds(length: float) -> float:
    return round(max(0.0, length), 1)
