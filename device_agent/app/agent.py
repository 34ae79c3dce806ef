"""The device as a whole: which thread does what, and the way sound takes through them.

    microphone -> ears (echo, gate) -> outbox -----------> link -> service
                                                             |
    speaker    <- mouth  <-  playback <----------------------+

Everything else that happens lands in one inbox. The main thread reads it, asks the conversation what to do, and does
it; it is the only one that reads a clock to decide something.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from typing import Protocol

from ..core.actions import (
    Action,
    CancelReply,
    CloseGate,
    Connect,
    Cue,
    Finish,
    ForgetTurn,
    HangUp,
    InterruptReply,
    Mute,
    OpenGate,
    Play,
    ReleaseConnection,
    SetGateMode,
    Show,
    StartAlarm,
    StopAlarm,
)
from ..core.conversation import FOLLOW_UP, MOODS, RESTING, STARTING
from ..core.errors import AgentError, DeviceFailed
from ..core.events import (
    AlarmDue,
    AudioTurn,
    ConfigApplied,
    ConfigRejected,
    DailyLimitReached,
    DeadlinePassed,
    DeviceReady,
    Event,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneLost,
    MuteAsked,
    Muted,
    Port,
    Refused,
    Released,
    ReplyEnded,
    ServiceError,
    ShutdownRequested,
    SpeakerLost,
    Started,
    TextTurn,
    ToolCall,
    Unmuted,
    VolumeAsked,
    WakeUp,
    WorkerCrashed,
)
from ..dsp.level_meter import LevelMeter
from ..dsp.pcm import FRAME_MS
from ..hardware.front_panel import FrontPanel
from ..runtime import systemd
from ..runtime.worker import Worker
from ..telemetry.statistics import Gauges
from .device import Device
from .early import EarlyInput, left_over

log = logging.getLogger(__name__)

Watch = Callable[[Event | Action, float], None]
"""Is shown everything that happens and everything that is done, with the time, in the main thread."""

TICK_S = 1.0
"""How often the main thread looks whether the others get on."""
LINK = "link"
LINK_STALLED_S = 60.0
"""The link looks up every few seconds while it is connected, and no step of a dial takes longer than this."""
AGAIN = -1
"""What ``run`` returns where the device is to be assembled anew: no exit status."""


class Reconfiguring(Protocol):
    """Who sees to the configuration of a device that runs. Belongs to the main thread."""

    @property
    def next(self) -> object | None:
        """What the device is to be assembled anew for, when nobody speaks."""

    def look(self, now: float) -> Event | None:
        """Called with each tick: return what has become of an edit, if there was one."""

    def fail(self, error: AgentError, key: str = "") -> bool:
        """It cannot go on for *error*, which is about *key* where that is known: return whether it is to be assembled
        anew for that."""


class Agent:
    """A smart speaker. ``run`` is for the main thread; ``tell``, ``ask``, ``stop`` for any, even a signal handler."""

    def __init__(
        self,
        parts: Device,
        *,
        watch: Iterable[Watch] = (),
        care: Reconfiguring | None = None,
    ) -> None:
        self._ears, self._echo, self._gate, self._outbox = parts.ears, parts.echo, parts.gate, parts.outbox
        self._link, self._playback, self._mouth = parts.link, parts.playback, parts.mouth
        self._devices, self._panel, self._cues = parts.devices, parts.panel, parts.cues
        self._conversation, self._toolbox, self._inbox = parts.conversation, parts.toolbox, parts.inbox
        self._alarms, self._memory, self._meter = parts.alarms, parts.memory, parts.meter
        self._watch, self._care = tuple(watch), care
        self._mood, self._service, self._complaint = MOODS[STARTING], "", ""
        self._backlog: deque[Event] = deque()  # comes before what is in the inbox
        self._early = EarlyInput()

    def stop(self, by: str) -> None:
        """Ask ``run`` to return 0."""
        self._inbox.put(ShutdownRequested(by))

    def tell(self, event: Event) -> None:
        """Let the agent know of something that happened around it."""
        self._inbox.put(event)

    def ask(self, turn: TextTurn | AudioTurn) -> None:
        """Take a turn that nobody has to speak."""
        self._inbox.put(turn)

    def gauges(self) -> Gauges:
        """Return how things are that no event tells. For any thread."""
        return Gauges(
            state=self._conversation.state.value,
            volume=self._playback.volume,
            muted=self._conversation.muted,
            today=self._meter.today,
            total=self._meter.total,
            cap=self._meter.limit,
            gaps=(self._ears.gaps, *self._mouth.gaps),
            prefill=self._playback.prefill,
        )

    @property
    def panel(self) -> FrontPanel:
        """What people touch and see. For the main thread."""
        return self._panel

    @property
    def levels(self) -> tuple[LevelMeter, LevelMeter]:
        """How loud it is at the microphone and at the loudspeaker. For any thread."""
        return self._ears.level, self._mouth.level

    def run(self) -> int:
        """Be a smart speaker until told otherwise; return the exit status, or AGAIN: then the panel stays open, for the
        device that follows."""
        tell = self._inbox.put
        self._backlog = left_over(self._inbox)
        speak = Worker(Port.SPEAKER, self._mouth.run, tell, wake=self._mouth.wake)
        carry = Worker(LINK, self._link.run, tell, wake=self._link.wake, force=self._link.abort)
        listen = Worker(Port.MICROPHONE, self._ears.run, tell, wake=self._ears.wake)
        with ExitStack() as owned:
            owned.enter_context(Worker("memory", self._memory.keep, tell, wake=self._memory.wake))
            owned.callback(lambda: self._meter.disconnected(time.monotonic()))  # the last minute costs, too
            owned.callback(self._outbox.close)
            owned.enter_context(closing(self._toolbox))
            panel = owned.enter_context(ExitStack())
            panel.callback(self._panel.close)
            self._panel.listen(tell)
            self._panel.show(self._mood)
            for worker in (speak, carry, listen):
                owned.enter_context(worker)
            status = self._attend()
            if status == AGAIN:
                panel.pop_all()
            else:
                systemd.notify(STOPPING=1)
        if status == AGAIN and any(worker.alive for worker in (speak, carry, listen)):
            return 1  # it holds what the next one needs: this process cannot go on
        return status

    # The main thread --------------------------------------------------------------------------------------------------

    def _attend(self) -> int:
        """Take events one at a time and do what the conversation asks."""
        tick = began = time.monotonic()
        while True:
            event = self._next_event(tick + TICK_S)
            now = time.monotonic()
            if now >= tick + TICK_S or isinstance(event, WakeUp):
                tick = now
                self._look(now, began)
                if self._take_care(now):
                    return AGAIN
            if event is None:
                continue
            if (status := self._ended_by(event)) is not None:
                return status
            if self._handle(event, now):
                return 0

    def _ended_by(self, event: Event) -> int | None:
        """Return the status that *event* is to end ``run`` with, if it is."""
        if self._unfit(event):
            return AGAIN
        match event:
            case ShutdownRequested(by):
                log.info("stopping on %s", by)
                return 0
            case WorkerCrashed(worker, error):
                log.error("%s: %s", worker, error)
                return 1
        return None

    def _next_event(self, tick: float) -> Event | None:
        """Wait for the next event; TimeUp when the conversation's deadline passed, None when it is time for a tick."""
        if self._backlog:
            return self._backlog.popleft()
        now, deadline = time.monotonic(), self._conversation.deadline
        if deadline is not None and deadline <= now:
            return DeadlinePassed()
        try:
            return self._inbox.get(timeout=max(0.0, min(tick, deadline or tick) - now))
        except queue.Empty:
            return None

    def _handle(self, event: Event, now: float) -> bool:
        """Do what *event* calls for; return whether that was to finish."""
        if self._conversation.state is STARTING and self._early.keep(event):
            return False
        self._show_all(event, now)
        started = False
        match event:
            case DeviceReady(worker):
                started = self._devices.found(worker)
            case MicrophoneLost(reason):
                started = self._devices.lost(Port.MICROPHONE, reason, now)
            case SpeakerLost(reason):
                started = self._devices.lost(Port.SPEAKER, reason, now)
            case MuteAsked(muted):
                wanted = not self._conversation.muted if muted is None else muted
                wanted = wanted or self._panel.muted is True  # what a switch says, nobody overrules from afar
                return wanted is not self._conversation.muted and self._handle(Muted() if wanted else Unmuted(), now)
            case VolumeAsked(percent, by):
                self._turn_volume(percent, by)
            case Released(tapped):
                self._gate.release(tapped=tapped)
        finished = self._converse(event, now)
        return self._start(now) if started else finished

    def _start(self, now: float) -> bool:
        """The device works: do what was asked of it before it did; return whether that was to finish."""
        return any(self._handle(event, now) for event in (Started(), *self._early.take()))

    def _converse(self, event: Event, now: float) -> bool:
        """Ask the conversation what to do about *event*, and do it; return whether that was to finish."""
        before = self._conversation.state
        actions = self._conversation.handle(event, now)
        if self._conversation.state is not before:
            log.info("%s -> %s on %s", before.value, self._conversation.state.value, type(event).__name__)
        self._note(event, now)
        for action in actions:
            self._show_all(action, now)
            self._do(action, now)
        match event:
            case TextTurn() | AudioTurn() if actions:  # nobody is speaking just now
                self._outbox.put(event)  # behind the cancel of what ran before
            case ToolCall():
                self._toolbox.run(event, self._outbox.put)
        return Finish() in actions

    def _do(self, action: Action, now: float) -> None:
        match action:
            case InterruptReply() | Play() | StartAlarm() | StopAlarm():
                self._sound(action, now)
            case Connect() if self._meter.spent:
                self._inbox.put(DailyLimitReached())
            case Connect(asked):
                self._link.dial(asked=asked)
            case ReleaseConnection():
                self._link.linger()
            case HangUp():
                self._link.hang_up()
            case ForgetTurn():
                self._outbox.forget()
            case Mute(muted):
                self._mute(muted)
            case Show(mood):
                self._mood = mood
                self._panel.show(mood)
                self._tell_status()
            case _:
                self._do_at_gate(action)

    def _do_at_gate(self, action: Action) -> None:
        match action:
            case OpenGate():
                self._gate.press()
            case CloseGate():
                self._gate.close()
            case SetGateMode(attention):
                self._gate.set_mode(attention)

    def _sound(self, action: Action, now: float) -> None:
        match action:
            case InterruptReply():
                reply, read_ms = self._playback.cut()
                heard_ms = max(0, read_ms - round(1000 * self._echo.unheard(now)))
                log.info("the reply was cut after %.2f s", heard_ms / 1000)
                self._outbox.put(CancelReply(reply, heard_ms))
            case Play(cue):
                self._playback.play(self._cues.sound(cue))
            case StartAlarm():
                self._playback.ring(self._cues.sound(Cue.ALARM))
            case StopAlarm():
                self._playback.ring(b"")
                self._alarms.stop_ringing()

    def _mute(self, muted: bool) -> None:
        self._ears.mute(muted)
        self._memory.put("muted", muted)
        log.info("the microphone is %s", "closed" if muted else "open again")

    def _turn_volume(self, percent: int | None, by: int) -> None:
        """Set the volume; who turned it by hand, and hears no reply now, hears how loud it is."""
        wanted = self._playback.volume + by if percent is None else percent
        self._playback.volume = max(0, min(100, wanted))
        self._memory.put("volume", self._playback.volume)
        log.info("volume %d", self._playback.volume)
        if by and self._playback.quiet:
            self._playback.play(self._cues.sound(Cue.VOLUME, self._playback.volume))

    def _tell_status(self) -> None:
        systemd.notify(STATUS=", ".join(filter(None, (self._mood, self._service, self._complaint))))

    def _note_edit(self, event: ConfigApplied | ConfigRejected) -> None:
        """Let the service manager know, and let an alarm that rings be as loud as it is to be now."""
        self._complaint = ""
        if isinstance(event, ConfigRejected):
            self._complaint = f"with the previous settings: {event.reason.splitlines()[0]}"
        elif self._alarms.ringing:
            self._playback.ring(self._cues.sound(Cue.ALARM))
        self._tell_status()

    def _note(self, event: Event, now: float) -> None:
        """Remember, and tell the owner, what is worth it."""
        match event:
            case LinkUp(service):
                log.info("connected to %s", service)
                self._service = service
                self._meter.connected(now)
            case LinkIdle() | LinkDown() | Refused():
                self._service = ""
                self._meter.disconnected(now)
            case DailyLimitReached():
                log.warning(
                    "the %.0f minutes of today are used up: see connection.daily_minutes", self._meter.today / 60
                )
            case Started():
                log.info("ready: frames of %d ms, the gate is closed", FRAME_MS)
                systemd.notify(READY=1)
            case ServiceError(message):
                log.warning("the service complains: %s", message)
            case ConfigApplied() | ConfigRejected():
                self._note_edit(event)
            case ReplyEnded(_, problem) if problem:
                log.warning("the reply is incomplete: %s", problem)
            case ReplyEnded(silent=True):
                log.warning("the reply has no sound; to see its words in the log, set log.transcript: info")

    def _show_all(self, word: Event | Action, now: float) -> None:
        for watch in self._watch:
            watch(word, now)

    def _link_hangs(self, now: float) -> WorkerCrashed | None:
        if self._link.pulse.stalled_for(now) <= LINK_STALLED_S:
            return None
        return WorkerCrashed(
            LINK,
            AgentError(f"it has stood still for {LINK_STALLED_S:g} s: ending the program, so that it is restarted"),
        )

    def _take_care(self, now: float) -> bool:
        """See to the configuration; return whether the device is to be assembled anew, and nobody would notice."""
        if self._care is None:
            return False
        resting = self._conversation.state in RESTING
        if (edit := self._care.look(now)) is not None:
            self._inbox.put(edit)
        if self._care.next is None or not resting or self._alarms.ringing:
            return False
        if self._conversation.state is FOLLOW_UP:  # somebody may go on
            return False
        return self._inbox.empty() and self._outbox.quiet and self._playback.quiet and not self._gate.engaged

    def _unfit(self, event: Event) -> bool:
        """Whether what *event* tells of is the fault of an edit, and the device from before is wanted."""
        match event:
            case MicrophoneLost(reason):
                error: AgentError = DeviceFailed(reason)
                key = f"{Port.MICROPHONE}.device"
            case SpeakerLost(reason):
                error, key = DeviceFailed(reason), f"{Port.SPEAKER}.device"
            case WorkerCrashed(worker, DeviceFailed() as failed):
                error, key = failed, f"{worker}.device"
            case WorkerCrashed(worker, crash):
                error, key = AgentError(f"{worker}: {crash}"), ""
            case _:
                return False
        return self._care is not None and self._care.fail(error, key)

    def _look(self, now: float, began: float) -> None:
        """Look whether everybody gets on, and whether it is time for an alarm; feed the watchdog."""
        ringing = self._alarms.ringing
        failed = self._devices.failure(now, began, ringing=ringing)
        if failed := failed or (None if ringing else self._link_hangs(now)):
            self._inbox.put(failed)
            return
        if self._conversation.state in RESTING:
            self._devices.retry_lost(now)
        for event in self._alarms.due(time.time(), now, audible=self._devices.audible):
            if isinstance(event, AlarmDue):
                log.info("an alarm rings")  # what it is called is private, like all that was said
            self._inbox.put(event)
        self._meter.look(time.strftime("%Y-%m-%d"), now)  # by the time zone as the alarms have just found it
        if not self._meter.spent:
            self._link.allow(True)
        elif self._conversation.state in RESTING:
            self._link.allow(False)
        self._outbox.look(now, awaited=self._conversation.state not in RESTING)
        self._devices.log_gaps()
        systemd.notify(WATCHDOG=1)
