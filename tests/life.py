"""One agent lives: turns of all kinds, a fault every few, and what was seen of each.

The whole agent with real threads and real sockets, with all that the daemon has around it, in the room of the tests,
where time goes faster. Every sentence carries a mark that the service looks for: heard by nobody it is lost, heard
twice without a fault it is doubled.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import room
from room import RATE, Room, speech
from test_scenes_device import Knobs

from device_agent.audio import frame_bytes
from device_agent.config import Config, ServiceConfig, TalkConfig
from device_agent.conversation import RESTING, State
from device_agent.echo import CUE_ROOM_S
from device_agent.events import (
    Action,
    AlarmDue,
    Attention,
    Event,
    Hush,
    LinkDown,
    Muted,
    NothingSaid,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Released,
    StopAsked,
    TalkEnded,
    TalkStarted,
    ToolCall,
    Unmuted,
    VolumeAsked,
    Words,
)
from device_agent.memory import Memory
from device_agent.postmortem import Recorder
from device_agent.statistics import Statistics
from device_agent.status import ask
from device_agent.window import NAME, Window
from device_agent.worker import Worker

log = logging.getLogger("soak")

PATIENCE_S = 60.0
"""How long a turn may take, faults and all; longer, and it is lost."""
FOLLOW_UP_S = 3.0
"""Long for who speaks at once, also on a machine that is busy: what is not heard then was not listened to."""
MARK_AT = 30
"""In which frame of a sentence its mark is."""


class Service:
    """The hands of the service, which is in another process: the methods of ``Simulator``, and ``found``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: object) -> Any:
            self._pipe.send(("service", name, args))
            return self._pipe.recv()

        return ask


# The room -------------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """Something that had to happen did not."""


class LastingRoom(Room):
    """A room that counts what happens and remembers nothing else, so that it does not grow itself.

    What the daemon has around an agent is in it, too: *directory* holds what is remembered, and the window.
    """

    def __init__(self, directory: Path, **how: Any) -> None:
        self.counts: Counter[type] = Counter()
        self.at: dict[type, float] = {}
        self.dropped = 0.0  # when the loudspeaker forgot what it had
        self._then: dict[type, Callable[[], None]] = {}
        self.window = directory / NAME
        memory = Memory(directory / "memory.json")
        super().__init__(memory=memory, **how)
        self.agent._playback._buffer.fill(0)  # else it becomes memory page by page, with the first minute of replies
        statistics = Statistics(directory / "config.yaml", 0.0, began=time.monotonic())
        statistics.look_at(self.agent)
        self.agent._watch += (statistics, Recorder(Config(), directory))
        window = Window(statistics, self.window)
        self._looking = Worker("window", window.run, self.agent.tell, nudge=window.wake)
        self._drop, self.speaker.drop = self.speaker.drop, self._note_drop  # type: ignore[method-assign]
        self._tell, self.agent._ears._tell = self.agent._ears._tell, self._heard

    def __enter__(self) -> LastingRoom:
        self._looking.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as owned:
            owned.push(self._looking.__exit__)
            super().__exit__(*exc)

    def _note(self, word: Event | Action, now: float) -> None:
        with self._happened:
            self.counts[type(word)] += 1
            self.at[type(word)] = now
            if not self.counts[PlaybackEnded]:
                self.words.append(word)  # the first turn is waited for in the usual way
            self._happened.notify_all()

    def _heard(self, event: Event) -> None:
        self._tell(event)
        with self._happened:
            then = self._then.pop(type(event), None)
        if then is not None:
            then()

    def _note_drop(self) -> None:
        self._drop()
        with self._happened:
            self.dropped = time.monotonic()
            self._happened.notify_all()

    def when(self, kind: type, then: Callable[[], None]) -> None:
        """Do *then* when the ears tell of *kind* next, before they hear another frame."""
        with self._happened:
            self._then[kind] = then

    @contextmanager
    def between_frames(self) -> Iterator[None]:
        """Let no frame be heard meanwhile: a machine may be so busy that many are heard at once."""
        self.microphone.freeze()
        try:
            yield
        finally:
            self.microphone._frozen.set()

    def until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait until *holds*; raise Lost if that takes too long."""
        with self._happened:
            if not self._happened.wait_for(holds, PATIENCE_S):
                raise Lost(f"waited for {what} in {self.state.value}")

    def more(self, kind: type, than: Counter[type]) -> None:
        """Wait until *kind* has happened more often *than* before."""
        self.until(kind.__name__, lambda: self.counts[kind] > than[kind])

    @property
    def state(self) -> State:
        return self.agent._conversation.state

    def rest(self) -> None:
        """Wait until it is nobody's turn."""
        self.until("rest", lambda: self.state in RESTING and self.agent._playback.quiet)

    def calm(self) -> None:
        """Wait until the last of our own voice and notes has died away: until then frames are changed, or not heard."""
        echo = self.agent._echo
        over = max(echo._cue_over + CUE_ROOM_S, echo._voice_over + echo._room) + (echo._delay.seconds or 0.0)
        threading.Event().wait(max(0.0, over - time.monotonic()))

    def listens(self) -> bool:
        """Wait until a voice may open the gate; return False where that is over."""
        while self.agent._gate._attention is not Attention.VOICE:
            if self.state is not State.FOLLOW_UP:
                return False
            threading.Event().wait(0.001)
        return True

    def empty(self) -> None:
        """Forget what was heard and seen."""
        self.words.clear()
        self.light.moods.clear()
        self._then.clear()
        with self.speaker._lock:
            self.speaker._heard.clear()


