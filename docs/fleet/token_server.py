"""Lends out short-lived tokens, so that the key of the service stays in one place.

Configured by the environment: KEY_FILE holds the key; DEVICES_FILE is JSON, device -> SHA-256 of its password in hex,
read at each request; MINT_URL is where tokens are made; PER_MINUTE is how many a device may have. Run it as one
process: it counts in memory.
"""

import hashlib
import hmac
import json
import os
import time
from collections import deque
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from flask import Flask, abort, request

app = Flask(__name__)
lent: dict[str, deque[float]] = {}


@app.post("/token/<device>")
def token(device: str) -> dict[str, object]:
    known = json.loads(Path(os.environ["DEVICES_FILE"]).read_text()).get(device, "")
    password = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(hashlib.sha256(password.encode()).hexdigest(), known):
        abort(403)
    if not may_have_one(device, time.monotonic()):
        abort(429)
    return mint()


def may_have_one(device: str, now: float) -> bool:
    """Count a token for *device*, unless it had its share in the last minute."""
    share = int(os.environ.get("PER_MINUTE", "6"))
    times = lent.setdefault(device, deque())
    while times and now - times[0] >= 60:
        times.popleft()
    if len(times) >= share:
        return False
    times.append(now)
    return True


def mint() -> dict[str, object]:
    """Ask the service for a token. Its complaints stay here: a device could do nothing about them."""
    url = os.environ.get("MINT_URL", "https://api.x.ai/v1/realtime/client_secrets")
    key = Path(os.environ["KEY_FILE"]).read_text().strip()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    wanted = json.dumps({"expires_after": {"seconds": 300}}).encode()
    try:
        with urlopen(Request(url, wanted, headers), timeout=10) as answer:  # noqa: S310  the owner's own address
            return dict(json.load(answer))
    except (HTTPError, OSError, ValueError) as error:
        app.logger.error("no token from %s: %s", url, error)
        abort(502)
