"""The realtime services we can talk to, one file each.

A service knows where to connect and what it can do; its session speaks the protocol of one connection. Neither touches
a socket, a thread or a clock: messages come in as arguments and go out as return values, and time comes in by ``tick``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from ..core.actions import Action
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import Event, Speech
from ..core.redaction import Secret
from ..net.models import Endpoint, Message, Request
from .base import Can as Can
from .base import Function as Function
from .base import Said as Said
from .base import ServerTool as ServerTool
from .base import Service as Service
from .base import Session as Session
from .base import Settings as Settings
from .base import with_path as with_path
from .closing import judge
from .registry import SERVICES as SERVICES
from .registry import load as load
from .registry import options as options
from .registry import reasons as reasons
from .registry import rules as rules
from .response_timeout import PATIENCE_S
