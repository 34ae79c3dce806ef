"""Flight recorder: the last events, without speech, kept in memory and written to a file after a failure.

It belongs to the main thread; ``on_signal`` writes from a signal handler, which only reads.
"""

from __future__ import annotations

import logging
import platform
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from pprint import pformat

from .. import __version__
from ..config.model import Config
from ..core.actions import Action
from ..core.events import Event
from ..core.redaction import masked
from ..core.transition import Transition
from ..runtime.signals import handled

log = logging.getLogger(__name__)

MAX_EVENTS = 200
"""Events and actions that are kept, the latest."""
MAX_FILES = 5
MAX_LINE_CHARS = 300
FILE_PREFIX = "postmortem-"
SPEECHLESS_FIELDS = frozenset({"by", "call", "message", "mood", "problem", "reason", "reply", "service", "worker"})
"""Fields whose text is never speech. Of any other text only the length is shown."""
LIBRARIES = ("websocket-client", "PyAudio", "numpy", "webrtcvad-wheels", "soxr", "gpiozero", "livekit")


class FlightRecorder:
    """Observer that keeps the last events, and writes them into *directory*. *config* is the one in use."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config, self._directory = config, directory
        self._began = time.monotonic()
        self._events: deque[tuple[float, str]] = deque(maxlen=MAX_EVENTS)
        self._counts: Counter[str] = Counter()

    def __call__(self, step: Transition) -> None:
        for word in step.words:
            self._counts[type(word).__name__] += 1
            self._events.append((step.now, described(word)))

    def write(self, reason: str) -> None:
        """Write a file about *reason*, and delete the oldest one above MAX_FILES. Logs a disk error; never raises."""
        name = f"{FILE_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}.txt"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in sorted(self._directory.glob(f"{FILE_PREFIX}*.txt"))[: -(MAX_FILES - 1)]:
                old.unlink()
            path = self._directory / name
            path.touch(mode=0o600)
            path.write_text(self.text(reason))
        except OSError as error:
            log.warning("%s cannot be written: %s", name, error.strerror or error)
        else:
            log.warning("what happened before is in %s", path)

    def text(self, reason: str) -> str:
        """Return the content of a file about *reason*."""
        now = time.monotonic()
        parts = {
            "reason": [reason, f"after {now - self._began:.0f} s"],
            "versions": _versions(),
            "counts": [f"{count:7} {name}" for name, count in sorted(self._counts.items())],
            "events": [f"{moment - now:9.3f} s  {text}" for moment, text in list(self._events)],
            "threads": list(_stacks()),
            "configuration": pformat(masked(self.config), width=100, sort_dicts=False).splitlines(),
        }
        lines = (line for title, part in parts.items() for line in (f"== {title}", *part, ""))
        return "\n".join(line[:MAX_LINE_CHARS] for line in lines)

    @contextmanager
    def on_signal(self, nudge: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Write a file on SIGUSR2, and call *nudge*, which wakes the main thread."""

        def handle(*_: object) -> None:
            self.write("requested by SIGUSR2")
            nudge()

        with handled(handle, signal.SIGUSR2):
            yield


def described(word: Event | Action) -> str:
    """Return *word* as text, with the length in place of what may be speech."""
    names: tuple[str, ...] = tuple(getattr(word, "__dataclass_fields__", ()))
    shown = (f"{name}={_shown(name, getattr(word, name))}" for name in names)
    return f"{type(word).__name__}({', '.join(shown)})"


def _shown(name: str, value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if name in SPEECHLESS_FIELDS or not isinstance(value, str | bytes):
        return repr(value)
    return f"<{len(value)}>"


def _versions() -> list[str]:
    # It loads email, zip and csv, 1 MiB: most processes never come here.
    from importlib import metadata

    versions = [f"device-agent {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{library} {metadata.version(library)}")
    return versions


def _stacks() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  there is no other way
        yield f"{names.get(ident, 'a thread of a library')}:"
        yield from (line for entry in traceback.format_stack(frame) for line in entry.rstrip().splitlines())
