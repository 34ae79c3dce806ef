"""The ring buffer between the link and the loudspeaker. A frame is 20 samples here, and a sample a millisecond."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.audio.jitter import LEARNED_AFTER_REPLIES, PREFILL_MARGIN_S, JitterEstimator
from device_agent.audio.playback_buffer import (
    CUE_TAIL_MS,
    PLAYBACK_CAPACITY_S,
    REPLY_STARVED_S,
    Marker,
    OutputFrame,
    PlaybackBuffer,
)
from device_agent.core.events import PlaybackEnded, PlaybackStarted

RATE, FRAME, PREFILL = 1000, 20, 40


class Clock:
    """A clock that is moved by hand; it shows milliseconds."""

    ms = 0

    def __call__(self) -> float:
        return self.ms / 1000


def playback(capacity: float = 1.0) -> PlaybackBuffer:
    """Return one whose replies begin at once: time stands still, so that nothing is ever late."""
    return PlaybackBuffer(RATE, capacity=capacity, prefill=JitterEstimator(0.0), clock=Clock())


def patient(clock: Clock) -> PlaybackBuffer:
    """Return one whose first replies begin when PREFILL of them is there, or after so long."""
    return PlaybackBuffer(RATE, prefill=JitterEstimator(PREFILL / 1000), clock=clock)


def sound(first: int, count: int) -> bytes:
    return np.arange(first, first + count, dtype=np.int16).tobytes()


def read_all(p: PlaybackBuffer, most: int = 1000) -> list[object]:
    """Read what can be read without waiting; of a sound with nothing but a reply in it, the samples."""
    items: list[object] = []
    while len(items) < most and _readable(p):
        item = p.read()
        items.append(item.voice if isinstance(item, OutputFrame) and item.voice == item.pcm else item)
    return items


def _readable(p: PlaybackBuffer) -> bool:
    reply = p._replies[0] if p._replies else None
    if reply and (reply.complete or (reply.waiting >= FRAME and p._held(reply) <= 0)):
        return True
    silence = p._cues._tail and not (reply and reply.flowing)
    return bool(p._flush or p._cues._waiting or p._cues._ring or silence)


def pcm(items: list[object]) -> bytes:
    return b"".join(item for item in items if isinstance(item, bytes))


def test_nothing_sounds_before_the_prefill_is_over():
    p = patient(clock := Clock())
    p.write("a", sound(0, 30))
    clock.ms = PREFILL - 1
    assert read_all(p) == []
    clock.ms = PREFILL
    assert read_all(p) == [PlaybackStarted("a"), sound(0, FRAME)]


def test_a_reader_waits_for_the_end_of_the_prefill_and_no_longer():
    p = PlaybackBuffer(RATE, prefill=JitterEstimator(0.1))
    p.write("a", sound(0, 60))
    assert p.read() == PlaybackStarted("a")


def test_a_reply_that_comes_faster_than_it_sounds_begins_as_soon_as_there_is_enough_of_it():
    p = patient(Clock())
    p.write("a", sound(0, PREFILL - 1))
    assert read_all(p) == []
    p.write("a", sound(PREFILL - 1, 1))
    assert pcm(read_all(p)) == sound(0, PREFILL)


@pytest.mark.parametrize("count", [1, 5, FRAME])
def test_a_reply_shorter_than_the_prefill_sounds_when_it_is_complete(count):
    p = patient(Clock())
    p.write("a", sound(0, count))
    p.finish("a")
    assert read_all(p) == [PlaybackStarted("a"), sound(0, count), PlaybackEnded("a")]


def test_the_end_is_told_exactly_once_and_after_the_last_sample():
    p = playback()
    p.write("a", sound(0, 50))
    p.finish("a")
    p.finish("a")
    items = read_all(p)
    assert items.count(PlaybackEnded("a")) == 1
    assert items[-1] == PlaybackEnded("a")
    assert pcm(items) == sound(0, 50)


def test_replies_sound_one_after_the_other():
    p = playback()
    p.write("a", sound(0, 45))
    p.write("b", sound(100, 45))
    p.finish("b")
    items = read_all(p)
    assert pcm(items) == sound(0, 45) + sound(100, 45)
    assert items.index(PlaybackEnded("a")) < items.index(PlaybackStarted("b"))


def test_what_the_loudspeaker_still_holds_is_no_gap():
    p = patient(clock := Clock())
    p.write("a", sound(0, 100))
    clock.ms = PREFILL
    read_all(p)
    clock.ms = PREFILL + 100
    p.write("a", sound(100, 30))
    assert read_all(p) == [sound(100, FRAME)]
    assert p.underruns == 0


def test_what_the_loudspeaker_did_not_take_yet_is_no_gap():
    p = patient(clock := Clock())
    p.write("a", sound(0, 3 * FRAME))
    assert len(read_all(p, 3)) == 3
    clock.ms = 1000  # of three frames one is left, and could have been read long ago
    p.write("a", sound(3 * FRAME, FRAME))
    assert p.underruns == 0


def test_after_it_fell_silent_it_waits_for_the_next_to_be_in_time_and_counts_it():
    p = patient(clock := Clock())
    p.write("a", sound(0, 50))
    clock.ms = PREFILL
    read_all(p)  # two frames; the loudspeaker is silent 40 ms later
    clock.ms = 110
    p.write("a", sound(50, 100))  # 60 ms late; that much of it comes at once is no reason to go on at once
    assert p.underruns == 1
    assert read_all(p) == []
    clock.ms = 119  # 40 ms were heard, and 60 is how late it was; a margin is added to that
    assert read_all(p) == []
    clock.ms = 40 + 60 + round(1000 * PREFILL_MARGIN_S)
    assert pcm(read_all(p)) == sound(40, 100)


def test_it_falls_silent_as_often_as_it_is_late_again():
    p = patient(clock := Clock())
    for moment in (0, 200, 360):  # 40 ms are heard, from 100, 300 and 460 on
        clock.ms = moment
        p.write("a", sound(0, 40))
        clock.ms += PREFILL + 60
        assert pcm(read_all(p)) == sound(0, 40)
    assert p.underruns == 2


@pytest.mark.parametrize("cut", [False, True])
def test_a_later_reply_waits_as_long_as_a_piece_of_an_earlier_one_was_late_even_if_that_was_cut(cut):
    p = patient(clock := Clock())
    p.write("a", sound(0, 100))
    clock.ms = 250
    p.write("a", sound(100, 100))
    if cut:
        p.cut()
        p.accept()
    for _ in range(2):
        p.write("b", sound(0, 100))
    p.finish()
    read_all(p)
    p.write("c", sound(0, 100))
    assert p._held(p._replies[0]) == p.prefill == pytest.approx(0.15 + PREFILL_MARGIN_S)


def test_when_it_is_known_that_replies_come_early_the_next_one_begins_with_its_first_piece():
    p = patient(Clock())
    for number in range(LEARNED_AFTER_REPLIES):
        p.write(str(number), sound(0, 30))
        assert read_all(p) == []
        p.write(str(number), sound(30, 30))
        p.finish()
        read_all(p)
    p.write("next", sound(0, 30))
    assert read_all(p) == [PlaybackStarted("next"), sound(0, FRAME)]


def test_a_cut_is_silence_at_once_and_tells_what_was_heard():
    p = playback()
    p.write("a", sound(0, 200))
    for _ in range(4):
        p.read()
    assert p.cut() == ("a", 60)
    assert read_all(p) == [Marker.FLUSH]


def test_a_cut_while_the_last_of_a_reply_sounds_still_tells_which_it_was():
    p = playback()
    p.write("a", sound(0, 100))
    p.finish("a")
    assert read_all(p)[-1] == PlaybackEnded("a")
    assert p.cut() == ("a", 100)
    assert read_all(p) == [Marker.FLUSH]
    assert p.cut() == ("", 0)


def test_late_sound_of_a_cut_reply_is_never_heard():
    p = playback()
    p.write("a", sound(0, 100))
    p.cut()
    assert p.write("a", sound(100, 100)) == 200
    p.finish("a")
    p.accept()
    p.write("b", sound(500, 40))
    p.finish("b")
    assert pcm(read_all(p)) == sound(500, 40)


def test_a_reply_that_begins_before_the_service_knows_of_the_cut_is_dead_too():
    p = playback()
    p.cut()
    p.write("a", sound(0, 100))
    assert read_all(p) == [Marker.FLUSH]


def test_two_cuts_need_to_be_accepted_twice():
    p = playback()
    p.cut()
    p.cut()
    p.accept()
    p.write("a", sound(0, 100))
    p.accept()
    p.write("b", sound(0, 40))
    assert read_all(p)[:2] == [Marker.FLUSH, PlaybackStarted("b")]


def test_a_full_ring_takes_no_more_than_it_holds():
    p = playback(capacity=0.1)
    assert p.write("a", sound(0, 150)) == 200
    read = pcm(read_all(p))
    assert p.write("a", sound(100, 50)) == 100
    p.finish("a")
    assert read + pcm(read_all(p)) == sound(0, 150)


def test_a_lost_connection_ends_every_reply():
    p = playback()
    p.write("a", sound(0, 45))
    p.write("b", sound(0, 45))
    p.finish()
    assert read_all(p)[-1] == PlaybackEnded("b")


def test_closing_ends_the_reader():
    p = playback()
    p.close()
    assert p.read() is None


# Cues --------------------------------------------------------------------------------------------------------------

LULL = [OutputFrame(bytes(2 * FRAME))] * (CUE_TAIL_MS // 20 - 1) + [Marker.FLUSH]


def cue(count: int, loud: int = 1000) -> bytes:
    return np.full(count, loud, np.int16).tobytes()


def test_a_cue_sounds_at_once_and_leaves_the_device_silent():
    p = playback()
    p.play(cue(30))
    frame, rest = cue(FRAME), cue(10).ljust(2 * FRAME, b"\0")
    assert read_all(p) == [OutputFrame(frame, cue=True), OutputFrame(rest, cue=True), *LULL]


def test_a_cue_is_added_to_a_reply_and_not_a_sample_of_that_is_lost_or_late():
    p = playback()
    p.write("a", sound(0, 100))
    p.finish("a")
    first = [p.read(), p.read()]
    p.play(cue(FRAME))
    both = p.read()
    assert first == [PlaybackStarted("a"), OutputFrame(sound(0, FRAME), sound(0, FRAME))]
    assert both == OutputFrame(sound(FRAME + 1000, FRAME), sound(FRAME, FRAME), cue=True)
    assert pcm(read_all(p)) == sound(2 * FRAME, 60)


def test_a_cue_has_a_volume_of_its_own():
    p = PlaybackBuffer(RATE, volume=0, prefill=JitterEstimator(0.0))
    p.write("a", sound(1, 100))
    p.read()
    p.play(cue(FRAME))
    assert p.read() == OutputFrame(cue(FRAME), bytes(2 * FRAME), cue=True)


def test_the_volume_glides():
    p = playback()
    p.write("a", cue(100, 10000))
    p.read()
    p.volume = 0
    waves = [np.frombuffer(p.read().pcm, np.int16).astype(int) for _ in range(3)]
    assert abs(np.diff(waves[0])).max() < 10000 / (FRAME - 2)
    assert not waves[1].any()
    assert not waves[2].any()


def test_what_is_too_loud_together_is_cut_off_and_never_wraps():
    p = playback()
    p.write("a", cue(100, 30000))
    p.read()
    p.play(cue(FRAME, 30000))
    assert p.read().pcm == cue(FRAME, 32767)


def test_a_cut_silences_a_cue_too():
    p = playback()
    p.play(cue(100))
    p.read()
    p.cut()
    assert read_all(p) == [Marker.FLUSH]


def test_a_cue_after_a_cut_sounds_although_replies_are_dropped():
    p = playback()
    p.write("a", sound(0, 100))
    p.cut()
    p.play(cue(FRAME))
    assert read_all(p) == [Marker.FLUSH, OutputFrame(cue(FRAME), cue=True), *LULL]


def test_cues_wait_for_each_other_up_to_a_limit():
    p = playback()
    for loud in range(1, 200):
        p.play(cue(5 * FRAME, loud))
    sounds = [item for item in read_all(p) if isinstance(item, OutputFrame) and item.cue]
    assert len(sounds) == 100  # MAX_QUEUED_CUES_S
    assert sounds[5] == OutputFrame(cue(FRAME, 2), cue=True)


def test_an_alarm_rings_until_it_is_hushed_also_over_a_cut():
    p = playback()
    p.ring(cue(FRAME))
    assert read_all(p, 50) == [OutputFrame(cue(FRAME), cue=True)] * 50
    p.cut()
    assert read_all(p, 3) == [Marker.FLUSH] + [OutputFrame(cue(FRAME), cue=True)] * 2
    p.ring(b"")
    assert read_all(p) == LULL


def test_an_alarm_is_silent_in_the_middle_of_its_sound_when_it_is_hushed():
    p = playback()
    p.ring(cue(5 * FRAME))
    p.read()
    p.ring(b"")
    assert read_all(p) == LULL


def test_a_reply_that_begins_in_the_silence_behind_a_cue_does_not_wait_for_its_end():
    p = playback()
    p.play(cue(FRAME))
    p.read()
    p.write("a", sound(0, PREFILL))
    assert read_all(p, 3) == [PlaybackStarted("a"), sound(0, FRAME), sound(FRAME, FRAME)]


def test_the_silence_behind_a_cue_never_comes_into_the_middle_of_a_reply_nor_is_that_dropped_with_it():
    p = playback()
    p.play(cue(FRAME))
    p.read()
    p.write("a", sound(0, 100))
    assert pcm(read_all(p)) == sound(0, 100)
    assert p._next() is None  # the device still has some of it to play
    p.write("a", sound(100, 100))
    p.finish("a")
    assert read_all(p, 6) == [*(sound(at, FRAME) for at in range(100, 200, FRAME)), PlaybackEnded("a")]


def test_a_device_is_opened_again_when_nothing_sounds_or_at_once():
    p = playback()
    p.write("a", sound(0, 40))
    p.finish("a")
    p.request_reopen(at_once=False)
    assert [p.read() for _ in range(5)][3:] == [PlaybackEnded("a"), Marker.REOPEN]
    p.ring(cue(FRAME))
    p.request_reopen(at_once=True)
    assert [p.read(), p.read()] == [Marker.REOPEN, OutputFrame(cue(FRAME), cue=True)]


DEEDS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 120)),
    st.tuples(st.just("read"), st.integers(0, 200)),  # after so many ms
    st.tuples(st.sampled_from(["finish", "cut", "accept", "new"]), st.just(0)),
)


@given(st.lists(DEEDS, max_size=150))
def test_nothing_is_lost_repeated_or_reordered_and_the_dead_stay_silent(deeds):
    p = PlaybackBuffer(RATE, capacity=0.3, prefill=JitterEstimator(PREFILL / 1000), clock=(clock := Clock()))
    reply, counter, cuts = 0, 0, 0
    owed: list[int] = []  # samples a listener must hear, in order
    heard: list[int] = []

    def note(items: list[object]) -> None:
        voices = b"".join(
            item.voice if isinstance(item, OutputFrame) else item
            for item in items
            if isinstance(item, (OutputFrame, bytes))
        )
        heard.extend(np.frombuffer(voices, np.int16).tolist())

    for deed, size in deeds:
        match deed:
            case "write":
                taken = p.write(str(reply), sound(counter, size)) // 2
                if not cuts:
                    owed += range(counter, counter + taken)
                counter = (counter + size) % 30000
            case "finish":
                p.finish(str(reply))
                reply += 1
            case "new":
                reply += 1
                p.play(cue(25))  # which changes nothing about the replies
            case "read":
                clock.ms += size
                note(read_all(p))
            case "cut":
                p.cut()
                cuts += 1
                owed = heard.copy()  # what was not read out by now must never be
            case "accept":
                p.accept()
                cuts = max(0, cuts - 1)
    p.finish()
    note(read_all(p))
    assert heard == owed


def test_the_speaker_may_wait_for_a_cut_and_goes_on_at_once_when_it_comes():
    p = playback()
    cuts: list[bool] = []
    speaker = threading.Thread(target=lambda: cuts.append(p.interrupted(60.0)))
    speaker.start()
    p.cut()
    speaker.join(20.0)
    assert cuts == [True]
    assert p.interrupted(60.0)  # until it was read
    assert p.read() is Marker.FLUSH
    assert not p.interrupted(0.01)


class Hurdle:
    """What a speaker waits by for a cut: notes for how long, and lets the cut come meanwhile."""

    def __init__(self, cut: Callable[[], object]) -> None:
        self._cut = cut
        self.waited: list[float] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.waited.append(timeout)
        self._cut()
        return True

    def locked(self) -> bool:
        return False


@pytest.mark.parametrize("seconds", [0.01, 60.0])
def test_a_caller_waits_for_a_cut_as_long_as_it_says_and_without_a_time_does_not_wait(seconds):
    p = playback()
    p._no_cut = hurdle = Hurdle(p.cut)
    assert not p.interrupted()
    assert hurdle.waited == []
    assert p.interrupted(seconds)
    assert hurdle.waited == [seconds]


def test_a_cut_that_was_read_is_no_cut_of_what_follows():
    p = playback()
    for _ in range(3):
        p.cut()
        p.cut()
        assert p.read() is Marker.FLUSH
        assert not p.interrupted()


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("cut", [True, False])
def test_ten_minutes_of_a_reply_have_room_and_their_memory_is_given_back(cut):
    rate, minutes = 24000, 10
    p = PlaybackBuffer(rate, prefill=JitterEstimator(0.0))
    before = resident()
    second = bytes(range(256)) * (2 * rate // 256)
    for _ in range(60 * minutes):
        assert p.write("r", second) == len(second)
    held = resident() - before
    assert 0.9 * 2 * rate * 60 * minutes < held < 2.2 * rate * PLAYBACK_CAPACITY_S
    p.finish("r")
    if cut:
        p.cut()
        p.accept()
    else:
        while not isinstance(p.read(), PlaybackEnded):
            pass
    assert p.write("s", second) == len(second)
    assert resident() - before < held / 4


def test_a_reply_that_is_starved_is_over_and_what_comes_late_is_heard():
    p = playback()
    p.write("r", sound(0, 40))
    read_all(p)
    p.finish("r")
    assert read_all(p) == [PlaybackEnded("r")]
    p.write("r", sound(40, 40))
    p.finish("r")
    assert read_all(p) == [PlaybackStarted("r"), sound(40, 20), sound(60, 20), PlaybackEnded("r")]


# Waiting --------------------------------------------------------------------------------------------------------------


class Patience(threading.Condition):
    """A reader that has to wait lets the time pass at once, and notes how much; what it would wait for in vain, too."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waited: list[float | None] = []
        self.woken = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        if timeout is None:
            raise LookupError("it would wait for ever")
        self._clock.ms += round(1000 * timeout)
        return False

    def notify_all(self) -> None:
        self.woken += 1


