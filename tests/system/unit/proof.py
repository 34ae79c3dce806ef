"""Runs inside the machine: tries what the unit promises, one step after the other, and tells the host by serial port.

The machine has just begun to boot, without network, clock or card. The voice service is a simulator in this process;
the finger presses a simulated pin, the mouth and the ear are the far ends of the kernel's loopback card.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file
from pathlib import Path
from typing import Any, TextIO

from device_agent.dsp.correlation import likeness
from device_agent.simulator import QUESTION, Simulator

UNIT = "device-agent"
CONFIG = Path("/etc/device-agent/config.yaml")
WINDOW = Path("/run/device-agent/status.sock")
KEY = Path("/etc/credstore/device-agent.api_key")
MEMORY = Path("/var/lib/device-agent/memory.json")
PIN = Path("/sys/devices/platform/gpio-sim.0/gpiochip0/sim_gpio17/pull")
CARDS = Path("/sys/bus/platform/drivers/snd_aloop")
RATE = 24000
PATIENCE_S = 60.0
"""How long one step may wait for one thing. Long, for a processor made of software; the times it took are shown."""


class Broken(Exception):
    """A promise is."""


# The world ------------------------------------------------------------------------------------------------------------


def run(*command: str | Path) -> str:
    """Run a program; return what it wrote. Raises Broken where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout.strip()


def unit(*names: str) -> list[str]:
    """Return properties of the unit."""
    told = dict(line.split("=", 1) for line in run("systemctl", "show", UNIT, f"-p{','.join(names)}").splitlines())
    return [told[name] for name in names]


def journal(*options: str) -> str:
    """Return lines of the journal."""
    return run("journalctl", "--no-pager", "-o", "cat", *options)


def status() -> str:
    """Return what the agent says it does, while it runs."""
    active, text = unit("ActiveState", "StatusText")
    return text if active == "active" else active


def pid() -> int:
    return int(unit("MainPID")[0])


def wait_for(what: str, predicate: Callable[[], object], seconds: float = PATIENCE_S) -> float:
    """Wait until *predicate* is true; return how many seconds that took. Raises Broken where it stays false."""
    began = time.monotonic()
    while not predicate():
        if time.monotonic() - began > seconds:
            raise Broken(f"not within {seconds:g} s: {what}; the unit says {status()!r}")
        time.sleep(0.05)
    return time.monotonic() - began


def wait_until_ready(since: int = 0) -> float:
    """Wait for an agent, another one than process *since*, that is ready."""
    return wait_for("ready", lambda: status().startswith("ready") and pid() not in (0, since))


def unplug(number: int) -> subprocess.Popen[bytes]:
    """Pull out a card. The kernel ends that when no process holds the card open any more."""
    return subprocess.Popen(["sh", "-c", f"echo snd_aloop.{number} > {CARDS}/unbind"])


def card() -> int:
    """Return the number of the card that is there."""
    return int(next(Path("/proc/asound").glob("card[0-9]")).name.removeprefix("card"))


def far_end() -> str:
    """Return where one hears what the speaker says, and says what the microphone hears."""
    return f"plughw:{card()},1"


@contextmanager
def pressed() -> Iterator[None]:
    """Hold the button."""
    PIN.write_text("pull-down")
    try:
        yield
    finally:
        PIN.write_text("pull-up")


@contextmanager
def listening() -> Iterator[Path]:
    """Record the loudspeaker; yield the file of it."""
    file = Path("/run/heard.raw")
    recorder = subprocess.Popen(
        ["arecord", "-q", "-D", far_end(), "-t", "raw", "-f", "S16_LE", f"-r{RATE}", "-c1", file]
    )
    try:
        yield file
    finally:
        recorder.terminate()
        recorder.wait()


def same(asked: bytes, heard: bytes) -> float:
    """Return how much of what was *asked* is in what was *heard*: pieces, because a slow processor tears gaps."""
    step = 2 * RATE // 10
    pieces = [asked[at : at + step] for at in range(0, len(asked) - step + 1, step)]
    return sum(likeness(piece, heard)[0] > 0.95 for piece in pieces) / len(pieces)


