"""A hundred presses, each with a word on the lips, while the dial takes 0 to 3 s and the loudspeaker beeps: does the
first word of each arrive, and nothing of the beep? Run by ``make bench``; time goes twice as fast here.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import replace

import room as world
from room import RATE, Room, speech
from weather import Weather

from device_agent.audio import likeness, samples
from device_agent.config import ServiceConfig
from device_agent.cues import Cues
from device_agent.events import Cue, LinkIdle, PlaybackEnded, Pressed
from device_agent.simulator import Simulator

world.PACE = 2
"""Faster, and a busy machine would keep the finger waiting for longer than the preroll."""
LONGEST_DIAL_S = 3.0
HEAD_S = 0.2
"""How much of a turn is judged as its first word."""
VOICE, BEEP = 0.9, 0.3
"""How much of the first word must arrive (1 is all of it), and how much like the beep any part of it may be: speech is
by chance."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="presses (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    dials, first, beeps, late = [], [], [], 0
    beep = Cues(RATE, volume=100, alarm_volume=70).sound(Cue.LISTENING)
    with Simulator(think_s=0.05, pace=32) as simulator, Weather(simulator.port) as weather:
        service = replace(ServiceConfig(), url=f"ws://127.0.0.1:{weather.port}/v1/realtime")
        with Room(service=service, cues=50, echo=0.3, idle_s=0.1) as room:
            for number in range(1, options.count + 1):
                dials.append(chance.uniform(0, LONGEST_DIAL_S))
                weather.dial_s = dials[-1] / world.PACE
                room.microphone.say(bytes(2 * samples(chance.uniform(0, 0.3), RATE)) + speech())
                room.finger.tap()  # so the first syllable may come a little before, with or after the press
                room.happened(Pressed, number)
                room.happened(PlaybackEnded, number)
                room.happened(LinkIdle, number)
                (turn,) = simulator.heard(turns=number)[-1:]
                head = speech()[: 2 * samples(HEAD_S, RATE)]
                fit, at = likeness(head, turn.pcm)
                first.append(fit)
                beeps.append(likeness(beep, turn.pcm[: 2 * at] + bytes(len(beep)))[0] if at else 0.0)
                late += at != likeness(speech(), turn.pcm)[1]
            audible = likeness(beep, room.speaker.heard)[0]
    lost = late + sum(fit < VOICE for fit in first)
    middle = statistics.median
    print(f"{options.count} turns, dials of {min(dials):.2f} to {max(dials):.2f} s (median {middle(dials):.2f} s)")
    print(f"turns without their first word: {lost}")
    print(f"the first {1000 * HEAD_S:.0f} ms: likeness {min(first):.3f} at worst, {middle(first):.3f} in the middle")
    print(f"the beep: likeness {audible:.2f} at the loudspeaker, {max(beeps):.2f} at worst in what was sent")
    print(json.dumps({"turns": options.count, "lost": lost, "worst_first": min(first), "worst_beep": max(beeps)}))
    return 1 if lost or max(beeps) > BEEP or audible < 0.9 else 0


if __name__ == "__main__":
    sys.exit(main())
