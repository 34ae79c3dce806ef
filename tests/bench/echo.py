"""How well the speaker does not hear itself: a table, from rooms in software. Run by `python -m tests.bench.echo`.

Half duplex is deaf while our voice sounds and dies away, with a delay that it learns; cancel takes our voice out, and
is half duplex until the canceller is trusted. All but the room is the device's own; speech alone opens its gate. Exit
status 1 where half duplex heard itself, or cancel did so more than once in a minute or missed one interruption in ten.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median

from device_agent.audio import playback_buffer
from device_agent.audio.echo_control import EchoControl
from device_agent.audio.gate import EchoPresence, Gate, GatePolicy
from device_agent.core.actions import GateMode
from device_agent.core.events import TalkStarted
from device_agent.dsp.aec import Canceller
from device_agent.dsp.pcm import frame_bytes
from device_agent.dsp.vad import VoiceDetector
from tests.support.echo_room import (
    PITCHES,
    Happening,
    Reply,
    Room,
    Scene,
    Sound,
    erle,
    hiss,
    speech,
    survived,
    to_pcm,
    to_sound,
    voice,
)

RATE = 24000
ROOMS = {
    "60 ms, -6 dB": Room(),
    "60 ms, -20 dB": Room(loss_db=20),
    "250 ms, -6 dB": Room(delay=0.25),
    "250 ms, -20 dB": Room(delay=0.25, loss_db=20),
    "400 ms, -6 dB": Room(delay=0.4),
    "one housing, 0 dB": Room(loss_db=0, direct_db=10),
    "soft clipping": Room(clips=True),
    "drift 100 ppm": Room(drift_ppm=100),
    "jump 40 ms at 20 s": Room(jump_at=20.0),
    "across the room": Room(direct_db=-10),
    "across, clipping": Room(direct_db=-10, loss_db=0, clips=True),
    "noise -40 dBFS": Room(noise_db=-40),
    "no echo at all": Room(loss_db=90),
}
REPLY_S, PAUSE_S = 8.0, 2.0
KNOWN_S = 12.0
"""When the user begins to interrupt: the canceller knows the room by then."""
BETWEEN_S, SOON_S = 4.6, 2.0
"""From one interruption to the next, and how soon it must be noticed to count."""


@dataclass
class Heard:
    """What went to the gate in a scene."""

    frames: list[tuple[float, bytes, EchoPresence]] = field(default_factory=list)
    trusted_at: float | None = None

    @property
    def sound(self) -> Sound:
        return to_sound(b"".join(frame for _, frame, _ in self.frames))


def hear(scene: Scene, canceller: Canceller | None) -> Heard:
    """Live through *scene*."""
    echo, heard = EchoControl(scene.rate, canceller=canceller), Heard()
    for at, what, pcm in scene.pieces():
        if what is Happening.PLAYED:
            echo.played(playback_buffer.OutputFrame(pcm, pcm), scene.ahead, at)
        else:
            heard.frames.append((at, *echo.clean(pcm, at)))
        if heard.trusted_at is None and canceller is not None and canceller.trusted:
            heard.trusted_at = at
    return heard


def openings(heard: Heard, begin: float = 0.0, end: float = math.inf) -> Iterator[float]:
    """Yield when a turn begins in a gate that is opened by voice, and closed again at once: one in SOON_S at most."""
    detector, verdict = VoiceDetector(RATE, 2), False
    gate = Gate(lambda _: verdict, GatePolicy(35, 15))
    gate.set_mode(GateMode.VOICE)
    for at, frame, own in heard.frames:
        verdict = detector(frame)  # it learns what is quiet here, also before *begin*
        if begin <= at < end:
            if TalkStarted() in list(gate.feed(frame, own)):
                yield at
                begin = at + SOON_S
            gate.close()


@dataclass
class Row:
    """What was found in one room."""

    begin: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    trusted: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    false: int = 0
    minutes: float = 0.0
    asked: int = 0
    noticed: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        def average(figures: list[float], form: str = "5.1f") -> str:
            return f"{mean(figures):{form}}" if figures else "-".rjust(int(form.split(".", maxsplit=1)[0]))

        soon = sorted(self.noticed)
        times = f"{1000 * median(soon):4.0f} {1000 * soon[len(soon) * 9 // 10]:5.0f}" if soon else "   -     -"
        return (
            f"{average(self.begin)} {average(self.later)}  {average(self.trusted)}  "
            f"{average(self.lost)} {average([100 * share for share in self.kept], '4.0f')} "
            f"{self.false / self.minutes:7.2f} {len(self.noticed):5d}/{self.asked:<3d} {times}"
        )


def measure(room: Room, *, cancel: bool, seeds: int) -> Row:
    row = Row()
    for seed in range(seeds):
        walls = replace(room, seed=seed)
        alone(row, walls, seed, Canceller(RATE) if cancel else None)
        interrupted(row, walls, seed, Canceller(RATE) if cancel else None)
    return row


def alone(row: Row, room: Room, seed: int, canceller: Canceller | None) -> None:
    """The device talks for a minute, with pauses, and the user is silent."""
    every = REPLY_S + PAUSE_S
    replies = [Reply(1 + n * every, speech(RATE, REPLY_S, seed=10 * seed + n)) for n in range(6)]
    scene = Scene(room, RATE, 1 + 6 * every, replies)
    heard = hear(scene, canceller)
    row.false += len(list(openings(heard)))
    row.minutes += 6 * REPLY_S / 60
    if canceller is None or room.loss_db > 60:
        return
    row.begin.append(erle(scene, heard.sound, 1.0, 2.5))
    row.later.append(erle(scene, heard.sound, 1 + every, 1 + 6 * every))
    if heard.trusted_at is not None:
        row.trusted.append(heard.trusted_at - 1.0)


def interrupted(row: Row, room: Room, seed: int, canceller: Canceller | None) -> None:
    """The device talks on and on, and the user tries to interrupt."""
    times = [KNOWN_S + n * BETWEEN_S for n in range(6)]
    near = [
        (at, voice(RATE, pitch=PITCHES[(seed + n) % len(PITCHES)], level_db=(-26, -30)[n % 2]))
        for n, at in enumerate(times)
    ]
    length = KNOWN_S + 6 * BETWEEN_S
    scene = Scene(room, RATE, length, [Reply(1.0, speech(RATE, length, seed=100 + seed))], near)
    heard = hear(scene, canceller)
    for at in times:
        row.asked += 1
        row.noticed += [opened - at for opened in list(openings(heard, at, at + SOON_S))[:1]]
    if canceller is not None and room.loss_db < 60:
        lost, kept = survived(scene, heard.sound)
        row.lost.append(lost)
        row.kept.append(kept)


# What it costs --------------------------------------------------------------------------------------------------------


def cost() -> None:
    """Print CPU, memory and threads of the canceller."""
    resident, tasks = memory(), threads()
    canceller = Canceller(RATE)
    print(f"the canceller adds {memory() - resident:.0f} MiB and {threads() - tasks} threads")
    print(f"idle:   {1000 * work(canceller, 60, ours=False):6.2f} ms of CPU per second of sound")
    print(f"active: {1000 * work(canceller, 60, ours=True):6.2f} ms of CPU per second of sound")
    before = memory()
    work(canceller, 600, ours=True)
    print(f"growth over 10 minutes at work: {1024 * (memory() - before):.0f} KiB")


def work(canceller: Canceller, length: int, *, ours: bool) -> float:
    size = frame_bytes(RATE)
    heard = to_pcm(speech(RATE, 10.0) + hiss(10 * RATE, -60.0))
    frames = [heard[at : at + size] for at in range(0, len(heard), size)]
    begun = time.process_time()
    for number in range(50 * length):
        frame = frames[number % len(frames)]
        if ours:
            canceller.played(frame)
        canceller.clean(frame)
    return (time.process_time() - begun) / length


def memory() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="how often each room is tried, with other words and walls")
    arguments = parser.parse_args()
    cost()
    print("\n                              ERLE, dB   trusted   double talk   false per  noticed in   after, ms")
    print("room                mode     1.5 s later after, s  dB kept, %     minute       2 s      median  p90")
    total = Row()
    for name, room in ROOMS.items():
        for mode in ("half", "cancel"):
            row = measure(room, cancel=mode == "cancel", seeds=arguments.seeds)
            print(f"{name:19} {mode:6} {row}", flush=True)
            if mode == "half" and row.false:
                return 1
            if mode == "cancel":
                total = Row(
                    false=total.false + row.false,
                    minutes=total.minutes + row.minutes,
                    asked=total.asked + row.asked,
                    noticed=total.noticed + row.noticed,
                )
    return 0 if total.false <= total.minutes and len(total.noticed) >= 0.9 * total.asked else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # see conftest.py