def waiting() -> tuple[PlaybackBuffer, Patience]:
    """Return one whose first replies wait for PREFILL of them, and what its reader waits by."""
    p = patient(clock := Clock())
    p._changed = patience = Patience(clock)
    return p, patience


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.write("a", sound(0, 1)),
        PlaybackBuffer.finish,
        lambda p: p.play(cue(1)),
        lambda p: p.ring(cue(1)),
        PlaybackBuffer.cut,
        lambda p: p.request_reopen(at_once=False),
        PlaybackBuffer.close,
    ],
)
def test_whatever_there_may_be_to_read_wakes_the_reader(act):
    p, patience = waiting()
    act(p)
    assert patience.woken == 1


def test_where_nothing_is_to_come_a_reader_waits_until_it_is_told():
    for wake in (0, 100):
        p, patience = waiting()
        p.wake = wake
        with pytest.raises(LookupError):
            p.read()
        assert patience.waited == [None]


def test_a_reader_waits_for_the_rest_of_the_prefill_alone():
    p, patience = waiting()
    p.write("a", sound(0, FRAME))
    assert p.read() == PlaybackStarted("a")
    assert patience.waited == pytest.approx([PREFILL / 1000])


@pytest.mark.parametrize("rest", [0, 5, FRAME - 1])
def test_a_reply_that_sends_nothing_more_is_over_and_what_there_is_of_it_was_heard(rest):
    p, patience = waiting()
    p.write("a", sound(0, PREFILL + rest))
    items: list[object] = []
    while not items or not isinstance(items[-1], PlaybackEnded):
        items.append(p.read())
    assert b"".join(item.pcm for item in items if isinstance(item, OutputFrame)) == sound(0, PREFILL + rest)
    assert patience.waited == [REPLY_STARVED_S]
    assert p.quiet
