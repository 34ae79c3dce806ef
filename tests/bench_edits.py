"""Edits under fire: config.yaml is edited at random while turns run: `python tests/bench_edits.py`.

The whole daemon with real threads, real sockets and a real file, in a room where time goes faster, on pins that are
simulated. Half of the edits are wrong. A turn is lost when the service did not hear all of it or nobody heard the
answer; a right edit is ignored when the device does not run by it, a wrong one when it is not named by its line.

Prints what happened and one JSON line. Exit status 1 where a turn was lost, an edit ignored or misnamed, or threads or
descriptors grew. Left out are keys that need somebody else on the network: token_url, mqtt and metrics.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpiozero
import room
from authority import Authority
from gpiozero.pins.mock import MockFactory
from room import RATE, RoomMicrophone, RoomSpeaker, speech

from device_agent import agent as agent_module
from device_agent import assembly, echo, panel
from device_agent import edits as edits_module
from device_agent.audio import likeness, resample
from device_agent.canceller import Canceller
from device_agent.config import ButtonConfig, MicrophoneConfig, load
from device_agent.conversation import LISTENING, RESTING
from device_agent.credentials import Secret
from device_agent.daemon import Daemon
from device_agent.errors import ConfigError, DeviceFailed
from device_agent.schema import written
from device_agent.simulator import Simulator

log = logging.getLogger("edits")

TICK_S = 0.25
"""How often the agent of this room looks at its file; time goes faster here."""
PATIENCE_S = 20.0
"""How long a turn, or an edit, may take; longer, and it is lost."""
LIKE, LIKE_CANCELLED = 0.9, 0.5
"""So much like the question has to be what was heard. Cues sound at the same time; a canceller changes every voice."""
VOICES = {"xai": [None, "ara", "rex"], "xai-live": [None, "alloy"], "openai": [None, "marin", "alloy"]}
AFTER_S = 0.15
"""So long after its last word nobody speaks to a device that is deaf while the room still sounds of it."""
WARM_UP = 5
"""Turns before threads and descriptors are counted first."""
MOST_LOST = 5
KEY = "key-of-the-bench"


# The room -------------------------------------------------------------------------------------------------------------


class Ear(RoomMicrophone):
    """The microphone of one device; where several were, people speak into the one that is open."""

    def __init__(self, house: House, rate: int, name: str) -> None:
        super().__init__(rate)
        self._house, self._name, self.rate = house, name, rate

    def open(self) -> None:
        if self._name == "gone":
            raise DeviceFailed("microphone gone: there is no such device; choose another microphone.device")
        super().open()
        self._house.ear = self


class House:
    """The world around the device."""

    def __init__(self) -> None:
        self.ear: Ear | None = None
        self.speakers: list[RoomSpeaker] = []
        gpiozero.Device.pin_factory = MockFactory()

    def microphone(self, microphone: MicrophoneConfig, rate: int) -> Ear:
        return Ear(self, rate, microphone.device)

    def speaker(self, _device: str, rate: int) -> RoomSpeaker:
        made = RoomSpeaker(rate)
        made.rate = rate  # type: ignore[attr-defined]
        self.speakers = [made]
        return made

    def say(self, pcm: bytes) -> None:
        assert self.ear is not None
        self.ear.say(resample(pcm, RATE, self.ear.rate))

    def heard(self) -> bytes:
        """Return what has come out of the loudspeaker, at RATE, and forget it."""
        speaker = self.speakers[-1]
        with speaker._lock:
            pcm = bytes(speaker._heard)
            speaker._heard.clear()
        return resample(pcm, speaker.rate, RATE)  # type: ignore[attr-defined]

    @staticmethod
    def tap(button: ButtonConfig) -> None:
        contact = gpiozero.Device.pin_factory.pin(button.pin)
        down, up = (
            (contact.drive_high, contact.drive_low) if button.inverted else (contact.drive_low, contact.drive_high)
        )
        down()
        up()


# The file -------------------------------------------------------------------------------------------------------------


@dataclass
class Owner:
    """Who edits: knows what the file says, and what would be wrong."""

    chance: random.Random
    path: Path
    urls: dict[str, str]
    choices: dict[str, list[Any]]
    values: dict[str, Any] = field(default_factory=dict)
    """What the file says: key -> value."""
    edited: Counter[str] = field(default_factory=Counter)

    def text(self, values: dict[str, Any] | None = None, more: str = "") -> str:
        """Return the file, a line for each key."""
        sections: dict[str, list[str]] = {}
        for key, value in (self.values if values is None else values).items():
            section, _, name = key.rpartition(".")
            sections.setdefault(section, []).append(f"{'  ' if section else ''}{name}: {written(value)}".rstrip())
        plain = sections.pop("", [])
        lines = [line for name, each in sections.items() for line in (f"{name}:", *each)]
        return "\n".join([*lines, *plain]) + "\n" + more

    def line_of(self, text: str, key: str) -> int:
        """Return in which line of *text* a key stands."""
        section, _, name = key.rpartition(".")
        inside = not section
        for number, line in enumerate(text.splitlines(), 1):
            if not line.startswith(" ") and section:
                inside = line == f"{section}:"
            elif inside and line.strip().startswith(f"{name}:"):
                return number
        raise KeyError(key)

    def right(self) -> str:
        """Make an edit that is right; return the new text."""
        while True:
            key = self.chance.choice(list(self.choices))
            values = {**self.values, key: self.chance.choice(self.choices[key])}
            if key == "service.name":
                values |= {"service.url": self.urls[values[key]], "service.voice": None}
            if key == "service.voice":
                values[key] = self.chance.choice(VOICES[values["service.name"]])  # another one would be refused
            text = self.text(values)
            if values == self.values or not self._holds(text):
                continue
            self.values = values
            self.edited[key] += 1
            return text

    def _holds(self, text: str) -> bool:
        trial = self.path.with_name("trial.yaml")
        trial.write_text(text)
        try:
            load(trial)
        except ConfigError:
            return False
        return True

    def wrong(self) -> tuple[str, str, int]:
        """Return the kind of a mistake, the text with it, and in which line it is."""
        kind = self.chance.choice(list(WRONG))
        text, line = WRONG[kind](self)
        self.edited[f"wrong: {kind}"] += 1
        return kind, text, line

    def with_value(self, key: str, value: Any) -> tuple[str, int]:
        text = self.text({**self.values, key: value})
        return text, self.line_of(text, key)

    def with_line(self, line: str, after: str) -> tuple[str, int]:
        lines = self.text().splitlines()
        at = lines.index(after) + 1
        return "\n".join([*lines[:at], line, *lines[at:]]) + "\n", at + 1


def _half(owner: Owner) -> tuple[str, int]:
    """The editor, or the power, gave up in the middle of a list: the end of the file is where that shows."""
    text = owner.text(more="abilities: [volume, mute")
    return text, len(text.splitlines())


WRONG: dict[str, Callable[[Owner], tuple[str, int]]] = {
    "unknown key": lambda owner: owner.with_line("  silenc_ms: 300", "talk:"),
    "unknown section": lambda owner: (owner.text(more="speakr: {volume: 3}\n"), len(owner.text().splitlines()) + 1),
    "wrong type": lambda owner: owner.with_value("talk.vad", "much"),
    "out of range": lambda owner: owner.with_value("speaker.volume", 101),
    "broken YAML": lambda owner: owner.with_line("   idle_s: [3, }", "connection:"),
    "twice": lambda owner: owner.with_line(f"  vad: {owner.values['talk.vad']}", "talk:")[:1] + _second(owner),
    "contradiction": lambda owner: (
        owner.with_value("controls.volume_up", owner.values["button.pin"])[:1] + _pins(owner)
    ),
    "half a file": _half,
    "no such key file": lambda owner: owner.with_value("service.api_key_file", "/nowhere/key"),
    "a user that is not there": lambda owner: owner.with_value("service.api_key_file", "~nosuchuser/key"),
    "a disk that fails": lambda owner: owner.with_value("service.api_key_file", "/proc/self/mem"),
    "key for all to read": lambda owner: owner.with_value(
        "service.api_key_file", str(owner.path.with_name("readable.key"))
    ),
    "no such program": lambda owner: _tool(owner),
    "no such microphone": lambda owner: owner.with_value("microphone.device", "gone"),
    "the pin of nobody": lambda owner: owner.with_value("button.pin", 44),
}
"""Mistakes, and how they are made: the text, and the line in which they are."""


def _second(owner: Owner) -> tuple[int]:
    text, at = owner.with_line(f"  vad: {owner.values['talk.vad']}", "talk:")
    return (next(n for n, line in enumerate(text.splitlines(), 1) if n > at and line.strip().startswith("vad:")),)


def _pins(owner: Owner) -> tuple[int]:
    text = owner.text({**owner.values, "controls.volume_up": owner.values["button.pin"]})
    return (owner.line_of(text, "controls.volume_up"),)


def _tool(owner: Owner) -> tuple[str, int]:
    more = "tools:\n  - name: lamp\n    description: A lamp.\n    command: [/nowhere/lamp]\n"
    values = {key: value for key, value in owner.values.items() if key != "tools"}
    text = owner.text(values, more)
    return text, len(text.splitlines())


def saved_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def saved_by_rename(path: Path, text: str) -> None:
    new = path.with_name("config.yaml~")
    new.write_text(text)
    new.replace(path)


def saved_in_two_halves(path: Path, text: str) -> None:
    """The whole comes before anybody could have believed the half."""
    path.write_text(text[: len(text) // 2])
    time.sleep(TICK_S / 4)
    path.write_text(text)


def saved_by_a_new_link(path: Path, text: str) -> None:
    version = path.with_name(f"version-{time.monotonic_ns()}.yaml")
    version.write_text(text)
    link = path.with_name("next")
    link.symlink_to(version)
    link.replace(path)


SAVES = (saved_in_place, saved_by_rename, saved_in_two_halves, saved_by_a_new_link)


# The turns ------------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """Something that had to happen did not."""


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
        self._save(self._owner.text())
        self._expect_taken("the first one again")
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
            self._turn({phase: lambda: self._save(text)})
            if kind:
                self._expect_refused(line)
            else:
                self._expect_taken(name)
            self.counts["wrong" if kind else "right"] += 1
        except Lost as error:
            self.problems.append(f"{name}: {error}; the file says:\n{text}")
        if kind and chance.random() < 0.5:  # else the next right edit puts it right
            self._save(owner.text())
            self._try(lambda: self._expect_taken(f"{name}, put right"))

    def _try(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Lost as error:
            self.problems.append(str(error))

    def _save(self, text: str) -> None:
        self._owner.chance.choice(SAVES)(self._owner.path, text)
        if self._owner.chance.random() < 0.2:
            os.kill(os.getpid(), signal.SIGHUP)

    def _expect_taken(self, name: str) -> None:
        trial = self._owner.path.with_name("trial.yaml")
        trial.write_text(self._owner.text())
        wanted, edits = load(trial), self._daemon._edits
        self._until(
            lambda: edits.config == wanted and not edits.mistakes and self._settled,
            lambda: f"{name} was ignored; mistakes: {edits.mistakes}",
        )

    def _expect_refused(self, line: int) -> None:
        place, edits = f"{self._owner.path}:{line}:", self._daemon._edits
        self._until(
            lambda: any(mistake.startswith(place) for mistake in edits.mistakes) and self._settled,
            lambda: f"line {line} was not named: {edits.mistakes}",
        )
        self._until(lambda: "with settings from before" in self._agent._complaint, lambda: "the status does not tell")

    @property
    def _agent(self) -> Any:
        return self._daemon._agent

    @property
    def _settled(self) -> bool:
        """Whether the device stands, and waits for nothing."""
        caretaker = self._daemon._caretaker
        standing = self._agent._conversation.state in RESTING and self._agent._playback.quiet
        return caretaker is not None and caretaker.next is None and standing

    def _turn(self, then: dict[str, Callable[[], None]]) -> None:
        """Ask and be answered; do in each phase what *then* says. Raises Lost."""
        self._until(lambda: self._settled, lambda: f"it never came to rest: {self._agent._conversation.state}")
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
        self._until(fresh, lambda: f"nobody heard the turn: {self._state}")
        if "replying" in then:
            self._until(lambda: not self._agent._playback.quiet or self._rests, lambda: f"no reply: {self._state}")
            then.pop("replying")()
        self._until(lambda: self._replies > before, lambda: f"no answer was heard: {self._state}")
        self._until(lambda: self._rests, lambda: f"it did not come to rest: {self._state}")
        heard = self._house.heard()
        then.pop("after", lambda: None)()
        self._judge(fresh(), heard)
        self.counts["turns"] += 1

    def _begin(self) -> None:
        """Press, where a press is wanted: whoever pressed while the device was assembled anew sees that, and presses
        again."""
        for _ in range(4):
            config = self._daemon._edits.config
            if config.talk.start == "voice":
                return
            self._house.tap(config.button)
            with contextlib.suppress(Lost):
                self._until(lambda: self._agent._conversation.state is LISTENING, lambda: "", 0.6)
                return
            self.counts["pressed again"] += 1
        raise Lost(f"the button does nothing: {self._state}")

    def _judge(self, turns: list[Any], heard: bytes) -> None:
        if len(turns) != 1:
            raise Lost(f"{len(turns)} turns were heard")
        like = likeness(self._speech, resample(turns[0].pcm, turns[0].rate, RATE))[0]
        least = LIKE_CANCELLED if self._daemon._edits.config.echo.mode == "cancel" else LIKE
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
        return self._agent._conversation.state in RESTING and self._agent._playback.quiet

    @property
    def _state(self) -> str:
        return f"{self._agent._conversation.state.value}, {self._daemon._edits.config.talk}"

    def _turns(self) -> list[Any]:
        return [turn for simulator in self._simulators for turn in simulator.turns]

    def _size(self) -> dict[str, int]:
        """Count threads and descriptors when all is quiet and there is a connection."""
        time.sleep(2 * TICK_S)
        self._until(lambda: self._settled, lambda: "it never came to rest")
        return {"threads": len(os.listdir("/proc/self/task")), "descriptors": len(os.listdir("/proc/self/fd"))}

    @staticmethod
    def _until(done: Callable[[], object], why: Callable[[], str], patience: float = PATIENCE_S) -> None:
        ends = time.monotonic() + patience
        while not done():
            if time.monotonic() > ends:
                raise Lost(why())
            time.sleep(0.005)


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
    for name, mode in (("good.key", 0o600), ("other.key", 0o600), ("readable.key", 0o644)):
        (folder / name).write_text(KEY)
        (folder / name).chmod(mode)
    os.environ.update(
        STATE_DIRECTORY=str(folder / "state"), RUNTIME_DIRECTORY=str(folder), XAI_API_KEY=KEY, OPENAI_API_KEY=KEY
    )
    house = House()
    with contextlib.ExitStack() as owned:
        for module, name, here in (
            (agent_module, "TICK_S", TICK_S),
            (edits_module, "WHOLE_S", TICK_S),
            (echo, "ROOM_S", echo.ROOM_S / room.PACE),  # here sound dies away sooner, too
            (echo, "CUE_ROOM_S", echo.CUE_ROOM_S / room.PACE),
            (panel, "TAP_S", PATIENCE_S),  # here nobody holds a button, and the machine is busy
            (assembly, "open_microphone", house.microphone),
            (assembly, "open_speaker", house.speaker),
        ):
            owned.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, here)
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
        daemon = Daemon(owner.path, {})
        bench = Bench(daemon, house, owner, simulators)

        def drive() -> None:
            try:
                bench._until(lambda: daemon._agent is not None, lambda: "it did not start")
                found.update(bench.run(count))
            except BaseException as error:
                found.setdefault("problems", [*bench.problems, repr(error)])
                log.exception("the driver died")
            finally:
                daemon.stop("the bench")

        driver = threading.Thread(target=drive, name="driver", daemon=True)
        driver.start()
        found["status"] = daemon.run()
        driver.join(PATIENCE_S)
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
