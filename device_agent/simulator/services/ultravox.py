"""A stand-in for Ultravox: calls are made by ``POST /api/calls`` and held over a WebSocket with bare PCM. Pure.

The reply to a spoken turn is the sound of that turn, as everywhere in this simulator. Sound has to come in real time:
the pace is measured, told, and what comes too fast is dropped. Close codes and what happens at a second join are
documented nowhere; here a call ends with 1000, and an address that is used up is answered with 410.

A tool of the client that does not answer in time is asked for once more, and its late result is thrown away.

What is known of the live service and not imitated: other media, stored agents, call stages, tools that run at the
service, data connections, ``minimumTurnDuration`` and ``minimumInterruptionDuration``; messages to users who say
nothing, messages that the client forces, texts that wait; to show and to delete calls.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Mapping

from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, ServiceSession
from ..engine.parsing import Refusal, parse
from .ultravox_calls import Calls
from .ultravox_voice import UltravoxSession


class Ultravox:
    """The service: its addresses, and who may make calls."""

    path = "/api/calls"

    def __init__(
        self,
        *,
        key: str | None = None,
        models: frozenset[str] | None = None,
        seed: int = 1,
        wall: float = 0.0,
    ) -> None:
        self._key, self._models, self._seed, self._wall = key, models, seed, wall
        self._calls = Calls(seed)
        self.routes = {
            ("POST", self.path): self._create,
            ("GET", "/join/*"): self._join,
        }

    def _refuses(self, asked: Asked) -> Answer | None:
        """An answer to who may not ask anything here."""
        key = asked.headers.get("x-api-key", "")
        if not key:
            return _problem(401, "Authentication credentials were not provided.")
        if self._key is not None and not hmac.compare_digest(key.encode(), self._key.encode()):
            return _problem(401, "Invalid API key.")
        return None

    def _create(self, asked: Asked, _manners: Behaviour, _heard: ConnectionLog) -> Answer:
        if refusal := self._refuses(asked):
            return refusal
        try:
            wish = parse(asked.body)
            if self._models is not None and wish.get("model", "ultravox-v0.7") not in self._models:
                raise Refusal("There is no such model.", param="model")
            call = self._calls.create(wish, asked.query.get("priorCallId"), asked.at)
        except Refusal as problem:
            status = 404 if problem.code == "not_found" else 400
            return Answer(status, {problem.param or "detail": [str(problem)]})
        return Answer(201, call.shown(self._wall, asked.origin))

    def _join(self, asked: Asked, manners: Behaviour, heard: ConnectionLog) -> Answer | ServiceSession:
        """The address is all that it takes, once."""
        if not asked.upgrade:
            return UPGRADE
        call = self._calls.join(asked.path.rpartition("/")[2], asked.at)
        if call is None:
            return _problem(410, "Nobody can join at this address (any more).")
        heard.model = str(call.settings.get("model") or "ultravox-v0.7")
        heard.goes_on = bool(call.prior)
        return UltravoxSession(manners, heard, random.Random(f"{self._seed}/{heard.number}"), call)


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal in the service's shape."""
    return Answer(status, {"detail": detail}, headers or {})
