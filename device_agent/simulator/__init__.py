"""A voice service on this machine, for trying the agent without a key, an account or a bill.

It speaks the protocol of a real service, answers each spoken turn with the sound of that very turn, and makes faults
on request. ``with Simulator() as simulator:`` for tests, ``serve`` for people:

    with Simulator(think_s=0) as simulator:
        ...                                   # connect something to simulator.url
        simulator.drop()
        turn = simulator.heard(timeout=5)[-1]

``question.wav`` is something to ask: "What is the weather like in the kitchen today?", 24 kHz, 16 bits, mono, with
0.6 s of room before and 1.6 s behind, speech at -20 dBFS over noise at -65 dBFS. It was made with espeak-ng and sox:

    espeak-ng -v en-gb+f2 -s 150 -w said.wav "What is the weather like in the kitchen today?"
    sox said.wav -r 24000 -b 16 -c 1 clean.wav highpass 80 silence 1 0.01 0.2% reverse silence 1 0.01 0.2% \\
        fade t 0.02 reverse compand 0.005,0.1 6:-40,-40,-10,-12,0,-8 gain 1.8 pad 0.6 1.6
    sox -n -r 24000 -b 16 -c 1 room.wav synth "$(soxi -D clean.wav)" pinknoise highpass 200 gain -n -53 fade t 0.05
    sox -m -v 1 clean.wav -v 1 room.wav -b 16 question.wav

What it knows of a service is in one file for each (``xai.py``, ``xai_live.py``, ``openai.py``, ``litellm.py``,
``ultravox.py``; ``family.py`` is what the first four share), without sockets, threads or a clock; ``server.py`` is the
shell around them; ``manners.py`` is the table of how servers differ, ``faults.py`` that of what can go wrong.
"""

from .command import listed, serve
from .contract import SERVICES, Behaviour, ConnectionLog, Turn
from .engine.behaviour import VARIANTS, Variant
from .faults import FAULTS, Fault
from .simulator import QUESTION, Simulator

__all__ = [
    "FAULTS",
    "QUESTION",
    "SERVICES",
    "VARIANTS",
    "Behaviour",
    "ConnectionLog",
    "Fault",
    "Simulator",
    "Turn",
    "Variant",
    "listed",
    "serve",
]
