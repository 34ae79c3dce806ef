"""``device-agent run`` with a saboteur thread, which takes orders from a pipe: the file descriptor in the last word.

    raise NAME     an unexpected error comes out of what the thread NAME does just now
    hang NAME      the thread NAME makes a call that never returns, and holds no lock of Python meanwhile

A thread that waits for work meets its fate with its next piece of work: that is how Python delivers it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import NoReturn

from device_agent.cli import entry


class Sabotage(Exception):
    """What no worker expects."""

    def __str__(self) -> str:
        return "sabotage, on request"


class Hang(Exception):
    """The thread in which this is raised has to create it first, and that takes for ever."""

    def __init__(self) -> None:
        silent, self.never_closed = os.pipe()
        os.read(silent, 1)


ORDERS = {"raise": Sabotage, "hang": Hang}


def obey(orders: int) -> None:
    with open(orders) as lines:
        for line in lines:
            order, name = line.split()
            thread = next(each for each in threading.enumerate() if each.name == name)
            ident = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(ORDERS[order]))
            wake(thread)


def wake(thread: threading.Thread) -> None:
    """Let a keeper that may wait for a minute look up; the others look up by themselves."""
    if thread.name == "memory":
        thread._target.__self__._wake()  # type: ignore[attr-defined]


def main() -> NoReturn:
    orders = int(sys.argv.pop())
    threading.Thread(target=obey, args=[orders], name="saboteur", daemon=True).start()
    entry()


if __name__ == "__main__":
    main()
