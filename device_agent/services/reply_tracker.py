"""Reply ownership: matches the replies of the service to the turns, and decides when one has to be requested.

The services begin replies in many ways: on ``response.create``, on a commit, by their own turn detection; they announce
them once, twice or never, replace one that is still silent, drop one without a word, refuse a request as busy although
nothing runs, or never end one. The rules below hold with all of them:

1. A reply is wanted while an answer is due. The first of the announced replies that yields something is the answer; the
   others were replaced.
2. A reply that was interrupted, or cancelled before it had an id, is never wanted again, whatever comes of it.
3. Sound that no other reply owns and that follows a request belongs to the request, under whatever id it comes.
4. A reply that begins although nothing is due is cancelled by its id: a cancel without one would end the wanted reply.
5. Every wait ends by itself: ``deadline`` is when.

Pure: time is an argument, in seconds of a monotonic clock. All methods belong to the link's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

MAX_REMEMBERED_IDS = 64  # of replies that were interrupted, and of other ids of the one under way
CANCELLED_REPLY_TIMEOUT_S = 3.0  # a cancelled reply may be dropped without a word (seen on xAI); the next is due then
COMMIT_ACK_TIMEOUT_S = 2.0  # without it, the commit may have held no speech (xAI; pydantic-ai 2.53, checked live)
AUTO_REPLY_TIMEOUT_S = 0.7  # a service that answers commits has begun so long after the acknowledgement
BUSY_REQUEST_RETRY_S = 1.5  # a service that reported to be busy, and begins nothing, is asked again
MAX_REQUESTS = 4  # requests for one turn. A service that ignores so many is left to its timeout


class Due(Enum):
    """What the wanted reply is to come from."""

    NOTHING = "nothing"
    COMMITTED = "committed"  # a commit, which the service may answer by itself; requested if it does not
    DETECTED = "detected"  # the service ended the turn, is busy, or failed: it begins by itself, or a request follows
    ASKED = "asked"  # response.create was sent


class ReplyTracker:
    """The replies of one connection. *create* requests one, *cancel* ends the one with that id ("": it has none)."""

    def __init__(self, create: Callable[[], None], cancel: Callable[[str], None]) -> None:
        self._create, self._cancel = create, cancel
        self.due = Due.NOTHING  # what the wanted reply is to come from, NOTHING if none is to come or it has begun
        self.acknowledged = False  # whether the commit that is to be answered was acknowledged
        self.open = False  # whether the wanted reply is under way
        self._ask_at: float | None = None  # when to request a reply that the service was to begin by itself
        self._requests = 0  # for this turn
        self._postponed: float | None = None  # a request waits for the end of the dying ones, until then at the latest
        self._void = 0  # requests that were cancelled before their reply was announced
        self._candidates: list[str] = []  # announced while an answer was due, and silent so far
        self._current = ""  # the wanted reply: it has yielded something
        self._aliases: deque[str] = deque(maxlen=MAX_REMEMBERED_IDS)  # other ids of pieces of the current reply
        self._dead: deque[str] = deque(maxlen=MAX_REMEMBERED_IDS)
        self._dying: list[str] = []  # of the dead: those that the service has not ended yet
        self._unnamed = ""  # what a piece without id belongs to
        self._busy_with_another = False  # a request was refused, and nothing has begun since
        self._overtaking = False  # a request was made although the commit was not acknowledged
        self._announces = self._strays = False  # replies are announced; pieces of a cancelled one may have any id
        self._count = 0

    @property
    def owed(self) -> bool:
        """Whether a reply is still to be announced, wanted or not."""
        return self.due is not Due.NOTHING or self._postponed is not None or self._void > 0

    @property
    def silent(self) -> bool:
        """Whether one was announced, and none has yielded anything yet."""
        return bool(self._candidates)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, due or to be requested."""
        return not (self.owed or self.open or self._candidates or self._dying)

    @property
    def dying(self) -> bool:
        """Whether an unwanted reply is still under way."""
        return bool(self._dying)

    @property
    def deadline(self) -> float | None:
        """When to call ``overdue`` and ``ask_now``, or ``tick``."""
        return min((each for each in (self._ask_at, self._postponed) if each is not None), default=None)

    # Requests ---------------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Request a reply to a turn or to tool results as soon as no cancelled one is in the way: only one can run."""
        self._requests = 0
        self._postponed = now + CANCELLED_REPLY_TIMEOUT_S
        self.ask_if_free()

    def ask_if_free(self) -> None:
        """Make the request that ``ask`` had to postpone, if nothing is in the way any more."""
        if self._postponed is not None and not (self._dying or self._void or self.open):
            self._request()

    def commit(self) -> None:
        """A turn was committed: the service may answer it by itself. No time runs before it has arrived: a request that
        reaches the service together with the commit would be answered first."""
        self.due, self.acknowledged, self._requests = Due.COMMITTED, False, 0
        self._ask_at, self._overtaking = None, False

    def arrived(self, now: float) -> None:
        """The commit has reached the service."""
        if self.due is Due.COMMITTED and self._ask_at is None and not self.acknowledged:
            self._ask_at = now + COMMIT_ACK_TIMEOUT_S

    def expect(self) -> None:
        """The service ended the turn by itself, and will reply without being asked."""
        self.due, self._ask_at, self._void, self._requests = Due.DETECTED, None, 0, 0
        self._dying.clear()

    def again(self, now: float, after: float) -> None:
        """A reply failed or was withdrawn while silent: request another *after* seconds, unless the service begins."""
        self.due, self._ask_at = Due.DETECTED, now + after

    def overdue(self, now: float) -> bool:
        """Return whether the service was to begin by itself until *now*, and has not: see ``ask_now``, ``give_up``."""
        return self._ask_at is not None and now >= self._ask_at

    def ask_now(self) -> None:
        """Request what the service was to begin by itself."""
        self._overtaking |= self.due is Due.COMMITTED and not self.acknowledged
        self._ask_at = None
        if self._requests < MAX_REQUESTS:
            self._request()

    def give_up(self) -> None:
        """Expect no reply any more."""
        self.due, self._ask_at = Due.NOTHING, None

    def tick(self, now: float) -> bool:
        """Make a postponed request if the cancelled reply was dropped without a word; return whether it was made."""
        if self._postponed is None or now < self._postponed:
            return False
        self._dying.clear()
        self._close()
        self._request()
        return True

    def _request(self) -> None:
        self._requests += 1
        self._postponed, self._ask_at, self.due, self._busy_with_another = None, None, Due.ASKED, False
        self._create()

    def cancel(self) -> None:
        """The replies that were requested so far are not wanted any more."""
        self._postponed = self._ask_at = None
        self._overtaking = self._busy_with_another = False
        if self.due is Due.ASKED:
            self._void = min(self._void + 1, MAX_REQUESTS)
        self.due = Due.NOTHING
        for name in self._candidates:
            self._kill(name)
        self._candidates.clear()
        if self.open:
            self._kill(self._current)
        elif self._current:
            self._dead.append(self._current)  # sound may follow its end
        self._dead.extend(self._aliases)
        self._aliases.clear()
        self._current, self.open = "", False

    def _kill(self, name: str) -> None:
        self._strays = True
        self._dead.append(name)
        self._dying = [*self._dying[-MAX_REQUESTS:], name]
        self._cancel("" if name.startswith(_OURS) else name)

    # Events of the service --------------------------------------------------------------------------------------------

    def acknowledge(self, now: float) -> str:
        """The service has the committed turn. What was cancelled before is over: speech ends a reply, at xAI without
        ``response.done``. So is a reply to a request that came before the turn, which it has not heard: return its
        name, "" if there is none."""
        overtaker = ""
        if self._overtaking and (self.open or self._candidates):
            overtaker = self._current
            self.cancel()
            self.due = Due.COMMITTED
        self._overtaking = False
        if self.due is Due.COMMITTED:
            self.acknowledged = True
            self._ask_at = now + AUTO_REPLY_TIMEOUT_S
            self._void = 0
            self._dying.clear()
        return overtaker

    def begin(self, name: str, now: float) -> None:
        """A reply was announced."""
        self._announces, self._busy_with_another = True, False
        name = name or self._new_name()
        if name in self._candidates or (name == self._current and self.open) or name in self._dying:
            return  # announced twice
        if name == self._current:
            self._close()
        if name in self._dead:
            self._dead.remove(name)  # a service that uses an id again
        self._unnamed = name
        if self._void:
            self._void -= 1
            self._kill(name)
            if self.due is Due.ASKED:  # the reply to the later request follows, unless it was lost
                self._ask_at = now + BUSY_REQUEST_RETRY_S
        elif self.due is not Due.NOTHING:
            self.due, self._ask_at, self._strays = Due.NOTHING, None, False
            self._dying.clear()
            self._close()
            self._candidates.append(name)
        elif self._candidates:
            self._candidates = [*self._candidates[-MAX_REQUESTS:], name]
        else:
            self._kill(name)

    def piece(self, name: str, now: float, *, heard: bool = True) -> str:
        """Return the wanted reply that a piece with the id *name* belongs to, "" if it is unwanted. *heard* is False
        for words, which decide nothing: a reply that has not sounded may be replaced."""
        name = name or self._meant()
        if self._unwanted(name):
            self._flows_on(name in self._dying, now)
            return ""
        if name and name == self._current:
            return name
        if self._candidates:
            told = name if name in self._candidates else self._candidates[-1]
            if heard:
                self._choose(told)
            return told if name == told or not heard else self._alias(name)
        if self.open:
            return self._alias(name)
        return self._unannounced(name, now)

    def _unwanted(self, name: str) -> bool:
        return name in self._dead or name in self._dying

    def _flows_on(self, dying: bool, now: float) -> None:
        """A cancelled reply is evidently not over: what waits for its end waits on."""
        if dying and self._postponed is not None:
            self._postponed = now + CANCELLED_REPLY_TIMEOUT_S

    def _meant(self) -> str:
        """Return the reply that a piece without id belongs to, "" if that was not announced."""
        over = self._unnamed == self._current and not self.open and self.due is not Due.NOTHING
        known = self._unnamed in (self._current, *self._candidates, *self._dying)
        return self._unnamed if known and not over else ""

    def _choose(self, name: str) -> str:
        """The announced reply *name* yields something: it is the answer, and the others were replaced."""
        self._dead.extend(each for each in self._candidates if each != name)
        self._candidates.clear()
        self._current, self.open = name, True
        return name

    def _alias(self, name: str) -> str:
        if name and name not in self._aliases:
            self._aliases.append(name)
        return self._current

    def _unannounced(self, name: str, now: float) -> str:
        """A piece of a reply that was not announced: wanted if one is due, and no cancelled one can be its source. A
        piece behind the end of the wanted reply belongs to it."""
        if self._void:
            self._void -= 1
            self._unnamed = name or self._new_name()
            self._kill(self._unnamed)
            return ""
        if self._announces and self._strays:
            self._flows_on(bool(self._dying), now)
            return ""
        if self.due is Due.NOTHING:
            return self._alias(name) if self._current else ""
        self._close()
        self.due, self._ask_at = Due.NOTHING, None
        self._dying.clear()
        self._unnamed = name or self._new_name()
        return self._choose(self._unnamed)

    def reopen(self) -> None:
        """Sound came behind the end of the wanted reply: it continues."""
        self.open = True

    def end(self, name: str) -> str:
        """A reply is over: return its name if it was wanted, else ""."""
        name = name or self._meant()
        if self._unwanted(name):
            self._dying = [each for each in self._dying if each != name]
            return ""
        if name in self._candidates and len(self._candidates) > 1:
            self._candidates.remove(name)  # another one replaced it
            return ""
        if self.open or self._candidates:
            ended = self._current if self.open else self._choose(self._candidates[-1])
            self.open = False
            return ended
        return "" if name and name == self._current else self._end_unannounced(name)

    def _end_unannounced(self, name: str) -> str:
        """A reply ended, or failed, that was never announced."""
        if self._void:
            self._void -= 1
        elif self._busy_with_another:
            self._busy_with_another, self._ask_at = False, 0.0  # that was it: ask at once
        elif self.due is not Due.NOTHING:
            self.due, self._ask_at = Due.NOTHING, None
            self._current = name or self._new_name()
            return self._current
        return ""

    def withdraw(self) -> str:
        """The service revoked the end of the turn, and the begun reply with it: another follows the next end. Return
        the reply if it had yielded something, else ""."""
        self._dead.extend(self._candidates)
        self._candidates.clear()
        withdrawn = self._current if self.open else ""
        if withdrawn:
            self._close()
        self.due = Due.DETECTED
        return withdrawn

    def busy(self, now: float) -> None:
        """A request was refused because a reply runs: a dead one, the wanted one before it is announced, or none."""
        if self.due is not Due.ASKED:
            return
        if self._dying or self._void:
            self.due, self._postponed = Due.NOTHING, now + CANCELLED_REPLY_TIMEOUT_S
        else:
            self.due, self._ask_at = Due.DETECTED, now + BUSY_REQUEST_RETRY_S
            self._busy_with_another = True

    def _close(self) -> None:
        """Another reply is the wanted one: late pieces of the one before are not."""
        if self._current:
            self._dead.extend((self._current, *self._aliases))
        self._aliases.clear()
        self._current, self.open = "", False

    def _new_name(self) -> str:
        self._count += 1
        return f"{_OURS}{self._count}"


_OURS = "reply "  # the prefix of names for replies without an id: nothing can be cancelled by them
