"""PortAudio writes three lines to standard error for each format that a card refuses; they do not belong here."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
PORTAUDIO_NOISE = b"Expression '"
"""How its lines begin."""


@contextmanager
def filter_stderr() -> Iterator[None]:
    """Hold back what is written to standard error meanwhile, by whatever library; afterwards write what is no noise.

    What a crash has to say is written at once. For the main thread.
    """
    try:
        outside = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    crashes = faulthandler.is_enabled()
    with open(os.memfd_create("stderr"), "w+b", buffering=0) as aside:
        sys.stderr.flush()
        os.dup2(aside.fileno(), STDERR)
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
            aside.seek(0)
            os.write(STDERR, b"".join(line for line in aside.readlines() if not line.startswith(PORTAUDIO_NOISE)))
