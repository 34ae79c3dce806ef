"""What goes over one connection while it lasts: turns and actions up, sound and events down."""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from ..audio.playback_buffer import PlaybackBuffer
from ..core.actions import Action, CancelReply, ToolResult
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
    Speech,
    ToolCall,
)
from ..net.websocket import WebSocket
from ..services.base import Session
from .history import History
from .outbox import Outbox
from .rate_adapter import RateAdapter

log = logging.getLogger(__name__)

PING_AFTER_S, DEAD_AFTER_S = 5.0, 15.0
"""Without a sign of life for QUIET_S we ask for one; without one for SILENT_S the peer is dead."""
PLAYBACK_FULL_POLL_S = 0.05
"""How often to look whether a full playback has room again."""
MAX_AUDIO_PIECE_BYTES = 48 * 1024
"""Bytes of sound, a second of it. What is left of a piece is copied at every look, so larger ones are cut up first: a
service may say four minutes in one message."""
QUIET_POLL_S = 0.25
"""How often to look whether it is quiet, while the session is old."""

_REPLY_EVENTS = (ReplyStarted, ReplyAudio, ReplyText, ReplyEnded, ReplyProgress)


def in_pieces(events: Iterable[Event]) -> Iterator[Event]:
    """Yield *events*, with no more than PIECE of sound in each."""
    for event in events:
        if isinstance(event, ReplyAudio):
            for begin in range(0, len(event.pcm), MAX_AUDIO_PIECE_BYTES):
                yield ReplyAudio(event.reply, event.pcm[begin : begin + MAX_AUDIO_PIECE_BYTES])
        else:
            yield event


