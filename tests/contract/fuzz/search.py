"""Looks for what breaks a session or the reader of the configuration, guided by coverage. See README.md beside it."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["device_agent"]):
    from tests.contract import test_fuzz

    for make in test_fuzz.PEERS.values():
        make()  # a service is imported when it is asked for

WHAT = {
    "sessions": test_fuzz.test_no_conversation_breaks_a_session,
    "config": test_fuzz.test_no_file_breaks_the_reader,
}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], WHAT[sys.argv[1]].hypothesis.fuzz_one_input)
    atheris.Fuzz()
