"""The real LiteLLM proxy between the agent and simulated services: a process with hands.

``make test-proxy`` installs its releases. Behind each dialect there is one alias, and behind each alias a port of this
machine: a simulator listens there while a test wants one, and nothing listens there otherwise.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from device_agent.config.model import ServiceConfig
from device_agent.simulator import Simulator
from tests.support.paths import ROOT

RELEASES = ("1.108.7", "1.81.9")
"""A recent one, and the generation before: JSON in binary frames, and silence when the service behind it ends."""
MODELS = {"xai": "xai/grok-voice-latest", "openai": "openai/gpt-realtime-2.1"}
"""Dialect -> what the proxy dials for it."""

STARTING_S = 180.0
"""How long it may take to start: 6 to 30 s, and more right after it was installed."""
POLL_S = 0.1
ENDING_S = 10.0


class ReservedPort:
    """A TCP port of this machine that no server uses unless it is told the number."""

    def __init__(self) -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others may bind it too, and listen
        self._sock.bind(("127.0.0.1", 0))
        self.number: int = self._sock.getsockname()[1]

    def close(self) -> None:
        self._sock.close()


class Proxy:
    """A running proxy of one *release*. Its keys are made up for its lifetime. *folder* is for its files."""

    def __init__(self, release: str, folder: Path) -> None:
        self.release, self._folder = release, folder
        self.key, self._upstream_key = (f"sk-{secrets.token_hex(24)}" for _ in range(2))
        self._port = ReservedPort()
        self._upstream = {dialect: ReservedPort() for dialect in MODELS}
        self._log = folder / "log"

    def __enter__(self) -> Proxy:
        program = ROOT / f".litellm-{self.release}" / "bin" / "litellm"
        assert program.exists(), f"LiteLLM {self.release} is not installed: make test-proxy does that"
        config = self._folder / "config.yaml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        where = ["--host", "127.0.0.1", "--port", str(self._port.number)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "--config", config, *where, "--telemetry", "False"],
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_live()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def service(self, dialect: str, **settings: Any) -> ServiceConfig:
        """Return what the owner of a device writes for the alias of *dialect*."""
        usual = {"name": "litellm", "url": f"ws://127.0.0.1:{self._port.number}", "dialect": dialect}
        return ServiceConfig(**{**usual, "model": _alias(dialect), **settings})

    @contextmanager
    def upstream(self, dialect: str, *, key: str | None = None, **manners: Any) -> Iterator[Simulator]:
        """Let a simulator listen behind the alias of *dialect*; *key* is what it takes, usually the proxy's."""
        port = self._upstream[dialect].number
        with Simulator(dialect, port=port, key=key or self._upstream_key, **manners) as simulator:
            yield simulator

    def _config(self) -> dict[str, Any]:
        models = [
            {
                "model_name": alias,
                "litellm_params": {
                    "model": model,
                    "api_base": f"http://127.0.0.1:{self._upstream[dialect].number}/v1",
                    "api_key": f"os.environ/{variable}",
                },
                "model_info": {"mode": "realtime"},
            }
            for dialect, model in MODELS.items()
            for alias, variable in ((_alias(dialect), "UPSTREAM_KEY"), (keyless(dialect), "NO_SUCH_VARIABLE"))
        ]
        settings = {"master_key": "os.environ/LITELLM_MASTER_KEY"}
        return {"model_list": models, "general_settings": settings, "litellm_settings": {"telemetry": False}}

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: it would read keys and proxies from there. The price list is not to be downloaded."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": self.key,
            "UPSTREAM_KEY": self._upstream_key,
        }

    def _wait_until_live(self) -> None:
        until = time.monotonic() + STARTING_S
        while not self._is_live():
            try:
                status = self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < until, f"LiteLLM did not start in {STARTING_S:g} s: {self._last_words()}"
            else:
                raise AssertionError(f"LiteLLM ended with {status}: {self._last_words()}")

    def _is_live(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port.number, timeout=5)
        try:
            connection.request("GET", "/health/liveliness")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        said = self._log.read_text(errors="replace")
        for key in (self.key, self._upstream_key):
            said = said.replace(key, "KEY")
        return said[-2000:]

    def _end(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(ENDING_S)
                break
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                break
        for port in (self._port, *self._upstream.values()):
            port.close()


def keyless(dialect: str) -> str:
    """Return the alias of a service for which the proxy was given no key."""
    return f"{_alias(dialect)}-without-a-key"


def _alias(dialect: str) -> str:
    return f"voice-by-{dialect}"
