"""When a card is asked: once a step, just after it has come. With a clock of its own."""

from __future__ import annotations

import random
from bisect import bisect_right

import pytest

from device_agent.hardware import portaudio_stream
from device_agent.hardware.period_estimator import PeriodEstimator
from device_agent.hardware.portaudio_stream import CARD_STALLED_S, PortAudioStream

RATE, PERIOD = 48000, 960
ASKED_S = 15e-6
"""What a question takes."""


class World:
    """Time that passes only while the reader waits or asks, and a microphone that gives *step* samples at once.

    Each step comes up to *late* seconds after its time, and nothing comes after *dies*. A reader that waits
    is woken up to *sleepy* seconds late.
    """

    def __init__(
        self, step: int, *, late: float = 0.0, dies: float = 1e9, drift: float = 0.0, sleepy: float = 1e-4
    ) -> None:
        self.now, self.questions, self.taken, self.most = 100.0, 0, 0, 0
        self._step, self._sleepy, self._random = step, sleepy, random.Random(1)
        times = [self.now + 0.01 + (n + 1) * step / RATE * (1 + drift) for n in range(60 * RATE // step)]
        self.came = sorted(each + late * self._random.random() for each in times if each < self.now + dies)

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float = 0.0, /) -> bool:
        self.now += max(0.0, seconds) + self._sleepy * self._random.random()
        return False

    def start_stream(self) -> None:
        pass

    def get_read_available(self) -> int:
        self.questions += 1
        self.now += ASKED_S
        waiting = bisect_right(self.came, self.now) * self._step - self.taken
        self.most = max(self.most, waiting)
        return waiting


def microphone(world: World, monkeypatch: pytest.MonkeyPatch) -> PortAudioStream:
    monkeypatch.setattr(portaudio_stream, "time", world)
    opened = PortAudioStream("input", "default")
    opened.rate, opened.period, opened._stream = RATE, PERIOD, world
    opened.start()
    return opened


def listened(world: World, opened: PortAudioStream, until: float) -> list[float]:
    """Take periods until then; return how long after its last sample each was there, in seconds."""
    missing, found = PERIOD, []
    while world.now < until:
        waiting = opened.wait(1, missing, world.wait)
        if waiting >= missing:
            last = -(-(world.taken + missing) // world._step) - 1
            found.append(world.now - world.came[last])
        world.taken += waiting
        missing = PERIOD - (waiting - missing) % PERIOD
    return found


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


@pytest.mark.parametrize("step", [48, 128, 441, 480, 512, PERIOD, 1024, 1200, 2048])
def test_a_step_is_taken_as_soon_as_it_comes_and_asked_for_about_once(step, monkeypatch):
    world = World(step, late=3e-4)
    opened = microphone(world, monkeypatch)
    listened(world, opened, 105.0)
    world.questions = 0
    late = listened(world, opened, 150.0)
    assert percentile(late, 50) < 5e-4
    assert percentile(late, 90) < 1e-3
    assert world.questions < 2 * 45 * 50


@pytest.mark.parametrize("drift", [2e-4, -2e-4])
def test_a_clock_that_runs_otherwise_is_followed(drift, monkeypatch):
    world = World(PERIOD, late=1e-4, drift=drift)
    late = listened(world, microphone(world, monkeypatch), 150.0)
    assert percentile(late[250:], 99) < 1e-3


def test_one_step_that_comes_late_does_not_make_the_next_ones_late(monkeypatch):
    world = World(PERIOD)
    for number in range(150, 2000, 100):
        world.came[number] += 0.008
    late = listened(world, microphone(world, monkeypatch), 139.0)
    assert percentile(late[100:], 98) < 1e-3  # but for the late ones themselves


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
def test_a_card_that_stood_still_is_found_as_soon_as_before(lost, monkeypatch):
    world = World(PERIOD)
    for number in range(1800, 150, -100):
        if lost:
            del world.came[number : number + 2]
        else:
            world.came[number : number + 2] = [world.came[number + 2]] * 2
    late = listened(world, microphone(world, monkeypatch), 135.0)
    assert percentile(late[100:], 98) < 1e-3


@pytest.mark.parametrize("shift", [-0.01, 0.007, 0.013, 0.052])
def test_a_card_that_keeps_another_time_is_followed_within_a_second(shift, monkeypatch):
    world = World(PERIOD)
    opened = microphone(world, monkeypatch)
    listened(world, opened, 120.0)
    world.came = [each + shift if each > world.now else each for each in world.came]
    listened(world, opened, 121.5)
    world.questions = 0
    late = listened(world, opened, 130.0)
    assert max(late) < 3e-3
    assert percentile(late, 90) < 1e-3
    assert world.questions < 2 * len(late)


def test_an_output_has_room_as_soon_as_it_begins():
    steps = PeriodEstimator(0.01)
    for began in (100.0, 200.0):
        steps.begin(began, RATE, PERIOD)
        assert steps.until(began, PERIOD) <= 0
        steps.came(began, 4 * PERIOD)
        assert steps.until(began, PERIOD) == pytest.approx(0.02, abs=1e-4)


def test_a_card_is_known_as_soon_as_it_has_begun(monkeypatch):
    world = World(PERIOD)
    late = listened(world, microphone(world, monkeypatch), 102.0)
    assert percentile(late[3:], 90) < 1e-3


@pytest.mark.parametrize("step", [48, 192], ids=["1 ms", "4 ms"])
def test_a_machine_that_wakes_us_late_loses_nothing_of_a_card_that_holds_two_periods(step, monkeypatch):
    world = World(step, sleepy=0.019)
    listened(world, microphone(world, monkeypatch), 150.0)
    assert world.most <= 2 * PERIOD


def test_a_reader_that_stayed_away_for_long_asks_at_once_and_then_in_time(monkeypatch):
    world = World(PERIOD)
    opened = microphone(world, monkeypatch)
    listened(world, opened, 110.0)
    world.now += 5.0
    away = world.now
    listened(world, opened, world.now + 0.001)
    assert world.now < away + 0.025
    assert percentile(listened(world, opened, 125.0), 90) < 1e-3


def test_a_card_that_stands_still_is_asked_seldom_and_then_has_failed(monkeypatch):
    world = World(PERIOD, dies=10.0)
    opened = microphone(world, monkeypatch)
    listened(world, opened, 109.9)
    world.questions, began = 0, world.now
    with pytest.raises(portaudio_stream.DeviceFailed, match="stood still for 2 s"):
        listened(world, opened, 120.0)
    assert CARD_STALLED_S < world.now - began < 1.5 * CARD_STALLED_S
    assert world.questions < 100
