"""Connection: pumps turns and actions up and audio and events down, over one open WebSocket."""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..audio.playback_buffer import PlaybackBuffer
from ..core.actions import CancelReply, ToolResult
from ..core.errors import LinkLost, LinkRefused
from ..core.events import (
    Event,
    LinkUp,
    ReplyAudio,
    ReplyEnded,
    ReplyProgress,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ToolCall,
)
from ..net.models import Trace
from ..net.websocket import WebSocket
from ..services.base import Session
from .history import History
from .outbox import Outbox
from .rate_adapter import RateAdapter

log = logging.getLogger(__name__)

PING_AFTER_S, DEAD_AFTER_S = 5.0, 15.0
"""Seconds without any data after which a ping is sent, and after which the connection is given up."""
PLAYBACK_FULL_POLL_S = 0.05
MAX_AUDIO_PIECE_BYTES = 48 * 1024
"""A second. What is left of a piece is copied each time the full playback buffer takes some of it, and a service may
send four minutes in one message: so that is cut up first."""
QUIET_POLL_S = 0.25
"""How often to look whether it is quiet, while the session is to be renewed."""

_REPLY_EVENTS = (ReplyStarted, ReplyAudio, ReplyText, ReplyEnded, ReplyProgress)


@dataclass(frozen=True)
class DeviceSide:
    """What all connections of a device exchange data with.

    *rate* is that of the device's audio, in samples per second. *confirm* is called when a connection has taken a
    ``CancelReply``; while *crowded* says that the inbox holds too much, nothing is received.
    """

    rate: int
    outbox: Outbox
    playback: PlaybackBuffer
    history: History
    tell: Callable[[Event], None]
    confirm: Callable[[], None]
    crowded: Callable[[], bool]


def in_pieces(events: Iterable[Event]) -> Iterator[Event]:
    """Yield *events*, with MAX_AUDIO_PIECE_BYTES of audio in each at most."""
    for event in events:
        if isinstance(event, ReplyAudio):
            for begin in range(0, len(event.pcm), MAX_AUDIO_PIECE_BYTES):
                yield ReplyAudio(event.reply, event.pcm[begin : begin + MAX_AUDIO_PIECE_BYTES])
        else:
            yield event


