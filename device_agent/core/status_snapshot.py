"""The status snapshot: the state and the counters of the device as JSON values, without speech and without keys."""

from __future__ import annotations

from typing import Any, TypedDict


class ConfigStatus(TypedDict):
    """The configuration in use."""

    file: str
    state: str  # "in use"; "wrong edit": an older version is in use; "last good": the process started with a copy
    mistakes: list[str]  # lines of the file, and what is wrong with them


class ConnectionStatus(TypedDict):
    """The connection to the service, and what it costs."""

    now: bool
    for_s: float  # this connection
    today_s: float  # kept over restarts, as is the total
    total_s: float
    cap_s: float  # daily limit, 0 for none
    spent: bool  # whether the limit is reached
    price_per_minute: float  # 0 if unknown
    cost_today: float
    cost_total: float


class Counts(TypedDict):
    """Counters since the start of the process. Each only grows."""

    turns: int
    replies: int
    interruptions: int
    given_up: int
    nothing_said: int
    tool_calls: int
    connections: int
    reconnects: int
    refusals: int
    service_errors: int
    device_losses: int
    overflows: int  # gaps in the microphone's sound
    underruns: int  # gaps at the loudspeaker
    starved: int  # gaps in replies that arrive too slowly


class LatencyStep(TypedDict):
    """One part of the wait for an answer, over the last turns."""

    name: str  # a key of turn_timing.STEPS, or "device" or "service": the sum of its steps
    where: str  # "device", "service" or "whole"
    text: str
    median_ms: float | None
    p99_ms: float | None
    count: int


class Latency(TypedDict):
    """The wait from the end of speech to the first sound of the answer."""

    turns: int  # of the last 100, those that were answered by sound
    steps: list[LatencyStep]


class LostDevice(TypedDict):
    """A sound device that is gone."""

    device: str  # "microphone" or "speaker"
    for_s: float


class LastError(TypedDict):
    """The latest error."""

    kind: str  # "link", "refused", "service", "microphone" or "speaker"
    text: str
    age_s: float


class TurnSummary(TypedDict):
    """One of the last turns."""

    ago_s: float  # since its beginning
    segments: list[list[Any]]  # pairs: a part of turn_timing, and its seconds
    outcome: str
    wait_ms: float | None  # None before the first sound


class Levels(TypedDict):
    """Peak levels since the last snapshot, in dBFS."""

    microphone: float
    speaker: float


class StatusSnapshot(TypedDict):
    """One line of the status socket."""

    at: float  # seconds since 1970
    since: float  # start of the process, likewise
    uptime_s: float
    version: str
    pid: int
    mood: str  # shown by the light
    mood_s: float
    state: str  # of the conversation, finer than the mood
    ringing: bool  # an alarm rings
    service: str  # name and host for people; "" without a connection
    volume: int  # percent
    muted: bool
    prefill_ms: int  # delay of the beginning of a reply that arrives as fast as it is played
    config: ConfigStatus
    connected: ConnectionStatus
    counts: Counts
    latency: Latency
    lost: list[LostDevice]
    last_error: LastError | None
    turns: list[TurnSummary]  # the oldest first
    levels: Levels | None  # only for ``status --watch``
