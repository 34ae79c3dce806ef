"""One daemon lives: turns of all kinds, a fault every few, hardships between them, and what was seen of each.

The whole daemon with real threads, real sockets and a real config.yaml, in a house where time goes faster. Every
sentence carries a mark that the service looks for: never heard, it is lost; heard twice without a fault, it is
doubled. Hardships are what the house does to it: edits, cards that come and go, a clock that jumps, and presses at the
moments when it is busy with itself.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gpiozero
import numpy as np

from device_agent.app.agent import Agent
from device_agent.app.daemon import Daemon
from device_agent.audio.echo_control import CUE_ECHO_TAIL_S
from device_agent.config.model import Config, ServiceConfig
from device_agent.core.actions import Action, Cue, GateMode, OpenGate, Play, StopAlarm
from device_agent.core.conversation import RESTING, TROUBLE, State
from device_agent.core.errors import DeviceFailed
from device_agent.core.events import (
    AlarmDue,
    DailyLimitReached,
    Event,
    LinkDown,
    LinkIdle,
    MicrophoneLost,
    Muted,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Released,
    SpeakerLost,
    Started,
    StopAsked,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    Unmuted,
    VolumeAsked,
)
from device_agent.core.transition import Transition
from device_agent.dsp.pcm import frame_bytes
from device_agent.runtime.paths import status_path
from device_agent.services.response_timeout import ACCEPT_PART
from device_agent.status.client import fetch_snapshot
from tests.bench.house import TICK_S, House, Lost, live, lived_in, settled, until
from tests.bench.owner import WRONG, Owner
from tests.support import room
from tests.support.room import RATE, RoomSpeaker, speech

log = logging.getLogger("soak")

LEFT_S = 1.4 * ACCEPT_PART * ServiceConfig().patience_s
"""A session that does not take a turn is left before so long."""
PATIENCE_S = 60.0
"""How long a turn may take, faults and all; longer, and it is lost."""
FOLLOW_UP_S = 3.0
"""Long enough for a user that speaks at once, also on a busy machine: speech not heard then was not listened to."""
TAP_S = 0.12
"""A button that is held is held for longer than this, also where words go faster."""
PROVEN_S = 0.5
"""Here an edit is good after so long: no card is gone before."""
MARK_AT = 30
"""In which frame of a sentence its mark is."""
WAITS = 80
"""Frames that a person waits for a cue to die away, where cues are heard: what is taken out of the frames with it could
be the mark."""
AROUND_S = (0.01, 0.04, 0.4)
"""The user presses within such a time after the device has begun to be rebuilt, which takes so long here."""
RENEWAL_S, BEGUN_S = 0.01, 5.0
"""A renewal takes about so long here; it has begun after so long at most, or it does not."""
LISTENS_S = 5.0
"""So long after a press the device listens, whatever it was busy with; later, and the press is lost."""
POLL_S = 0.01
STILL_S = 3.0
"""A microphone may stand still for so long, and nothing is done about it."""
TIMER_S, LATE_S = 1.0, 2.0
"""How long a timer takes, and how late it may ring, besides a tick, on a machine that is busy."""
HOUR_S, DAY_S = 3600.0, 86400.0
TALKED_S = 3600
"""Seconds that it has been connected on the day when it begins to live."""
CAP_MIN, FAR_CAP_MIN = 1, 900
"""Minutes of a cap that is reached, and of one that never is."""
UP, DOWN, MUTE = 16, 20, 26
"""Pins of the knobs."""


class Service:
    """The hands of the service, which is in another process: the methods of ``Simulator``, and ``found``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: object) -> Any:
            self._pipe.send(("service", name, args))
            return self._pipe.recv()

        return ask


# The house ------------------------------------------------------------------------------------------------------------


