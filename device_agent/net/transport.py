"""Transport: what successive connections share, DNS results, CA certificates and TLS session tickets."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..core.errors import ConfigError
from .resolver import ResolverCache
from .tls import TlsContextCache

TLS_PORTS = {"wss": 443, "https": 443}
PLAIN_PORTS = {"ws": 80, "http": 80}


@dataclass(frozen=True)
class Transport:
    """The caches of all connections of a device. Any thread may use it."""

    resolver: ResolverCache = field(default_factory=ResolverCache)
    tls: TlsContextCache = field(default_factory=TlsContextCache)

    def prepare(self, url: str, ca_file: str = "") -> None:
        """Look up the host of *url* in the background and load the CA certificates; nothing is sent to the host."""
        parts = urlsplit(url)
        if parts.scheme in TLS_PORTS and parts.hostname:
            self.resolver.prefetch(parts.hostname, parts.port or TLS_PORTS[parts.scheme])
            with suppress(ConfigError):  # the connect will raise it
                self.tls.context(ca_file)
