"""A client that others wrote, the realtime client of the ``openai`` package, talks to the simulated service."""

from __future__ import annotations

import asyncio
import base64
import wave
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from device_agent.simulator import QUESTION, Simulator

openai = pytest.importorskip("openai", reason="the openai package is not installed")
pytest.importorskip("websockets", reason="the realtime client of the openai package needs websockets")

FUNCTION = {"type": "function", "name": "set_timer", "parameters": {"type": "object"}}


def question() -> bytes:
    with QUESTION.open("rb") as file, wave.open(file) as sound:
        return sound.readframes(sound.getnframes())


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator("openai", key="sk-right", think_s=0.0, pace=50.0) as running:
        yield running


@asynccontextmanager
async def connected(simulator: Simulator, key: str = "sk-right") -> AsyncIterator[Any]:
    base = f"{simulator.origin}/v1".replace("http", "ws", 1)
    client = openai.AsyncOpenAI(api_key=key, websocket_base_url=base, max_retries=0)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        yield connection


async def read(connection: Any, until: str = "response.done") -> list[Any]:
    """Return the events up to and including *until*."""
    events: list[Any] = []
    async for event in connection:
        events.append(event)
        if event.type == until:
            return events
        assert event.type != "error", event
    raise AssertionError(f"the connection ended before {until}")


def in_time(conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(conversation(), 20))


def test_a_text_turn(simulator: Simulator) -> None:
    async def conversation() -> None:
        async with connected(simulator) as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            part = {"type": "input_text", "text": "Say hello!"}
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": [part]})
            await connection.response.create()
            events = await read(connection)
            words = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            assert words == "You wrote: Say hello!"
            assert events[-1].response.output[0].content[0].text == words

    in_time(conversation)


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_audio_turn(simulator: Simulator, by_hand: bool) -> None:
    async def conversation() -> None:
        async with connected(simulator) as connection:
            detection = None if by_hand else {"type": "server_vad", "silence_duration_ms": 500}
            heard = {"turn_detection": detection, "transcription": {"model": "whisper-1"}}
            await connection.session.update(session={"type": "realtime", "audio": {"input": heard}})
            pcm = question()
            for start in range(0, len(pcm), 4800):
                await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + 4800]).decode())
            if by_hand:
                await connection.input_audio_buffer.commit()
                await connection.response.create()
            events = await read(connection)
            deltas = [event.delta for event in events if event.type == "response.output_audio.delta"]
            reply = b"".join(base64.b64decode(delta) for delta in deltas)
            assert reply in pcm
            assert len(reply) > 2 * 24000
            assert events[-1].response.status == "completed"

    in_time(conversation)


def test_a_tool_round(simulator: Simulator) -> None:
    async def conversation() -> None:
        async with connected(simulator) as connection:
            await connection.session.update(session={"type": "realtime", "tools": [FUNCTION]})
            part = {"type": "input_text", "text": 'set_timer {"minutes": 4}'}
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": [part]})
            await connection.response.create()
            (call,) = [item for item in (await read(connection))[-1].response.output if item.type == "function_call"]
            assert (call.name, call.arguments) == ("set_timer", '{"minutes": 4}')
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "It rings at four."}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            (spoken,) = (await read(connection))[-1].response.output
            assert spoken.content[0].transcript == "The tool said: It rings at four."

    in_time(conversation)


def test_a_token_made_by_the_package_opens_the_door(simulator: Simulator) -> None:
    async def conversation() -> None:
        client = openai.AsyncOpenAI(api_key="sk-right", base_url=f"{simulator.origin}/v1", max_retries=0)
        secret = await client.realtime.client_secrets.create(session={"type": "realtime", "instructions": "Sing."})
        async with connected(simulator, secret.value) as connection:
            (created,) = await read(connection, "session.created")
            assert created.session.instructions == "Sing."

    in_time(conversation)


def test_a_wrong_key_is_refused(simulator: Simulator) -> None:
    from websockets.exceptions import InvalidStatus

    async def conversation() -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with connected(simulator, "sk-wrong"):
                pass
        assert refused.value.response.status_code == 401

    in_time(conversation)
