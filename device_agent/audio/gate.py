"""Gate (endpointing): which microphone frames are a turn.

A gate turns a steady stream of frames into turns: ``TalkStarted``, frames, ``TalkEnded``. The markers travel between
the frames, so their order is never in doubt. Time is counted in frames: the microphone is the clock.

While a button is held the turn lasts; after a tap, it ends when the user has finished. Which of the two it is shows
when the button comes up again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from ..core.actions import GateMode
from ..core.events import NoSpeech, Speech, TalkEnded, TalkStarted
from ..dsp.pcm import FRAME_MS

ATTACK_WINDOW_FRAMES, ATTACK_FRAMES = 8, 5
"""Speech begins when ATTACK_FRAMES of the window hold speech: a click is shorter, a syllable is not."""
RELEASE_TAIL_FRAMES = 5  # of a turn after a held button comes up: people let go on the last syllable
NO_SPEECH_TIMEOUT_FRAMES = 250  # a turn without speech is forgotten
MAX_TURN_FRAMES = 3000  # what a stuck button or a television costs at most


class EchoPresence(Enum):
    """How much echo of a reply may be in a frame of the microphone."""

    NONE = "none"
    TAIL = "tail"
    """The loudspeaker is silent again, the room not yet: no speech counts, but a first syllable may be there."""
    ACTIVE = "active"
    """No speech counts, and the frame is not kept as preroll."""


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """When a turn ends, and how much from before it is sent."""

    silence: int
    """Frames without speech that end a turn."""
    preroll: int
    """Frames from before a turn."""
    device_ends: bool = True
    """False where the service decides when the user has finished: then only ``close``, a released button and the limits
    end a turn."""


class Gate:
    """Opens by button or voice, a little in the past; closes on release, silence, or request.

    ``feed`` and ``finish`` belong to the capture thread. The other methods may be called from any thread: each sets one
    attribute that the next frame looks at.
    """

    def __init__(self, is_speech: Callable[[bytes], bool], policy: GatePolicy) -> None:
        self._is_speech, self._policy = is_speech, policy
        self._tuned: tuple[Callable[[bytes], bool], GatePolicy] | None = None
        self._mode = GateMode.BUTTON
        self._pressed = False  # a latch: a press counts even when it is over before the next frame
        self._down = self._tapped = False
        self._closing = False
        self._before: deque[bytes] = deque(maxlen=policy.preroll + ATTACK_WINDOW_FRAMES)
        self._votes: deque[bool] = deque(maxlen=ATTACK_WINDOW_FRAMES)
        self._turn: _Turn | None = None

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def engaged(self) -> bool:
        """Whether it is open, or may be about to open: one of the last frames held speech."""
        return self._turn is not None or self._pressed or True in self._votes

    def set_mode(self, mode: GateMode) -> None:
        """Set what may open the gate from the next frame on."""
        self._mode = mode

    def press(self) -> None:
        """The button went down: open, if closed."""
        self._down, self._tapped = True, False
        self._closing = False
        self._pressed = True

    def release(self, *, tapped: bool = False) -> None:
        """The button came up; it was *tapped*, or held."""
        self._tapped = tapped
        self._down = False

    def close(self) -> None:
        """End the turn with the next frame, if there is one."""
        self._pressed = False
        self._closing = True

    def tune(self, is_speech: Callable[[bytes], bool] | None, policy: GatePolicy) -> None:
        """Follow another *policy*; an open turn ends by the one it began with. *is_speech*: None for the same."""
        self._tuned = (is_speech or self._is_speech, policy)

    # The capture thread -----------------------------------------------------------------------------------------------

    def feed(self, frame: bytes, echo: EchoPresence = EchoPresence.NONE) -> Iterator[Speech]:
        """Take the next frame, with so much *echo* in it; yield what is to be sent because of it."""
        if self._turn is None:
            self._take_rules()
            yield from self._wait(frame, echo)
        else:
            yield from self._follow(self._turn, frame, echo)

    def finish(self) -> Iterator[Speech]:
        """No more frames for a while: end the turn, if there is one, and forget the preroll."""
        self._before.clear()
        self._votes.clear()
        if self._turn is not None:
            yield self._end(self._turn)

    def _take_rules(self) -> None:
        """Apply what ``tune`` set."""
        if (tuned := self._tuned) is None:
            return
        self._is_speech, self._policy = tuned
        self._before = deque(self._before, maxlen=self._policy.preroll + ATTACK_WINDOW_FRAMES)
        self._votes.clear()
        if self._tuned is tuned:
            self._tuned = None  # unless there are newer ones: those come with the next frame

    def _wait(self, frame: bytes, echo: EchoPresence) -> Iterator[Speech]:
        self._closing = False
        if echo is EchoPresence.ACTIVE:
            self._before.clear()
        else:
            self._before.append(frame)
        if self._pressed:
            self._pressed = False
            keep = self._policy.preroll + 1
            yield from self._begin(_Turn(held=True), max(0, len(self._before) - keep), frame)
        elif self._mode is GateMode.VOICE and echo is EchoPresence.NONE:
            self._votes.append(self._is_speech(frame))
            if sum(self._votes) >= ATTACK_FRAMES:
                yield from self._begin(_Turn(held=False, spoken=ATTACK_FRAMES), 0, frame)
        else:
            self._votes.clear()

    def _begin(self, turn: _Turn, skip: int, frame: bytes) -> Iterator[Speech]:
        self._turn = turn
        yield TalkStarted()
        yield from islice(self._before, skip, None) if self._before else (frame,)
        self._before.clear()
        self._votes.clear()

    def _follow(self, turn: _Turn, frame: bytes, echo: EchoPresence) -> Iterator[Speech]:
        yield frame
        turn.hear(echo is EchoPresence.NONE and self._is_speech(frame))
        if self._over(turn):
            yield self._end(turn)

    def _over(self, turn: _Turn) -> bool:
        if self._closing or turn.length >= MAX_TURN_FRAMES:
            return True
        if turn.held:
            return self._let_go(turn)
        if not turn.anything_said:
            return turn.length >= NO_SPEECH_TIMEOUT_FRAMES
        return self._policy.device_ends and turn.silent >= self._policy.silence

    def _let_go(self, turn: _Turn) -> bool:
        """Return whether the button, which began this turn and may still be down, has ended it."""
        if self._down:
            return False
        if self._tapped:
            turn.held = False  # from now on the user's silence counts
            return False
        turn.tail = RELEASE_TAIL_FRAMES if turn.tail is None else turn.tail - 1
        return turn.tail == 0

    def _end(self, turn: _Turn) -> Speech:
        self._turn, self._closing, self._pressed = None, False, False
        return TalkEnded(turn.silent * FRAME_MS / 1000) if turn.held or turn.anything_said else NoSpeech()


class _Turn:
    """What the gate knows of the open turn."""

    def __init__(self, *, held: bool, spoken: int = 0) -> None:
        self.held = held  # by the button; False once it turned out to be a tap
        self.tail: int | None = None  # frames left since a held button came up
        self.length = self.silent = 0
        self._spoken = spoken

    def hear(self, speech: bool) -> None:
        self.length += 1
        self._spoken += speech
        self.silent = 0 if speech else self.silent + 1

    @property
    def anything_said(self) -> bool:
        return self._spoken >= ATTACK_FRAMES
