"""What happened before something went wrong, kept in a file for who wants to know. Nothing in it was said by anybody.

It belongs to the main thread; ``on_signal`` writes from its signal handler, which only reads.
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
from ..core.events import Event, WorkerCrashed
from ..core.redaction import masked

log = logging.getLogger(__name__)

MAX_EVENTS = 200
"""How many of the last events and actions are kept."""
MAX_FILES = 5
"""How many files are; the oldest goes first."""
MAX_CHARS = 300
"""Characters of one line."""
FILE_PREFIX = "postmortem-"
SPEECHLESS_FIELDS = frozenset(
    [
        "attention",
        "by",
        "call",
        "cue",
        "failed",
        "final",
        "heard_ms",
        "message",
        "mood",
        "more",
        "muted",
        "percent",
        "problem",
        "quiet",
        "reason",
        "reply",
        "retry_in",
        "service",
        "silence",
        "worker",
    ]
)
"""Fields that hold no word of a person. Of the others, which may, only the length is shown."""
LIBRARIES = ("websocket-client", "PyAudio", "numpy", "webrtcvad-wheels", "soxr", "gpiozero", "livekit")


class FlightRecorder:
    """Watches an agent, and writes into *directory* what it saw."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config, self._directory = config, directory
        self._began = time.monotonic()
        self._events: deque[tuple[float, str]] = deque(maxlen=MAX_EVENTS)
        self._counts: Counter[str] = Counter()

    def __call__(self, word: Event | Action, now: float) -> None:
        self._counts[type(word).__name__] += 1
        self._events.append((now, described(word)))

    def write(self, reason: str) -> None:
        """Write a file about *reason*; a disk that does not take it is told in the log. Never raises."""
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
        """Return what there is to say about *reason*."""
        now = time.monotonic()
        events = [f"{moment - now:9.3f} s  {text}" for moment, text in list(self._events)]
        counts = [f"{count:7} {name}" for name, count in sorted(self._counts.items())]
        parts = {
            "reason": [reason, f"after {now - self._began:.0f} s"],
            "versions": _versions(),
            "counts": counts,
            "events": events,
            "threads": list(_stacks()),
            "configuration": pformat(masked(self.config), width=100, sort_dicts=False).splitlines(),
        }
        return "\n".join(line[:MAX_CHARS] for title, lines in parts.items() for line in (f"== {title}", *lines, ""))

    @contextmanager
    def on_signal(self, nudge: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Write when SIGUSR2 comes, and *nudge* the main thread."""

        def handle(*_: object) -> None:
            self.write("requested by SIGUSR2")
            nudge()

        before = signal.signal(signal.SIGUSR2, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR2, before)


def described(word: Event | Action) -> str:
    """Return *word* as text, without what somebody may have said."""
    if isinstance(word, WorkerCrashed):
        return f"WorkerCrashed(worker={word.worker!r}, error={word.error!r})"
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
    # It loads email, zip and csv, 1 MiB: most of those who live long never come here.
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
