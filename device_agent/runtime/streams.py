"""Standard streams: replacements for those that the process was started without (``2>&-``)."""

from __future__ import annotations

import os
import sys

STANDARD_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # in the order of their numbers


def open_missing() -> None:
    """Let each standard stream that is closed be the null device; to be called before anything else is opened.

    Python sets a closed stream to None, on which logs and ``argparse`` fail. And the next file or socket would get the
    number of the stream, and with it whatever a library writes to standard error.
    """
    for name, mode in STANDARD_STREAMS:
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is that of the missing stream
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
