"""The realtime sessions of the OpenAI agents SDK for Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents import function_tool, set_tracing_disabled
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from talk import CALL, KEY, RESULT, URL, pieces, play, question


@function_tool
def set_lamp(on: bool) -> str:
    """Switch the lamp."""
    return RESULT


class Talk:
    """A session, and what it told."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.heard, self.ends, self.cut = 0, 0, 0
        self.errors: list[str] = []
        self.tools: list[str] = []
        self.history: list[Any] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async for event in self.session:
            async with self._news:
                match event.type:
                    case "audio":
                        self.heard += len(event.audio.data)
                    case "audio_interrupted":
                        self.cut += 1
                    case "agent_end":
                        self.ends += 1
                    case "tool_end":
                        self.tools.append(str(event.output))
                    case "history_updated":
                        self.history = event.history
                    case "error":
                        self.errors.append(str(event.error))
                self._news.notify_all()

    async def until(self, **counts: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: all(getattr(self, name) >= count for name, count in counts.items()))

    async def speak(self, pcm: bytes) -> None:
        for piece in pieces(pcm):
            await self.session.send_audio(piece)
            await asyncio.sleep(0.005)

    def told(self) -> dict[str, Any]:
        said = [
            part.transcript or ""
            for item in self.history
            if item.type == "message"
            for part in item.content
            if hasattr(part, "transcript")
        ]
        return {"heard": self.heard, "cut": self.cut, "tools": self.tools, "said": said, "errors": self.errors}


@asynccontextmanager
async def talking() -> AsyncIterator[Talk]:
    set_tracing_disabled(True)
    agent = RealtimeAgent(name="Lamp", instructions="Answer briefly.", tools=[set_lamp])
    session = await RealtimeRunner(agent).run(model_config={"api_key": KEY, "url": URL + "?model=gpt-realtime-2.1"})
    async with session:
        yield Talk(session)


async def turn() -> dict[str, Any]:
    async with talking() as talk:
        await talk.speak(question())
        await talk.until(ends=1)
        await asyncio.sleep(0.3)
        return talk.told()


async def tool() -> dict[str, Any]:
    async with talking() as talk:
        await talk.session.send_message(CALL)
        await talk.until(ends=2)
        await asyncio.sleep(0.3)
        return talk.told()


async def interruption() -> dict[str, Any]:
    async with talking() as talk:
        await talk.speak(question())
        await talk.until(heard=24_000)
        await talk.speak(question())
        await talk.until(ends=2, cut=1)
        await asyncio.sleep(0.3)
        return talk.told()


play(turn=turn, tool=tool, interruption=interruption)
