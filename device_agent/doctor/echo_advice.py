"""What follows from how late and how loud the device hears itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..config.model import Config
from .chirp import Arrival
from .findings import Finding, Mark

MIN_CHIRPS_HEARD = 2
"""So many chirps have to be heard before one believes it: a door slams once."""
MAX_STEADY_SPREAD_S = 0.02
"""More than this between two chirps is no room, but a buffer that changes."""
MAX_CANCELLABLE_S = 0.4
"""So late an echo may be, beyond the loudspeaker's own buffer, for the canceller to find it (``canceller``)."""
MAX_LEARNED_S = 0.6
"""And so late for half duplex to know when the device's own voice is over (``echo_delay``)."""
FAINT_ECHO_DB = -35.0
"""Softer than this, an echo is no turn: a card that cancels leaves no more."""
WAKE_STEP_MS, WAKE_MARGIN_MS = 100, 100
"""How finely speaker.wake_ms is advised, and how much more than what was measured."""
MAX_CLIPPED_ECHO = 0.01
"""More than this share of samples cut off is a loudspeaker that the microphone cannot bear."""


@dataclass(frozen=True)
class ChirpResult:
    """What came of the chirps that were played: *arrivals* of those that were heard.

    *latency* is what the loudspeaker's own buffer has of the delays, in seconds; *clipped* is the share of samples at
    the rail while they sounded.
    """

    played: int
    arrivals: Sequence[Arrival]
    latency: float
    clipped: float

    @property
    def delay(self) -> float:
        """Seconds from the handing over to the loudspeaker until the microphone delivered it."""
        return median(arrival.delay for arrival in self.arrivals)

    @property
    def level_db(self) -> float:
        """How loud it comes back, in dB of what was played."""
        return median(arrival.level_db for arrival in self.arrivals)

    @property
    def spread(self) -> float:
        """By how many seconds the delays differ."""
        delays = [arrival.delay for arrival in self.arrivals]
        return max(delays) - min(delays)


def trusted(heard: ChirpResult) -> bool:
    """Whether so many chirps were heard that one believes it."""
    return len(heard.arrivals) >= min(MIN_CHIRPS_HEARD, heard.played)


def judge(heard: ChirpResult, config: Config) -> Finding:
    """Return what to say of it, and to do about it, with the settings there are."""
    if not trusted(heard):
        return Finding("echo", "the microphone does not hear the loudspeaker", Mark.NOTE, _not_heard(config))
    beyond = max(0.0, heard.delay - heard.latency)
    text = (
        f"comes back after {1000 * heard.delay:.0f} ms, {1000 * heard.latency:.0f} of them in the loudspeaker's "
        f"buffer, at {heard.level_db:+.0f} dB of what was played"
    )
    figures = {
        "delay_ms": round(1000 * heard.delay, 1),
        "beyond_ms": round(1000 * beyond, 1),
        "spread_ms": round(1000 * heard.spread, 1),
        "level_db": round(heard.level_db, 1),
        "heard": len(heard.arrivals),
        "played": heard.played,
    }
    mark, advice = _trouble(heard, beyond) or _settings(heard.level_db, beyond <= MAX_CANCELLABLE_S, config)
    return Finding("echo", text, mark, advice, figures)


def judge_wake(swallowed: float, length: float, config: Config) -> Finding:
    """Return what to say where the loudspeaker swallowed so many seconds of a sound of that *length*, which came after
    it was quiet."""
    now, lost = config.speaker.wake_ms, round(1000 * swallowed)
    all_of_it = swallowed >= length
    wanted = now + (2 * lost if all_of_it else lost + WAKE_MARGIN_MS)
    wanted = -(-wanted // WAKE_STEP_MS) * WAKE_STEP_MS
    text = f"the loudspeaker swallows {lost} ms{' or more' if all_of_it else ''} of what follows a silence"
    advice = f"write speaker.wake_ms: {wanted}, and check again: it then gets so much silence before each sound"
    return Finding("wake", text, Mark.NOTE, advice, {"swallowed_ms": lost, "wake_ms": wanted})


def _not_heard(config: Config) -> str:
    silent = "if you did not hear it either, turn the loudspeaker on and up (alsamixer)"
    if config.talk.interrupt == "voice" and config.echo.mode == "off":
        return f"{silent}; if you did, the card cancels the echo itself, as talk.interrupt: voice wants"
    if config.echo.mode == "cancel":
        return f"{silent}; if you did, the card cancels the echo itself, and echo.mode: off is enough"
    return (
        f"{silent}; if you did, the card cancels the echo itself, and talk.interrupt: voice would let you interrupt it"
    )


def _trouble(heard: ChirpResult, beyond: float) -> tuple[Mark, str] | None:
    """Return what no setting helps against."""
    if heard.spread > MAX_STEADY_SPREAD_S:
        advice = (
            f"its delay is unsteady, by {1000 * heard.spread:.0f} ms: a busy machine, or a loudspeaker by radio; "
            "a wired one lets echo.mode: cancel work"
        )
        return Mark.NOTE, advice
    if beyond > MAX_LEARNED_S:
        return Mark.NOTE, "that is so late that it may take its own words for yours; use a wired loudspeaker"
    if heard.clipped > MAX_CLIPPED_ECHO:
        return Mark.NOTE, "it is too loud for the microphone: move them apart, or turn speaker.volume down"
    return None


def _settings(level_db: float, cancellable: bool, config: Config) -> tuple[Mark, str]:
    """Return whether the settings suit the echo, and which would."""
    by_voice, cancels = config.talk.interrupt == "voice", config.echo.mode == "cancel"
    if level_db < FAINT_ECHO_DB:
        return Mark.OK, "" if by_voice else "so little that talk.interrupt: voice works without echo cancellation"
    if cancels and not cancellable:
        return Mark.NOTE, "that is too late for the canceller: use a wired loudspeaker, or echo.mode: off"
    if cancels:
        return Mark.OK, "the canceller removes this" + ("" if by_voice else "; talk.interrupt: voice would use that")
    cancel = "echo.mode: cancel, or " if cancellable else ""
    if by_voice:
        return Mark.NOTE, f"it will interrupt itself: set {cancel}talk.interrupt: button"
    other = "; echo.mode: cancel and talk.interrupt: voice let you interrupt it" if cancellable else ""
    return Mark.OK, f"deaf while it speaks is right{other}"
