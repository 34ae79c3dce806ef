"""Pipecat on this machine: its local transport (PyAudio), its OpenAI Realtime service, and its frames for the button.

The pipeline is that of ``examples/realtime/realtime-openai-locally-driven-turns.py`` of
https://github.com/pipecat-ai/pipecat with the transport of ``examples/getting-started/06a-voice-agent-local.py``. Where
that has Silero decide when a turn begins and ends, here the button does, and neither it nor the aggregators of context
and transcript are loaded; the log says warnings only. All of that is in its favour.
"""

import asyncio
import os
import signal
import sys

from loguru import logger
from pipecat.frames.frames import InterruptionFrame, UserStartedSpeakingFrame, UserStoppedSpeakingFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.services.openai.realtime.events import AudioConfiguration, AudioInput, SessionProperties
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams
from pipecat.workers.runner import WorkerRunner

RATE = 24000


class Service(OpenAIRealtimeLLMService):
    """The service, and a word when its session is ready, for which there is no event."""

    async def _handle_evt_session_updated(self, evt: object) -> None:
        await super()._handle_evt_session_updated(evt)
        print("ready", flush=True)


def service() -> Service:
    audio = AudioConfiguration(input=AudioInput(turn_detection=False))
    settings = Service.Settings(model="gpt-realtime", session_properties=SessionProperties(audio=audio))
    return Service(
        api_key=os.environ["OPENAI_API_KEY"],
        base_url=os.environ["BENCH_URL"],
        settings=settings,
        start_audio_paused=True,
        # What it says again of the time before a press: the least it takes, for there was no microphone then.
        user_audio_preroll_secs=0.02,
    )


async def obey(worker: PipelineWorker, llm: Service) -> None:
    """Wait for lines."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    held = False
    while await lines.readline():
        held = not held
        if held:
            await worker.queue_frames([InterruptionFrame(), UserStartedSpeakingFrame()])
        else:
            await worker.queue_frames([UserStoppedSpeakingFrame()])
        llm.set_audio_input_paused(not held)


async def main() -> None:
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    transport = LocalAudioTransport(LocalAudioTransportParams(audio_in_enabled=True, audio_out_enabled=True))
    llm = service()
    params = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    worker = PipelineWorker(
        Pipeline([transport.input(), llm, transport.output()]), params=params, idle_timeout_secs=None
    )
    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    obeying = asyncio.create_task(obey(worker, llm))
    await asyncio.wait([running, obeying], return_when=asyncio.FIRST_COMPLETED)
    leave()


def leave(*_: object) -> None:
    """End at once: its own way closes a stream while another thread writes to it, and that ends in a broken process."""
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    asyncio.run(main())
