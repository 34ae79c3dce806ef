"""Escaping of control characters in text from outside, so that it is safe for a terminal and stays on one line."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""C0 and C1 controls, and lone surrogates: no text in any script."""
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""The same, line separators, and bidirectional overrides and isolates."""


def printable(text: str, keep: str = "") -> str:
    """Return *text* with each UNPRINTABLE character that is not in *keep* as a Python escape, such as ``\\x1b``. What
    belongs to a script stays: spaces of any width, joiners, marks of direction, emoji."""
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
