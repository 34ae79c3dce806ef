"""What a light shows for each mood. Nothing here knows a pin, a thread or a clock."""

from __future__ import annotations

Colour = tuple[int, ...]
"""Which of the LEDs of a light are lit: 1 or 0 for each."""
Pattern = tuple[tuple[Colour, float], ...]
"""Colours and for how many seconds each, again and again."""

ROUNDING_S = 1e-6
"""How long after a change a pattern is looked at again, lest rounding make it before."""

LIT: Colour = (1,)
RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
YELLOW, CYAN, MAGENTA, WHITE = (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)


def lit(pattern: Pattern, elapsed: float) -> tuple[Colour, float | None]:
    """Return what is lit *elapsed* seconds after *pattern* began, and in how many seconds that changes; None: never."""
    if len(pattern) == 1:
        return pattern[0][0], None
    position = elapsed % sum(seconds for _, seconds in pattern)
    for colour, seconds in pattern:
        if position < seconds:
            return colour, seconds - position + ROUNDING_S
        position -= seconds
    return pattern[0]  # rounding: the end of the last step is the beginning of the first


def _flashes(colour: Colour, *seconds: float) -> Pattern:
    """Return a pattern of *colour* and dark in turn; one number alone is a steady light."""
    dark = (0,) * len(colour)
    return tuple((dark if index % 2 else colour, each) for index, each in enumerate(seconds))


_SHORT, _LONG = (0.1, 0.15), (0.45, 0.15)

PATTERNS: dict[str, Pattern] = {
    "starting": _flashes(LIT, 0.1, 0.1),
    "ready": _flashes(LIT, 0.05, 4.95),  # not dark: dark means that nobody is at home
    "follow-up": _flashes(LIT, 0.15, 0.15, 0.15, 0.55),  # knock, knock: you may go on
    "listening": _flashes(LIT, 1.0),
    "thinking": _flashes(LIT, 0.3, 0.3),
    "speaking": _flashes(LIT, 0.9, 0.1),
    "mistake": _flashes(LIT, *_SHORT * 2, 0.1, 2.4),
    "offline": _flashes(LIT, 0.1, 1.9),
    "refused": _flashes(LIT, 1.5, 1.5),
    "muted": _flashes(LIT, 0.5, 0.2, 0.5, 1.3),  # M in Morse code
    "trouble": _flashes(LIT, *_SHORT * 3, *_LONG * 3, *_SHORT * 2, 0.1, 1.2),  # SOS
}
"""Mood -> what one LED shows: it tells them apart by rhythm."""

COLOURS: dict[str, Pattern] = {
    "starting": _flashes(WHITE, 0.1, 0.1),
    "ready": _flashes(GREEN, 0.05, 4.95),
    "follow-up": _flashes(CYAN, 0.15, 0.15, 0.15, 0.55),
    "listening": _flashes(CYAN, 1.0),
    "thinking": _flashes(BLUE, 0.3, 0.3),
    "speaking": _flashes(GREEN, 0.9, 0.1),
    "mistake": ((GREEN, 0.15), (YELLOW, 0.15), ((0, 0, 0), 2.7)),
    "offline": _flashes(YELLOW, 0.1, 1.9),
    "refused": _flashes(MAGENTA, 1.5, 1.5),
    "muted": _flashes(RED, 1.0),
    "trouble": ((RED, 0.25), (YELLOW, 0.25)),
}
"""Mood -> what an LED with colours shows. Whoever cannot see the colours has the rhythm."""
