"""Worker threads, and the rendezvous of two threads."""

from __future__ import annotations

import queue
import threading

from device_agent.core.errors import DeviceFailed
from device_agent.core.events import WorkerCrashed
from device_agent.runtime.heartbeat import Heartbeat
from device_agent.runtime.rendezvous import Rendezvous
from device_agent.runtime.worker import Worker


def test_a_worker_stops_when_it_is_told():
    with Worker("w", lambda stopping: stopping.wait(10) and None, print) as worker:
        pass
    assert not worker._thread.is_alive()


def test_a_worker_that_sleeps_is_nudged_and_one_that_hangs_is_forced():
    for hand in ("wake", "force"):
        bell = threading.Event()
        with Worker("w", lambda _stopping, bell=bell: bell.wait(10) and None, print, **{hand: bell.set}) as worker:
            pass
        assert not worker._thread.is_alive()


def test_a_worker_that_does_not_stop_is_named(caplog):
    bell = threading.Event()
    with Worker("deaf", lambda _stopping: bell.wait(30) and None, print):
        pass
    bell.set()
    assert "deaf did not stop" in caplog.text


def test_an_error_that_escapes_reaches_the_owner():
    told: queue.SimpleQueue[WorkerCrashed] = queue.SimpleQueue()

    def work(_stopping: threading.Event) -> None:
        raise DeviceFailed("gone")

    with Worker("ears", work, told.put):
        crashed = told.get(timeout=10)
    assert (crashed.worker, str(crashed.error)) == ("ears", "gone")


def test_a_pulse_tells_work_from_rest_and_from_standstill():
    pulse = Heartbeat()
    assert pulse.stalled_for(100.0) == 0.0
    assert pulse.stalled_for(200.0) == 0.0  # it rests
    pulse.beat()
    assert pulse.stalled_for(300.0) == 0.0
    assert pulse.stalled_for(304.0) == 4.0
    pulse.beat()
    assert pulse.stalled_for(305.0) == 0.0
    pulse.rest()
    assert pulse.stalled_for(400.0) == 0.0


def test_two_meet_and_go_on_together():
    meeting, here = Rendezvous(20.0), threading.Event()
    other = threading.Thread(target=lambda: (here.set(), meeting.meet()))
    other.start()
    here.wait(5)
    meeting.meet()
    other.join(5)
    assert not other.is_alive()


def test_a_thread_that_waits_in_vain_goes_on_alone_and_the_next_meeting_is_a_new_one():
    meeting = Rendezvous(0.01)
    meeting.meet()
    meeting.reset()
    other = threading.Thread(target=meeting.meet)
    other.start()
    meeting.meet()
    other.join(5)
    assert not other.is_alive()
