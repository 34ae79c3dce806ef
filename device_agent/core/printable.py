"""Text from elsewhere, from a service, a broker or a file, made fit for a terminal and for one line: what either would
obey is shown instead."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What is no text in any script: C0 and C1 controls, and half a character (a lone surrogate)."""
OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, changes a terminal or ends a line; and what reverses the order of the letters around it."""


def printable(text: str, keep: str = "") -> str:
    """Return *text* with everything that is OBEYED as Python writes it, such as ``\\x1b``, but for what is in *keep*.

    All that belongs to a script stays as it is: spaces of any width, joiners, marks of direction, emoji.
    """
    return OBEYED.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
