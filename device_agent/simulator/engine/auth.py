"""Who may come in: those with the key, and those with a token that the key was shown for. Pure but for one lock."""

from __future__ import annotations

import hmac
import math
import random
import threading
from dataclasses import dataclass, field
from typing import Any

MAX_TOKENS = 1000
"""How many tokens are known at a time; the oldest are forgotten."""


@dataclass(frozen=True)
class Pass:
    """The right to come in. *session* is what the token was made for."""

    until: float = math.inf
    session: Any = field(default=None, repr=False)


class Auth:
    """One service's door. *key* None takes any key that is not empty; a token is always looked at."""

    def __init__(self, key: str | None, prefix: str, seed: int) -> None:
        """*prefix* is how a token begins, so that an expired one is not taken for a key."""
        self._key, self._prefix = key, prefix
        self._chance = random.Random(f"{seed}/door")
        self._lock = threading.Lock()
        self._tokens: dict[str, Pass] = {}

    def is_key(self, given: str) -> bool:
        """Whether *given* is the key."""
        if not given or given.startswith(self._prefix):
            return False
        return self._key is None or hmac.compare_digest(given.encode(), self._key.encode())

    def admit(self, given: str, at: float) -> Pass | None:
        """Return the right that *given*, a key or a token, gives at this time; None: no right at all."""
        if self.is_key(given):
            return Pass()
        with self._lock:
            found = self._tokens.get(given)
        return found if found and at < found.until else None

    def mint(self, at: float, seconds: float, session: Any = None) -> str:
        """Return a token that is good for so many *seconds*."""
        with self._lock:
            value = f"{self._prefix}{self._chance.getrandbits(128):032x}"
            self._tokens[value] = Pass(at + seconds, session)
            while len(self._tokens) > MAX_TOKENS:
                del self._tokens[next(iter(self._tokens))]
        return value
