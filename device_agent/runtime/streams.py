"""Standard input, output and error, where the process was started without one of them (``2>&-``)."""

from __future__ import annotations

import os
import sys

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""In the order of their numbers."""


def open_missing() -> None:
    """Let each standard stream that is closed be the null device; to be called before anything else is opened.

    Python sets the stream to None then, and a log, a traceback or ``argparse`` fails on that. And the next file or
    socket would get the number of the stream: whatever a library writes to standard error would go there.
    """
    for name, mode in STREAMS:
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is the missing one
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
