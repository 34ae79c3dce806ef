"""Lets the LiteLLM proxy know each speaker by a key of its own, without a database.

It lies beside proxy.yaml, and so does devices.json: speaker -> SHA-256 of its key in hex, read whenever one dials.
"""

import hashlib
import hmac
import json
from pathlib import Path

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

DEVICES = Path(__file__).with_name("devices.json")
AT_ONCE = 2
"""Connections of one speaker at a time: while it renews one, there are two."""


async def known(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Return whose *api_key* it is, and what it may do. Raises PermissionError, which the speaker hears as a 403."""
    seen = hashlib.sha256(api_key.removeprefix("Bearer ").encode()).hexdigest()
    for device, expected in json.loads(DEVICES.read_text()).items():
        if hmac.compare_digest(seen, expected):
            return UserAPIKeyAuth(api_key=seen, key_alias=device, max_parallel_requests=AT_ONCE)
    raise PermissionError("no speaker has this key")
