"""What holds for every test."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")
settings.register_profile("here", deadline=None)  # how long an example takes says something about the machine alone
settings.load_profile("here")


@pytest.fixture(autouse=True, scope="session")
def other_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what a test lets an agent remember apart from what the user's own speaker remembers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("XDG_STATE_HOME", str(state := tmp_path_factory.mktemp("state")))
        yield state


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    """What a command logs is not what the next test reads."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


def pytest_sessionfinish(exitstatus: int) -> None:
    atexit.register(_end, int(exitstatus))


def _end(status: int) -> None:
    """The threads of livekit may call into an interpreter that is about to end, and abort it: so it does not end."""
    if "livekit" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
