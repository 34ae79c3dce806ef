"""wyoming-satellite as its README starts it: arecord and aplay as children, raw PCM to a client that connects by TCP.

https://github.com/rhasspy/wyoming-satellite is what many a speaker on a Pi runs, although it is not developed any
more. It speaks another protocol, 16 kHz up and 22 kHz down, has no button, and sends the microphone for as long as
a client is connected: ``hub`` is that client. So nothing of the wire can be compared, only what it costs to run.
It listens on the port ``BENCH_SATELLITE_PORT``, or on one that the kernel chooses and no client knows.
"""

import asyncio
import logging
import os
import signal
import sys
import threading

from wyoming_satellite.__main__ import main

ARGUMENTS = [
    f"--uri=tcp://127.0.0.1:{os.environ.get('BENCH_SATELLITE_PORT', '0')}",
    "--name=bench",
    "--mic-command=arecord -q -r 16000 -c 1 -f S16_LE -t raw",
    "--snd-command=aplay -q -r 22050 -c 1 -f S16_LE -t raw",
    "--no-zeroconf",
]


class Ready(logging.Handler):
    """It says so in its log, and begins to listen."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "Ready":
            print("ready", flush=True)


def leave(*_: object) -> None:
    """End at once: its own way waits for a microphone that goes on. Its children notice, and end as well."""
    os._exit(0)


def watch() -> None:
    """Read lines that nothing can be done with, to the end."""
    for _line in sys.stdin:
        pass
    leave()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[Ready()])
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = ARGUMENTS
    asyncio.run(main())
