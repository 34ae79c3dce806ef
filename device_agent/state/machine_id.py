"""What tells this speaker from another one of the same name: made once, kept, and made anew on another board.

Cards are copied: then two boards have one name, and all that was kept besides. The serial number of a board is no part
of its card.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from .store import StateStore

SERIAL_NUMBER_PATH = Path("/proc/device-tree/serial-number")
"""Where a Raspberry Pi, and most other boards, say which one they are; elsewhere there is no such file."""
MACHINE_KEY = "machine"
"""Its name in the memory."""


def machine_id(memory: StateStore, serial: Path = SERIAL_NUMBER_PATH) -> str:
    """Return eight letters or digits that no other speaker has: those that are kept, unless they were made on another
    board. Reads a small file of the kernel."""
    known = memory.get(MACHINE_KEY)
    known = known if isinstance(known, dict) else {}
    board, made_on = _board(serial), _hex(known.get("board"), 16)
    name = "" if board and made_on and board != made_on else _hex(known.get("id"), 8)
    name = name or secrets.token_hex(4)
    memory.put(MACHINE_KEY, {"id": name, "board": board or made_on})
    return name


def _hex(kept: Any, length: int) -> str:
    """Return what was kept, "" where it makes no sense."""
    return kept if isinstance(kept, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", kept) else ""


def _board(serial: Path) -> str:
    """Return what shows that a board is another one, "" where it has no number. Not the number: that is private."""
    number = b""
    with suppress(OSError):
        number = serial.read_bytes()[:100].strip(b"\0 \n")
    return sha256(number).hexdigest()[:16] if number.strip(b"0") else ""
