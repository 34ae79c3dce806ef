"""The whole agent on virtual sound cards: the real PyAudio, PortAudio and libasound, the command as a user runs it."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from device_agent.dsp.correlation import likeness
from device_agent.dsp.resampling import resample
from device_agent.simulator import Simulator
from tests.support.agent_process import RATE, config, question, running
from tests.support.cards import FifoCard, JackCard, PulseCard, wait_for


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05) as made:
        yield made


@pytest.mark.slow
def test_what_is_said_into_the_card_comes_back_from_it_sample_for_sample(tmp_path, simulator):
    with FifoCard(RATE, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            card.play(question())
            agent.says("speaking -> ready")
            heard = card.heard()
            assert agent.end(signal.SIGTERM) == 0, agent.log
    (turn,) = simulator.turns
    assert turn.pcm[9600:-9600] in question()  # nothing was changed on the way up
    assert turn.pcm in heard  # nor on the way down


def test_devices_are_chosen_by_a_part_of_their_name(tmp_path, simulator):
    with FifoCard(RATE, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url, device="DESK"), env=card.env) as agent:
            agent.says("-> ready")
            assert agent.end(signal.SIGTERM) == 0
    assert "desk_microphone" in agent.log
    assert "desk_speaker" in agent.log


@pytest.mark.slow
def test_a_card_with_a_rate_of_its_own_is_resampled_for(tmp_path, simulator):
    with FifoCard(48000, channels=2, only_rate=48000, only_channels=2, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            card.play(stereo(resample(question(), RATE, 48000)))
            agent.says("speaking -> ready")
            assert agent.end(signal.SIGTERM) == 0, agent.log
    (turn,) = simulator.turns
    assert likeness(turn.pcm[9600:-9600], question())[0] > 0.99


@pytest.mark.slow
def test_a_channel_is_chosen_while_it_runs_and_one_that_is_not_there_is_gone_back_from(tmp_path, simulator):
    """The first channel of this card is another voice all the time."""
    with FifoCard(RATE, channels=2, paced=True) as card:
        path = config(tmp_path, simulator.url)
        usual = path.read_text()
        with running("run", "--config", path, env=card.env) as agent:
            agent.says("-> ready")
            path.write_text(usual.replace("microphone: {", "microphone: {channel: 3, "))
            agent.says("microphone.channel is 3: choose 1 to 2")
            agent.says("the previous settings stay in use")
            wait_for(lambda: agent.log.count("starting -> ready") == 2, "what was before")
            path.write_text(usual.replace("microphone: {", "microphone: {channel: 2, "))
            agent.says("trying: microphone.channel")
            wait_for(lambda: agent.log.count("starting -> ready") == 3, "the other channel")
            said = np.frombuffer(question(), np.int16)
            card.play(np.column_stack([np.zeros_like(said), said]).tobytes())
            agent.says("speaking -> ready")
            assert agent.end(signal.SIGTERM) == 0, agent.log
    (turn,) = simulator.turns
    assert turn.pcm[9600:-9600] in question()
    (told,) = [line for line in agent.log.splitlines() if "ERROR" in line and "choose 1 to 2" in line]
    assert f"{path}:5:23:" in told, "the line that is wrong"


def test_a_missing_device_is_told_with_what_there_is(tmp_path, simulator):
    with FifoCard(RATE, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url, device="Jabra"), env=card.env) as agent:
            agent.says("-> trouble")
            agent.says("speaker 'Jabra' was not found")
            assert agent.end(signal.SIGTERM) == 0
    lines = [line for line in agent.log.splitlines() if "ERROR" in line and "Jabra" in line]
    assert len(lines) == 2  # one for each direction, once
    assert all("desk_" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "repair"), [("unplug", "replug"), ("stall", "resume")])
def test_a_card_that_was_gone_is_used_again_when_it_is_back(tmp_path, simulator, fault, repair):
    with FifoCard(RATE, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            card.play(question())
            agent.says("speaking -> ready")  # it is in its stride, and not in the middle of a call: see below
            getattr(card, fault)()
            agent.says("-> trouble")
            getattr(card, repair)()
            agent.says("trouble -> ready")
            card.heard()
            card.play(question())
            wait_for(lambda: agent.log.count("speaking -> ready") == 2, "another answer")
            assert likeness(question()[40000:110000], card.heard())[0] > 0.999
            assert agent.end(signal.SIGTERM) == 0, agent.log
    assert "Traceback" not in agent.log


@pytest.mark.slow
def test_a_card_that_vanishes_in_the_middle_of_a_call_comes_back_or_takes_the_process_with_it(tmp_path, simulator):
    with FifoCard(RATE, paced=True) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            card.vanish()
            wait_for(lambda: "ending the program" in agent.log or "-> trouble" in agent.log, "the agent to notice")
            if "ending the program" in agent.log:  # the call never returned: systemd starts it again
                assert agent.end() == 1, agent.log
            else:
                card.replug()
                agent.says("trouble -> ready")


@pytest.mark.slow
def test_the_demo_talks_through_the_card(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        with running("--log", "info", "demo", "--mic", env=card.env) as agent:
            agent.says("-> ready")
            card.play(question())
            agent.says("speaking -> ready")
            assert likeness(question()[40000:110000], card.heard())[0] > 0.999
            assert agent.end(signal.SIGINT) == 0


def test_devices_are_listed_with_their_rates():
    with FifoCard(RATE) as card:
        with running("devices", env=card.env) as agent:
            assert agent.end() == 0
            output = agent.output
    assert "desk_microphone" in output
    assert "24 kHz" in output


@pytest.mark.slow
def test_check_opens_the_card(tmp_path):
    with FifoCard(RATE, paced=True) as card:
        path = config(tmp_path, "ws://127.0.0.1:1")
        with running("check", "--offline", "--quiet", "--config", path, env=card.env) as agent:
            assert agent.end() == 1
            output = agent.output
    assert "ok    loudspeaker" in output
    assert "FAIL  level          digital silence" in output


@pytest.mark.slow
def test_a_turn_through_a_sound_server(tmp_path, simulator):
    with PulseCard(48000) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            with card.listening() as recording:
                card.play(resample(question(), RATE, 48000))
                agent.says("speaking -> ready")
                heard = recording.read_bytes()
            assert agent.end(signal.SIGTERM) == 0, agent.log
    (turn,) = simulator.turns
    assert likeness(turn.pcm[9600:-9600], question())[0] > 0.98
    assert likeness(turn.pcm[40000:80000], resample(heard[: len(heard) & ~1], 48000, RATE))[0] > 0.9


@pytest.mark.slow
def test_a_card_of_48_khz_only(tmp_path, simulator):
    with JackCard() as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            assert "at 48000 Hz" in agent.log
            assert agent.end(signal.SIGTERM) == 0, agent.log


@pytest.mark.slow
def test_a_sound_server_that_dies_is_used_again_when_it_is_back(tmp_path, simulator):
    with PulseCard(48000) as card:
        with running("run", "--config", config(tmp_path, simulator.url), env=card.env) as agent:
            agent.says("-> ready")
            card.kill()
            agent.says("-> trouble")
            card.restart()
            agent.says("trouble -> ready")
            card.play(resample(question(), RATE, 48000))
            agent.says("speaking -> ready")
            assert agent.end(signal.SIGTERM) == 0, agent.log


def stereo(pcm: bytes) -> bytes:
    return b"".join(pcm[n : n + 2] * 2 for n in range(0, len(pcm), 2))
