"""Small files: bounded read, atomic replacement with fsync."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from contextlib import suppress
from pathlib import Path

PIPE_TIMEOUT_S = 2.0


def read_whole(path: Path, largest: int) -> bytes:
    """Return what is in *path*, which has to be a regular file: a pipe would block.

    Raises OSError, and ValueError where it is not a file or has more than *largest* bytes.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a file")
        raw = file.read(largest + 1)
    if len(raw) > largest:
        raise ValueError(f"it has more than {largest} bytes")
    return raw


def read_stream(path: Path, largest: int) -> bytes:
    """Return what is in *path*, a file or a pipe that is being written to: *largest* bytes and one more at most.

    Raises OSError, also where a pipe has no writer or does not end within PIPE_TIMEOUT_S.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        raw = _drained(file, largest + 1)
        if not raw and stat.S_ISFIFO(os.fstat(file).st_mode):
            raise BrokenPipeError(errno.EPIPE, "nothing was written into this pipe")
        return raw
    finally:
        os.close(file)


def _drained(file: int, largest: int) -> bytes:
    raw, until = b"", time.monotonic() + PIPE_TIMEOUT_S
    while len(raw) < largest:
        try:
            piece = os.read(file, largest - len(raw))
        except BlockingIOError:
            if not select.select([file], [], [], max(0.0, until - time.monotonic()))[0]:
                text = f"this pipe was not closed within {PIPE_TIMEOUT_S:g} s"
                raise TimeoutError(errno.ETIMEDOUT, text) from None
            continue
        if not piece:
            break
        raw += piece
    return raw


def replace_whole(path: Path, document: bytes) -> None:
    """Replace the file by *document*; after a power cut there is the old file or the new one. Raises OSError.

    Waits for the disk. The new file always has the same temporary name, so that power cuts leave one at most.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    try:
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(new, how, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Write the new name to the disk, too; some file systems cannot."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
