"""The realtime sessions of pydantic-ai, with OpenAI and with xAI: by the model, the client ends the turns itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.xai import XaiProvider
from pydantic_ai.realtime import RealtimeSession, RealtimeSessionErrorEvent
from pydantic_ai.realtime.openai import OpenAIRealtimeModel
from pydantic_ai.realtime.xai import XaiRealtimeModel
from talk import CALL, KEY, RESULT, URL, pieces, play, question

BASE = URL.removesuffix("/realtime").replace("ws://", "http://")
OPENAI = os.environ["SERVICE"] == "openai"
agent = Agent(instructions="Answer briefly.")


@agent.tool_plain
def set_lamp(on: bool) -> str:
    """Switch the lamp."""
    return RESULT


class HereProvider(XaiProvider):
    """xAI's, at another address."""

    @property
    def base_url(self) -> str:
        return BASE


class Seen:
    """What a session told."""

    def __init__(self, session: RealtimeSession) -> None:
        self._session = session
        self._audio = session.stream_audio()
        self.heard = bytearray()
        self.errors: list[str] = []
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._watch())]

    async def _listen(self) -> None:
        async for chunk in self._audio:
            self.heard += chunk

    async def _watch(self) -> None:
        async for event in self._session:
            if isinstance(event, RealtimeSessionErrorEvent):
                self.errors.append(event.message)

    async def until_heard(self, count: int) -> None:
        while len(self.heard) < count:
            await asyncio.sleep(0.01)

    def told(self) -> dict[str, Any]:
        said = [
            str(getattr(part, "transcript", None) or getattr(part, "content", ""))
            for message in self._session.all_messages()
            for part in message.parts
        ]
        return {"heard": len(self.heard), "said": said, "errors": self.errors}


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[RealtimeSession, Seen]]:
    if not OPENAI:
        model: Any = XaiRealtimeModel("grok-voice-latest", provider=HereProvider(api_key=KEY))
    else:
        model = OpenAIRealtimeModel("gpt-realtime-2.1", provider=OpenAIProvider(base_url=BASE, api_key=KEY))
    async with agent.realtime(model, model_settings={"turn_detection": False}).session() as session:
        yield session, Seen(session)


async def ask(session: RealtimeSession) -> None:
    for piece in pieces(question()):
        await session.send_audio(piece)
    await asyncio.sleep(0.3)  # a user is slower: by then the service has said that it hears speech
    await session.commit_audio()
    await session.create_response()


async def turn() -> dict[str, Any]:
    async with talking() as (session, seen):
        await ask(session)
        await session.wait_for_reply()
        await asyncio.sleep(0.2)
        return seen.told()


async def tool() -> dict[str, Any]:
    async with talking() as (session, seen):
        await session.send(CALL)
        await session.wait_for_reply()
        await asyncio.sleep(0.2)
        return seen.told()


async def interruption() -> dict[str, Any]:
    async with talking() as (session, seen):
        await ask(session)
        await seen.until_heard(24_000)
        await session.interrupt(**({"played_ms": 500} if OPENAI else {}))
        await session.wait_for_reply()
        before = len(seen.heard)
        await ask(session)
        await session.wait_for_reply()
        await asyncio.sleep(0.2)
        return {**seen.told(), "before": before}


play(turn=turn, tool=tool, interruption=interruption)
