"""Runs the checks one after the other, in a bounded time each."""

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
from .list_devices import show_devices
from .machine import MachineCheck
from .network import ServiceCheck
from .pins import PinCheck, lgpio_folder
from .report import Report, open_report
from .sound import SoundCheck
from .stderr_filter import filter_stderr
from .step_runner import StepTimedOut, run_step

__all__ = ["check", "show_devices"]

log = logging.getLogger(__name__)

EX_TURN_FAILS = 1


@dataclass(frozen=True)
class StepTimeout:
    """How many *seconds* a step may say nothing, and what to do where it hangs."""

    seconds: float
    advice: str = ""


LOCAL_TIMEOUT = StepTimeout(10.0)

CARD_TIMEOUT = StepTimeout(
    20.0, "the card or its driver hangs: unplug the card and plug it in again, or restart the sound server"
)
"""One port waits 10 s for another."""

NETWORK_TIMEOUT = StepTimeout(45.0, "the network does not answer: try again")
"""Each of two dials may take 10 s, and a greeting 15 s."""


def check(path: Path, out: TextIO, *, offline: bool = False, quiet: bool = False, as_json: bool = False) -> int:
    """Try everything that the configuration at *path* names; return 0 if a turn would work, 1 if not, and 78 where the
    file itself is wrong.

    *offline* leaves the network out, *quiet* makes no sound. For the main thread of a process that ends by
    ``os._exit``.
    """
    page = open_report(out, as_json=as_json)
    try:
        return Doctor(page).examine(path, offline=offline, quiet=quiet)
    except KeyboardInterrupt:
        page.end("Stopped before the end.", ok=False)
        return EX_TURN_FAILS


class Doctor:
    """Takes one step after the other. Belongs to the main thread."""

    def __init__(self, sheet: Report) -> None:
        self._sheet = sheet
        self._failed: list[str] = []
        """What keeps a turn from working."""
        self._notes = 0

    def examine(self, path: Path, *, offline: bool, quiet: bool) -> int:
        """Take all steps; return the exit status."""
        self._sheet.group("Configuration")
        try:
            config = load(path)
        except ConfigError as error:
            self._note(_wrong(path, error))
            self._sheet.end("The file is wrong, so nothing else was tried.", ok=False)
            return os.EX_CONFIG
        self._note(Finding("configuration", f"{path}\n{_summary(config)}", figures={"file": str(path)}))
        self._machine()
        self._pins(config)
        self._sound(config, quiet=quiet)
        saved = self._services(config, offline=offline)
        return self._end(saved, offline=offline)

    def _machine(self) -> None:
        self._sheet.group("This machine")
        steps = MachineCheck()
        for step in (steps.system, steps.clock, steps.room, steps.power):
            self._take(step, LOCAL_TIMEOUT)

    def _pins(self, config: Config) -> None:
        self._sheet.group("Button and light")
        steps = PinCheck(config)
        with lgpio_folder():
            for step in (steps.button, steps.light, steps.controls):
                self._take(step, LOCAL_TIMEOUT)

    def _sound(self, config: Config, *, quiet: bool) -> None:
        self._sheet.group("Sound")
        steps = SoundCheck(config, quiet=quiet, asked=self._sheet.live)
        with filter_stderr():
            for step in (steps.microphone, steps.loudspeaker, steps.canceller, steps.echo):
                self._take(step, CARD_TIMEOUT)

    def _services(self, config: Config, *, offline: bool) -> str:
        """Return what is to be said where not all of them work, and yet a turn would."""
        before, working, failing = self._failed, [], []
        for number in range(1 + len(config.fallback)):
            steps = ServiceCheck(config, number)
            self._sheet.group(f"Service: {steps.name}" + (", if no earlier one can be reached" if number else ""))
            self._failed = []
            self._service(steps, offline=offline)
            if not self._failed:
                working.append(number)
            failing += [f"{steps.name} ({name})" for name in self._failed]
        self._failed = before if working else [*before, *failing]
        if not (working and failing):
            return ""
        return f", but not by {', '.join(failing)}"

    def _service(self, steps: ServiceCheck, *, offline: bool) -> None:
        """Go as far as one gets."""
        here, far = (steps.key, steps.settings), (steps.way, steps.session)
        for step in here if offline else (*here, *far):
            self._take(step, NETWORK_TIMEOUT)
            if self._failed:
                return

    def _end(self, saved: str, *, offline: bool) -> int:
        notes = " See the note above." if self._notes == 1 else " See the notes above." if self._notes else ""
        if self._failed:
            self._sheet.end(f"A turn would not work: {', '.join(self._failed)}.{notes}", ok=False)
            return EX_TURN_FAILS
        far = ", as far as that can be told without the network" if offline else ""
        self._sheet.end(f"A turn would work{saved}{far}.{notes}", ok=True)
        return 0

    def _take(self, step: Callable[[], Progress], patience: StepTimeout) -> None:
        """Take a step, and write down what it finds and how it fails."""
        doing = Now("")
        try:
            for item in run_step(step, patience.seconds):
                if isinstance(item, Finding):
                    self._note(item)
                else:
                    doing = item
                    self._sheet.now(item)
        except StepTimedOut as error:
            self._note(Finding(doing.name, str(error), Mark.FAIL, patience.advice))
        except AgentError as error:
            self._note(Finding(doing.name, str(error), Mark.FAIL))
        except Exception as error:
            log.exception("%s could not be tried", doing.name)
            text = f"could not be tried: {type(error).__name__}: {error}"
            self._note(Finding(doing.name, text, Mark.FAIL, "that is a mistake in this program: please report it"))

    def _note(self, finding: Finding) -> None:
        self._sheet.show(advised(finding))
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
    """Return where the settings as they were shipped are: an installed speaker has them beside the program."""
    shipped = Path(sys.prefix, "share/device-agent/config.yaml")
    return str(shipped) if shipped.exists() else "the config.yaml that came with this program"


def _summary(config: Config) -> str:
    """Return in a phrase what the file says."""
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
