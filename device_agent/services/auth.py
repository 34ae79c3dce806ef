"""How we get in: addresses, keys, and short-lived tokens, with which a device needs no key.

A token server is either the service itself, which wants the key, or somebody else, who must never see it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from ..core.errors import LinkLost
from ..core.redaction import Secret
from ..net.models import Request

TOKEN_PREFIXES = ("xai-client-secret.", "openai-insecure-api-key.")
"""What browsers put before a token; some token servers do so too (seen in the field)."""
MAX_CREDENTIAL_CHARS = 8192
"""Characters. A header that is longer would be refused anyway."""
DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def with_query(url: str, query: dict[str, str]) -> str:
    """Return *url* with more in its query; what is empty is left out."""
    parts = urlsplit(url)
    more = urlencode({name: value for name, value in query.items() if value})
    return parts._replace(query="&".join(filter(None, [parts.query, more]))).geturl()


def bearer(secret: Secret | None) -> dict[str, str]:
    """Return the header that shows *secret*."""
    return {"Authorization": f"Bearer {secret.reveal()}"} if secret else {}


def ask_for_token(
    token_url: str, body: dict[str, Any], token_key: Secret | None, *, service_url: str, key: Secret | None
) -> Request | None:
    """Return what to POST for a token, None where none is wanted.

    The key goes to nobody but the service itself, and *token_key* to nobody but the token server.
    """
    if not token_url:
        return None
    ours = key if origin(token_url) == origin(service_url) else None
    return Request(token_url, body, bearer(token_key or ours))


def mint(service_url: str, body: dict[str, Any], key: Secret | None) -> Request:
    """Return what to POST to the service itself for a token; who runs a token server does so for his devices."""
    parts = urlsplit(service_url)
    scheme = "http" if parts.scheme == "ws" else "https"
    url = parts._replace(scheme=scheme, path=f"{parts.path.rstrip('/')}/client_secrets", query="").geturl()
    return Request(url, body, bearer(key))


def credential(token_url: str, answer: Any, key: Secret | None) -> Secret | None:
    """Return what to show when we connect: the token in *answer* where one was asked for, else the key."""
    return read_token(answer) if token_url else key


def read_token(answer: Any) -> Secret:
    """Return the token in the answer of any known server: ``value``, ``client_secret.value`` or ``client_secret``.

    Raises LinkLost where there is none.
    """
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
    """Return who answers at *url*: encrypted or not, host, port."""
    parts = urlsplit(url)
    return parts.scheme in {"wss", "https"}, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
