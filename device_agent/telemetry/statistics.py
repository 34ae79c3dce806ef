"""Statistics: counters, gauges and the status snapshot. They hold no speech and no key."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from .. import __version__
from ..core.actions import Action, InterruptReply, Play, Show, StartAlarm, StopAlarm
from ..core.conversation import MOODS, STARTING, State
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
from ..core.transition import Transition
from ..dsp.level_meter import LevelMeter
from .turn_timing import NO_ANSWER, STEPS, TurnTimer, TurnTimes

if TYPE_CHECKING:
    from ..core.status_snapshot import (
        ConnectionStatus,
        Counts,
        LastError,
        Latency,
        LatencyStep,
        Levels,
        StatusSnapshot,
        TurnSummary,
    )

COUNTERS = (
    "turns", "replies", "interruptions", "given_up", "nothing_said", "tool_calls", "connections", "reconnects",
    "refusals", "service_errors", "device_losses", "overflows", "underruns", "starved",
)  # fmt: skip
"""The keys of ``Counts``."""
SNAPSHOT_TURNS = 20
"""Turns in a snapshot, the latest."""


@dataclass(frozen=True)
class Gauges:
    """Values that no event reports."""

    state: str = STARTING.value
    volume: int = 0
    muted: bool = False
    today: float = 0.0
    """Seconds connected; so are the next two."""
    total: float = 0.0
    cap: float = 0.0
    gaps: tuple[int, int, int] = (0, 0, 0)
    """In the microphone, at the loudspeaker, in replies."""
    prefill: float = 0.0
    """Seconds by which the beginning of a reply is delayed."""


class MeasuredDevice(Protocol):
    """The values of an agent that are read and not reported. For any thread."""

    def gauges(self) -> Gauges:
        """Return the values of now."""

    @property
    def levels(self) -> tuple[LevelMeter, LevelMeter]:
        """Microphone and loudspeaker."""


class Statistics:
    """Observer that counts for as long as the process lives, of one agent after the other.

    Calls, ``attach`` and ``set_config`` belong to the main thread; ``snapshot``, ``measure_levels`` and ``levels`` to
    any. ``now`` is in seconds of the monotonic clock; *wall* returns the time of day.
    """

    def __init__(self, file: Path, price: float, began: float, wall: Callable[[], float] = time.time) -> None:
        """*file* is the configuration; *price* is that of a connected minute, 0 if unknown."""
        self._lock = threading.Lock()
        self._began, self._wall = began, wall
        self.set_config(file, price)
        self._timer = TurnTimer()
        self._counted: TurnTimes | None = None  # the latest turn that is in the count
        self._counts = cast("Counts", dict.fromkeys(COUNTERS, 0))  # gaps: of the agents before this one
        self._mood, self._mood_since = MOODS[STARTING], began
        self._ringing = False
        self._service = ""
        self._connected_at: float | None = None
        self._lost: dict[str, float] = {}  # since when
        self._error: tuple[str, str, float] | None = None
        self._agent: MeasuredDevice | None = None
        self._measuring = False
        self._latency: tuple[int, Latency] = (0, latency(()))

    # The main thread --------------------------------------------------------------------------------------------------

    def attach(self, agent: MeasuredDevice) -> None:
        """Observe *agent*, which is new, from now on."""
        with self._lock:
            self._counts = self._counts_with(self._gauges())
            self._agent = agent
            self._service, self._connected_at, self._ringing = "", None, False
            self._lost.clear()
            self._timer.renew()
            self._set_meters(self._measuring)

    def set_config(self, file: Path, price: float, state: str = "in use", mistakes: Iterable[str] = ()) -> None:
        """Show *file*, the *mistakes* in it, and *state*: which version of it is in use."""
        with self._lock:
            self._file, self._price, self._state, self._mistakes = file, price, state, list(mistakes)

    def __call__(self, step: Transition) -> None:
        with self._lock:
            self._timer(step)
            self._note_event(step.event, step.now)
            for action in step.actions:
                self._note_action(action, step)
            turn = self._timer.turn
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
            case MicrophoneLost(reason):
                self._note_lost(Port.MICROPHONE, reason, now)
            case SpeakerLost(reason):
                self._note_lost(Port.SPEAKER, reason, now)
            case DeviceReady(port):
                self._lost.pop(port, None)

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

    def _note_lost(self, port: Port, reason: str, now: float) -> None:
        if port not in self._lost:
            self._lost[port] = now
            self._counts["device_losses"] += 1
        self._error = (port, reason, now)

    def _note_action(self, action: Action, step: Transition) -> None:
        match action:
            case Show(mood):
                self._mood, self._mood_since = mood, step.now
            case InterruptReply() if step.before is State.SPEAKING and not isinstance(step.event, SpeakerLost):
                self._counts["interruptions"] += 1
            case Play(cue) if cue in NO_ANSWER:
                self._counts["given_up"] += 1
            case StartAlarm() | StopAlarm():
                self._ringing = isinstance(action, StartAlarm)

    # Any thread -------------------------------------------------------------------------------------------------------

    def measure_levels(self, wanted: bool) -> None:
        """Measure the levels from now on, or no longer."""
        with self._lock:
            self._measuring = wanted
            self._set_meters(wanted)

    def levels(self) -> Levels | None:
        """Return the levels since the last call; None without an agent."""
        agent = self._agent
        if agent is None:
            return None
        microphone, speaker = (round(meter.take(), 1) for meter in agent.levels)
        return {"microphone": microphone, "speaker": speaker}

    def snapshot(self, now: float) -> StatusSnapshot:
        """Return the status of now, without levels."""
        with self._lock:
            gauges = self._gauges()
            at, uptime = self._wall(), now - self._began
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
                "counts": self._counts_with(gauges),
                "latency": self._current_latency(),
                "lost": [{"device": port, "for_s": _seconds(now - since)} for port, since in self._lost.items()],
                "last_error": self._last_error(now),
                "turns": [_turn(turn, now) for turn in list(self._timer.turns)[-SNAPSHOT_TURNS:]],
                "levels": None,
            }

    # Under the lock ---------------------------------------------------------------------------------------------------

    def _gauges(self) -> Gauges:
        return self._agent.gauges() if self._agent is not None else Gauges()

    def _set_meters(self, wanted: bool) -> None:
        for meter in self._agent.levels if self._agent is not None else ():
            meter.wanted = wanted

    def _counts_with(self, gauges: Gauges) -> Counts:
        """Return the counts, with the gaps of the agent of now."""
        counts = self._counts.copy()
        overflows, underruns, starved = gauges.gaps
        counts["overflows"] += overflows
        counts["underruns"] += underruns
        counts["starved"] += starved
        return counts

    def _connection(self, gauges: Gauges, now: float) -> ConnectionStatus:
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

    def _current_latency(self) -> Latency:
        """Return the latency, sorted again only after another turn: a viewer asks many times a second."""
        if self._latency[0] != self._timer.sounded:
            self._latency = self._timer.sounded, latency(self._timer.turns)
        return self._latency[1]

    def _last_error(self, now: float) -> LastError | None:
        if self._error is None:
            return None
        kind, text, at = self._error
        return {"kind": kind, "text": quoted(text), "age_s": _seconds(now - at)}


def latency(turns: Iterable[TurnTimes]) -> Latency:
    """Return median and 99th percentile of the waits of *turns*, by step, and in sum for device and service."""
    waits = [wait for wait in (turn.waits() for turn in turns) if "whole" in wait]
    steps = [
        _step(name, where, text, [wait[name] for wait in waits if name in wait])
        for name, (where, text) in STEPS.items()
    ]
    for whose in ("device", "service"):
        sums = [sum(wait.get(name, 0.0) for name, (where, _) in STEPS.items() if where == whose) for wait in waits]
        steps.insert(-1, _step(whose, whose, f"of these, the {whose}", sums))
    return {"turns": len(waits), "steps": steps}


def _step(name: str, where: str, text: str, values: Sequence[float]) -> LatencyStep:
    return {
        "name": name,
        "where": where,
        "text": text,
        "median_ms": percentile(values, 50),
        "p99_ms": percentile(values, 99),
        "count": len(values),
    }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return in ms the smallest of *values*, in seconds, that *percent* of them do not exceed; None without any."""
    if not values:
        return None
    return round(1000 * sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1], 1)


def _turn(turn: TurnTimes, now: float) -> TurnSummary:
    wait = turn.waits().get("whole")
    return {
        "ago_s": _seconds(now - turn.began),
        "segments": [[part, round(length, 3)] for part, length in turn.segments(now)],
        "outcome": turn.outcome,
        "wait_ms": None if wait is None else round(1000 * wait, 1),
    }


def _seconds(length: float) -> float:
    return round(max(0.0, length), 1)