class Connection:
    """Carries messages both ways over *websocket*, which it owns, until that breaks or is not needed any more.

    *rate* is that of the service's audio. The service may take *greeting_s* seconds to become ready. *resume* names the
    conversation to go on with; *spare* says that another service may be tried instead of this one. *trace* is called
    with each message. All methods belong to the link's thread, except ``abort``.
    """

    def __init__(
        self,
        websocket: WebSocket,
        session: Session,
        device: DeviceSide,
        rate: int,
        *,
        greeting_s: float,
        resume: str = "",
        spare: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self.name = websocket.name
        """Name of the endpoint."""
        self._websocket, self._session, self._device, self._rate = websocket, session, device, rate
        self._greeting_s, self._asked_to_resume, self._trace = greeting_s, resume, trace
        self._arrived: deque[Event] = deque()  # what waits for room in the playback buffer, and what came after it
        self._adapter = RateAdapter(device.rate)
        session.spare = spare
        self._began = self._heard = self._asked = time.monotonic()
        self._spoke = False  # the service has sent a message
        self._probe = 0  # the ping behind what the session wants to know the arrival of
        self._reminded = False  # the service knows what was said before
        self._renew_at: Callable[[], float] = lambda: math.inf
        self._awaited: Callable[[], bool] = lambda: False

    @property
    def ready(self) -> bool:
        """Whether the service has accepted the session; before that the connection counts as not made."""
        return self._session.ready

    @property
    def resume(self) -> str:
        """Name by which a later connection goes on with this conversation."""
        return self._session.resume

    @property
    def expires_at(self) -> float:
        """When the service will end the session, in seconds of Unix time; 0 where it does not say."""
        return self._session.expires_at

    def greet(self, needed: Callable[[], bool]) -> None:
        """Converse until the service is ready, or is not needed any more. Raises LinkLost and LinkRefused."""
        self._session.tick(self._began)
        self._session.greet()
        self._converse(lambda: needed() and not self.ready)

    def run(
        self,
        needed: Callable[[], bool],
        renew_at: Callable[[], float] = lambda: math.inf,
        awaited: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Converse until the connection is not *needed*, or is due for renewal; return whether it is still needed.

        It is due after *renew_at* (monotonic clock), as soon as it is quiet and no answer is *awaited*. May be called
        again. Raises LinkLost and LinkRefused.
        """
        self._renew_at, self._awaited = renew_at, awaited
        self._converse(lambda: needed() and not self._due)
        return needed()

    def farewell(self) -> None:
        """Send the last messages of the session."""
        self._session.farewell()
        with suppress(LinkLost):
            self._send_all()

    def keep(self) -> None:
        """Go on after a renewal that failed; nothing was received meanwhile."""
        self._device.history.begin()
        self._heard = time.monotonic()

    def abort(self) -> None:
        """Break the call that the owner is blocked in. Safe from any thread."""
        self._websocket.abort()

    def close(self) -> None:
        """Close the WebSocket."""
        self._websocket.close()

    @property
    def _old(self) -> bool:
        return time.monotonic() >= self._renew_at()

    @property
    def _due(self) -> bool:
        """Whether the session is to be renewed, and so quiet that the user would not notice."""
        if not self._old or self._awaited():
            return False
        return self._device.outbox.quiet and self._device.playback.quiet and not (self._arrived or self._session.busy)

    def _converse(self, wanted: Callable[[], bool]) -> None:
        both, outbox_only = select.poll(), select.poll()
        both.register(self._websocket, select.POLLIN)
        both.register(self._device.outbox, select.POLLIN)
        outbox_only.register(self._device.outbox, select.POLLIN)
        try:
            while wanted():
                self._send_all()
                self._turn(self._wait(both, outbox_only))
        except (LinkLost, LinkRefused) as error:
            raise self._session.lost(error) from error

    def _turn(self, readable: bool) -> None:
        """Do all that is due now, once."""
        now = time.monotonic()
        self._arrive(self._session.tick(now))
        if readable and not self._arrived:
            self._receive(now)
        self._deliver_all()
        self._check(now)
        if self._session.ready or self._session.listens:
            self._remind(now)
            self._take_outbox(now)

    def _wait(self, both: select.poll, outbox_only: select.poll) -> bool:
        """Wait for an event; return whether a message can be received that there is room for."""
        if self._arrived or self._device.crowded():
            outbox_only.poll(1000 * PLAYBACK_FULL_POLL_S)
            self._device.outbox.clear_wakeup()
            return False
        if self._websocket.pending():
            return True
        ready = dict(both.poll(1000 * self._timeout()))
        if self._device.outbox.fileno() in ready:
            self._device.outbox.clear_wakeup()
        return self._websocket.fileno() in ready

    def _timeout(self) -> float:
        now = time.monotonic()
        times = [max(self._heard, self._asked) + PING_AFTER_S, self._heard + DEAD_AFTER_S]
        times.append(now + QUIET_POLL_S if self._old else self._renew_at())
        if not self._session.ready:
            times.append(self._began + self._greeting_s)
        if self._session.deadline is not None:
            times.append(self._session.deadline)
        return max(0.0, min(times) - now)

    def _receive(self, now: float) -> None:
        message = self._websocket.receive()
        self._heard = now
        if message is not None:
            self._spoke = True
            if self._trace is not None:
                self._trace("message", message)
            self._arrive(self._session.receive(message))
        elif not self._spoke:
            self._device.tell(ReplyProgress())  # it answers pings: all that a server does while it loads a model
        if self._probe and self._websocket.ponged >= self._probe:
            self._probe = 0
            self._session.arrived(now)

    def _arrive(self, events: Iterable[Event]) -> None:
        """Queue *events* of the session, their audio at the device's rate."""
        for event in events:
            rate = self._session.output_rate or self._rate  # which an event may have changed
            self._arrived.extend(in_pieces(self._adapter.down(event, rate)))

    def _check(self, now: float) -> None:
        """Raise LinkLost for a service that is dead. While the playback buffer is full that cannot be told."""
        if self._arrived or self._device.crowded():
            self._heard = now
        if not self._session.ready and now - self._began > self._greeting_s:
            raise LinkLost(f"the session was not ready within {self._greeting_s:g} s")
        if now - self._heard > DEAD_AFTER_S:
            raise LinkLost(f"nothing was received for {DEAD_AFTER_S:g} s")
        if now - max(self._heard, self._asked) >= PING_AFTER_S:
            self._asked = now
            self._websocket.ping()

    def _remind(self, now: float) -> None:
        """Tell the service what was said before, unless it knows: once, and before anything goes up."""
        if not self._reminded:
            self._reminded = True
            self._device.history.begin()
            if not self._session.goes_on(self._asked_to_resume):
                log.info("a new conversation begins")
                self._session.recall(self._device.history.said(now))

    def _take_outbox(self, now: float) -> None:
        history = self._device.history
        for item in self._device.outbox.take():
            if isinstance(item, ToolResult) and not (self._session.knows(item.call) or history.awaits(item.call)):
                continue  # of a connection that is lost, and of a turn that was given up
            history.sent(item, now)
            for each in self._adapter.up(item, self._session.input_rate or self._rate):
                self._session.send(each)
            if isinstance(item, CancelReply):
                self._arrived = deque(event for event in self._arrived if not isinstance(event, _REPLY_EVENTS))
                self._device.confirm()

    def _send_all(self) -> None:
        for message in self._session.outgoing():
            self._websocket.send(message)
        if self._session.probe:
            self._session.probe, self._probe = False, self._websocket.ping()

    def _deliver_all(self) -> None:
        """Write audio to the playback buffer as far as there is room, and tell all other events, in their order."""
        while self._arrived:
            event = self._arrived[0]
            if isinstance(event, ReplyAudio):
                taken = self._device.playback.write(event.reply, event.pcm)
                self._device.history.told(ReplyAudio(event.reply, event.pcm[:taken]), self._heard)
                if taken < len(event.pcm):
                    self._arrived[0] = ReplyAudio(event.reply, event.pcm[taken:])
                    return
            else:
                self._note(event)
                self._device.tell(event)
            self._arrived.popleft()

    def _note(self, event: Event) -> None:
        history, outbox, playback = self._device.history, self._device.outbox, self._device.playback
        history.told(event, time.monotonic())
        match event:
            case LinkUp():
                log.info("the session is ready after %.0f ms", 1000 * (time.monotonic() - self._began))
            case ReplyStarted():
                outbox.settle()
            case ToolCall():
                outbox.settle(begun=False)
            case ReplyEnded():
                outbox.settle(begun=False)
                playback.finish(event.reply)
            case ReplyWithdrawn():
                history.cut(*playback.cut())
                playback.accept()
