"""Agent: the main loop of one device.

    microphone -> capture (echo control, gate) -> outbox ---> link -> service
                                                                |
    speaker    <- playout   <-  playback buffer <---------------+

Everything else is an event in one inbox. The main thread reads it, asks the conversation for actions, and executes
them; it alone reads a clock to decide something.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import Protocol

from ..core.actions import Action, Finish
from ..core.conversation import FOLLOW_UP, RESTING, STARTING, State
from ..core.errors import AgentError, DeviceFailed
from ..core.events import (
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
from ..core.transition import Observer, Transition
from ..dsp.level_meter import LevelMeter
from ..dsp.pcm import FRAME_MS
from ..runtime import systemd
from ..runtime.worker import Worker
from ..telemetry.statistics import Gauges
from .actuator import Actuator
from .device import Device
from .early import EarlyInput, take_user_events
from .health import LINK, Health

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
"""How often the main thread checks the other threads."""
RESTART = -1
"""What ``run`` returns where the device is to be assembled again: no exit status."""


class Reconfiguring(Protocol):
    """What applies edits of the configuration to a device that runs. Belongs to the main thread."""

    @property
    def next(self) -> object | None:
        """What the device is to be assembled again for, at rest."""

    def look(self, now: float) -> Event | None:
        """Called with each check: return what has become of an edit, if there was one."""

    def fail(self, error: AgentError, key: str = "") -> bool:
        """The device cannot go on for *error*, which is about *key* where that is known: return whether it is to be
        assembled again for that."""


class Agent:
    """A smart speaker. ``run`` is for the main thread; ``tell``, ``ask``, ``stop`` for any, even a signal handler."""

    def __init__(
        self, device: Device, *, observers: Iterable[Observer] = (), reconfigurer: Reconfiguring | None = None
    ) -> None:
        self.device = device
        self._observers, self._reconfigurer = tuple(observers), reconfigurer
        self._actuator = Actuator(device)
        self._backlog: deque[Event] = deque()  # comes before what is in the inbox
        self._early = EarlyInput()

    def stop(self, by: str) -> None:
        """Ask ``run`` to return 0."""
        self.device.inbox.put(ShutdownRequested(by))

    def tell(self, event: Event) -> None:
        """Put *event* into the inbox."""
        self.device.inbox.put(event)

    def ask(self, turn: TextTurn | AudioTurn) -> None:
        """Take a turn that is not spoken into the microphone."""
        self.device.inbox.put(turn)

    def gauges(self) -> Gauges:
        """Return the state that no event tells. For any thread."""
        device = self.device
        return Gauges(
            state=device.conversation.state.value,
            volume=device.playback.volume,
            muted=device.conversation.muted,
            today=device.meter.today,
            total=device.meter.total,
            cap=device.meter.limit,
            gaps=(device.capture.gaps, *device.playout.gaps),
            prefill=device.playback.prefill,
        )

    @property
    def levels(self) -> tuple[LevelMeter, LevelMeter]:
        """The level meters of the microphone and of the loudspeaker. For any thread."""
        return self.device.capture.level, self.device.playout.level

    def run(self) -> int:
        """Run the device until it is told otherwise; return the exit status, or RESTART: then the panel stays open, for
        the device that follows."""
        device, tell = self.device, self.device.inbox.put
        self._backlog = take_user_events(device.inbox)
        speak = Worker(Port.SPEAKER, device.playout.run, tell, wake=device.playout.wake)
        carry = Worker(LINK, device.link.run, tell, wake=device.link.wake, force=device.link.abort)
        listen = Worker(Port.MICROPHONE, device.capture.run, tell, wake=device.capture.wake)
        with ExitStack() as owned:
            owned.enter_context(Worker("memory", device.memory.keep, tell, wake=device.memory.wake))
            owned.callback(lambda: device.meter.disconnected(time.monotonic()))  # the last minute costs, too
            owned.callback(device.outbox.close)
            owned.enter_context(closing(device.toolbox))
            panel = owned.enter_context(ExitStack())
            panel.callback(device.panel.close)
            device.panel.listen(tell)
            device.panel.show(self._actuator.mood)
            for worker in (speak, carry, listen):
                owned.enter_context(worker)
            status = self._loop()
            if status == RESTART:
                panel.pop_all()
            else:
                systemd.notify(STOPPING=1)
        if status == RESTART and any(worker.alive for worker in (speak, carry, listen)):
            return 1  # it holds what the next device needs: this process cannot go on
        return status

    # The main thread --------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        """Take events one at a time, and do what the conversation asks for."""
        checked = time.monotonic()
        health = Health(self.device, checked)
        while True:
            event = self._next_event(checked + CHECK_INTERVAL_S)
            now = time.monotonic()
            if now >= checked + CHECK_INTERVAL_S or isinstance(event, WakeUp):
                checked = now
                health.check(now)
                if self._restarts(now):
                    return RESTART
            if event is None:
                continue
            if (status := self._ended_by(event)) is not None:
                return status
            if self._handle(event, now):
                return 0

    def _ended_by(self, event: Event) -> int | None:
        """Return the status that *event* is to end ``run`` with, if it is."""
        if self._unfit(event):
            return RESTART
        match event:
            case ShutdownRequested(by):
                log.info("stopping on %s", by)
                return 0
            case WorkerCrashed(worker, error):
                log.error("%s: %s", worker, error)
                return 1
        return None

    def _next_event(self, check: float) -> Event | None:
        """Wait for the next event: DeadlinePassed at the conversation's deadline, None at the time of the *check*."""
        if self._backlog:
            return self._backlog.popleft()
        now, deadline = time.monotonic(), self.device.conversation.deadline
        if deadline is not None and deadline <= now:
            return DeadlinePassed()
        try:
            return self.device.inbox.get(timeout=max(0.0, min(check, deadline or check) - now))
        except queue.Empty:
            return None

    def _handle(self, event: Event, now: float) -> bool:
        """Do what *event* calls for; return whether that was to finish."""
        device = self.device
        if device.conversation.state is STARTING and self._early.keep(event):
            return False
        started = False
        match event:
            case DeviceReady(worker):
                started = device.supervisor.found(worker)
            case MicrophoneLost(reason):
                started = device.supervisor.lost(Port.MICROPHONE, reason, now)
            case SpeakerLost(reason):
                started = device.supervisor.lost(Port.SPEAKER, reason, now)
            case MuteAsked(muted):
                self._observe(event, [], device.conversation.state, now)
                wanted = not device.conversation.muted if muted is None else muted
                wanted = wanted or device.panel.muted is True  # a switch on the device goes before any other request
                return wanted is not device.conversation.muted and self._handle(Muted() if wanted else Unmuted(), now)
            case VolumeAsked(percent, by):
                self._actuator.set_volume(percent, by)
            case Released(tapped):
                device.gate.release(tapped=tapped)
        finished = self._converse(event, now)
        return self._start(now) if started else finished

    def _start(self, now: float) -> bool:
        """The device works: do what was asked of it before it did; return whether that was to finish."""
        return any(self._handle(event, now) for event in (Started(), *self._early.take()))

    def _converse(self, event: Event, now: float) -> bool:
        """Ask the conversation what to do about *event*, and do it; return whether that was to finish."""
        conversation = self.device.conversation
        before = conversation.state
        actions = conversation.handle(event, now)
        self._observe(event, actions, before, now)
        if conversation.state is not before:
            log.info("%s -> %s on %s", before.value, conversation.state.value, type(event).__name__)
        self._note(event, now)
        for action in actions:
            self._actuator.execute(action, now)
        match event:
            case TextTurn() | AudioTurn() if actions:  # no turn is being spoken
                self.device.outbox.put(event)  # behind the cancel of what ran before
            case ToolCall():
                self.device.toolbox.run(event, self.device.outbox.put)
        return Finish() in actions

    def _note(self, event: Event, now: float) -> None:
        """Log *event*, and account for it, where that is of use to the owner."""
        meter = self.device.meter
        match event:
            case LinkUp(service):
                log.info("connected to %s", service)
                self._actuator.service = service
                meter.connected(now)
            case LinkIdle() | LinkDown() | Refused():
                self._actuator.service = ""
                meter.disconnected(now)
            case DailyLimitReached():
                log.warning("the %.0f minutes of today are used up: see connection.daily_minutes", meter.today / 60)
            case Started():
                log.info("ready: frames of %d ms, the gate is closed", FRAME_MS)
                systemd.notify(READY=1)
            case ServiceError(message):
                log.warning("the service complains: %s", message)
            case ConfigApplied():
                self._actuator.renew_alarm()
                self._complain("")
            case ConfigRejected(reason):
                self._complain(f"with the previous settings: {reason.splitlines()[0]}")
            case ReplyEnded(_, problem) if problem:
                log.warning("the reply is incomplete: %s", problem)
            case ReplyEnded(silent=True):
                log.warning("the reply has no sound; to see its words in the log, set log.transcript: info")

    def _complain(self, complaint: str) -> None:
        self._actuator.complaint = complaint
        self._actuator.tell_status()

    def _observe(self, event: Event, actions: list[Action], before: State, now: float) -> None:
        step = Transition(event, tuple(actions), before, self.device.conversation.state, now)
        for observer in self._observers:
            observer(step)

    # Edits of the configuration ---------------------------------------------------------------------------------------

    def _restarts(self, now: float) -> bool:
        """Look at the configuration; return whether the device is to be assembled again, and is at rest."""
        if self._reconfigurer is None:
            return False
        device, state = self.device, self.device.conversation.state
        if (edit := self._reconfigurer.look(now)) is not None:
            device.inbox.put(edit)
        if self._reconfigurer.next is None or state not in RESTING or device.alarms.ringing:
            return False
        if state is FOLLOW_UP:  # the user may go on
            return False
        return device.inbox.empty() and device.outbox.quiet and device.playback.quiet and not device.gate.engaged

    def _unfit(self, event: Event) -> bool:
        """Return whether what *event* tells of is the fault of an edit, and the device from before is wanted."""
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
        return self._reconfigurer is not None and self._reconfigurer.fail(error, key)
