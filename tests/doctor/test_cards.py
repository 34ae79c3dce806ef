"""The doctor with a sound card, the real PyAudio, PortAudio and libasound, whose microphone hears its loudspeaker."""

from __future__ import annotations

import json
import math
import select
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from device_agent.simulator import Simulator
from tests.support.agent_process import PATIENCE_S, running
from tests.support.cards import FifoCard, PulseCard
from tests.support.echo_room import hiss, to_pcm

RATE = 24000
KEY = "a-key-that-is-secret"


class EchoCard(FifoCard):
    """A card with a clock whose microphone hears its loudspeaker *late* frames of 20 ms later and *softer* times."""

    def __init__(self, rate: int = RATE, *, late: int = 3, softer: float = 4.0, **how: float) -> None:
        super().__init__(rate, paced=True, **how)
        self._softer = softer
        self._noise = np.random.default_rng(1)
        self._late = late
        for _ in range(late):
            self._queue.put(self._hiss(b""))

    def _take(self) -> None:
        """The loudspeaker's thread: what comes out of it goes into the microphone, tick by tick."""
        while self._tick():
            piece = b""
            if self._moving.wait(0.02) and select.select([self._speaker], [], [], 0)[0]:
                with self._lock, suppress(BlockingIOError):
                    piece = self._played()
                    self._heard += piece
            else:
                self._swallowing = self._swallows
            self._queue.put(self._hiss(piece))
            while self._queue.qsize() > self._late + 2:  # the microphone is not read
                self._queue.get_nowait()

    def _hiss(self, piece: bytes) -> bytes:
        """A room is never silent: -66 dBFS."""
        wave = np.frombuffer(piece.ljust(len(self._frame), b"\0"), np.int16)
        return np.rint(wave / self._softer + self._noise.normal(0, 16, len(wave))).astype(np.int16).tobytes()


