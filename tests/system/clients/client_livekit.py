"""The realtime plugins of livekit, with OpenAI and with xAI; the service ends the turns, as is usual there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import llm
from livekit.plugins import openai, xai
from talk import CALL, KEY, RATE, RESULT, URL, pieces, play, question


@llm.function_tool
async def set_lamp(on: bool) -> str:
    """Switch the lamp."""
    return RESULT


class Talk:
    """A session, and what it told."""

    def __init__(self, session: llm.RealtimeSession) -> None:
        self.session = session
        self.generations: asyncio.Queue[llm.GenerationCreatedEvent] = asyncio.Queue()
        self.heard: list[int] = []
        self.said: list[str] = []
        self.errors: list[str] = []
        self.transcripts: list[str] = []
        session.on("generation_created", self.generations.put_nowait)
        session.on("error", lambda error: self.errors.append(str(error.error)))
        session.on("input_audio_transcription_completed", lambda event: self.transcripts.append(event.transcript))

    async def speak(self, pcm: bytes) -> None:
        for piece in pieces(pcm):
            self.session.push_audio(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
            await asyncio.sleep(0.005)

    async def ask(self, text: str) -> asyncio.Future[llm.GenerationCreatedEvent]:
        context = self.session.chat_ctx.copy()
        context.add_message(role="user", content=text)
        await self.session.update_chat_ctx(context)
        return self.session.generate_reply()

    async def take(self, generation: llm.GenerationCreatedEvent, cut_after: int = 0) -> list[llm.FunctionCall]:
        """Take a reply to its end; or interrupt it when so many bytes of it were heard."""
        heard, message_id = 0, ""
        async for message in generation.message_stream:
            message_id = message.message_id
            async for frame in message.audio_stream:
                heard += len(frame.data) * 2
                if cut_after and heard >= cut_after:
                    cut_after = 0
                    self.session.interrupt()
                    self.session.truncate(
                        message_id=message_id,
                        modalities=["audio"],
                        audio_end_ms=500,
                        audio_transcript="You",
                    )
            self.said.append("".join([str(text) async for text in message.text_stream]))
        self.heard.append(heard)
        return [call async for call in generation.function_stream]

    def told(self) -> dict[str, Any]:
        return {"heard": self.heard, "said": self.said, "errors": self.errors, "transcripts": self.transcripts}


@asynccontextmanager
async def talking() -> AsyncIterator[Talk]:
    async with aiohttp.ClientSession() as http:
        if os.environ["SERVICE"] == "xai":
            model: llm.RealtimeModel = xai.realtime.RealtimeModel(api_key=KEY, base_url=URL, http_session=http)
        else:
            base = URL.removesuffix("/realtime").replace("ws://", "http://")
            model = openai.realtime.RealtimeModel(
                model="gpt-realtime-2.1", api_key=KEY, base_url=base, http_session=http
            )
        session = model.session()
        await session.update_instructions("Answer briefly.")
        await session.update_tools([set_lamp])
        yield Talk(session)
        await session.aclose()


async def turn() -> dict[str, Any]:
    async with talking() as talk:
        await talk.speak(question())
        await talk.take(await talk.generations.get())
        await asyncio.sleep(0.3)
        return talk.told()


async def tool() -> dict[str, Any]:
    async with talking() as talk:
        (call,) = await talk.take(await (await talk.ask(CALL)))
        context = talk.session.chat_ctx.copy()
        output = llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output=RESULT, is_error=False)
        context.insert([call, output])
        await talk.session.update_chat_ctx(context)
        await talk.take(await talk.session.generate_reply(instructions="Say what the tool said."))
        return {**talk.told(), "arguments": call.arguments}


async def interruption() -> dict[str, Any]:
    async with talking() as talk:
        await talk.speak(question())
        await talk.take(await talk.generations.get(), cut_after=24_000)
        await talk.speak(question())
        await talk.take(await talk.generations.get())
        return talk.told()


async def announcement() -> dict[str, Any]:
    async with talking() as talk:
        await talk.take(await talk.session.say("The tea is ready."))
        return talk.told()


play(turn=turn, tool=tool, interruption=interruption, announcement=announcement)
