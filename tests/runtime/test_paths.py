"""Paths as owners write them, and users that have no home."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_agent.core.errors import ConfigError
from device_agent.runtime import paths
from device_agent.runtime.paths import HOMELESS, expand_user, home_directory
from device_agent.state import store


def test_a_path_is_what_it_says(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand_user("~/key") == Path("/home/ada/key")
    assert expand_user("/etc/~/key") == Path("/etc/~/key")
    assert expand_user("key~") == Path("key~")


@pytest.mark.parametrize("text", ["~nosuchuser", "~nosuchuser/key", "~é/key", f"~{'a' * 5000}", "~\0/key"])
def test_a_user_that_is_not_there_is_a_mistake_of_the_owner(text):
    with pytest.raises(ConfigError, match="there is no user .* on this machine; write the whole path"):
        expand_user(text)


def as_unknown_user(ask: Callable[[], Any]) -> Any:
    """Return what *ask* returns in a process without HOME, of a user that passwd does not know."""
    if os.getuid() != 0:
        pytest.skip("only root may become another user")
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
            os.environ.pop(name, None)
        os.setuid(54321)
        try:
            theirs.send(ask())
        except ConfigError as error:
            theirs.send(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return ours.recv()


def test_a_user_without_a_home_has_a_place_where_nothing_is():
    assert as_unknown_user(home_directory) == HOMELESS
    assert as_unknown_user(paths.state_path).is_relative_to(HOMELESS)
    assert as_unknown_user(lambda: expand_user("~/key")) == (
        "~/key: this user has no home directory; write the whole path, beginning with /"
    )


def test_a_memory_without_a_home_forgets_and_goes_on(caplog):
    def remember() -> tuple[int, str]:
        kept = store.StateStore(paths.state_path())
        kept.put("volume", 7)
        kept.flush()
        return kept.get("volume"), caplog.text

    volume, told = as_unknown_user(remember)
    assert volume == 7
    assert "will not survive a restart" in told
