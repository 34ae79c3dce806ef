"""Filter of standard error: PortAudio writes three lines there for each format that a card refuses."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
PORTAUDIO_NOISE = b"Expression '"
"""Prefix of its lines."""


@contextmanager
def filter_stderr() -> Iterator[None]:
    """Hold back standard error, of libraries too, and write it at the end without PortAudio's lines.

    The traceback of a crash is written at once. For the main thread.
    """
    try:
        outside = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    crashes = faulthandler.is_enabled()
    with open(os.memfd_create("stderr"), "w+b", buffering=0) as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), STDERR)
        if crashes:
            faulthandler.enable(outside)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(outside, STDERR)
            if crashes:
                faulthandler.enable(STDERR)
            os.close(outside)
            held.seek(0)
            os.write(STDERR, b"".join(line for line in held.readlines() if not line.startswith(PORTAUDIO_NOISE)))
