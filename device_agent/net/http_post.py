"""HTTPS POST: one request with a JSON answer, through http.client."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from ..core.errors import LinkLost
from ..core.redaction import quoted, secrets
from .dialer import Dialer
from .http_errors import rejection
from .models import Request
from .transport import Transport

MAX_ANSWER_BYTES = 1 << 20
"""A token or an invitation is a thousandth of that."""


class Post:
    """A request under way. ``send`` belongs to one thread; ``abort`` may be called from any.

    *timeout_s* covers all of it. *ca_file* and *transport* are those of ``Dialer``.
    """

    def __init__(
        self, request: Request, timeout_s: float, ca_file: str = "", transport: Transport | None = None
    ) -> None:
        self._request, self._timeout_s = request, timeout_s
        self._name = urlsplit(request.url).hostname or "nobody"
        self._hide = secrets(request.url, request.headers)
        self._dialer = Dialer(self._name, timeout_s, ca_file=ca_file, transport=transport)

    def send(self) -> Any:
        """Perform the request; return the JSON of its answer. Raises LinkLost and LinkRefused."""
        with closing(self._dialer):
            status, headers, body = self._exchange()
        if status not in {200, 201}:
            raise rejection(self._name, status, headers, body, self._hide)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            text = f"{self._name} answered with {len(body)} bytes that are not JSON; is there a login page in between?"
            raise LinkLost(text) from error

    def _exchange(self) -> tuple[int, dict[str, str], bytes]:
        import http.client  # it loads all of email, 1 MiB, and only token servers and Ultravox need it

        url = urlsplit(self._request.url)
        stream = self._dialer.connect(self._request.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port)
        connection.sock = stream
        headers = {"Content-Type": "application/json", "User-Agent": f"device-agent/{__version__}"}
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request("POST", target, json.dumps(self._request.body), {**headers, **self._request.headers})
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError as error:
            raise LinkLost(f"{self._name} did not answer within {self._timeout_s:g} s; try again") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = quoted(str(error), self._hide) or type(error).__name__
            raise LinkLost(f"{self._name} broke the connection off or did not answer in HTTP: {text}") from error
        if len(body) > MAX_ANSWER_BYTES:
            text = f"{self._name} answered with more than {MAX_ANSWER_BYTES} bytes"
            raise LinkLost(f"{text}; is there a login page in between?")
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def abort(self) -> None:
        """Break out of ``send``. Safe from any thread, at any time."""
        self._dialer.abort()