def write_config(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(f"service: {{url: '{url}'}}\nbutton: {{pin: }}\nlight: {{pin: }}\nspeaker: {{volume: 100}}\n{more}")
    return path


def examine(card, config: Path, *options: str, patience: float = PATIENCE_S) -> tuple[int, dict]:
    with running("check", "--json", "--config", config, *options, env={**card.env, "XAI_API_KEY": KEY}) as agent:
        agent.process.wait(patience)
        status = agent.end()
        assert agent.log == ""  # PortAudio's lines about formats that a card refuses do not reach the log
        return status, {each["name"]: each for each in json.loads(agent.output)["checks"]}


class LoopedPulseCard(PulseCard):
    """A PulseAudio whose microphone hears what its loudspeaker plays, as loud as that is."""

    def __init__(self, rate: int = 48000) -> None:
        super().__init__(rate)
        self._modules.write_text(self._modules.read_text().replace("master=vroom.monitor", "master=vspk.monitor"))

    def hiss(self) -> None:
        """Let it hear a room, too, for half a minute: a null sink alone is silent to the bit."""
        path = self._directory / "hiss"
        path.write_bytes(to_pcm(hiss(30 * self._rate, -66)))
        with path.open("rb") as file:
            self._client("pacat", "-p", "-d", "vspk", "--latency-msec=2000", stdin=file)


@pytest.fixture(scope="module")
def simulator():
    with Simulator(think_s=0.05) as made:
        yield made


@pytest.mark.slow
def test_a_card_is_opened_and_named_with_what_it_really_does(tmp_path, simulator):
    with FifoCard(48000, channels=2, only_rate=48000, only_channels=2, paced=True) as card:
        config = write_config(tmp_path, simulator.url)
        status, found = examine(card, config, "--quiet", "--offline")
        assert not any(card.heard())  # quiet is quiet
    assert status == 1
    assert found["microphone"]["rate"] == 48000
    assert found["microphone"]["text"] == "'default' at 48000 Hz, 2 channels, converted to 24000 Hz"
    assert found["level"]["mark"] == "FAIL"  # this room is silent to the bit
    assert "digital silence" in found["level"]["text"]
    assert found["loudspeaker"]["mark"] == "ok"
    assert found["echo"]["text"].startswith("not measured")


def test_a_device_that_is_not_there_is_told_with_what_there_is(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        more = "microphone: {device: Jabra}\n"
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1", more), "--quiet", "--offline")
    assert status == 1
    assert found["microphone"]["mark"] == "FAIL"
    assert "desk_microphone" in found["microphone"]["advice"]
    assert found["loudspeaker"]["mark"] == "ok"


@pytest.mark.slow
def test_a_card_that_stands_still_fails_and_the_doctor_goes_on(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        card.stall()
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--quiet", "--offline")
    assert status == 1
    assert found["level"]["mark"] == "FAIL"
    assert "stood still" in found["level"]["text"]
    assert found["key"]["mark"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(("late", "softer"), [(2, 2.0), (8, 30.0)])
def test_the_way_from_loudspeaker_to_microphone_is_measured(tmp_path, simulator, late, softer):
    with EchoCard(late=late, softer=softer) as card:
        status, found = examine(card, write_config(tmp_path, simulator.url))
    echo = found["echo"]
    assert status == 0
    assert echo["heard"] == 3
    # The card itself moves 20 ms at a time, twice; and on a busy machine its threads lose a step now and then.
    assert 20 * late - 25 <= echo["beyond_ms"] <= 20 * late + 85
    assert echo["spread_ms"] < 50
    assert echo["level_db"] == pytest.approx(-20 * math.log10(softer), abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("swallows", "wake", "advised"),
    [(0.0, 0, None), (0.3, 0, (400, 1000)), (0.3, 400, None), (0.8, 0, (1000, 1000)), (0.8, 500, (900, 1000))],
)
def test_a_loudspeaker_that_wakes_late_is_noticed_and_the_line_is_told(tmp_path, swallows, wake, advised):
    """And with what is told, it wakes in time. On a busy machine the card runs dry and sleeps again."""
    with EchoCard(swallows=swallows) as card:
        config = write_config(tmp_path, "ws://127.0.0.1:1")
        config.write_text(config.read_text().replace("volume: 100", f"volume: 100, wake_ms: {wake}"))
        status, found = examine(card, config, "--offline")
    assert status == 0
    assert found["echo"]["heard"] == 3
    if advised is None:
        assert "wake" not in found
        return
    assert found["wake"]["mark"] == "note"
    assert advised[0] <= found["wake"]["wake_ms"] <= advised[1]
    assert f"write speaker.wake_ms: {found['wake']['wake_ms']}" in found["wake"]["advice"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alive", "more", "heard", "advice"),
    [
        ([1, 2], "", 1, ""),
        ([2], "", 2, "write microphone.channel: 2"),
        ([2], "microphone: {channel: 1}\n", 1, "write microphone.channel: 2"),
        ([1, 2, 3, 4, 5, 6], "", 1, "microphone.channel: 1 keeps the one"),
        ([1, 2, 3, 4, 5, 6], "microphone: {channel: 4}\n", 4, ""),
    ],
)
def test_the_channels_of_a_microphone_are_told_with_the_line_to_write(tmp_path, alive, more, heard, advice):
    count = 2 if len(alive) < 3 else 6
    with FifoCard(RATE, count, only_channels=count, paced=True) as card:
        room = np.random.default_rng(1).normal(0, 60, (8 * RATE, count))
        room[:, [number for number in range(count) if number + 1 not in alive]] = 0
        card.play(np.rint(room).astype(np.int16).tobytes())
        _, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1", more), "--quiet", "--offline")
    assert found["microphone"]["channels"] == count
    assert found["channels"]["heard"] == heard
    assert (found["channels"]["mark"] == "note") is advice.startswith("write")
    assert found["channels"]["advice"].endswith(advice) or advice in found["channels"]["advice"]
    assert bool(found["channels"]["advice"]) is bool(advice)


@pytest.mark.slow
def test_a_card_that_sounds_like_a_telephone_is_told(tmp_path):
    with FifoCard(8000, only_rate=8000, paced=True) as card:
        _, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--quiet", "--offline")
    for name, key in (("microphone", "microphone.device"), ("loudspeaker", "speaker.device")):
        assert found[name]["mark"] == "note"
        assert found[name]["rate"] == 8000
        assert key in found[name]["advice"]


@pytest.mark.slow
def test_a_channel_that_the_card_does_not_have_is_told(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        more = "microphone: {channel: 3}\n"
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1", more), "--quiet", "--offline")
    assert status == 1
    assert "choose 1 to 1" in found["microphone"]["text"]


@pytest.mark.slow
def test_two_notes_are_played_at_the_volume(tmp_path):
    with EchoCard() as card:
        config = write_config(tmp_path, "ws://127.0.0.1:1")
        examine(card, config, "--offline")
        loud = np.abs(np.frombuffer(card.heard(), np.int16).astype(np.int32))
        config.write_text(config.read_text().replace("100", "50"))
        examine(card, config, "--offline")
        soft = np.abs(np.frombuffer(card.heard(), np.int16).astype(np.int32))
    assert loud.max() == pytest.approx(0.5 * 32768, rel=0.05)
    assert soft.max() == pytest.approx(0.5 * 32768 / 4, rel=0.05)


@pytest.mark.slow
def test_a_silent_microphone_is_no_reason_to_chirp(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--offline")
    assert status == 1
    assert found["level"]["mark"] == "FAIL"
    assert "that work" in found["echo"]["text"]


@pytest.mark.slow
def test_a_deaf_microphone_is_told(tmp_path):
    with EchoCard(softer=1e9) as card:
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--offline")
    assert status == 0
    assert "does not hear" in found["echo"]["text"]


@pytest.mark.slow
def test_the_way_through_a_sound_server_is_measured(tmp_path):
    with LoopedPulseCard() as card:
        card.hiss()
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--offline")
    echo = found["echo"]
    assert echo["heard"] == 3, found
    assert echo["level_db"] == pytest.approx(0, abs=1)
    assert 0 <= echo["beyond_ms"] < 150
    assert status == 0


@pytest.mark.slow
def test_a_sound_server_that_hangs_costs_its_time_and_no_more(tmp_path):
    with PulseCard() as card:
        card.freeze()
        status, found = examine(card, write_config(tmp_path, "ws://127.0.0.1:1"), "--offline", patience=120)
        card.thaw()
    assert status == 1
    assert found["microphone"]["mark"] == "FAIL"
    assert "not answered" in found["microphone"]["text"]
    assert found["loudspeaker"]["mark"] == "FAIL"
    assert found["key"]["mark"] == "ok"
