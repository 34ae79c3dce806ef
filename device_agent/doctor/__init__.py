"""The doctor: tries everything that the configuration names, and says for each thing what is wrong and what to do.

The steps are in files of their own: ``machine``, ``pins``, ``sound``, ``network``. Each yields what it finds, in a
thread of its own that is left behind if it hangs; ``sheet`` shows it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..config.load import load
from ..config.model import Config
from ..core.errors import AgentError, ConfigError
from .doctor import CARD as CARD
from .doctor import EX_WRONG as EX_WRONG
from .doctor import LOCAL as LOCAL
from .doctor import NETWORK as NETWORK
from .doctor import Doctor as Doctor
from .doctor import Patience as Patience
from .doctor import __all__ as __all__
from .doctor import _connected as _connected
from .doctor import _example as _example
from .doctor import _summary as _summary
from .doctor import _wrong as _wrong
from .doctor import check as check
from .doctor import log as log
from .findings import Finding, Mark, Now, Progress, advised
from .list_devices import show_devices
from .machine import MachineCheck
from .network import ServiceCheck
from .pins import PinCheck, elsewhere
from .report import Sheet, sheet
from .sound import SoundCheck
from .stderr_filter import hushed
from .step_runner import Hangs, each
