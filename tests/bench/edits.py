"""Edits under fire: config.yaml is edited at random while turns run: `python -m tests.bench.edits`.

The whole daemon with real threads, real sockets and a real file, in a room where time goes faster, on pins that are
simulated. Half of the edits are wrong. A turn is lost when the service did not hear all of it or its answer was not
heard; a right edit is ignored when the device does not run by it, a wrong one when it is not named by its line.

Prints what happened and one JSON line. Exit status 1 where a turn was lost, an edit ignored or misnamed, or threads or
descriptors grew. Keys that need another server on the network are left out: token_url, mqtt and metrics.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from device_agent.app.daemon import Daemon
from device_agent.core.conversation import LISTENING
from device_agent.core.redaction import Secret
from device_agent.dsp.aec import Canceller
from device_agent.dsp.correlation import likeness
from device_agent.dsp.resampling import resample
from device_agent.simulator import Simulator
from tests.bench.house import KEY, PATIENCE_S, TICK_S, House, Lost, live, lived_in, rests, settled, until
from tests.bench.owner import Owner
from tests.support import room
from tests.support.authority import Authority
from tests.support.room import RATE, speech

log = logging.getLogger("edits")

LIKE, LIKE_CANCELLED = 0.9, 0.5
"""So much like the question has to be what was heard. Cues sound at the same time; a canceller changes every voice."""
AFTER_S = 0.15
"""The user is silent for so long after the last word of a device that is deaf while the room still echoes."""
WARM_UP = 5
"""Turns before threads and descriptors are counted first."""
MOST_LOST = 5


# The turns ------------------------------------------------------------------------------------------------------------


PHASES = ("before", "pressed", "speaking", "said", "thinking", "replying", "after")
"""When in a turn the file is saved."""


class Bench:
    """Drives the daemon that lives in the main thread. Belongs to a thread of its own."""

    def __init__(self, daemon: Daemon, house: House, owner: Owner, simulators: list[Simulator]) -> None:
        self._daemon, self._house, self._owner, self._simulators = daemon, house, owner, simulators
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._speech = speech()

    def run(self, count: int) -> dict[str, Any]:
        """Make *count* edits, each in a turn of its own; return what there is to say."""
        began = time.monotonic()
        basis, first = dict(self._owner.values), None
        for _ in range(WARM_UP):
            self._turn({})
        first = self._size()
        for number in range(count):
            self._edit_in_a_turn(number)
            if len(self.problems) >= MOST_LOST:
                break
        self._owner.values = basis
        self._owner.save(self._owner.text())
        self._owner.expect_taken(self._daemon, "the first one again")
        for _ in range(2):
            self._turn({})
        last = self._size()
        if last["threads"] > first["threads"] or last["descriptors"] > first["descriptors"]:
            self.problems.append(f"grown: {first} -> {last}")
        return {
            "edits": sum(self.counts[kind] for kind in ("right", "wrong")),
            "seconds": round(time.monotonic() - began),
            **self.counts,
            "before": first,
            "after": last,
            "problems": self.problems,
        }

    def _edit_in_a_turn(self, number: int) -> None:
        chance, owner = self._owner.chance, self._owner
        phase, kind, line = chance.choice(PHASES), "", 0
        if number % 2:
            kind, text, line = owner.wrong()
        else:
            text = owner.right()
        name = f"edit {number + 1}, {kind or 'right'}, {phase}"
        log.info("%s", name)
        try:
            self._turn({phase: lambda: self._owner.save(text)})
            if kind:
                self._owner.expect_refused(self._daemon, line)
            else:
                self._owner.expect_taken(self._daemon, name)
            self.counts["wrong" if kind else "right"] += 1
        except Lost as error:
            self.problems.append(f"{name}: {error}; the file says:\n{text}")
        if kind and chance.random() < 0.5:  # else the next right edit puts it right
            self._owner.save(owner.text())
            self._try(lambda: self._owner.expect_taken(self._daemon, f"{name}, put right"))

    def _try(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Lost as error:
            self.problems.append(str(error))

    @property
    def _agent(self) -> Any:
        return self._daemon._agent

    def _turn(self, then: dict[str, Callable[[], None]]) -> None:
        """Ask and be answered; do in each phase what *then* says. Raises Lost."""
        until(lambda: settled(self._daemon), lambda: f"it never came to rest: {self._agent.device.conversation.state}")
        self._house.heard()
        before = self._replies
        known = self._turns()  # held, so that no other gets the name of one that the service forgets
        names = {id(turn) for turn in known}

        def fresh() -> list[Any]:
            return [turn for turn in self._turns() if id(turn) not in names]

        then.pop("before", lambda: None)()
        self._begin()
        then.pop("pressed", lambda: None)()
        time.sleep(AFTER_S)
        self._house.say(self._speech)
        for phase, wait in (("speaking", 0.3), ("said", 1.4), ("thinking", 1.9)):
            if phase in then:
                time.sleep((wait if phase == "speaking" else 0.5) / room.PACE)
                then.pop(phase)()
        until(fresh, lambda: f"nobody heard the turn: {self._state}")
        if "replying" in then:
            until(lambda: not self._agent.device.playback.quiet or self._rests, lambda: f"no reply: {self._state}")
            then.pop("replying")()
        until(lambda: self._replies > before, lambda: f"no answer was heard: {self._state}")
        until(lambda: self._rests, lambda: f"it did not come to rest: {self._state}")
        heard = self._house.heard()
        then.pop("after", lambda: None)()
        self._judge(fresh(), heard)
        self.counts["turns"] += 1

    def _begin(self) -> None:
        """Press, where a press is wanted. A press that the device missed while it was rebuilt is made again."""
        for _ in range(4):
            config = self._daemon._watcher.config
            if config.talk.start == "voice":
                return
            self._house.tap(config.button)
            with contextlib.suppress(Lost):
                until(lambda: self._agent.device.conversation.state is LISTENING, lambda: "", 0.6)
                return
            self.counts["pressed again"] += 1
        raise Lost(f"the button does nothing: {self._state}")

    def _judge(self, turns: list[Any], heard: bytes) -> None:
        if len(turns) != 1:
            raise Lost(f"{len(turns)} turns were heard")
        like = likeness(self._speech, resample(turns[0].pcm, turns[0].rate, RATE))[0]
        least = LIKE_CANCELLED if self._daemon._watcher.config.echo.mode == "cancel" else LIKE
        if like < least:
            raise Lost(f"the turn was not heard whole: likeness {like:.2f}, {len(turns[0].pcm)} bytes")
        size = len(self._speech) // 8 * 2
        quarters = [likeness(self._speech[n : n + size], heard)[0] for n in range(0, 4 * size, size)]
        if sorted(quarters)[1] < least:  # one may have a gap in it: the machine is busy, or the volume changed
            raise Lost(f"the answer was not heard whole: likeness of its quarters {quarters}")

    @property
    def _replies(self) -> int:
        return int(self._daemon._statistics.snapshot(time.monotonic())["counts"]["replies"])

    @property
    def _rests(self) -> bool:
        return rests(self._agent)

    @property
    def _state(self) -> str:
        return f"{self._agent.device.conversation.state.value}, {self._daemon._watcher.config.talk}"

    def _turns(self) -> list[Any]:
        return [turn for simulator in self._simulators for turn in simulator.turns]

    def _size(self) -> dict[str, int]:
        """Count threads and descriptors when all is quiet and there is a connection."""
        time.sleep(2 * TICK_S)
        until(lambda: settled(self._daemon), lambda: "it never came to rest")
        return {"threads": len(os.listdir("/proc/self/task")), "descriptors": len(os.listdir("/proc/self/fd"))}


# All of it ------------------------------------------------------------------------------------------------------------


def choices(folder: Path, tool: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what every key may say without a turn being lost by it."""
    ca = Authority(folder / "authority").certificate
    return {
        "service.name": ["xai", "openai", "xai-live"],
        "service.model": [None, "one", "two"],
        "service.voice": [None, "of the service"],
        "service.instructions": [None, "Sing.", "Be brief.\nAnd kind."],
        "service.api_key_file": [None, str(folder / "good.key"), str(folder / "other.key")],
        "service.ca_file": [None, str(ca)],
        "service.tools": [[], ["web_search"]],
        "service.language": [None, "de"],
        "service.reasoning": [None, "none", "high"],
        "service.speed": [None, 1.2],
        "service.patience_s": [30, 90],
        "service.audio": ["pcm", "pcmu", "pcma"],
        "service.rate": [24000, 16000],
        "talk.start": ["button", "voice"],
        "talk.end": ["device", "service"],
        "talk.vad": [0, 1, 2, 3],
        "talk.silence_ms": [400, 500, 700],
        "talk.preroll_ms": [100, 300, 1000],
        "talk.follow_up_s": [0, 3],
        "talk.interrupt": ["button", "voice"],
        "connection.mode": ["on-demand", "always"],
        "connection.idle_s": [30, 60],
        "connection.daily_minutes": [0, 900],
        "connection.price_per_minute": [0, 0.05],
        "microphone.device": ["default", "kitchen", "hall"],
        "microphone.channel": [None, 1, 2],
        "speaker.device": ["default", "kitchen"],
        "speaker.volume": [50, 80, 100],
        "speaker.wake_ms": [0, 40],
        "button.pin": [17, 4, 22],
        "button.inverted": [False, True],
        "light.pin": [25, 5, None],
        "light.rgb": [[], [6, 12, 13]],
        "light.inverted": [True, False],
        "controls.volume_up": [None, 16, 4],
        "controls.volume_down": [None, 20],
        "controls.volume_inverted": [False, True],
        "controls.encoder": [[], [23, 24]],
        "controls.mute": [None, 26, 5],
        "controls.mute_is": ["button", "switch"],
        "controls.mute_inverted": [False, True],
        "echo.mode": ["off", "cancel"],
        "cues.volume": [0, 10],
        "cues.play": [["listening"], ["done", "failed"], []],
        "alarms.volume": [50, 70],
        "log.transcript": ["off", "debug"],
        "abilities": [["time"], ["volume", "time"], []],
        "tools": [[], [tool]],
        "fallback": [[], [{"voice": "eve"}]],
    }


