"""What the tests do not notice: single changes of what decides, as a table.

    python -m tests.bench.mutants [--short] [MODULE ...]      such as: audio/gate services/truncation

Each change (``changes.py``) is tried against the test files of its module alone, in a process of its own that imports
the changed source in the place of the file: no file is written. A test that fails notices it, and so does one that
does not end. Ends with 1 where a module has less than 95 of 100 noticed. Those that change nothing stand in
``mutants.txt``, with the reason, and do not count; an entry there that is no change any more is a mistake as well.
Run by ``make mutants``; it needs mutmut.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.changes import Change

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
EXCUSED = HERE / "mutants.txt"
LEAST = 0.95
SAMPLE = 30
SLOWEST_S, SLOWER = 20, 4
"""How long the tests of a change may take, at least, and how many times as long as without it. Then it is noticed."""

NOT_AT_LENGTH = ("-k", "not AtLength")
TESTS: dict[str, tuple[str, ...]] = {
    "core/conversation": ("core/test_conversation.py",),
    "audio/gate": ("audio/test_gate.py",),
    "audio/playback_buffer": (
        "audio/test_playback_buffer.py",
        "audio/test_wake.py",
        "-k",
        "not on_a_card and not answer_is_whole",
    ),
    "audio/jitter": ("audio/test_jitter.py",),
    "audio/echo_control": ("audio/test_echo_control.py",),
    "dsp/delay_estimator": ("dsp/test_delay_estimator.py",),
    "link/outbox": ("link/test_outbox.py",),
    "link/failover": ("link/test_failover.py",),
    "link/policy": ("link/test_policy.py", *NOT_AT_LENGTH),
    "link/history": ("link/test_history.py",),
    "state/alarm_entries": ("state/test_alarm_entries.py", "state/test_alarms.py"),
    "state/usage_meter": ("state/test_usage_meter.py",),
    "services/reply_tracker": ("services/test_reply_tracker.py", "services/test_realtime_session.py"),
    "services/response_timeout": ("services/test_response_timeout.py", "services/test_realtime_session.py"),
    "services/truncation": ("services/test_truncation.py",),
}
"""The modules, and what notices a change of each: test files, and options of pytest."""


# What does not count --------------------------------------------------------------------------------------------------

Key = tuple[str, tuple[str, ...], tuple[str, ...]]
"""A change as it stands in the file: module and scope, the lines that go, the lines that come."""


def key(module: str, change: Change) -> Key:
    return f"{module} {change.scope}".strip(), change.removed, change.added


def excused(text: str) -> Iterator[Key]:
    """Yield the changes that *text* tells of. A line with "#" is a reason, one without a sign a place."""
    scope = ""
    removed: list[str] = []
    added: list[str] = []
    for line in [*text.splitlines(), ""]:
        if added and not line.startswith("+"):
            yield scope, tuple(removed), tuple(added)
            removed, added = [], []
        if line.startswith("-"):
            removed.append(line[1:].strip())
        elif line.startswith("+"):
            added.append(line[1:].strip())
        elif line and not line.startswith("#"):
            scope = line


# One change -----------------------------------------------------------------------------------------------------------


class _Loader(SourceFileLoader):
    """Loads *source* as if it stood in the file."""

    source: str

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")


@dataclass
class Changed(MetaPathFinder):
    """Finds module *name* of the package, changed."""

    name: str
    source: str

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != f"device_agent.{self.name.replace('/', '.')}":
            return None
        loader = _Loader(fullname, str(file_of(self.name)))
        loader.source = self.source
        return spec_from_file_location(fullname, loader.path, loader=loader)


def file_of(module: str) -> Path:
    return PROJECT / f"device_agent/{module}.py"


def warm(module: str) -> None:
    """Import what the tests of *module* import, once for all processes, and forget what is ours of it."""
    import pytest

    with open(os.devnull, "w") as silence, redirect_stdout(silence):
        pytest.main(["--collect-only", *_options(module)])
    ours = (f"{PROJECT / 'device_agent'}{os.sep}", f"{HERE.parent}{os.sep}")
    for name, each in list(sys.modules.items()):
        if name != "__main__" and str(getattr(each, "__file__", "")).startswith(ours):
            del sys.modules[name]


def start(module: str, source: str, scratch: Path, limit_s: int) -> int:
    """Run the tests of *module* with this *source* in a process of its own for *limit_s* seconds; return its id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 70
    try:
        signal.alarm(limit_s)  # ends it wherever it is
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(silence, descriptor)
        status = _tested(module, source, Path(tempfile.mkdtemp(dir=scratch)))
    finally:
        os._exit(status)


