"""Simulator of the voice services, for trying the agent without a key, an account or a bill.

A spoken turn is answered with its own sound; faults are made on request. ``with Simulator() as simulator:`` is for
tests, ``serve`` for the command line.
"""

from .command import listed, serve
from .contract import SIMULATED_SERVICES, ConnectionLog, Turn
from .engine.behaviour import VARIANTS, Variant
from .faults import FAULTS
from .simulator import QUESTION, Simulator

__all__ = [
    "FAULTS",
    "QUESTION",
    "SIMULATED_SERVICES",
    "VARIANTS",
    "ConnectionLog",
    "Simulator",
    "Turn",
    "Variant",
    "listed",
    "serve",
]
