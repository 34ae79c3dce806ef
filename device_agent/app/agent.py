"""Agent: the main loop of one device.

    microphone -> capture (echo control, gate) -> outbox ---> link -> service
                                                                |
    speaker    <- playout   <-  playback buffer <---------------+

Everything else is an event in one inbox. The main thread takes it out, asks the conversation for actions, and executes
them; no other thread reads a clock for a decision.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # a single question has none
    from .reconfigure import Reconfigurer

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
"""How often the main thread checks the other threads."""
RESTART = -1
"""The result of ``run`` when the device is to be replaced; no exit status."""


class Agent:
    """Runs one device. ``run`` is for the main thread; ``tell`` and ``stop`` for any, even a signal handler."""

    def __init__(
        self, device: Device, *, observers: Iterable[Observer] = (), reconfigurer: Reconfigurer | None = None
    ) -> None:
        self.device = device
        self._observers, self._reconfigurer = tuple(observers), reconfigurer
        self._actuator = Actuator(device)
        self._backlog: deque[Event] = deque()  # taken before the inbox
        self._early = EarlyInput()

    def stop(self, by: str) -> None:
        """Ask ``run`` to return 0."""
        self.device.inbox.put(ShutdownRequested(by))

    def tell(self, event: Event) -> None:
        """Put *event*, such as a turn of text or recorded sound, into the inbox."""
        self.device.inbox.put(event)

    def gauges(self) -> Gauges:
        """Return the state that events do not carry. For any thread."""
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
        """Run the device until an event ends it; return the exit status, or RESTART, which leaves the panel open."""
        device, tell = self.device, self.device.inbox.put
        self._backlog = take_user_events(device.inbox)
        speak = Worker(Port.SPEAKER, device.playout.run, tell, wake=device.playout.wake)
        carry = Worker(LINK, device.link.run, tell, wake=device.link.wake, force=device.link.abort)
        listen = Worker(Port.MICROPHONE, device.capture.run, tell, wake=device.capture.wake)
        with ExitStack() as owned:
            owned.enter_context(Worker("memory", device.memory.keep, tell, wake=device.memory.wake))
            owned.callback(lambda: device.meter.disconnected(time.monotonic()))  # the last minute costs as well
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
            return 1  # it holds what the next device needs: only a new process helps
        return status

    # The main thread --------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        """Handle events until one ends the device; return the result of ``run``."""
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
        """Return the result of ``run`` if *event* ends it."""
        if self._rolled_back(event):
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
        """Handle *event*; return whether to finish."""
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
                wanted = wanted or device.panel.muted is True  # a switch on the device has priority
                return wanted is not device.conversation.muted and self._handle(Muted() if wanted else Unmuted(), now)
            case VolumeAsked(percent, by):
                self._actuator.set_volume(percent, by)
            case Released(tapped):
                device.gate.release(tapped=tapped)
        finished = self._converse(event, now)
        return self._start(now) if started else finished

    def _start(self, now: float) -> bool:
        """Handle the events that were kept until the device works; return whether to finish."""
        return any(self._handle(event, now) for event in (Started(), *self._early.take()))

    def _converse(self, event: Event, now: float) -> bool:
        """Execute the actions of the conversation for *event*; return whether to finish."""
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
        """Log *event*, and note its effect on meter and status."""
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
        """Check config.yaml; return whether the device is to be replaced now, because it is at rest."""
        if self._reconfigurer is None:
            return False
        device, state = self.device, self.device.conversation.state
        if (edit := self._reconfigurer.poll(now)) is not None:
            device.inbox.put(edit)
        if self._reconfigurer.pending is None or device.alarms.ringing:
            return False
        if state not in RESTING or state is FOLLOW_UP:  # in which the user may go on
            return False
        return device.inbox.empty() and device.outbox.quiet and device.playback.quiet and not device.gate.engaged

    def _rolled_back(self, event: Event) -> bool:
        """Return whether an edit has caused the failure in *event*, so that the previous configuration is in use."""
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
        return self._reconfigurer is not None and self._reconfigurer.roll_back(error, key)
