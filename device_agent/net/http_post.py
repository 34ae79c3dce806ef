"""One HTTPS request and its JSON answer. The only file that knows http.client."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from ..core.errors import AgentError, LinkLost
from ..core.redaction import quoted, secrets
from .dialer import Dialer, unreachable
from .http_errors import rejection
from .models import Request

MAX_ANSWER_BYTES = 1 << 20
"""Bytes of an answer; a token or an invitation is a thousandth of that."""


class Post:
    """A request under way. ``send`` belongs to one thread; ``abort`` may be called from any.

    *patience*, in seconds, is for all of it; *ca_file* names a CA of the owner's, "" for those of the system.
    """

    def __init__(self, request: Request, patience: float, ca_file: str = "") -> None:
        self._request, self._patience = request, patience
        self._name = urlsplit(request.url).hostname or "nobody"
        self._hide = secrets(request.url, request.headers)
        self._dial = Dialer(self._name, patience, ca_file=ca_file)

    def send(self) -> Any:
        """Perform it; return the JSON that comes back. Raises LinkLost and LinkRefused."""
        with closing(self._dial):
            status, headers, body = self._exchange()
        if status not in {200, 201}:
            raise rejection(self._name, status, headers, body, self._hide)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            text = f"{self._name} answered with {len(body)} bytes that are not JSON; is there a login page in between?"
            raise LinkLost(text) from error

    def _exchange(self) -> tuple[int, dict[str, str], bytes]:
        # It loads all of email, 1 MiB: only who has a token server or Ultravox ever comes here.
        import http.client

        url = urlsplit(self._request.url)
        try:
            line = self._dial.connect(self._request.url)
        except AgentError:
            raise
        except (OSError, ValueError) as error:
            raise unreachable(self._name, error) from error
        connection = http.client.HTTPConnection(url.hostname or "", url.port)
        connection.sock = line  # it uses of a socket what a line has
        headers = {"Content-Type": "application/json", "User-Agent": f"device-agent/{__version__}"}
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request("POST", target, json.dumps(self._request.body), {**headers, **self._request.headers})
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError as error:
            raise LinkLost(f"{self._name} did not answer within {self._patience:g} s; try again") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = quoted(str(error), self._hide) or type(error).__name__
            raise LinkLost(f"{self._name} broke the connection off or did not answer in HTTP: {text}") from error
        if len(body) > MAX_ANSWER_BYTES:
            raise LinkLost(
                f"{self._name} answered with more than {MAX_ANSWER_BYTES} bytes; is there a login page in between?"
            )
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def abort(self) -> None:
        """Break out of ``send``. Safe from any thread, at any time."""
        self._dial.abort()
