"""Echo advice: what follows from the delay and level at which the device hears itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..config.model import Config
from .chirp import Arrival
from .findings import Finding, Mark

MIN_CHIRPS_HEARD = 2
"""A single one may be a door that slams."""
MAX_STEADY_SPREAD_S = 0.02
"""More between two delays comes not from the room but from a buffer that changes."""
MAX_CANCELLABLE_S = 0.4
"""Largest delay beyond the loudspeaker's buffer at which ``dsp.aec`` finds the echo."""
MAX_LEARNED_S = 0.6
"""Largest delay at which half duplex knows when the device's own voice is over (``dsp.delay_estimator``)."""
FAINT_ECHO_DB = -35.0
"""A softer echo starts no turn: a card that cancels leaves no more."""
WAKE_STEP_MS, WAKE_MARGIN_MS = 100, 100
"""Step of the advised speaker.wake_ms, and how much it is above what was measured."""
MAX_CLIPPED_ECHO = 0.01
"""With a larger share of clipped samples the loudspeaker is too loud for the microphone."""


@dataclass(frozen=True)
class ChirpResult:
    """*arrivals* of the chirps that were heard, of *played* ones.

    *latency* is the part of the delays in the loudspeaker's own buffer, in seconds; *clipped* is the share of clipped
    samples.
    """

    played: int
    arrivals: Sequence[Arrival]
    latency: float
    clipped: float

    @property
    def delay(self) -> float:
        """Median seconds from the write to the loudspeaker to the read from the microphone."""
        return median(arrival.delay for arrival in self.arrivals)

    @property
    def level_db(self) -> float:
        """Median level in dB of what was played."""
        return median(arrival.level_db for arrival in self.arrivals)

    @property
    def spread(self) -> float:
        """Seconds between the smallest and the largest delay."""
        delays = [arrival.delay for arrival in self.arrivals]
        return max(delays) - min(delays)

    @property
    def trusted(self) -> bool:
        """Whether enough chirps were heard."""
        return len(self.arrivals) >= min(MIN_CHIRPS_HEARD, self.played)


def judge(result: ChirpResult, config: Config) -> Finding:
    """Return the finding about the echo, and what to change in *config*."""
    if not result.trusted:
        return Finding("echo", "the microphone does not hear the loudspeaker", Mark.NOTE, _not_heard(config))
    beyond = max(0.0, result.delay - result.latency)
    text = (
        f"comes back after {1000 * result.delay:.0f} ms, {1000 * result.latency:.0f} of them in the loudspeaker's "
        f"buffer, at {result.level_db:+.0f} dB of what was played"
    )
    figures = {
        "delay_ms": round(1000 * result.delay, 1),
        "beyond_ms": round(1000 * beyond, 1),
        "spread_ms": round(1000 * result.spread, 1),
        "level_db": round(result.level_db, 1),
        "heard": len(result.arrivals),
        "played": result.played,
    }
    mark, advice = Mark.NOTE, _trouble(result, beyond)
    if not advice:
        mark, advice = _settings(result.level_db, beyond <= MAX_CANCELLABLE_S, config)
    return Finding("echo", text, mark, advice, figures)


def judge_wake(swallowed: float, length: float, config: Config) -> Finding:
    """Return the finding about a loudspeaker that, after silence, swallows so many seconds of a sound of *length*."""
    now, lost, all_of_it = config.speaker.wake_ms, round(1000 * swallowed), swallowed >= length
    wanted = now + (2 * lost if all_of_it else lost + WAKE_MARGIN_MS)
    wanted = -(-wanted // WAKE_STEP_MS) * WAKE_STEP_MS
    text = f"the loudspeaker swallows {lost} ms{' or more' if all_of_it else ''} of what follows a silence"
    advice = f"write speaker.wake_ms: {wanted}, and check again: it then gets so much silence before each sound"
    return Finding("wake", text, Mark.NOTE, advice, {"swallowed_ms": lost, "wake_ms": wanted})


def _not_heard(config: Config) -> str:
    itself = (
        "if you did not hear it either, turn the loudspeaker on and up (alsamixer); if you did, the card cancels the "
        "echo itself"
    )
    if config.talk.interrupt == "voice" and config.echo.mode == "off":
        return f"{itself}, as talk.interrupt: voice wants"
    if config.echo.mode == "cancel":
        return f"{itself}, and echo.mode: off is enough"
    return f"{itself}, and talk.interrupt: voice would let you interrupt it"


def _trouble(result: ChirpResult, beyond: float) -> str:
    """Return what no setting helps against, "" for nothing."""
    if result.spread > MAX_STEADY_SPREAD_S:
        return (
            f"its delay is unsteady, by {1000 * result.spread:.0f} ms: a busy machine, or a loudspeaker by radio; "
            "a wired one lets echo.mode: cancel work"
        )
    if beyond > MAX_LEARNED_S:
        return "that is so late that it may take its own words for yours; use a wired loudspeaker"
    if result.clipped > MAX_CLIPPED_ECHO:
        return "it is too loud for the microphone: move them apart, or turn speaker.volume down"
    return ""


def _settings(level_db: float, cancellable: bool, config: Config) -> tuple[Mark, str]:
    """Return whether the settings suit the echo, and which would."""
    by_voice, cancels = config.talk.interrupt == "voice", config.echo.mode == "cancel"
    if level_db < FAINT_ECHO_DB:
        return Mark.OK, "" if by_voice else "so little that talk.interrupt: voice works without echo cancellation"
    if cancels and not cancellable:
        return Mark.NOTE, "that is too late for the canceller: use a wired loudspeaker, or echo.mode: off"
    if cancels:
        return Mark.OK, "the canceller removes this" + ("" if by_voice else "; talk.interrupt: voice would use that")
    if by_voice:
        cancel = "echo.mode: cancel, or " if cancellable else ""
        return Mark.NOTE, f"it will interrupt itself: set {cancel}talk.interrupt: button"
    other = "; echo.mode: cancel and talk.interrupt: voice let you interrupt it" if cancellable else ""
    return Mark.OK, f"deaf while it speaks is right{other}"
