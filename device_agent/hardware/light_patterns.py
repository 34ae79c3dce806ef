"""Light patterns: rhythm and colour of each mood. Pure."""

from __future__ import annotations

Colour = tuple[int, ...]  # 1 or 0 for each LED of a light
Pattern = tuple[tuple[Colour, float], ...]  # colours and for how many seconds each, repeated

ROUNDING_S = 1e-6  # added to the time of a change, so that rounding does not come before it

LIT: Colour = (1,)
RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
YELLOW, CYAN, MAGENTA, WHITE = (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)


def lit(pattern: Pattern, elapsed: float) -> tuple[Colour, float | None]:
    """Return the colour *elapsed* seconds after *pattern* began, and in how many seconds it changes; None: never."""
    if len(pattern) == 1:
        return pattern[0][0], None
    position = elapsed % sum(seconds for _, seconds in pattern)
    for colour, seconds in pattern:
        if position < seconds:
            return colour, seconds - position + ROUNDING_S
        position -= seconds
    return pattern[0]  # rounding: the end of the last step is the beginning of the first


def _flashes(colour: Colour, *seconds: float) -> Pattern:
    """Return a pattern of *colour* and dark in turn, for so many *seconds* each."""
    dark = (0,) * len(colour)
    return tuple((dark if index % 2 else colour, each) for index, each in enumerate(seconds))


_SHORT, _LONG = (0.1, 0.15), (0.45, 0.15)

PATTERNS: dict[str, Pattern] = {
    "starting": _flashes(LIT, 0.1, 0.1),
    "ready": _flashes(LIT, 0.05, 4.95),  # not dark: a dark light means that the device is off
    "follow-up": _flashes(LIT, 0.15, 0.15, 0.15, 0.55),  # two knocks: the user may go on
    "listening": _flashes(LIT, 1.0),
    "thinking": _flashes(LIT, 0.3, 0.3),
    "speaking": _flashes(LIT, 0.9, 0.1),
    "mistake": _flashes(LIT, *_SHORT * 2, 0.1, 2.4),
    "offline": _flashes(LIT, 0.1, 1.9),
    "refused": _flashes(LIT, 1.5, 1.5),
    "muted": _flashes(LIT, 0.5, 0.2, 0.5, 1.3),  # M in Morse code
    "trouble": _flashes(LIT, *_SHORT * 3, *_LONG * 3, *_SHORT * 2, 0.1, 1.2),  # SOS
}
"""By mood, for one LED: told apart by rhythm."""

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
"""By mood, for an LED with colours; the rhythm serves users without colour vision."""
