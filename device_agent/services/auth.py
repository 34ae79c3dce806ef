"""Credentials: addresses, keys, and short-lived tokens, with which a device needs no key."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from ..core.errors import LinkLost
from ..core.redaction import Secret

TOKEN_PREFIXES = ("xai-client-secret.", "openai-insecure-api-key.")
"""What browsers put before a token; some token servers do so too (seen in the field)."""
MAX_CREDENTIAL_CHARS = 8192  # characters. A longer header would be refused anyway
DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def with_query(url: str, query: dict[str, str]) -> str:
    """Return *url* with *query* added; empty values are left out."""
    parts = urlsplit(url)
    more = urlencode({name: value for name, value in query.items() if value})
    return parts._replace(query="&".join(filter(None, [parts.query, more]))).geturl()


def bearer(secret: Secret | None) -> dict[str, str]:
    """Return the ``Authorization`` header."""
    return {"Authorization": f"Bearer {secret.reveal()}"} if secret else {}


def read_token(answer: Any) -> Secret:
    """Return the token in the answer of any known server: ``value``, ``client_secret.value`` or ``client_secret``.
    Raises LinkLost if there is none."""
    found = answer if isinstance(answer, dict) else {}
    nested = found.get("client_secret")
    value = found.get("value") or (nested.get("value") if isinstance(nested, dict) else nested)
    token = value.strip() if isinstance(value, str) and len(value) <= MAX_CREDENTIAL_CHARS else ""
    while prefix := next((each for each in TOKEN_PREFIXES if token.startswith(each)), ""):
        token = token.removeprefix(prefix)
    if not token or not all("!" <= character <= "~" for character in token):
        raise LinkLost("the answer of the token server holds no token")
    return Secret(token)


def origin(url: str) -> tuple[bool, str | None, int | None]:
    """Return the server at *url*: encrypted or not, host, port."""
    parts = urlsplit(url)
    return parts.scheme in {"wss", "https"}, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