class Connection:
    """Carries messages both ways over one wire, its own, until that breaks or is not needed any more.

    *patience* is how many seconds the service may take to become ready. *resume* is what this connection was to go on
    with. *rates* are the samples per second of the device's sound and of the service's, *spare* says that another
    service may be tried in place of this one. All methods belong to the link's thread, except ``abort``.
    """

    def __init__(
        self,
        wire: WebSocket,
        session: Session,
        outbox: Outbox,
        playback: PlaybackBuffer,
        recall: History,
        tell: Callable[[Event], None],
        confirm: Callable[[], None],
        crowded: Callable[[], bool] = lambda: False,
        *,
        patience: float,
        resume: str = "",
        rates: tuple[int, int],
        spare: bool = False,
    ) -> None:
        self._wire, self._session, self._outbox, self._playback = wire, session, outbox, playback
        self._recall, self._tell, self._confirm, self._crowded = recall, tell, confirm, crowded
        self._patience, self._asked_to_resume = patience, resume
        self._arrived: deque[Event] = deque()  # what waits for room in the playback, and what came behind it
        self._adapter, self._rate = RateAdapter(rates[0]), rates[1]
        session.spare = spare
        self._began = self._heard = self._asked = time.monotonic()
        self._spoke = False  # the service has said something
        self._probe = 0  # the ping behind what the session wants to know the arrival of
        self._reminded = False  # the service knows what was said before
        self._renew_at: Callable[[], float] = lambda: math.inf
        self._awaited: Callable[[], bool] = lambda: False

    @property
    def ready(self) -> bool:
        """Whether the service has understood us: before that it is as if the connection had not come about."""
        return self._session.ready

    @property
    def resume(self) -> str:
        """What a later connection has to name to go on with this conversation."""
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
        """Converse until the connection is not *needed* any more, or until *renew_at*, in seconds of the monotonic
        clock, when it is quiet and no answer is *awaited*: return whether it is needed still. May be called again.
        Raises LinkLost and LinkRefused."""
        self._renew_at, self._awaited = renew_at, awaited
        self._converse(lambda: needed() and not self._over)
        return needed()

    def farewell(self) -> None:
        """Say the last words."""
        self._session.farewell()
        with suppress(LinkLost):
            self._send_all()

    def keep(self) -> None:
        """The session could not be renewed, and nothing was read from this one meanwhile: it goes on."""
        self._recall.begin()
        self._heard = time.monotonic()

    def abort(self) -> None:
        """Break out of whatever is blocked. The one method for any thread."""
        self._wire.abort()

    def close(self) -> None:
        """Close the wire."""
        self._wire.close()

    @property
    def _old(self) -> bool:
        """Whether the session is to be renewed."""
        return time.monotonic() >= self._renew_at()

    @property
    def _over(self) -> bool:
        """Whether the session is to be renewed, and it is so quiet that nobody would notice."""
        if not self._old or self._awaited():
            return False
        return self._outbox.quiet and self._playback.quiet and not (self._arrived or self._session.busy)

    def _converse(self, wanted: Callable[[], bool]) -> None:
        both, bell = select.poll(), select.poll()
        both.register(self._wire, select.POLLIN)
        both.register(self._outbox, select.POLLIN)
        bell.register(self._outbox, select.POLLIN)
        try:
            while wanted():
                self._send_all()
                self._turn(self._wait(both, bell))
        except (LinkLost, LinkRefused) as error:
            raise self._session.lost(error) from error

    def _turn(self, readable: bool) -> None:
        """Do what there is to do, once."""
        now = time.monotonic()
        self._arrive(self._session.tick(now))
        if readable and not self._arrived:
            self._receive(now)
        self._deliver_all()
        self._check(now)
        if self._session.ready or self._session.listens:
            self._remind(now)
            self._take_outbox(now)

    def _wait(self, both: select.poll, bell: select.poll) -> bool:
        """Sleep until something happens; return whether the service said something that there is room for."""
        if self._arrived or self._crowded():
            bell.poll(1000 * PLAYBACK_FULL_POLL_S)
            self._outbox.hush()
            return False
        if self._wire.pending():
            return True
        ready = dict(both.poll(1000 * self._timeout()))
        if self._outbox.fileno() in ready:
            self._outbox.hush()
        return self._wire.fileno() in ready

    def _timeout(self) -> float:
        now = time.monotonic()
        times = [max(self._heard, self._asked) + PING_AFTER_S, self._heard + DEAD_AFTER_S]
        times.append(now + QUIET_POLL_S if self._old else self._renew_at())
        if not self._session.ready:
            times.append(self._began + self._patience)
        if self._session.deadline is not None:
            times.append(self._session.deadline)
        return max(0.0, min(times) - now)

    def _receive(self, now: float) -> None:
        message = self._wire.receive()
        self._heard = now
        if message is not None:
            self._spoke = True
            self._arrive(self._session.receive(message))
        elif not self._spoke:
            self._tell(ReplyProgress())  # it answers pings: a server that loads a model does no more than that
        if self._probe and self._wire.ponged >= self._probe:
            self._probe = 0
            self._session.arrived(now)

    def _arrive(self, events: Iterable[Event]) -> None:
        """Take *events* of the session, their sound at the device's rate."""
        for event in events:
            rate = self._session.output_rate or self._rate  # which an event may have changed
            self._arrived.extend(in_pieces(self._adapter.down(event, rate)))

    def _check(self, now: float) -> None:
        """Is the service there? While the playback is full we do not read, so we cannot tell."""
        if self._arrived or self._crowded():
            self._heard = now
        if not self._session.ready and now - self._began > self._patience:
            raise LinkLost(f"the session was not ready within {self._patience:g} s")
        if now - self._heard > DEAD_AFTER_S:
            raise LinkLost(f"nothing was received for {DEAD_AFTER_S:g} s")
        if now - max(self._heard, self._asked) >= PING_AFTER_S:
            self._asked = now
            self._wire.ping()

    def _remind(self, now: float) -> None:
        """Before anything goes up, once: does the service know what was said before?"""
        if not self._reminded:
            self._reminded = True
            self._recall.begin()
            if not self._session.goes_on(self._asked_to_resume):
                log.info("a new conversation begins")
                self._session.recall(self._recall.said(now))

    def _take_outbox(self, now: float) -> None:
        for item in self._outbox.take():
            if isinstance(item, ToolResult) and not (self._session.knows(item.call) or self._recall.awaits(item.call)):
                continue  # of a connection that is lost, and of a turn that was given up
            self._recall.sent(item, now)
            self._send(item)
            if isinstance(item, CancelReply):
                self._arrived = deque(event for event in self._arrived if not isinstance(event, _REPLY_EVENTS))
                self._confirm()

    def _send(self, item: Speech | Action) -> None:
        for each in self._adapter.up(item, self._session.input_rate or self._rate):
            self._session.send(each)

    def _send_all(self) -> None:
        for message in self._session.outgoing():
            self._wire.send(message)
        if self._session.probe:
            self._session.probe, self._probe = False, self._wire.ping()

    def _deliver_all(self) -> None:
        """Sound goes to the playback as far as there is room, everything else to the inbox, in the order it came."""
        while self._arrived:
            event = self._arrived[0]
            if isinstance(event, ReplyAudio):
                taken = self._playback.write(event.reply, event.pcm)
                self._recall.told(ReplyAudio(event.reply, event.pcm[:taken]), self._heard)
                if taken < len(event.pcm):
                    self._arrived[0] = ReplyAudio(event.reply, event.pcm[taken:])
                    return
            else:
                self._note(event)
                self._tell(event)
            self._arrived.popleft()

    def _note(self, event: Event) -> None:
        self._recall.told(event, time.monotonic())
        match event:
            case LinkUp():
                log.info("the session is ready after %.0f ms", 1000 * (time.monotonic() - self._began))
            case ReplyStarted():
                self._outbox.settle()
            case ToolCall():
                self._outbox.settle(begun=False)
            case ReplyEnded():
                self._outbox.settle(begun=False)
                self._playback.finish(event.reply)
            case ReplyWithdrawn():
                self._recall.cut(*self._playback.cut())
                self._playback.accept()