# The promises ---------------------------------------------------------------------------------------------------------


def boots(_service: Simulator) -> str:
    """It starts at boot, and goes on trying, without card, network and clock."""
    wait_for("an agent", pid)
    time.sleep(15)  # what could go wrong with a boot has the time to do so
    active, result, again = unit("ActiveState", "Result", "NRestarts")
    if active == "failed" or Path("/dev/snd/controlC0").exists():
        raise Broken(f"{active} on {result}, {os.listdir('/dev/snd')}")
    return f"{active} without a card, {again} restarts, its clock at {time.strftime('%d %b %Y')}, up {uptime():.0f} s"


def finds_a_card_that_comes_late(_service: Simulator) -> str:
    """The first card of this boot is plugged in."""
    run("modprobe", "snd-aloop", "enable=1,1", "pcm_substreams=1,1")
    unplug(1).wait(PATIENCE_S)  # that is for later
    return f"ready {wait_until_ready():.1f} s after it was plugged in, {unit('NRestarts')[0]} restarts"


def is_hardened(_service: Simulator) -> str:
    """systemd's own judgement of the unit that runs."""
    verdict = run("systemd-analyze", "security", "--no-pager", "--threshold=20", UNIT).splitlines()[-1]
    rights = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid()}/status").read_text().splitlines())
    if (rights["CapEff"], rights["CapBnd"], rights["NoNewPrivs"], rights["Seccomp"]) != ("0" * 16, "0" * 16, "1", "2"):
        raise Broken(f"it has rights: {rights}")
    return verdict.removeprefix("→ ")


def stays_inside_its_walls(_service: Simulator) -> str:
    """The same sandbox around a program that tries to get out."""
    Path("/home/owner").mkdir(exist_ok=True)
    Path("/home/owner/diary").touch()
    text = run("systemctl", "cat", UNIT)
    for before, after in (
        (r"^ExecStart=.*", "ExecStart=/opt/device-agent/bin/python /usr/local/lib/walls.py"),
        (r"^Type=.*", "Type=oneshot\nStandardOutput=file:/run/walls.json"),
        (r"^(Restart|WatchdogSec)=.*", ""),
        (r"^RuntimeDirectory=.*", "RuntimeDirectory=walls"),
        (r"%t/device-agent", "%t/walls"),
    ):
        text = re.sub(before, after, text, flags=re.MULTILINE)
    Path("/run/systemd/system/walls.service").write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "walls")
    tried = json.loads(Path("/run/walls.json").read_text())
    held = [name for name, why in tried["forbidden"].items() if why]
    out = [name for name in tried["forbidden"] if name not in held]
    missing = {name: why for name, why in tried["needed"].items() if why}
    if out or missing:
        raise Broken(f"possible: {out}; not possible: {missing}")
    return f"{len(held)} ways out are closed, {len(tried['needed'])} that it needs are open"


def answers(service: Simulator) -> str:
    """The button is held, a question asked, and the answer is heard."""
    before = len(service.turns)
    with as_file(QUESTION) as question, wave.open(str(question)) as wav:
        asked = wav.readframes(wav.getnframes())[RATE : 6 * RATE]  # 2.5 s from where it begins
        with listening() as heard:
            with pressed():
                wait_for("listening", lambda: status().startswith("listening"))
                run("aplay", "-q", "-D", far_end(), question)
            wait_for("a turn at the service", lambda: len(service.turns) > before)
            wait_for("the answer", lambda: status().startswith("speaking"))
            wait_for("the end of it", lambda: status().startswith("ready"))
    turn = service.turns[-1]
    sent, came = same(asked, turn.pcm), same(asked, heard.read_bytes())
    if min(sent, came) < 0.5:
        raise Broken(f"the same sound: {sent:.0%} of what the service heard, {came:.0%} of the answer")
    return (
        f"the service heard {turn.seconds:.1f} s, {sent:.0%} the same sound; the answer at the loudspeaker {came:.0%}"
    )


