"""Every service that the documents configure answers a real question: its address, the path of it too, is what counts.

Only host and port are others: those of a simulator of that service on this machine, without TLS.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from device_agent.config.credentials import key_variable
from device_agent.services.registry import SERVICES, load
from device_agent.simulator import Simulator
from tests.docs.documents import ROOT, blocks, documents, spans
from tests.support.agent_process import running

KEY, PASSWORD = "the-key-of-the-service", "what-the-device-is-known-by"
QUESTION = "Does it work?"
SETTINGS = ("service", "fallback")
LIST = r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]"


# What is configured where ---------------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every piece of configuration that names a service, with its document."""
    for document in documents():
        for block in blocks(document):
            if block.language == "yaml":
                yield from ((document, each) for each in _found(yaml.safe_load(block.text)))
        for span in spans(document):
            if re.match(r"(service|fallback): *\S", span):
                yield document, yaml.safe_load(span)
    yield "config.yaml", {key: yaml.safe_load((ROOT / "config.yaml").read_text())[key] for key in SETTINGS}
    yield from (("config.yaml", each) for each in _in_comments((ROOT / "config.yaml").read_text()))


def _found(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings in *value*, also those that are some way down and called ``speaker_service``."""
    if not isinstance(value, dict):
        return
    if here := {key: value[key] for key in SETTINGS if key in value}:
        yield here
    for key, each in value.items():
        if key.endswith("_service"):
            yield {"service": each}
        elif key not in SETTINGS:
            yield from _found(each)


def _in_comments(text: str) -> Iterator[dict[str, Any]]:
    """Yield what the comments above a key say it may be, of lists below ``service`` and of ``fallback``."""
    for comment, indent, key in re.findall(r"((?:^ *# .*\n)+)^( *)(\w+):.*\n", text, re.MULTILINE):
        prose = " ".join(line.strip().removeprefix("#") for line in comment.splitlines())
        for example in re.findall(LIST, prose):
            if key == "fallback":
                yield {key: yaml.safe_load(example)}
            elif indent and key == "tools":
                yield {"service": {key: yaml.safe_load(example)}}


EXAMPLES = list({json.dumps(settings): (where, settings) for where, settings in examples()}.values())
every_example = pytest.mark.parametrize(
    "settings", [pytest.param(settings, id=f"{where}-{number}") for number, (where, settings) in enumerate(EXAMPLES)]
)


# The same on this machine ---------------------------------------------------------------------------------------------


class Here:
    """The services of *settings* on this machine, and what a device has to be told to find them."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._folder = folder
        self._ends = ExitStack()
        self.simulators: list[Simulator] = []
        self.environment = dict.fromkeys(map(key_variable, SERVICES), "")
        self.settings = {
            "service": self._moved(settings.get("service") or {}),
            "fallback": [self._moved(each) for each in settings.get("fallback") or []],
        }

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ends.close()

    def _moved(self, service: dict[str, Any]) -> dict[str, Any]:
        name = service.get("name") or next(iter(SERVICES))
        aliases = {service.get("model") or "": service.get("dialect", "xai")} if name == "litellm" else {}
        simulator = self._ends.enter_context(Simulator(name, key=KEY, think_s=0.05, aliases=aliases))
        self.simulators.append(simulator)
        moved = {**service, "url": there(service.get("url") or load(name).url, simulator.origin)}
        for key, content in (("api_key_file", KEY), ("token_key_file", PASSWORD)):
            if service.get(key):
                moved[key] = str(self._secret(service[key], content))
        if service.get("token_url"):
            origin = self._ends.enter_context(token_server(service["token_url"], simulator, moved))
            moved["token_url"] = there(service["token_url"], origin)
        elif not service.get("api_key_file"):
            self.environment[key_variable(name)] = KEY
        return moved

    def _secret(self, path: str, content: str) -> Path:
        secret = self._folder / Path(path).name
        secret.write_text(f"{content}\n")
        secret.chmod(0o600)
        return secret

    def ask(self) -> str:
        """Ask as an owner would; return what was printed."""
        path = self._folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        with running("ask", "--config", path, "--text-only", QUESTION, env=self.environment) as agent:
            assert agent.end() == 0, agent.log
            return agent.output


def there(url: str, origin: str) -> str:
    """Return *url* at *origin*, without TLS; its path and query stay."""
    scheme = {"wss": "ws", "https": "http"}.get(urlsplit(url).scheme, urlsplit(url).scheme)
    return urlsplit(url)._replace(scheme=scheme, netloc=urlsplit(origin).netloc).geturl()


@contextmanager
def token_server(url: str, simulator: Simulator, service: dict[str, Any]) -> Iterator[str]:
    """Serve tokens of *simulator* at the path of *url*; if *service* has a password, a request needs it."""
    known = f"Bearer {PASSWORD}" if service.get("token_key_file") else None

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if (self.path, self.headers["Authorization"]) != (urlsplit(url).path, known):
                self.send_error(403)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(minted(simulator))

        def log_message(self, *_args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="token-server")
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def minted(simulator: Simulator) -> bytes:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    url = f"{simulator.origin}/v1/realtime/client_secrets"
    body = json.dumps({"expires_after": {"seconds": 300}}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:  # noqa: S310  our own
        return bytes(answer.read())


# They answer ----------------------------------------------------------------------------------------------------------


@every_example
def test_a_service_of_the_documents_answers(settings, tmp_path):
    with Here(settings, tmp_path) as here:
        assert QUESTION in here.ask()
        assert [len(simulator.turns) for simulator in here.simulators] == [1, *[0] * (len(here.simulators) - 1)]


@pytest.mark.parametrize("settings", [settings for _, settings in EXAMPLES if settings.get("fallback")])
def test_another_one_of_the_documents_answers_when_the_first_is_away(settings, tmp_path):
    with Here(settings, tmp_path) as here:
        here.simulators[0].refuse(503)
        assert QUESTION in here.ask()
        assert len(here.simulators[1].turns) == 1


def test_the_documents_show_services_with_and_without_an_address():
    services = [settings["service"] for _, settings in EXAMPLES if settings.get("service")]
    assert sum("url" in each for each in services) >= 4
    assert sum("token_url" in each for each in services) >= 2
    assert sum("tools" in each for each in services) >= 3
    assert any(settings.get("fallback") for _, settings in EXAMPLES)