def _tested(module: str, source: str, scratch: Path) -> int:
    import pytest

    os.environ.update(HYPOTHESIS_STORAGE_DIRECTORY=str(scratch), TMPDIR=str(scratch), PYTHONPATH=str(PROJECT))
    tempfile.tempdir = None
    sys.meta_path.insert(0, Changed(module, source))
    return int(pytest.main(_options(module)))


def _options(module: str) -> list[str]:
    tests = [str(HERE.parent / word) if word.endswith(".py") else word for word in TESTS[module]]
    return ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests]


def unnoticed(sources: Sequence[str], module: str, scratch: Path, limit_s: int) -> Iterator[int]:
    """Yield which of *sources* in the place of *module* its tests do not notice; as many at once as there are
    processors."""
    waiting, running = list(enumerate(sources))[::-1], {}
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            number, source = waiting.pop()
            running[start(module, source, scratch, limit_s)] = number
        pid, status = os.wait()
        number = running.pop(pid)
        if status == 0:
            yield number


# One module -----------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    module: str
    tried: int = 0
    unnoticed: list[Change] = field(default_factory=list)
    excused: int = 0
    stale: list[Key] = field(default_factory=list)
    """What is excused and no change any more."""
    wrong: str = ""
    """Why nothing was tried."""

    @property
    def share(self) -> float:
        return 1 - len(self.unnoticed) / self.tried if self.tried else 1.0

    @property
    def fails(self) -> bool:
        return bool(self.share < LEAST or self.stale or self.wrong)


def tried(module: str, known: Iterable[Key], scratch: Path, most: int | None) -> Result:
    """Try the changes of *module* that are not *known* to change nothing, or *most* of them, evenly spread; print those
    that are not noticed."""
    from tests.bench.changes import changes

    result = Result(module)
    code = file_of(module).read_text()
    warm(module)
    begun = time.monotonic()
    if list(unnoticed([code], module, scratch, 600)) != [0]:
        result.wrong = "its tests fail, or take more than ten minutes, without a change"
    limit_s = max(SLOWEST_S, round(SLOWER * (time.monotonic() - begun)))
    if list(unnoticed(["raise AssertionError\n"], module, scratch, limit_s)):
        result.wrong = result.wrong or "its tests do not import it"
    if result.wrong:
        return result
    every = list(changes(code))
    excuses = {each for each in known if each[0].split()[0] == module}
    result.stale = sorted(excuses - {key(module, change) for change in every})
    counted = [change for change in every if key(module, change) not in excuses]
    result.excused = len(every) - len(counted)
    if most is not None and len(counted) > most:
        counted = [counted[number * len(counted) // most] for number in range(most)]
    result.tried = len(counted)
    for number in unnoticed([change.source for change in counted], module, scratch, limit_s):
        result.unnoticed.append(counted[number])
        print(f"\ndevice_agent/{module}.py:{counted[number].line}", *told(key(module, counted[number])), sep="\n")
    return result


# What was found -------------------------------------------------------------------------------------------------------


def row(result: Result) -> str:
    counts = f"{result.tried:8} {result.tried - len(result.unnoticed):8} {len(result.unnoticed):10} {result.excused:8}"
    return f"{result.module:26} {counts} {100 * result.share:6.1f} %{'  TOO FEW' if result.share < LEAST else ''}"


HEAD = f"{'module':26} {'changes':>8} {'noticed':>8} {'unnoticed':>10} {'excused':>8} {'noticed':>8}"


def details(result: Result) -> Iterator[str]:
    """Yield what is wrong with it besides that too little was noticed."""
    if result.wrong:
        yield f"{result.module}: {result.wrong}"
    for stale in result.stale:
        yield f"\nexcused in {EXCUSED.name}, but no change any more:"
        yield from told(stale)


def told(known: Key) -> Iterator[str]:
    """Yield the lines of a change as they would stand in the file of excuses."""
    scope, removed, added = known
    yield scope
    yield from (f"- {line}" for line in removed)
    yield from (f"+ {line}" for line in added)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: all of {', '.join(TESTS)}")
    parser.add_argument("--short", action="store_true", help=f"{SAMPLE} changes of each module")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    sys.path.insert(0, str(PROJECT))
    known = list(excused(EXCUSED.read_text()))
    results = []
    os.chdir(PROJECT)
    with tempfile.TemporaryDirectory() as scratch:
        sys.pycache_prefix, sys.dont_write_bytecode = scratch, False  # compiled once, and not into the tree
        for module in options.modules or TESTS:
            results.append(tried(module, known, Path(scratch), SAMPLE if options.short else None))
    print("", HEAD, *map(row, results), sep="\n")
    for line in (line for result in results for line in details(result)):
        print(line)
    return 1 if any(result.fails for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
