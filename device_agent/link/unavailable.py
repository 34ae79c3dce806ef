"""Stand-in for a service whose key cannot be read now: every connect is refused, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import LinkRefused
from ..net.models import Request
from ..services.base import HistoryEntry, Service


@dataclass(frozen=True)
class Unavailable:
    """Stands in for *service*, which would work but for *reason*. Nothing is sent."""

    service: Service
    reason: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.service, name)

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        """Raises LinkRefused."""
        raise LinkRefused(self.reason)
