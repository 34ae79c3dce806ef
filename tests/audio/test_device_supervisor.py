"""Microphone and loudspeaker, seen from the main thread: without a thread or a clock."""

from __future__ import annotations

import pytest

from device_agent.audio.device_supervisor import (
    DEVICE_LOST_TIMEOUT_S,
    DEVICE_OPEN_TIMEOUT_S,
    DEVICE_RETRY_DELAYS_S,
    DIGITAL_SILENCE_TIMEOUT_S,
    THREAD_STALLED_S,
    DeviceSupervisor,
)
from device_agent.runtime.heartbeat import Heartbeat
from device_agent.runtime.rendezvous import Rendezvous


class Port:
    """Ears or mouth, as the main thread sees them."""

    def __init__(self, gaps: object) -> None:
        self.pulse, self.gaps = Heartbeat(), gaps
        self.reopened = 0
        self.silent_for = 0.0

    def reopen(self) -> None:
        self.reopened += 1


@pytest.fixture
def ears() -> Port:
    return Port(0)


@pytest.fixture
def mouth() -> Port:
    return Port((0, 0))


@pytest.fixture
def devices(ears, mouth) -> DeviceSupervisor:
    return DeviceSupervisor(ears, mouth, Rendezvous())


def test_it_has_started_when_each_device_is_open_or_known_to_be_gone(devices):
    assert not devices.lost("microphone", "unplugged", 0.0)
    assert not devices.lost("microphone", "unplugged", 1.0)
    assert devices.found("speaker")
    assert not devices.found("speaker")  # once only


def test_a_device_that_is_gone_is_looked_for_less_and_less_often(devices, ears, mouth):
    devices.lost("microphone", "unplugged", 0.0)
    looks = []
    for tenth in range(200):
        before = ears.reopened
        devices.retry_lost(tenth / 10)
        looks += [tenth / 10] if ears.reopened > before else []
    assert looks == [1.0, 3.0, 8.0, 13.0, 18.0]
    assert mouth.reopened == ears.reopened  # PortAudio looks for devices only when no stream is open


def test_a_device_that_is_there_is_not_looked_for(devices, ears):
    devices.lost("microphone", "unplugged", 0.0)
    devices.found("microphone")
    devices.retry_lost(100.0)
    assert ears.reopened == 0


def test_each_time_that_it_goes_the_search_begins_anew(devices, ears):
    for since in (0.0, 100.0):
        devices.lost("microphone", "unplugged", since)
        devices.retry_lost(since + DEVICE_RETRY_DELAYS_S[0])
        devices.found("microphone")
    assert ears.reopened == 2


def test_it_is_told_once_that_a_device_is_gone_and_once_that_it_is_back(devices, caplog):
    caplog.set_level("INFO")
    for now in range(3):
        devices.lost("microphone", "microphone 'default': unplugged", float(now))
    devices.found("microphone")
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "microphone 'default': unplugged",
        "the microphone is back",
    ]


def test_a_worker_that_does_not_open_is_named(devices):
    devices.found("speaker")
    assert devices.failure(DEVICE_OPEN_TIMEOUT_S - 1, 0.0) is None
    assert "did not open" in str(devices.failure(DEVICE_OPEN_TIMEOUT_S + 1, 0.0).error)
    assert devices.failure(DEVICE_OPEN_TIMEOUT_S + 1, 0.0).worker == "microphone"


def test_a_worker_that_hangs_in_a_call_is_named(devices, ears):
    devices.found("microphone")
    devices.found("speaker")
    ears.pulse.beat()
    devices.failure(10.0, 0.0)
    assert devices.failure(10.0 + THREAD_STALLED_S - 0.1, 0.0) is None
    assert devices.failure(10.0 + THREAD_STALLED_S + 0.1, 0.0).worker == "microphone"


def test_what_stays_away_for_too_long_is_looked_for_by_another_process(devices):
    devices.lost("speaker", "unplugged", 0.0)
    devices.found("microphone")
    assert devices.failure(DEVICE_LOST_TIMEOUT_S - 1, 0.0) is None
    assert devices.failure(DEVICE_LOST_TIMEOUT_S + 1, 0.0).worker == "speaker"


def test_a_microphone_without_any_life_in_it_is_opened_by_another_process(devices, ears):
    devices.found("microphone")
    devices.found("speaker")
    ears.silent_for = DIGITAL_SILENCE_TIMEOUT_S
    assert devices.failure(1.0, 0.0) is None
    ears.silent_for = DIGITAL_SILENCE_TIMEOUT_S + 1
    assert "digital silence" in str(devices.failure(1.0, 0.0).error)


@pytest.mark.parametrize("trouble", ["zeros", "gone", "hangs", "never opened"])
def test_no_microphone_is_a_reason_to_end_an_alarm_that_rings(devices, ears, mouth, trouble):
    devices.found("speaker")
    if trouble != "never opened":
        devices.found("microphone")
    ears.silent_for = DIGITAL_SILENCE_TIMEOUT_S + 1 if trouble == "zeros" else 0.0
    if trouble == "gone":
        devices.lost("microphone", "unplugged", 0.0)
    if trouble == "hangs":
        ears.pulse.beat()
        devices.failure(1.0, 0.0)
    assert devices.failure(DEVICE_LOST_TIMEOUT_S + 1, 0.0, ringing=True) is None
    assert devices.failure(DEVICE_LOST_TIMEOUT_S + 1, 0.0).worker == "microphone"


def test_a_loudspeaker_that_hangs_or_is_gone_is_a_reason(devices, mouth):
    devices.found("microphone")
    assert not devices.audible
    devices.found("speaker")
    assert devices.audible
    devices.lost("speaker", "unplugged", 0.0)
    assert not devices.audible
    assert devices.failure(DEVICE_LOST_TIMEOUT_S + 1, 0.0, ringing=True).worker == "speaker"


def test_gaps_are_told_when_there_are_new_ones(devices, ears, mouth, caplog):
    devices.log_gaps()
    ears.gaps, mouth.gaps = 2, (0, 1)
    devices.log_gaps()
    devices.log_gaps()
    assert [record.message for record in caplog.records] == [
        "gaps so far: 2 in the microphone, 0 in the loudspeaker, 1 in the replies of the service"
    ]