def keeps_its_key(service: Simulator) -> str:
    """The key arrived, or there had been no answer; and no other user or place can see it."""
    key, process = KEY.read_text().strip(), Path(f"/proc/{pid()}")
    places = {
        "the environment": (process / "environ").read_bytes(),
        "the command line": (process / "cmdline").read_bytes(),
        "what systemd shows": run("systemctl", "show", UNIT).encode(),
        "the journal": subprocess.check_output(["journalctl", "-o", "export"]),
        "the memory": MEMORY.read_bytes() if MEMORY.exists() else b"",
    }
    seen = [name for name, content in places.items() if key.encode() in content]
    credential = Path("/run/credentials/device-agent.service/api_key")
    stranger = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "cat", credential], capture_output=True)
    if seen or stranger.returncode == 0 or credential.read_text().strip() != key:
        raise Broken(f"it is seen in {seen}; nobody reads {stranger.stdout!r}")
    return f"not in {', '.join(places)}; {len(service.connections)} connections were opened with it"


def remembers(_service: Simulator) -> str:
    """What survives a restart is where it belongs, and the speaker's alone."""
    wait_for("a memory", MEMORY.exists)
    about = MEMORY.stat()
    if about.st_mode & 0o777 != 0o600 or MEMORY.owner() != UNIT:
        raise Broken(f"{MEMORY} belongs to {MEMORY.owner()}, mode {about.st_mode:o}")
    return f"{MEMORY}, mode 600 of {MEMORY.owner()}: {', '.join(json.loads(MEMORY.read_text()))}"


def shown() -> dict[str, Any]:
    """Return what the agent shows of itself."""
    told: dict[str, Any] = json.loads(run("device-agent", "status", "--json"))
    return told


def shows_what_it_does(service: Simulator) -> str:
    """Its window is open to root and its own group, and to no other user."""
    about, now = WINDOW.stat(), shown()
    stranger = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "device-agent", "status"], capture_output=True, text=True
    )
    if (about.st_mode & 0o777, WINDOW.group()) != (0o660, UNIT) or not stranger.returncode:
        raise Broken(f"{WINDOW}: mode {about.st_mode:o} of {WINDOW.group()}; nobody reads {stranger.stdout!r}")
    if now["pid"] != pid() or now["counts"]["turns"] != len(service.turns):
        raise Broken(f"it shows process {now['pid']} and {now['counts']}")
    return f"{now['counts']['turns']} turn, {now['mood']}; nobody else: {stranger.stderr.strip().splitlines()[-1]}"


def takes_an_edit(_service: Simulator) -> str:
    """An edit is taken at once on a reload, a wrong one named by its line, and the process stays the same."""
    before, text = pid(), CONFIG.read_text()
    try:
        CONFIG.write_text(text + "\nalarms: {volume: 200}\n")
        run("systemctl", "reload", UNIT)
        wait_for("a mistake", lambda: shown()["config"]["mistakes"])
        (mistake, *_) = shown()["config"]["mistakes"]
    finally:
        CONFIG.write_text(text)
    took = wait_for("the edit", lambda: not shown()["config"]["mistakes"])
    if pid() != before:
        raise Broken("it was started anew")
    return f"taken after {took:.1f} s; the wrong one: {mistake}"


def is_bounded(_service: Simulator) -> str:
    """Limits of memory and tasks are the kernel's."""
    group = Path("/sys/fs/cgroup" + unit("ControlGroup")[0])
    limit, tasks = ((group / name).read_text().strip() for name in ("memory.max", "pids.max"))
    now, threads = (int((group / name).read_text()) for name in ("memory.current", "pids.current"))
    resident = next(line for line in Path(f"/proc/{pid()}/status").read_text().splitlines() if "VmRSS" in line).split()
    if (limit, tasks) != (str(256 << 20), "64"):
        raise Broken(f"memory.max {limit}, pids.max {tasks}")
    return f"{now >> 20} of 256 MiB ({int(resident[1]) >> 10} resident), {threads} of 64 tasks"


