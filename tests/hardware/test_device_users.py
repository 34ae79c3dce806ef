"""Processes that use the sound card. A file takes its place: what counts is that a process has it open."""

from __future__ import annotations

import subprocess
import sys

from device_agent.hardware.device_users import MAX_NAMED_USERS, device_users


def hold(path) -> subprocess.Popen[bytes]:
    code = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_process_that_has_it_open_is_named(tmp_path):
    (tmp_path / "pcmC0D0p").touch()
    with hold(tmp_path / "pcmC0D0p") as process:
        (holder,) = device_users(str(tmp_path / "pcm"))
        assert holder.endswith(f"({process.pid})")
        assert holder.startswith("python")
        process.stdin.close()
    assert device_users(str(tmp_path / "pcm")) == []


def test_we_do_not_name_ourselves(tmp_path):
    (tmp_path / "pcmC0D0p").touch()
    with open(tmp_path / "pcmC0D0p"):
        assert device_users(str(tmp_path / "pcm")) == []


def test_not_all_of_them_are_named(tmp_path):
    (tmp_path / "pcmC0D0p").touch()
    several = [hold(tmp_path / "pcmC0D0p") for _ in range(MAX_NAMED_USERS + 1)]
    assert len(device_users(str(tmp_path / "pcm"))) == MAX_NAMED_USERS
    for process in several:
        with process:
            process.stdin.close()
