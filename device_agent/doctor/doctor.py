"""Doctor: runs all checks in order, each in a bounded time."""

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
from .findings import Finding, Mark, Now, Progress, advised
from .machine import MachineCheck
from .network import ServiceCheck
from .pins import PinCheck, lgpio_folder
from .report import Report, open_report
from .sound import SoundCheck
from .stderr_filter import filter_stderr
from .step_runner import StepTimedOut, run_step

log = logging.getLogger(__name__)

EX_TURN_FAILS = 1


@dataclass(frozen=True)
class StepTimeout:
    """How long a step may yield nothing, and what to do where it hangs."""

    seconds: float
    advice: str = ""


LOCAL_TIMEOUT = StepTimeout(10.0)
CARD_HANGS = "the card or its driver hangs: unplug the card and plug it in again, or restart the sound server"
CARD_TIMEOUT = StepTimeout(20.0, CARD_HANGS)
"""One port waits 10 s for another."""
NETWORK_TIMEOUT = StepTimeout(45.0, "the network does not answer: try again")
"""Each of two connects may take 10 s, and a greeting 15 s."""


def check(path: Path, out: TextIO, *, offline: bool = False, quiet: bool = False, as_json: bool = False) -> int:
    """Try everything that the configuration at *path* names; return 0 if a turn would work, 1 if not, and 78 where the
    file is wrong.

    *offline* skips the network, *quiet* makes no sound. For the main thread of a process that ends by ``os._exit``.
    """
    report = open_report(out, as_json=as_json)
    try:
        return Doctor(report).examine(path, offline=offline, quiet=quiet)
    except KeyboardInterrupt:
        report.end("Stopped before the end.", ok=False)
        return EX_TURN_FAILS


class Doctor:
    """Runs one step after the other. Belongs to the main thread."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._failed: list[str] = []  # names of the findings that keep a turn from working
        self._notes = 0

    def examine(self, path: Path, *, offline: bool, quiet: bool) -> int:
        """Run all steps; return the exit status."""
        self._report.group("Configuration")
        try:
            config = load(path)
        except ConfigError as error:
            self._note(_wrong(path, error))
            self._report.end("The file is wrong, so nothing else was tried.", ok=False)
            return os.EX_CONFIG
        self._note(Finding("configuration", f"{path}\n{_summary(config)}", figures={"file": str(path)}))
        machine, pins = MachineCheck(), PinCheck(config)
        self._try("This machine", LOCAL_TIMEOUT, machine.system, machine.clock, machine.room, machine.power)
        with lgpio_folder():
            self._try("Button and light", LOCAL_TIMEOUT, pins.button, pins.light, pins.controls)
        sound = SoundCheck(config, quiet=quiet, asked=self._report.live)
        with filter_stderr():
            self._try("Sound", CARD_TIMEOUT, sound.microphone, sound.loudspeaker, sound.canceller, sound.echo)
        saved = self._services(config, offline=offline)
        return self._end(saved, offline=offline)

    def _try(self, title: str, timeout: StepTimeout, *steps: Callable[[], Progress]) -> None:
        """Run a group of steps, whatever each of them finds."""
        self._report.group(title)
        for step in steps:
            self._run(step, timeout)

    def _services(self, config: Config, *, offline: bool) -> str:
        """Return which services fail, where a turn would work by another."""
        before, works = self._failed, False
        failing: list[str] = []
        for number in range(1 + len(config.fallback)):
            steps = ServiceCheck(config, number)
            self._report.group(f"Service: {steps.name}" + (", if no earlier one can be reached" if number else ""))
            self._failed = []
            self._service(steps, offline=offline)
            works |= not self._failed
            failing += [f"{steps.name} ({name})" for name in self._failed]
        self._failed = before if works else [*before, *failing]
        return f", but not by {', '.join(failing)}" if works and failing else ""

    def _service(self, steps: ServiceCheck, *, offline: bool) -> None:
        """Run the steps up to the first that fails."""
        here, far = (steps.key, steps.settings), (steps.way, steps.session)
        for step in here if offline else (*here, *far):
            self._run(step, NETWORK_TIMEOUT)
            if self._failed:
                return

    def _end(self, saved: str, *, offline: bool) -> int:
        notes = " See the note above." if self._notes == 1 else " See the notes above." if self._notes else ""
        if self._failed:
            self._report.end(f"A turn would not work: {', '.join(self._failed)}.{notes}", ok=False)
            return EX_TURN_FAILS
        far = ", as far as that can be told without the network" if offline else ""
        self._report.end(f"A turn would work{saved}{far}.{notes}", ok=True)
        return 0

    def _run(self, step: Callable[[], Progress], timeout: StepTimeout) -> None:
        """Run a step, and report what it finds and how it fails."""
        doing = Now("")
        try:
            for item in run_step(step, timeout.seconds):
                if isinstance(item, Finding):
                    self._note(item)
                else:
                    doing = item
                    self._report.now(item)
        except StepTimedOut as error:
            self._note(Finding(doing.name, str(error), Mark.FAIL, timeout.advice))
        except AgentError as error:
            self._note(Finding(doing.name, str(error), Mark.FAIL))
        except Exception as error:
            log.exception("%s could not be tried", doing.name)
            text = f"could not be tried: {type(error).__name__}: {error}"
            self._note(Finding(doing.name, text, Mark.FAIL, "that is a mistake in this program: please report it"))

    def _note(self, finding: Finding) -> None:
        self._report.show(advised(finding))
        self._notes += finding.mark is Mark.NOTE
        if finding.mark is Mark.FAIL:
            self._failed.append(finding.name)


def _wrong(path: Path, error: ConfigError) -> Finding:
    mistakes = str(error).splitlines()
    advice = f"each begins with file, line and column; {_example()} shows every key"
    if not path.is_file():
        advice = f"name another one with --config, or begin with {_example()}"
    return Finding("configuration", str(error), Mark.FAIL, advice, {"file": str(path), "mistakes": mistakes})


def _example() -> str:
    """Return where the shipped settings are: an installed speaker has them beside the program."""
    shipped = Path(sys.prefix, "share/device-agent/config.yaml")
    return str(shipped) if shipped.exists() else "the config.yaml that came with this program"


def _summary(config: Config) -> str:
    """Return the main settings in a sentence."""
    names = ", else ".join(service.name for service in (config.service, *config.fallback))
    begins = "a press" if config.talk.start == "button" else "your voice"
    ends = f"{config.talk.silence_ms} ms of silence" if config.talk.end == "device" else "the service"
    interrupts = "it cannot hear you while it speaks, except for the button"
    if config.talk.interrupt == "voice":
        interrupts = "your voice cuts an answer short"
    if config.echo.mode == "cancel":
        interrupts += ", its own is cancelled"
    return f"{names}; {begins} begins a turn, {ends} ends it; {interrupts}; connected {_connected(config)}"


def _connected(config: Config) -> str:
    capped = f", for {config.connection.daily_minutes} minutes a day at most" if config.connection.daily_minutes else ""
    return ("always" if config.connection.mode == "always" else "on demand") + capped
