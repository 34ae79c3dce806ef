"""Short-lived tokens of one service. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

MAX_TOKENS = 1000
"""Tokens that are known at a time; the oldest are dropped."""


@dataclass(frozen=True)
class Token:
    """The right to connect *until* a time. *session* are the settings that the token was made for."""

    until: float
    session: Any = field(default=None, repr=False)


class Tokens:
    """The tokens of one service, which begin with *prefix*."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rng = random.Random(prefix)
        self._tokens: dict[str, Token] = {}

    def find(self, given: str, now: float) -> Token | None:
        """Return the token *given*, if it is valid *now*."""
        found = self._tokens.get(given)
        return found if found and now < found.until else None

    def mint(self, until: float, session: Any = None) -> str:
        """Return a token that is valid *until* then."""
        value = f"{self._prefix}{self._rng.getrandbits(128):032x}"
        self._tokens[value] = Token(until, session)
        while len(self._tokens) > MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        return value
