"""The device as a whole: which thread does what, and the way sound takes through them.

    microphone -> listen() -> gate -> outbox ------------> link -> service
                                                             |
    speaker    <- speak()  <- playback <---------------------+

Everything else that happens lands in one inbox. The main thread reads it, asks the conversation what to do, and does
it; it is the only one that reads a clock to decide something.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing

from . import systemd
from .audio import FRAME_MS
from .conversation import MOODS, STARTING, Conversation
from .events import (
    Action,
    Attend,
    CancelReply,
    Clip,
    CloseGate,
    CutReply,
    DeviceReady,
    Dial,
    Event,
    Finish,
    ForgetTurn,
    HangUp,
    Linger,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneEnded,
    OpenGate,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Released,
    ReplyEnded,
    ServiceError,
    Show,
    ShutdownRequested,
    Speech,
    Started,
    TimeUp,
    ToolCall,
    Words,
    WorkerCrashed,
)
from .gate import Gate
from .hardware import Button, Light, Microphone, Speaker
from .link import Link
from .outbox import Outbox
from .playback import Marker, Playback
from .tools import Toolbox
from .worker import Pulse, Worker

log = logging.getLogger(__name__)

Watch = Callable[[Event | Action, float], None]
"""Is shown everything that happens and everything that is done, with the time, in the main thread."""

TICK_S = 1.0
"""How often the main thread looks whether the others get on."""
STALLED_S = 5.0
"""A microphone without a frame, or a loudspeaker that takes none, for so long is gone: the process ends."""
STARTING_S = 30.0
"""How long the devices may take to open."""
MICROPHONE, SPEAKER = "microphone", "speaker"


class Agent:
    """A smart speaker. ``run`` belongs to the main thread; ``ask`` and ``stop`` to any, even to a signal handler."""

    def __init__(
        self,
        *,
        microphone: Microphone,
        speaker: Speaker,
        button: Button,
        light: Light,
        gate: Gate,
        outbox: Outbox,
        playback: Playback,
        link: Link,
        conversation: Conversation,
        toolbox: Toolbox,
        inbox: queue.SimpleQueue[Event],
        watch: Iterable[Watch] = (),
    ) -> None:
        self._microphone, self._speaker, self._button, self._light = microphone, speaker, button, light
        self._gate, self._outbox, self._playback, self._link = gate, outbox, playback, link
        self._conversation, self._toolbox, self._inbox = conversation, toolbox, inbox
        self._watch = tuple(watch)
        self._ears, self._mouth = Pulse(), Pulse()
        self._opening = {MICROPHONE, SPEAKER}
        self._service = ""  # that we are connected to
        self._gaps = (0, 0, 0)

    def stop(self, by: str) -> None:
        """Ask ``run`` to return 0."""
        self._inbox.put(ShutdownRequested(by))

    def ask(self, turn: Words | Clip) -> None:
        """Take a turn that nobody has to speak."""
        self._inbox.put(turn)

    def run(self) -> int:
        """Be a smart speaker until told otherwise; return the exit status."""
        tell = self._inbox.put
        speak = Worker(SPEAKER, self._speak, tell, nudge=self._playback.close)
        carry = Worker("link", self._link.run, tell, nudge=self._link.wake, force=self._link.abort)
        listen = Worker(MICROPHONE, self._listen, tell)
        self._button.when_pressed = lambda: tell(Pressed())
        self._button.when_released = lambda: tell(Released())
        with ExitStack() as owned:
            owned.callback(self._outbox.close)
            owned.enter_context(closing(self._toolbox))
            owned.enter_context(closing(self._light))
            owned.enter_context(closing(self._button))
            self._light.show(MOODS[STARTING])
            for worker in (speak, carry, listen):
                owned.enter_context(worker)
            owned.callback(systemd.notify, STOPPING=1)
            return self._attend()

    # The microphone's thread ------------------------------------------------------------------------------------------

    def _listen(self, stopping: threading.Event) -> None:
        """Hear a frame, let the gate decide, hand it to the link."""
        with closing(self._microphone) as microphone:
            microphone.open()
            self._inbox.put(DeviceReady(MICROPHONE))
            while not stopping.is_set():
                self._ears.beat()
                frame = microphone.read()
                if not frame:
                    break
                self._send(self._gate.feed(frame))
            else:
                return
        self._ears.rest()
        self._send(self._gate.finish())
        self._inbox.put(MicrophoneEnded())

    def _send(self, speech: Iterable[Speech]) -> None:
        for item in speech:
            self._outbox.put(item)
            if not isinstance(item, bytes):
                self._inbox.put(item)

    # The speaker's thread ---------------------------------------------------------------------------------------------

    def _speak(self, stopping: threading.Event) -> None:
        """Play what arrived; say when a reply begins to be heard, and when it has been."""
        begun: PlaybackStarted | None = None
        with closing(self._speaker) as speaker:
            speaker.open()
            self._inbox.put(DeviceReady(SPEAKER))
            while not stopping.is_set():
                self._mouth.rest()
                item = self._playback.read()
                self._mouth.beat()
                match item:
                    case None:
                        return
                    case Marker.DROP:
                        speaker.drop()
                        begun = None
                    case PlaybackStarted():
                        begun = item
                    case PlaybackEnded():
                        speaker.drain(self._playback.silenced)
                        self._inbox.put(item)
                    case bytes():
                        speaker.write(item)
                        if begun is not None:
                            self._inbox.put(begun)
                            begun = None

    # The main thread --------------------------------------------------------------------------------------------------

    def _attend(self) -> int:
        """Take events one at a time and do what the conversation asks."""
        tick = began = time.monotonic()
        while True:
            event = self._next_event(tick + TICK_S)
            now = time.monotonic()
            if now >= tick + TICK_S:
                tick = now
                if not self._alive(now, began):
                    return 1
            match event:
                case None:
                    continue
                case ShutdownRequested(by):
                    log.info("stopping on %s", by)
                    return 0
                case WorkerCrashed(worker, error):
                    log.error("%s: %s", worker, error)
                    return 1
            if self._handle(event, now):
                return 0

    def _next_event(self, tick: float) -> Event | None:
        """Wait for the next event; TimeUp when the conversation's deadline passed, None when it is time for a tick."""
        now, deadline = time.monotonic(), self._conversation.deadline
        if deadline is not None and deadline <= now:
            return TimeUp()
        try:
            return self._inbox.get(timeout=max(0.0, min(tick, deadline or tick) - now))
        except queue.Empty:
            return None

    def _handle(self, event: Event, now: float) -> bool:
        """Do what *event* calls for; return whether that was to finish."""
        self._show_all(event, now)
        if isinstance(event, DeviceReady):
            self._opening.discard(event.worker)
            return not self._opening and self._handle(Started(), now)
        if isinstance(event, Released):
            self._gate.release()
        before = self._conversation.state
        actions = self._conversation.handle(event, now)
        if self._conversation.state is not before:
            log.info("%s -> %s on %s", before.value, self._conversation.state.value, type(event).__name__)
        self._note(event)
        for action in actions:
            self._show_all(action, now)
            self._do(action)
        match event:
            case Words() | Clip() if actions:  # nobody is speaking just now
                self._outbox.put(event)  # behind the cancel of what ran before
            case ToolCall():
                self._toolbox.run(event, self._outbox.put)
        return Finish() in actions

    def _do(self, action: Action) -> None:
        match action:
            case CutReply():
                reply, read_ms = self._playback.cut()
                heard_ms = max(0, read_ms - round(1000 * self._speaker.latency))
                log.info("the reply was cut after %.2f s", heard_ms / 1000)
                self._outbox.put(CancelReply(reply, heard_ms))
            case ForgetTurn():
                self._outbox.forget()
            case OpenGate():
                self._gate.press()
            case CloseGate():
                self._gate.close()
            case Attend(attention):
                self._gate.attend(attention)
            case Dial():
                self._link.dial()
            case Linger():
                self._link.linger()
            case HangUp():
                self._link.hang_up()
            case Show(mood):
                self._light.show(mood)
                systemd.notify(STATUS=f"{mood}, {self._service}" if self._service else mood)

    def _note(self, event: Event) -> None:
        """Remember, and tell the owner, what is worth it."""
        match event:
            case LinkUp(service):
                log.info("connected to %s", service)
                self._service = service
            case LinkIdle() | LinkDown():
                self._service = ""
            case Started():
                log.info("ready: frames of %d ms, the gate is closed", FRAME_MS)
                systemd.notify(READY=1)
            case ServiceError(message):
                log.warning("the service complains: %s", message)
            case ReplyEnded(_, problem) if problem:
                log.warning("the reply is not whole: %s", problem)

    def _show_all(self, word: Event | Action, now: float) -> None:
        for watch in self._watch:
            watch(word, now)

    def _alive(self, now: float, began: float) -> bool:
        """Look whether everybody gets on; feed the watchdog only then."""
        if self._opening and now - began > STARTING_S:
            log.error("the %s did not open within %g s", " and the ".join(sorted(self._opening)), STARTING_S)
            return False
        for name, pulse in ((MICROPHONE, self._ears), (SPEAKER, self._mouth)):
            if pulse.standstill(now) > STALLED_S:
                log.error("the %s has stood still for %g s: ending, so that all of it starts again", name, STALLED_S)
                return False
        self._tell_gaps()
        systemd.notify(WATCHDOG=1)
        return True

    def _tell_gaps(self) -> None:
        """Gaps in the sound are counted where they happen, and told here, a line a second at most."""
        gaps = (self._microphone.overflows, self._speaker.underruns, self._playback.underruns)
        if gaps != self._gaps:
            log.warning("gaps so far: %d in the microphone, %d in the loudspeaker, %d in what came of replies", *gaps)
        self._gaps = gaps