# The life -------------------------------------------------------------------------------------------------------------


class Life:
    """Turns of all kinds and faults of all kinds. *note* is told how long things took: a name, and milliseconds."""

    def __init__(self, inside: LastingRoom, service: Service, knobs: Knobs, note: Callable[[str, float], None]) -> None:
        self.room, self.service, self.knobs, self.note = inside, service, knobs, note
        self.turns = self.lost = self.late = 0
        self._said = b""
        self._sentences = 0
        self._faulty = False
        self._speech = speech()
        self._silence = bytes(10 * frame_bytes(RATE))

    def turn(self, kind: str, *, is_fault: bool) -> str:
        """Live through one turn of this *kind*; return what went wrong, if anything did."""
        self.turns += 1
        self._faulty, before = is_fault, self.room.counts.copy()
        try:
            self.with_fault(kind) if kind in NAMED else getattr(self, kind)()
        except (Lost, AssertionError) as error:
            seen = (f"{count} {what.__name__}" for what, count in (self.room.counts - before).items())
            self.lost += 1
            self.service.heal()
            return f"turn {self.turns}, {kind}: {error}; seen: {', '.join(sorted(seen))}"
        finally:
            self.room.empty()
        return ""

    # What one says --------------------------------------------------------------------------------------------------

    def words(self) -> bytes:
        """Return a sentence with a mark of its own in its middle."""
        self._sentences += 1
        noise = np.random.default_rng(self._sentences).integers(-60, 60, frame_bytes(RATE) // 2)
        self._said = noise.astype(np.int16).tobytes()
        middle = MARK_AT * frame_bytes(RATE)
        return self._speech[:middle] + self._said + self._speech[middle:]

    def say(self, words: bytes) -> None:
        """Speak without a gap."""
        with self.room.between_frames():
            self.room.microphone.say(words)

    def tap(self) -> None:
        """Tap, so quickly that it cannot be a hold."""
        before = self.room.counts.copy()
        with self.room.between_frames():
            self.room.finger.tap()
            self.room.more(Released, before)
            while self.room.agent._gate._down:
                threading.Event().wait(0.001)

    def tap_and_say(self, words: bytes) -> None:
        """Tap, and speak as soon as somebody listens."""
        self.room.when(TalkStarted, lambda: self.room.microphone.say(words))
        self.tap()

    def answered(self, before: Counter[type]) -> None:
        """Wait for the end of an answer; see whether the turn was heard, and how often."""
        self.room.more(PlaybackEnded, before)
        self.room.rest()
        found = self.service.found(self._said)
        if not found or (found > 1 and not self._faulty):
            raise Lost(f"it was heard {found} times")
        if not self._faulty:
            self.note("first sound", 1000 * (self.room.at[PlaybackStarted] - self.room.at[TalkEnded]))

    # Turns ----------------------------------------------------------------------------------------------------------

    def held(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Hold the button, speak, let go."""
        before = self.room.counts.copy()
        self.room.finger.press()
        self.room.more(TalkStarted, before)
        self.say(self.words())
        self.room.microphone.wait_until_said()
        meanwhile()
        self.room.finger.release()
        self.answered(before)

    def tapped(self) -> None:
        """Tap the button and speak."""
        before = self.room.counts.copy()
        self.tap_and_say(self.words())
        self.answered(before)

    def interrupted(self) -> None:
        """Press in the middle of an answer, and ask something else. Whoever presses when it is over, was late."""
        before = self.room.counts.copy()
        self.tap_and_say(self._speech * 3)
        self.room.more(PlaybackStarted, before)
        pressed = time.monotonic()
        self.room.finger.press()
        self.room.until("a cut", lambda: self.room.dropped > pressed or self._pressed_late(before))
        if self.room.dropped > pressed:
            self.note("cut", 1000 * (self.room.dropped - pressed))
        else:
            self.late += 1
        self.say(self.words())
        self.room.microphone.wait_until_said()
        before = self.room.counts.copy()
        self.room.finger.release()
        self.answered(before)

    def _pressed_late(self, before: Counter[type]) -> bool:
        counts, at = self.room.counts, self.room.at
        both = counts[PlaybackEnded] > before[PlaybackEnded] and counts[Pressed] > before[Pressed] + 1
        return both and at[PlaybackEnded] < at[Pressed]

    def nothing(self) -> None:
        """Tap, and say nothing."""
        before = self.room.counts.copy()
        self.tap()
        self.room.more(NothingSaid, before)
        self.room.rest()

    def followed_up(self) -> None:
        """Speak, and speak again without a press."""
        self.tapped()
        before = self.room.counts.copy()
        self.room.calm()
        if self.room.listens():
            self.say(self._silence + self.words())
            self.answered(before)

    def tool(self) -> None:
        """Type something that needs a tool, and its answer another reply."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words(f'set_volume {{"percent": {60 + self.turns % 40}}}'))
        self.room.more(ToolCall, before)
        self.room.more(VolumeAsked, before)
        self.room.more(PlaybackEnded, before)
        self.room.rest()

    def stop(self) -> None:
        """Ask for silence by name."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words("stop {}"))
        self.room.more(StopAsked, before)
        self.room.rest()

    def timer(self) -> None:
        """Set a timer, hear it ring, and press."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words('set_timer {"seconds": 1, "name": "tea"}'))
        self.room.more(AlarmDue, before)
        self.room.until("the answer", lambda: self.room.state in RESTING)
        self.room.finger.tap()
        self.room.more(Hush, before)
        self.room.rest()
        self.room.calm()

    def muted(self) -> None:
        """Mute, and unmute."""
        before = self.room.counts.copy()
        self.knobs.press_mute()
        self.room.more(Muted, before)
        self.room.rest()
        self.knobs.press_mute()
        self.room.more(Unmuted, before)
        self.room.rest()

    def volume(self) -> None:
        """Turn the knob."""
        before = self.room.counts.copy()
        self.knobs.turn(1 if self.turns % 2 else -1)
        self.room.more(VolumeAsked, before)
        self.room.rest()

    def looked_at(self) -> None:
        """Look through the window, as ``device-agent status`` does."""
        if ask([self.room.window])["mood"] == "trouble":
            raise Lost("it says that it is in trouble")

    # Faults ---------------------------------------------------------------------------------------------------------

    def dropped_in_speech(self) -> None:
        """The connection dies while somebody speaks."""
        self.held(self.service.drop)

    def dropped_in_thought(self) -> None:
        """The connection dies before the answer."""
        self.service.fault("silent")
        before = self.room.counts.copy()
        self.tap_and_say(self.words())
        self.room.more(TalkEnded, before)
        threading.Event().wait(0.05)  # for the turn to arrive
        self.service.heal()
        self.service.drop()
        self.answered(before)

    def dropped_in_reply(self) -> None:
        """The connection dies while the answer is heard; what came of it is heard to its end."""
        before = self.room.counts.copy()
        self.tap_and_say(self.words())
        self.room.more(PlaybackStarted, before)
        self.service.drop()
        self.answered(before)

    def refused(self) -> None:
        """The service is away when somebody speaks, and comes back."""
        self.service.refuse(503)
        self.service.drop()
        before = self.room.counts.copy()
        self.tap_and_say(self.words())
        self.room.more(LinkDown, before)
        self.service.heal()
        self.answered(before)

    def told_goodbye(self) -> None:
        """The service ends the connection while nobody needs it."""
        self.service.goodbye(1001)
        self.tapped()

    def with_fault(self, name: str) -> None:
        """A turn with one of the simulator's faults."""
        self.service.fault(name)
        self.tapped()
        self.service.heal()

    def stalled(self) -> None:
        """The service falls silent without dying, until we hang up."""
        self.tapped()
        before = self.room.counts.copy()
        self.service.stall(True)
        self.tap_and_say(self.words())
        self.room.more(LinkDown, before)
        self.service.stall(False)
        self.answered(before)


TURNS = {
    "held": 4,
    "tapped": 4,
    "interrupted": 3,
    "nothing": 1,
    "followed_up": 2,
    "tool": 2,
    "stop": 1,
    "timer": 1,
    "muted": 1,
    "volume": 1,
    "looked_at": 1,
}
"""Kind -> how often."""
NAMED = ("junk", "half-base64", "binary", "unknown-events", "no-ids", "beta-names", "close-1001", "huge")
FAULTS = ("dropped_in_speech", "dropped_in_thought", "dropped_in_reply", "refused", "told_goodbye", *NAMED)
SLOW = ("stalled",)
"""Faults that take a quarter of a minute to be noticed."""
EVERY, EVERY_SLOW = 4, 200
"""How many turns there are to one with a fault."""


def course(rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Yield what to do next, for ever: all kinds in turn, and whether it is a fault."""
    faults, slow = itertools.cycle(rng.sample(FAULTS, len(FAULTS))), itertools.cycle(SLOW)
    for number in itertools.count(1):
        if number % EVERY_SLOW == 0:
            yield next(slow), True
        elif number % EVERY == 0:
            yield next(faults), True
        else:
            yield rng.choices(tuple(TURNS), weights=tuple(TURNS.values()))[0], False


@contextmanager
def living(pace: float, service: Service, directory: Path, note: Callable[[str, float], None]) -> Iterator[Life]:
    """An agent that lives at *pace* times the speed of the world."""
    room.PACE = pace  # type: ignore[assignment]
    knobs = Knobs()
    with LastingRoom(
        directory,
        service=ServiceConfig(url=service.url()),
        talk=TalkConfig(silence_ms=400, follow_up_s=FOLLOW_UP_S),
        abilities=("volume", "stop", "alarms"),
        controls=knobs,
    ) as inside:
        yield Life(inside, service, knobs, note)
