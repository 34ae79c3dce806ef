"""Machine id: tells this speaker from another one of the same name; kept, and renewed on another board.

SD cards are copied: then two boards have the same state. The serial number of a board is no part of its card.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from .store import StateStore

SERIAL_NUMBER_PATH = Path("/proc/device-tree/serial-number")  # on a Raspberry Pi and most other boards
MACHINE_KEY = "machine"  # in the state file


def machine_id(store: StateStore, serial: Path = SERIAL_NUMBER_PATH) -> str:
    """Return eight hexadecimal digits of this speaker: the stored ones, unless they were made on another board."""
    known = store.get(MACHINE_KEY)
    known = known if isinstance(known, dict) else {}
    board, made_on = _board(serial), _hex(known.get("board"), 16)
    name = "" if board and made_on and board != made_on else _hex(known.get("id"), 8)
    name = name or secrets.token_hex(4)
    store.put(MACHINE_KEY, {"id": name, "board": board or made_on})
    return name


def _hex(stored: Any, length: int) -> str:
    """Return *stored*, "" where it is not so many hexadecimal digits."""
    return stored if isinstance(stored, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", stored) else ""


def _board(serial: Path) -> str:
    """Return a hash of the serial number, which is private; "" where the board has none."""
    number = b""
    with suppress(OSError):
        number = serial.read_bytes()[:100].strip(b"\0 \n")
    return sha256(number).hexdigest()[:16] if number.strip(b"0") else ""