class LastingHouse(House):
    """A house that counts what happens and remembers nothing else, so that it does not grow itself."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Any] = Counter()
        """By the type of what happened, and by the cue that was played."""
        self.at: dict[type, float] = {}
        self.dropped = 0.0  # when the loudspeaker forgot what it had
        self.moves = 0  # how often a device has gone, to be assembled anew
        self.gone_at: float | None = None
        """When one has gone, and the next does not work yet."""
        self.took = 0.0  # from there to the next, the last time
        self._then: dict[type, Callable[[], None]] = {}
        self._happened = threading.Condition()
        self.daemon: Daemon

    # What is around each device ---------------------------------------------------------------------------------------

    def speaker(self, device: str, rate: int) -> RoomSpeaker:
        made = super().speaker(device, rate)
        drop = made.drop

        def dropped() -> None:
            drop()
            with self._happened:
                self.dropped = time.monotonic()
                self._happened.notify_all()

        made.drop = dropped  # type: ignore[method-assign]
        return made

    def watch(self, agent: Agent) -> None:
        """See what a device hears and does, and when it goes."""
        agent._observers += (self._observe,)
        agent.device.playback._buffer.fill(0)  # else it becomes memory page by page, with the first minutes of replies
        tell, take_care = agent.device.capture._tell, agent._restarts

        def heard(event: Event) -> None:
            tell(event)
            with self._happened:
                then = self._then.pop(type(event), None)
            if then is not None:
                then()

        def goes(now: float) -> bool:
            again = take_care(now)
            if again:
                self._gone()
            return again

        agent.device.capture._tell, agent._restarts = heard, goes  # type: ignore[method-assign]

    def _gone(self) -> None:
        with self._happened:
            self.moves += 1
            self.gone_at = time.monotonic()
            self._happened.notify_all()

    def _observe(self, step: Transition) -> None:
        for word in step.words:
            self._note(word, step.now)

    def _note(self, word: Event | Action, now: float) -> None:
        with self._happened:
            self.counts[type(word)] += 1
            self.at[type(word)] = now
            if isinstance(word, Play):
                self.counts[word.cue] += 1
            elif isinstance(word, Started) and self.gone_at is not None:
                self.took, self.gone_at = now - self.gone_at, None
            self._happened.notify_all()

    # What a person does -----------------------------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self.daemon._watcher.config

    def press_button(self) -> None:
        self.press(self.config.button.pin or 0)

    def release_button(self) -> None:
        self.release(self.config.button.pin or 0)

    def tap_pin(self, pin: int) -> None:
        """Tap, and leave the contact the time to come to rest: a finger is not sooner there again."""
        self.press(pin)
        self.release(pin)
        until(self._at_rest, lambda: f"the contact on pin {pin} bounces for ever")

    def _at_rest(self) -> bool:
        """Whether no contact bounces."""
        ports = self.agent.device.panel._ports
        found = [port for name in ("button", "controls") if (port := ports.get(name)) is not None]
        return all(pin.contact.deadline is None for port in found for pin in port._pins._watched)

    def tap_button(self) -> None:
        self.tap_pin(self.config.button.pin or 0)

    def when(self, kind: type, then: Callable[[], None]) -> None:
        """Do *then* when the ears tell of *kind* next, before they hear another frame."""
        with self._happened:
            self._then[kind] = then

    def speak(self, words: bytes) -> None:
        """Speak into the microphone that is open."""
        assert self.ear is not None
        self.ear.say(words)

    @contextmanager
    def between_frames(self) -> Iterator[None]:
        """Let no frame be heard meanwhile: a machine may be so busy that many are heard at once."""
        ear = self.ear
        assert ear is not None
        ear.freeze()
        try:
            yield
        finally:
            ear._frozen.set()

    # What is waited for -----------------------------------------------------------------------------------------------

    def until(self, what: str, holds: Callable[[], object], patience: float = PATIENCE_S) -> None:
        """Wait until *holds*; raise Lost if that takes too long."""
        ends = time.monotonic() + patience
        with self._happened:
            while not holds():
                if time.monotonic() >= ends:
                    raise Lost(f"waited for {what} in {self.state.value}")
                self._happened.wait(POLL_S)  # what is waited for may not be told

    def more(self, kind: object, than: Counter[Any]) -> None:
        """Wait until *kind* has happened more often *than* before."""
        self.until(getattr(kind, "__name__", str(kind)), lambda: self.counts[kind] > than[kind])

    @property
    def agent(self) -> Agent:
        """The device of now."""
        agent = self.daemon._agent
        assert agent is not None
        return agent

    @property
    def state(self) -> State:
        return self.agent.device.conversation.state

    def rest(self) -> None:
        """Wait until no turn is under way."""
        self.until("rest", lambda: self.state in RESTING and self.agent.device.playback.quiet)

    def calm(self) -> None:
        """Wait until the last of our own voice and notes has died away: until then frames are changed, or not heard."""
        echo = self.agent.device.echo
        over = max(echo._cue_over + CUE_ECHO_TAIL_S, echo._voice_over + echo._room) + (echo._delay.seconds or 0.0)
        threading.Event().wait(max(0.0, over - time.monotonic()))

    def listens(self) -> bool:
        """Wait until a voice may open the gate; return False where that is over."""
        while self.agent.device.gate._mode is not GateMode.VOICE:
            if self.state is not State.FOLLOW_UP:
                return False
            threading.Event().wait(0.001)
        return True

    def empty(self) -> None:
        """Forget what was heard and seen."""
        self._then.clear()
        self.heard()
        for pin in gpiozero.Device.pin_factory.pins.values():
            pin.clear_states()


class LastingDaemon(Daemon):
    """A daemon whose devices are all watched by one *house*."""

    def __init__(self, path: Path, house: LastingHouse) -> None:
        super().__init__(path)
        self._house = house
        house.daemon = self

    def _assemble(self) -> Agent:
        agent = super()._assemble()
        self._house.watch(agent)
        return agent


class Clock:
    """The time of day as this process sees it: ``ahead`` of the true one, by as many seconds as one likes."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._time, self._localtime, self._strftime = time.time, time.localtime, time.strftime

    def __enter__(self) -> Clock:
        time.time, time.localtime, time.strftime = self.time, self._local, self._formatted  # type: ignore[assignment]
        return self

    def __exit__(self, *_exc: object) -> None:
        time.time, time.localtime, time.strftime = self._time, self._localtime, self._strftime

    def time(self) -> float:
        """Return the seconds since 1970, as they are shown."""
        return self._time() + self.ahead

    def show(self, seconds: float) -> None:
        """From now on it is so many *seconds* since 1970."""
        self.ahead = seconds - self._time()

    @property
    def day(self) -> str:
        """The date that is shown."""
        return self._formatted("%Y-%m-%d")

    def _local(self, seconds: float | None = None) -> time.struct_time:
        return self._localtime(self.time() if seconds is None else seconds)

    def _formatted(self, form: str, when: Any = None) -> str:
        return self._strftime(form, self._local() if when is None else when)