@contextlib.contextmanager
def world(folder: Path, seed: int) -> Iterator[tuple[House, Owner, list[Simulator]]]:
    """Yield a house, an owner and the services, and put everything back."""
    house = House()
    with contextlib.ExitStack() as owned:
        owned.enter_context(lived_in(house, folder, tap_s=PATIENCE_S))  # no button is held, and the machine is busy
        names = ("xai", "openai", "xai-live")
        simulators = [owned.enter_context(Simulator(name, key=KEY, think_s=0.05, pace=16)) for name in names]
        urls = {name: simulator.url for name, simulator in zip(names, simulators, strict=True)}
        tool = {"name": "lamp", "description": "A lamp.", "command": ["true"]}
        owner = Owner(random.Random(seed), folder / "config.yaml", urls, choices(folder, tool))
        owner.values = {key: values[0] for key, values in owner.choices.items()}
        owner.values |= {"service.url": urls["xai"], "cues.volume": 10, "talk.silence_ms": 400}
        owner.path.write_text(owner.text())
        yield house, owner, simulators


def edit(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make *count* edits under fire; return what there is to say. For the main thread."""
    assert Secret(KEY)
    found: dict[str, Any] = {}
    with world(folder, seed) as (house, owner, simulators):
        Canceller(RATE)  # its library keeps threads and descriptors of its own from the first time on
        daemon = Daemon(owner.path)
        bench = Bench(daemon, house, owner, simulators)

        def drive() -> None:
            try:
                found.update(bench.run(count))
            except BaseException as error:
                found.setdefault("problems", [*bench.problems, repr(error)])
                log.exception("the driver died")

        found["status"] = live(daemon, drive)
        found["keys"] = dict(owner.edited)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="edits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--log", default="critical", help="default: %(default)s")
    options = parser.parse_args()
    logging.basicConfig(level=options.log.upper(), format="%(relativeCreated)7d %(threadName)s %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        found = edit(options.count, options.seed, Path(folder))
    keys = found.pop("keys", {})
    for name, value in found.items():
        if name != "problems":
            print(f"{name:14} {value}")
    wrong = {key.removeprefix("wrong: "): n for key, n in keys.items() if key.startswith("wrong: ")}
    print(f"{'keys':14} {len(keys) - len(wrong)} different ones")
    print(f"{'mistakes':14} {', '.join(f'{n} x {kind}' for kind, n in sorted(wrong.items()))}")
    for problem in found["problems"]:
        print(f"PROBLEM        {problem}")
    print(json.dumps({**found, "keys": keys, "problems": len(found["problems"])}))
    return 1 if found["problems"] or found["status"] else 0


if __name__ == "__main__":
    sys.exit(main())
