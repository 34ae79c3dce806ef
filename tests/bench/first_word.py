"""A hundred presses, each with a word on the lips, while the dial takes 0 to 3 s and the loudspeaker beeps: does the
first word of each arrive, and nothing of the beep? Run by ``make promises``; time goes twice as fast here.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import replace

from device_agent.audio.cues import CuePolicy, Cues
from device_agent.config.model import ServiceConfig
from device_agent.core.actions import Cue
from device_agent.core.events import LinkIdle, PlaybackEnded, Pressed
from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import level, samples
from device_agent.simulator import Simulator
from tests.support import room as world
from tests.support.room import RATE, Air, Room, speech
from tests.support.weather import Weather

world.PACE = 2
"""Faster, and a busy machine would keep the finger waiting for longer than the preroll."""
LONGEST_DIAL_S = 3.0
HEAD_S = 0.2
"""How much of a turn is judged as its first word."""
VOICE = 0.9
"""How much of the first word must arrive: 1 is all of it."""
TAKEN_OUT_DB = 25.0
"""How much of the beep must not."""
QUIET = 10
"""Presses without speech: what is sent then is what is left of the beep."""
LOUDNESS = 0.3
CUES = 50
BEEP = Cues(RATE, CuePolicy(CUES, 70)).sound(Cue.LISTENING)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="presses (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    dials = [chance.uniform(0, LONGEST_DIAL_S) for _ in range(options.count)]
    first = []
    with Simulator(think_s=0.05, pace=32, commits="asked") as simulator, Weather(simulator.port) as weather:
        service = replace(ServiceConfig(), url=f"ws://127.0.0.1:{weather.port}/v1/realtime")
        with Room(service=service, cues=CUES, echo=LOUDNESS, idle_s=0.1) as room:
            for number, dial in enumerate(dials, 1):
                weather.dial_s = dial / world.PACE
                first.append(first_word(room, simulator, number, chance.uniform(0, 0.3)))
    with (
        Simulator(think_s=0.05, pace=32, commits="asked") as simulator,
        Room(simulator, cues=CUES, echo=LOUDNESS, idle_s=0.1) as room,
    ):
        left = [beep(room, simulator, number) for number in range(1, QUIET + 1)]
        audible = room.hears(BEEP)
    lost, middle = sum(fit < VOICE for fit in first), statistics.median
    heard = level(across_the_room(BEEP))
    print(f"{options.count} turns, dials of {min(dials):.2f} to {max(dials):.2f} s (median {middle(dials):.2f} s)")
    print(f"turns without their first word: {lost}")
    print(f"the first {1000 * HEAD_S:.0f} ms: likeness {min(first):.3f} at worst, {middle(first):.3f} in the middle")
    print(f"the beep: likeness {audible:.2f} at the loudspeaker, {heard:.0f} dBFS at the microphone,")
    print(f"          {max(left):.0f} dBFS at worst in what was sent, {middle(left):.0f} dBFS in the middle")
    print(json.dumps({"turns": options.count, "lost": lost, "worst_first": min(first), "beep_db": [heard, max(left)]}))
    return 1 if lost or max(left) > heard - TAKEN_OUT_DB or audible < 0.9 else 0


def first_word(room: Room, simulator: Simulator, number: int, after_s: float) -> float:
    """Press and speak *after_s* seconds later; return how much of the first word arrived where the turn has it."""
    room.microphone.say(bytes(2 * samples(after_s, RATE)) + speech())
    room.finger.tap()  # so the first syllable may come a little before, with or after the press
    turn = ended(room, simulator, number)
    head = 2 * samples(HEAD_S, RATE)
    _, at = likeness(speech(), turn)
    return likeness(speech()[:head], turn[2 * at : 2 * at + head])[0]


def beep(room: Room, simulator: Simulator, number: int) -> float:
    """Hold the button for a second and say nothing; return the loudest 100 ms of what was sent, in dBFS."""
    room.finger.press()
    room.happened(Pressed, number)
    room.microphone.say(bytes(2 * RATE))
    room.microphone.wait_until_said()
    room.finger.release()
    turn = ended(room, simulator, number)
    step = 2 * samples(0.1, RATE)
    return max(level(turn[at : at + step]) for at in range(0, len(turn) - step, step // 2))


def ended(room: Room, simulator: Simulator, number: int) -> bytes:
    """Wait until a turn is over and the connection, too; return what the service heard."""
    for what in (Pressed, PlaybackEnded, LinkIdle):
        room.happened(what, number)
    return simulator.heard(turns=number)[-1].pcm


def across_the_room(pcm: bytes) -> bytes:
    air = Air(LOUDNESS)
    air.sound(pcm)
    return air.add_to(bytes(len(pcm)))


if __name__ == "__main__":
    sys.exit(main())
