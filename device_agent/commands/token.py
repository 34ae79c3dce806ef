"""``device-agent token``: fetches a short-lived token of the first service."""

from __future__ import annotations

from typing import Any

from ..app.factories import open_services
from ..config.model import Config
from ..core.errors import ConfigError
from ..net.dialer import CONNECT_TIMEOUT_S
from ..net.http_post import Post
from ..services.auth import read_token


def fetch_token(config: Config) -> str:
    """Return a short-lived token for the first service. Raises ConfigError, LinkLost, LinkRefused."""
    service: Any = open_services(config)[0]
    if not hasattr(service, "mint"):
        raise ConfigError(f"{config.service.name} has no short-lived tokens")
    return read_token(Post(service.mint(), CONNECT_TIMEOUT_S, service.ca_file).send()).reveal()