# The life -------------------------------------------------------------------------------------------------------------


class Life:
    """Turns, faults and hardships of all kinds. *note* is told how long things took: a name, and milliseconds.

    ``tally`` counts what was done besides turns, and what came of it.
    """

    def __init__(
        self, house: LastingHouse, service: Service, owner: Owner, clock: Clock, note: Callable[[str, float], None]
    ) -> None:
        self.house, self.service, self.owner, self.clock, self.note = house, service, owner, clock, note
        self.chance = owner.chance
        self.turns = self.lost = 0
        self.tally: Counter[str] = Counter(dict.fromkeys(TALLY, 0))
        self._basis = dict(owner.values)
        self._anew = itertools.cycle(ANEW)
        self._mistakes = itertools.cycle(self.chance.sample(list(WRONG), len(WRONG)))
        self._renewals = itertools.cycle((self._grow_old, self._instruct))
        self._jumps = itertools.cycle(JUMPS)
        self._said = b""
        self._sentences = 0
        self._faulty = False
        self._speech = speech()
        self._silence = bytes(10 * frame_bytes(RATE))

    def turn(self, kind: str, *, is_fault: bool) -> str:
        """Live through one turn of this *kind*; return what went wrong, if anything did."""
        self.turns += 1
        self._faulty, before = is_fault, self.house.counts.copy()
        try:
            self.with_fault(kind) if kind in NAMED else getattr(self, kind)()
            if kind != "capped" and self.house.counts[DailyLimitReached] > before[DailyLimitReached]:
                raise Lost("the cap of the day was reached, and is far")
        except (Lost, AssertionError) as error:
            new = self.house.counts - before
            seen = (f"{count} {what.__name__}" for what, count in new.items() if isinstance(what, type))
            self.lost += 1
            self._mend()
            return f"turn {self.turns}, {kind}: {error}; seen: {', '.join(sorted(seen))}"
        finally:
            self.house.empty()
        return ""

    def _mend(self) -> None:
        """Let what went wrong not be the end of what comes next."""
        self.service.heal()
        self.house.release_button()
        self._plug_in()
        self.clock.ahead = 0.0
        self.owner.values = dict(self._basis)
        self.owner.save(self.owner.text())
        with suppress(Lost):
            self.owner.expect_taken(self.house.daemon, "what it began with")

    # What one says --------------------------------------------------------------------------------------------------

    def words(self) -> bytes:
        """Return a sentence with a mark of its own in its middle."""
        self._sentences += 1
        self.tally["asked"] += 1
        noise = np.random.default_rng(self._sentences).integers(-60, 60, frame_bytes(RATE) // 2)
        self._said = noise.astype(np.int16).tobytes()
        middle = MARK_AT * frame_bytes(RATE)
        wait = bytes(WAITS * frame_bytes(RATE)) if self.house.config.cues.volume else b""
        return wait + self._speech[:middle] + self._said + self._speech[middle:]

    def say(self, words: bytes) -> None:
        """Speak without a gap."""
        with self.house.between_frames():
            self.house.speak(words)

    def heard_out(self) -> None:
        """Wait until the device has heard all that was said."""
        assert self.house.ear is not None
        self.house.ear.wait_until_said()

    def tap(self) -> None:
        """Tap, so quickly that it cannot be a hold."""
        before = self.house.counts.copy()
        with self.house.between_frames():
            self.house.tap_button()
            self.house.until("a release", lambda: self._released(before), STILL_S)

    def _released(self, before: Counter[Any]) -> bool:
        return self.house.counts[Released] > before[Released] and not self.house.agent.device.gate._down

    def tap_and_say(self, words: bytes) -> None:
        """Tap, and speak as soon as the device listens."""
        self.house.when(TalkStarted, lambda: self.house.speak(words))
        self.tap()

    def answered(self, before: Counter[type]) -> None:
        """Wait for the end of an answer; see whether the turn was heard, and how often."""
        self.house.more(PlaybackEnded, before)
        self.house.rest()
        found = self.service.found(self._said)
        if not found or (found > 1 and not self._faulty):
            raise Lost(f"it was heard {found} times")
        self.tally["answered"] += 1
        if not self._faulty and self.house.config.talk.end == "device":
            self.note("first sound", 1000 * (self.house.at[PlaybackStarted] - self.house.at[TalkEnded]))

    # Turns ----------------------------------------------------------------------------------------------------------

    def held(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Hold the button, speak, let go."""
        before = self.house.counts.copy()
        self.house.press_button()
        self.house.more(TalkStarted, before)
        self.say(self.words())
        self.heard_out()
        meanwhile()
        self.house.release_button()
        self.answered(before)

    def tapped(self) -> None:
        """Tap the button and speak."""
        before = self.house.counts.copy()
        self.tap_and_say(self.words())
        self.answered(before)

    def interrupted(self) -> None:
        """Press in the middle of an answer, and ask something else. A press after its end was late."""
        before = self.house.counts.copy()
        self.tap_and_say(self._speech * 3)
        self.house.more(PlaybackStarted, before)
        pressed, listening = time.monotonic(), self.house.counts[TalkStarted]
        self.house.press_button()
        self.house.until("a cut", lambda: self.house.dropped > pressed or self._pressed_late(before))
        if self.house.dropped > pressed:
            self.note("cut", 1000 * (self.house.dropped - pressed))
        else:
            self.tally["late"] += 1
        self.house.until("an open gate", lambda: self.house.counts[TalkStarted] > listening)
        self.say(self.words())
        self.heard_out()
        before = self.house.counts.copy()
        self.house.release_button()
        self.answered(before)

    def _pressed_late(self, before: Counter[type]) -> bool:
        counts, at = self.house.counts, self.house.at
        both = counts[PlaybackEnded] > before[PlaybackEnded] and counts[Pressed] > before[Pressed] + 1
        return both and at[PlaybackEnded] < at[Pressed]

    def nothing(self) -> None:
        """Tap, and say nothing."""
        before = self.house.counts.copy()
        self.tap()
        self.house.more(NoSpeech, before)
        self.house.rest()

    def followed_up(self) -> None:
        """Speak, and speak again without a press."""
        self.tapped()
        before = self.house.counts.copy()
        self.house.calm()
        if self.house.listens():
            self.say(self._silence + self.words())
            self.answered(before)

    def tool(self) -> None:
        """Type something that needs a tool, and its answer another reply."""
        before = self.house.counts.copy()
        self.house.agent.tell(TextTurn(f'set_volume {{"percent": {60 + self.turns % 40}}}'))
        self.house.more(ToolCall, before)
        self.house.more(VolumeAsked, before)
        self.house.more(PlaybackEnded, before)
        self.house.rest()

    def stop(self) -> None:
        """Ask for silence by name."""
        before = self.house.counts.copy()
        self.house.agent.tell(TextTurn("stop {}"))
        self.house.more(StopAsked, before)
        self.house.rest()

    def timer(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Set a timer, hear it ring in time, and press."""
        before = self.house.counts.copy()
        self.house.agent.tell(TextTurn(f'set_timer {{"seconds": {TIMER_S:g}, "name": "tea"}}'))
        self.house.more(ToolCall, before)
        meanwhile()
        self.house.more(AlarmDue, before)
        late = self.house.at[AlarmDue] - self.house.at[ToolCall] - TIMER_S
        if not 0.0 <= late <= TICK_S + LATE_S:
            raise Lost(f"a timer of {TIMER_S:g} s rang {late:.2f} s late")
        self.house.until("the answer", lambda: self.house.state in RESTING)
        self.house.tap_button()
        self.house.more(StopAlarm, before)
        self.house.rest()
        self.house.calm()

    def muted(self) -> None:
        """Mute, and unmute."""
        before = self.house.counts.copy()
        self.house.tap_pin(MUTE)
        self.house.more(Muted, before)
        self.house.rest()
        self.house.tap_pin(MUTE)
        self.house.more(Unmuted, before)
        self.house.rest()

    def volume(self) -> None:
        """Turn the knob."""
        before = self.house.counts.copy()
        self.house.tap_pin(UP if self.turns % 2 else DOWN)
        self.house.more(VolumeAsked, before)
        self.house.rest()

    def looked_at(self) -> None:
        """Look through the window, as ``device-agent status`` does."""
        if self._mood() == "trouble":
            raise Lost("it says that it is in trouble")

    @staticmethod
    def _mood() -> str:
        return str(fetch_snapshot([status_path()])["mood"])

    # Faults ---------------------------------------------------------------------------------------------------------

    def dropped_in_speech(self) -> None:
        """The connection dies while the user speaks."""
        self.held(self.service.drop)

    def dropped_in_thought(self) -> None:
        """The connection dies before the answer."""
        self.service.fault("silent")
        before = self.house.counts.copy()
        self.tap_and_say(self.words())
        self.house.more(TalkEnded, before)
        threading.Event().wait(0.05)  # for the turn to arrive
        self.service.heal()
        self.service.drop()
        self.answered(before)

    def dropped_in_reply(self) -> None:
        """The connection dies while the answer is heard; what came of it is heard to its end."""
        before = self.house.counts.copy()
        self.tap_and_say(self.words())
        self.house.more(PlaybackStarted, before)
        self.service.drop()
        self.answered(before)

    def refused(self) -> None:
        """The service is away when the user speaks, and comes back."""
        self.service.refuse(503)
        self.service.drop()
        before = self.house.counts.copy()
        self.tap_and_say(self.words())
        self.house.more(LinkDown, before)
        self.service.heal()
        self.answered(before)

    def told_goodbye(self) -> None:
        """The service ends the connection while it is not needed."""
        self.service.goodbye(1001)
        self.tapped()

    def with_fault(self, name: str) -> None:
        """A turn with one of the simulator's faults."""
        self.service.fault(name)
        self.tapped()
        self.service.heal()

    def stalled(self) -> None:
        """The service falls silent without dying, until its session is left for not taking the turn."""
        self.tapped()
        before = self.house.counts.copy()
        self.service.stall(True)
        self.tap_and_say(self.words())
        threading.Event().wait(LEFT_S)
        self.service.stall(False)
        self.answered(before)

    # Hardships ------------------------------------------------------------------------------------------------------

    def assembled_anew(self) -> None:
        """Edit what only another device can be, and press while it is assembled, or just before or after."""
        key, *values = next(self._anew)
        for value in values:
            if self.owner.values[key] == value:
                continue  # what was lost has been mended meanwhile
            self._hush()
            moves = self.house.moves
            self.owner.save(self.owner.one(key, value))
            if self.chance.random() < 0.5:
                time.sleep(TICK_S + self.chance.uniform(0.0, TICK_S))  # it is believed between one tick and two
            else:
                self.house.until("another device", lambda moves=moves: self.house.moves > moves)
                time.sleep(self.chance.uniform(0.0, self.chance.choice(AROUND_S)))
            self._press("assembling", lambda: self.house.gone_at is not None)
            self._hush()
            self._expect_taken(key)
            self.note("assembled anew", 1000 * self.house.took)

    def renewed(self) -> None:
        """Press while the connection is renewed, lose the one that was left, and ask again."""
        self.tapped()
        next(self._renewals)()
        policy, ends = self.house.agent.device.link._policy, time.monotonic() + BEGUN_S
        while not policy.renewing and time.monotonic() < ends:
            time.sleep(0.0005)
        time.sleep(self.chance.uniform(0.0, RENEWAL_S))
        self._press("renewing", lambda: policy.renewing)
        self._expect_taken("service.instructions")
        before = self.house.counts.copy()
        self.service.drop()
        self.house.more(LinkIdle, before)
        self.tapped()

    def _grow_old(self) -> None:
        """The session becomes so old that it is to be renewed."""
        link = self.house.agent.device.link
        with link._lock:
            link._policy.renew_at = time.monotonic()
        link.wake()

    def _instruct(self) -> None:
        """Edit what a session is told at its beginning, so that another one is wanted."""
        self.owner.save(self.owner.one("service.instructions", f"This is version {self.turns}."))

    def _press(self, when: str, busy: Callable[[], bool]) -> None:
        """Tap and speak as soon as it listens, *when* it is *busy* or was; see whether it does, and answers."""
        before, words = self.house.counts.copy(), self.words()
        self.house.when(TalkStarted, lambda: self.house.speak(words))
        self.tally[f"{when}: presses"] += 1
        self.tally[f"{when}: inside"] += busy()
        self.house.tap_button()
        try:
            self.house.until(
                "an effect of the press", lambda: self.house.counts[OpenGate] > before[OpenGate], LISTENS_S
            )
        except Lost:
            self.tally[f"{when}: lost"] += 1
            raise
        self.answered(before)

    def wrong_edit(self) -> None:
        """Make a mistake in config.yaml: the device goes on as before, and answers."""
        kind, text, line = self.owner.wrong(next(self._mistakes))
        before = self.house.config
        self.owner.save(text)
        self._about(kind, lambda: self.owner.expect_refused(self.house.daemon, line))
        if self.house.config != before:
            raise Lost(f"{kind}: it runs by another configuration than before")
        self.tapped()
        self.tally["wrong edits"] += 1
        self.owner.save(self.owner.text())
        self._expect_taken(f"{kind}, put right")

    def edited(self) -> None:
        """Edit config.yaml, and speak to the device that it becomes."""
        self.owner.save(self.owner.right())
        self._expect_taken("an edit")
        self.tapped()
        self.tally["right edits"] += 1

    def _expect_taken(self, name: str) -> None:
        self.owner.expect_taken(self.house.daemon, name)

    @staticmethod
    def _about(kind: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Lost as error:
            raise Lost(f"{kind}: {error}") from error

    def microphone_lost(self) -> None:
        """The microphone is pulled out at rest, and comes back."""
        self._prove()
        before = self.house.counts.copy()
        self._pull_out_microphone()
        self.house.more(MicrophoneLost, before)
        self._trouble()

    def microphone_lost_in_speech(self) -> None:
        """The microphone is pulled out when all was said, and the button is still down."""
        self._prove()
        before = self.house.counts.copy()
        self.held(self._pull_out_microphone)
        self.house.more(MicrophoneLost, before)
        self._trouble()

    def loudspeaker_lost(self) -> None:
        """The loudspeaker is pulled out at rest: that shows as soon as it is to sound."""
        self._prove()
        before = self.house.counts.copy()
        self._pull_out_loudspeaker()
        self.tap_and_say(self._speech)
        self.house.more(SpeakerLost, before)
        self._trouble()

    def loudspeaker_lost_in_reply(self) -> None:
        """The loudspeaker is pulled out while an answer is heard; too late, and that shows with the next one."""
        self._prove()
        before = self.house.counts.copy()
        self.tap_and_say(self._speech * 3)
        self.house.more(PlaybackStarted, before)
        self._pull_out_loudspeaker()
        counts = self.house.counts
        self.house.until(
            "the loss",
            lambda: counts[SpeakerLost] > before[SpeakerLost] or counts[PlaybackEnded] > before[PlaybackEnded],
        )
        if counts[SpeakerLost] == before[SpeakerLost]:
            self.tally["late"] += 1
            self.house.rest()
            self.tap_and_say(self._speech)
            self.house.more(SpeakerLost, before)
        self._trouble()

    def _prove(self) -> None:
        """Wait until no edit can be to blame for what comes."""
        until(lambda: not self.house.daemon._watcher.on_trial() and settled(self.house.daemon), lambda: "never proven")

    def _pull_out_microphone(self) -> None:
        assert self.house.ear is not None
        self.house.ear.fail(DeviceFailed("microphone 'default': it is not there any more; check its cable"))

    def _pull_out_loudspeaker(self) -> None:
        assert self.house.mouth is not None
        self.house.mouth.fault = DeviceFailed("speaker 'default': it is not there any more; check its cable")

    def _plug_in(self) -> None:
        assert self.house.ear is not None
        assert self.house.mouth is not None
        self.house.ear.fail(None)
        self.house.mouth.fault = None

    def _trouble(self) -> None:
        """See that a card is gone, press, plug it in again, and be answered."""
        self.house.until("trouble", lambda: self.house.state is TROUBLE and self.house.agent.device.playback.quiet)
        until(lambda: self._mood() == "trouble", lambda: f"a card is gone, and it shows {self._mood()}")
        before = self.house.counts.copy()
        self.house.tap_button()
        self.house.more(Cue.TROUBLE, before)
        self.tally["cards lost"] += 1
        self._plug_in()
        self.house.until("an end of trouble", lambda: self.house.state in RESTING and self.house.state is not TROUBLE)
        self.house.rest()
        self.house.calm()
        self.tapped()

    def clock_jumped(self) -> None:
        """The clock jumps while a timer waits; it rings in time, and what was used of today's minutes is known."""
        meter = self.house.agent.device.meter
        self.timer(self._jump)
        until(lambda: meter._day == self.clock.day, lambda: f"it is {self.clock.day}, and {meter._day} is counted")
        if not 0.0 <= meter.today <= meter.total:
            raise Lost(f"{meter.today} s of today, {meter.total} s in all")
        self.tapped()

    def _jump(self, to: float | None = None) -> None:
        """Set the clock, to the next of JUMPS where it is not said to which time."""
        if to is None:
            ahead = next(self._jumps)
            to = self.clock._time() + ahead if ahead is not None else HOUR_S
        self.clock.show(to)
        self.tally["clock jumps"] += 1

    def capped(self) -> None:
        """Use up the minutes of a day: they stay used up where the clock goes back, and there are others tomorrow."""
        self._see_day(self.clock._time())
        self.owner.save(self.owner.one("connection.daily_minutes", CAP_MIN))
        self._expect_taken("a cap")
        self._expect_cap()
        self._see_day(self.clock.time() - DAY_S)
        self._expect_cap()
        latest = max(self.house.agent.device.meter._days)
        self._see_day(time.mktime(time.strptime(latest, "%Y-%m-%d")) + 1.5 * DAY_S)
        until(lambda: not self.house.agent.device.meter.spent, lambda: "the minutes of a new day are used up")
        self.tapped()
        self.owner.save(self.owner.one("connection.daily_minutes", FAR_CAP_MIN))
        self._expect_taken("no cap")
        self._see_day(self.clock._time())
        self.tapped()
        self.tally["caps"] += 1

    def _see_day(self, seconds: float) -> None:
        """Set the clock, and wait until the device knows which day that is."""
        self._jump(seconds)
        until(lambda: self.house.agent.device.meter._day == self.clock.day, lambda: f"it never was {self.clock.day}")

    def _expect_cap(self) -> None:
        before = self.house.counts.copy()
        self.house.tap_button()
        self.house.more(DailyLimitReached, before)
        self.house.more(Cue.CAP, before)
        self.house.rest()

    def _hush(self) -> None:
        """End the wait for the user to go on: a device that waits for that is not rebuilt."""
        self.house.agent.tell(StopAsked())


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


HARDSHIPS = (
    *3 * ("assembled_anew", "wrong_edit", "edited"),
    *2 * ("renewed", "clock_jumped"),
    "microphone_lost", "microphone_lost_in_speech", "loudspeaker_lost", "loudspeaker_lost_in_reply", "capped",
)  # fmt: skip
"""As often as they are there."""
ANEW = (
    ("microphone.channel", 1),
    ("talk.end", "service", "device"),
    ("microphone.device", "kitchen"),
    ("speaker.device", "kitchen"),
    ("microphone.channel", None),
    ("talk.end", "service", "device"),
    ("microphone.device", "default"),
    ("speaker.device", "default"),
)
"""Edits for which a device is assembled anew: a key, and its values one after the other."""
JUMPS = (5.0, -5.0, 3 * HOUR_S, -3 * HOUR_S, 0.0, 2 * DAY_S, 0.0, -2 * DAY_S, 0.0, None, 0.0)
"""Seconds that the clock is ahead of the true time; None: it shows 1970. The true day comes in between, so that it is
among the few that are remembered."""
TALLY = (
    "asked", "answered", "late", "wrong edits", "right edits", "cards lost", "clock jumps", "caps",
    *(f"{when}: {what}" for when in ("assembling", "renewing") for what in ("presses", "inside", "lost")),
)  # fmt: skip
CHOICES: dict[str, list[Any]] = {
    "service.voice": [None],
    "service.instructions": [None, "Sing.", "Be brief.\nAnd kind."],
    "service.patience_s": [30, 90],
    "talk.silence_ms": [400, 500, 700],
    "talk.preroll_ms": [100, 300, 1000],
    "connection.idle_s": [30, 60],
    "speaker.volume": [80, 90, 100],
    "button.pin": [17, 4, 22],
    "light.pin": [25, 5],
    "light.rgb": [[], [6, 12, 13]],
    "cues.volume": [0, 10],
    "cues.play": [["listening"], ["done", "failed", "trouble"], ["listening", "trouble", "cap"]],
    "alarms.volume": [50, 70],
}
"""What right edits may say."""


def course(rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Yield what to do next, for ever: all kinds in turn, and whether it is a fault of the service or the network."""
    faults, slow = itertools.cycle(rng.sample(FAULTS, len(FAULTS))), itertools.cycle(SLOW)
    hardships = itertools.cycle(rng.sample(HARDSHIPS, len(HARDSHIPS)))
    for number in itertools.count(1):
        if number % EVERY_SLOW == 0:
            yield next(slow), True
        elif number % EVERY == 0:
            yield next(faults), True
        elif number % EVERY == EVERY // 2:
            yield next(hardships), False
        else:
            yield rng.choices(tuple(TURNS), weights=tuple(TURNS.values()))[0], False


def values(url: str) -> dict[str, Any]:
    """Return what config.yaml says at first: key -> value."""
    return {
        **{key: each[0] for key, each in CHOICES.items()},
        "service.name": "xai",
        "service.url": url,
        "talk.vad": 1,
        "talk.end": "device",
        "talk.follow_up_s": FOLLOW_UP_S,
        "connection.daily_minutes": FAR_CAP_MIN,
        "microphone.device": "default",
        "microphone.channel": None,
        "speaker.device": "default",
        "speaker.volume": 100,
        "controls.volume_up": UP,
        "controls.volume_down": DOWN,
        "controls.mute": MUTE,
        "abilities": ["volume", "stop", "alarms"],
    }


def live_through(
    pace: float,
    seed: int,
    service: Service,
    folder: Path,
    note: Callable[[str, float], None],
    drive: Callable[[Life], None],
) -> int:
    """Let a daemon live at *pace* times the speed of the world as *drive* wants it; return its exit status.

    For the main thread. It has been connected for an hour today.
    """
    room.PACE = pace  # type: ignore[assignment]
    house = LastingHouse()
    with ExitStack() as owned:
        owned.enter_context(lived_in(house, folder, tap_s=TAP_S, proven_s=PROVEN_S))
        clock = owned.enter_context(Clock())
        day = clock.day
        known = {"day": day, "today": TALKED_S, "total": TALKED_S, "days": {day: TALKED_S}}
        (folder / "state").mkdir()
        (folder / "state" / "memory.json").write_text(json.dumps({"connected": known}))
        owner = Owner(random.Random(seed), folder / "config.yaml", {}, CHOICES, values(service.url()))
        owner.path.write_text(owner.text())
        daemon = LastingDaemon(owner.path, house)
        daemon._statistics._wall = clock.time
        life = Life(house, service, owner, clock, note)

        def begun() -> None:
            house.until("a device that works", lambda: house.counts[Started])
            drive(life)

        return live(daemon, begun)
