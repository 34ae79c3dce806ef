"""Simulated Ultravox: calls are made by ``POST /api/calls`` and held over a WebSocket with bare PCM. Pure.

Sound has to come in real time: what comes faster is dropped. Close codes and the answer to a second join are documented
nowhere; here a call ends with 1000, and an address that is used up is answered with 410. A tool of the client that does
not answer in time is called once more, and its late result is ignored.

Not imitated: other media, stored agents, call stages, tools that run at the service, data connections, messages that
are off unless asked for (``dataMessages``), messages to silent users, to show and to delete calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Service, ServiceSession
from ..engine.parsing import Refusal, parse
from .ultravox_calls import CALL, DEFAULT_MODEL, Call
from .ultravox_session import UltravoxSession

MAX_CALLS = 100
"""Calls that are kept; the oldest are dropped."""
JOIN_S = 30.0
"""How long after it was made a call can be joined."""


class Ultravox(Service):
    """The service: its routes and calls."""

    path = "/api/calls"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rng = self._random(ConnectionLog())
        self._calls: dict[str, Call] = {}
        self.routes = {
            ("POST", self.path): self._create,
            ("GET", "/join/*"): self._join,
        }

    def _create(self, asked: Asked, _behaviour: Behaviour, _log: ConnectionLog) -> Answer:
        if not self.is_key(asked.headers.get("x-api-key")):
            return Answer(401, {"detail": "Authentication credentials were not provided, or are invalid."})
        try:
            call = self._make(parse(asked.body), asked.query.get("priorCallId"), asked.at)
        except Refusal as problem:
            status = 404 if problem.code == "not_found" else 400
            return Answer(status, {problem.param or "detail": [str(problem)]})
        return Answer(201, call.shown(self._wall, asked.origin))

    def _make(self, wish: dict[str, Any], prior: str | None, now: float) -> Call:
        """Make a call. *prior* is the id of the call that it goes on with: what is not asked for is as it was there."""
        CALL(wish, "")
        if not self.has_model(wish.get("model", DEFAULT_MODEL)):
            raise Refusal("There is no such model.", param="model")
        settings = {**self._prior(wish, prior), **wish}
        if "medium" not in settings:
            # The live service would make a WebRTC call of it, at whose address no plain WebSocket finds sound.
            raise Refusal("medium.serverWebSocket is needed: this simulator knows no WebRTC", param="medium")
        name = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        self._calls[name] = call = Call(name, f"{self._rng.getrandbits(128):032x}", settings, now, prior or "")
        while len(self._calls) > MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        return call

    def _prior(self, wish: Mapping[str, Any], prior: str | None) -> Mapping[str, Any]:
        if prior is None:
            return {}
        if prior not in self._calls:
            raise Refusal("There is no such call.", code="not_found", param="priorCallId")
        if wish.get("initialMessages"):
            raise Refusal("A call that goes on brings its messages along.", param="initialMessages")
        return self._calls[prior].settings

    def _join(self, asked: Asked, behaviour: Behaviour, log: ConnectionLog) -> Answer | ServiceSession:
        """The address is all that it takes, once."""
        if not asked.upgrade:
            return UPGRADE
        secret = asked.path.rpartition("/")[2]
        call = next((call for call in self._calls.values() if call.secret == secret), None)
        if call is None or call.joined or asked.at > call.created + JOIN_S:
            return Answer(410, {"detail": "This address cannot be joined (any more)."})
        call.joined = True
        log.model = str(call.settings.get("model") or DEFAULT_MODEL)
        log.goes_on = bool(call.prior)
        return UltravoxSession(behaviour, log, self._random(log), call)