def comes_back_after_a_kill(service: Simulator) -> str:
    """kill -9."""
    victim = pid()
    os.kill(victim, signal.SIGKILL)
    return f"ready again after {wait_until_ready(victim):.1f} s (3 of them RestartSec)"


def comes_back_after_a_standstill(_service: Simulator) -> str:
    """The process is frozen: the watchdog has to notice."""
    victim, began = pid(), time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    noticed = wait_for("the watchdog", lambda: not Path(f"/proc/{victim}").exists())
    wait_until_ready(victim)
    log = journal("-u", UNIT)
    if "Watchdog timeout" not in log or "Fatal Python error" not in log:
        raise Broken("the journal does not tell of the watchdog, or of where the threads were")
    return f"ended after {noticed:.1f} s, its threads in the journal; ready after {time.monotonic() - began:.1f} s"


def waits_for_a_key(_service: Simulator) -> str:
    """No key: it says so, and goes on; a key that is stored by its command is used at once."""
    key = KEY.read_bytes()
    KEY.unlink()
    try:
        run("systemctl", "restart", "--no-block", UNIT)
        wait_for("it says so", lambda: "there is no key for xai" in status())
    finally:
        victim = pid()
        subprocess.run(["device-agent", "key", "--file", "-"], input=key, check=True, capture_output=True)
    return f"in its status; ready {wait_until_ready(victim):.1f} s after it came"


def outlives_its_card(_service: Simulator) -> str:
    """The card is pulled out, and another one plugged in."""
    victim = pid()
    unplug(0)
    noticed = wait_for("it is noticed", lambda: not status().startswith("ready") or pid() != victim)
    (CARDS / "bind").write_text("snd_aloop.1")
    took = wait_until_ready()
    way = "the same process" if pid() == victim else "a new process"
    return f"noticed after {noticed:.1f} s, ready {took:.1f} s after there was another, {way}"


def stops(_service: Simulator) -> str:
    """A stop is clean."""
    began = time.monotonic()
    run("systemctl", "stop", UNIT)
    took = time.monotonic() - began
    if unit("Result", "ExecMainStatus") != ["success", "0"]:
        raise Broken(f"it ended with {unit('Result', 'ExecMainStatus')}")
    return f"with status 0 after {took:.1f} s"


STEPS = (
    boots,
    finds_a_card_that_comes_late,
    is_hardened,
    stays_inside_its_walls,
    answers,
    keeps_its_key,
    remembers,
    shows_what_it_does,
    takes_an_edit,
    is_bounded,
    comes_back_after_a_kill,
    answers,
    comes_back_after_a_standstill,
    answers,
    waits_for_a_key,
    outlives_its_card,
    answers,
    keeps_its_key,
    stops,
)


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def prove(step: Callable[[Simulator], str], service: Simulator, out: TextIO) -> bool:
    """Take one step and tell of it; return whether the promise was kept."""
    began, mark = time.monotonic(), "ok  "
    try:
        text = step(service)
    except Exception as error:  # noqa: BLE001  whatever it is, the promise was not kept
        mark, text = "FAIL", f"{type(error).__name__}: {error}"
        text += "\n" + journal("-u", UNIT, "-n40")
    name = step.__name__.replace("_", " ")
    print(f"{mark} {time.monotonic() - began:6.1f} s  {name:32} {text}", file=out, flush=True)
    return mark == "ok  "


def main(out: TextIO) -> None:
    """Take all steps; the last line says whether all promises were kept."""
    with Simulator(port=9100, key=KEY.read_text().strip()) as service:
        kept = sum(prove(step, service, out) for step in STEPS)
    print(f"{'all' if kept == len(STEPS) else 'only'} {kept} of {len(STEPS)}, {uptime():.0f} s", file=out, flush=True)


if __name__ == "__main__":
    with open(sys.argv[1] if sys.argv[1:] else "/dev/ttyS1", "w") as port:
        main(port)
