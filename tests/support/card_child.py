"""The process at the other end of ``cards.CardProcess``: one connection, one object, one thread that owns it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection, Listener
from typing import Any


def serve(connection: Connection) -> None:
    """Make the object that the first message names, then answer calls on it until the other side leaves."""
    thing: Any = None
    try:
        while True:
            name, arguments = connection.recv()
            try:
                thing, answer = (thing, call(thing, name, arguments)) if thing else (make(name, arguments), None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
                error.add_note(f"caused by {error.__cause__!r}")
                connection.send((False, error))
            else:
                connection.send((True, answer))
    except (EOFError, ConnectionError):
        if hasattr(thing, "close"):
            thing.close()


def make(name: str, arguments: tuple[object, ...]) -> Any:
    """Return a new object of the class "module:Class", or the module "module"."""
    module, _, of_class = name.partition(":")
    thing = importlib.import_module(module)
    return getattr(thing, of_class)(*arguments) if of_class else thing


def call(thing: Any, name: str, arguments: tuple[object, ...]) -> Any:
    """Call a method, or get an attribute."""
    value = getattr(thing, name)
    return value(*arguments) if callable(value) else value


def main() -> None:
    """Serve until SIGTERM; then each thread has a second to close its port."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    owners = []
    try:
        with Listener(sys.argv[1], "AF_UNIX") as listener:
            while True:
                owners.append(threading.Thread(target=serve, args=[listener.accept()], daemon=True))
                owners[-1].start()
    finally:
        end = time.monotonic() + 1
        for owner in owners:
            owner.join(max(0, end - time.monotonic()))
        os._exit(0)  # one that hangs in a card could not be ended otherwise


if __name__ == "__main__":
    main()
