"""The ring buffer between the link and the loudspeaker. A frame is 20 samples here."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_agent.events import PlaybackEnded, PlaybackStarted
from device_agent.playback import LULL_MS, Marker, Playback, Sound

RATE, FRAME, PREFILL = 1000, 20, 40


def playback(capacity: float = 1.0) -> Playback:
    return Playback(RATE, capacity=capacity, prefill_ms=PREFILL)


def sound(first: int, count: int) -> bytes:
    return np.arange(first, first + count, dtype=np.int16).tobytes()


def read_all(p: Playback, most: int = 1000) -> list[object]:
    """Read what can be read without waiting; of a sound with nothing but a reply in it, the samples."""
    items: list[object] = []
    while len(items) < most and (p._drop or not p._cues.idle or (p._replies and _readable(p))):
        item = p.read()
        items.append(item.voice if isinstance(item, Sound) and item.voice == item.pcm else item)
    return items


def _readable(p: Playback) -> bool:
    reply = p._replies[0]
    enough = FRAME if reply.flowing else PREFILL
    return reply.complete or reply.waiting >= enough


def pcm(items: list[object]) -> bytes:
    return b"".join(item for item in items if isinstance(item, bytes))


def test_nothing_sounds_before_the_prefill():
    p = playback()
    p.write("a", sound(0, PREFILL - 1))
    assert read_all(p) == []
    p.write("a", sound(PREFILL - 1, 1))
    assert read_all(p) == [PlaybackStarted("a"), sound(0, FRAME), sound(FRAME, FRAME)]


def test_a_reply_shorter_than_the_prefill_sounds_when_it_is_complete():
    p = playback()
    p.write("a", sound(0, 5))
    p.finish("a")
    assert read_all(p) == [PlaybackStarted("a"), sound(0, 5), PlaybackEnded("a")]


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


def test_after_running_dry_it_gathers_again_and_counts_it():
    p = playback()
    p.write("a", sound(0, 40))
    read_all(p)
    p.write("a", sound(40, FRAME - 1))
    assert p._next() is None
    assert p.underruns == 1
    p.write("a", sound(59, 21))
    assert read_all(p) == [sound(40, FRAME), sound(60, FRAME)]


def test_a_cut_is_silence_at_once_and_tells_what_was_heard():
    p = playback()
    p.write("a", sound(0, 200))
    for _ in range(4):
        p.read()
    assert p.cut() == ("a", 60)
    assert read_all(p) == [Marker.DROP]


def test_a_cut_while_the_last_of_a_reply_sounds_still_tells_which_it_was():
    p = playback()
    p.write("a", sound(0, 100))
    p.finish("a")
    assert read_all(p)[-1] == PlaybackEnded("a")
    assert p.cut() == ("a", 100)
    assert read_all(p) == [Marker.DROP]
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
    assert read_all(p) == [Marker.DROP]


def test_two_cuts_need_to_be_accepted_twice():
    p = playback()
    p.cut()
    p.cut()
    p.accept()
    p.write("a", sound(0, 100))
    p.accept()
    p.write("b", sound(0, 40))
    assert read_all(p)[:2] == [Marker.DROP, PlaybackStarted("b")]


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

LULL = [Sound(bytes(2 * FRAME))] * (LULL_MS // 20 - 1) + [Marker.DROP]


def cue(count: int, loud: int = 1000) -> bytes:
    return np.full(count, loud, np.int16).tobytes()


def test_a_cue_sounds_at_once_and_leaves_the_device_silent():
    p = playback()
    p.play(cue(30))
    frame, rest = cue(FRAME), cue(10).ljust(2 * FRAME, b"\0")
    assert read_all(p) == [Sound(frame, cue=True), Sound(rest, cue=True), *LULL]


def test_a_cue_is_added_to_a_reply_and_not_a_sample_of_that_is_lost_or_late():
    p = playback()
    p.write("a", sound(0, 100))
    p.finish("a")
    first = [p.read(), p.read()]
    p.play(cue(FRAME))
    both = p.read()
    assert first == [PlaybackStarted("a"), Sound(sound(0, FRAME), sound(0, FRAME))]
    assert both == Sound(sound(FRAME + 1000, FRAME), sound(FRAME, FRAME), cue=True)
    assert pcm(read_all(p)) == sound(2 * FRAME, 60)


def test_a_cue_has_a_volume_of_its_own():
    p = Playback(RATE, volume=0, prefill_ms=PREFILL)
    p.write("a", sound(1, 100))
    p.read()
    p.play(cue(FRAME))
    assert p.read() == Sound(cue(FRAME), bytes(2 * FRAME), cue=True)


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
    assert read_all(p) == [Marker.DROP]


def test_a_cue_after_a_cut_sounds_although_replies_are_dropped():
    p = playback()
    p.write("a", sound(0, 100))
    p.cut()
    p.play(cue(FRAME))
    assert read_all(p) == [Marker.DROP, Sound(cue(FRAME), cue=True), *LULL]


def test_cues_wait_for_each_other_up_to_a_limit():
    p = playback()
    for loud in range(1, 200):
        p.play(cue(5 * FRAME, loud))
    sounds = [item for item in read_all(p) if isinstance(item, Sound) and item.cue]
    assert len(sounds) == 100  # CUES_S
    assert sounds[5] == Sound(cue(FRAME, 2), cue=True)


def test_an_alarm_rings_until_it_is_hushed_also_over_a_cut():
    p = playback()
    p.ring(cue(FRAME))
    assert read_all(p, 50) == [Sound(cue(FRAME), cue=True)] * 50
    p.cut()
    assert read_all(p, 3) == [Marker.DROP] + [Sound(cue(FRAME), cue=True)] * 2
    p.ring(b"")
    assert read_all(p) == LULL


def test_a_reply_that_begins_in_the_silence_behind_a_cue_does_not_wait_for_its_end():
    p = playback()
    p.play(cue(FRAME))
    p.read()
    p.write("a", sound(0, PREFILL))
    assert read_all(p, 3) == [PlaybackStarted("a"), sound(0, FRAME), sound(FRAME, FRAME)]


def test_a_device_is_opened_again_when_nothing_sounds_or_at_once():
    p = playback()
    p.write("a", sound(0, 40))
    p.finish("a")
    p.ask_to_reopen(at_once=False)
    assert [p.read() for _ in range(5)][3:] == [PlaybackEnded("a"), Marker.REOPEN]
    p.ring(cue(FRAME))
    p.ask_to_reopen(at_once=True)
    assert [p.read(), p.read()] == [Marker.REOPEN, Sound(cue(FRAME), cue=True)]


DEEDS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 120)),
    st.tuples(st.sampled_from(["finish", "read", "cut", "accept", "new"]), st.just(0)),
)


@given(st.lists(DEEDS, max_size=150))
def test_nothing_is_lost_repeated_or_reordered_and_the_dead_stay_silent(deeds):
    p = playback(capacity=0.3)
    reply, counter, cuts = 0, 0, 0
    owed: list[int] = []  # samples a listener must hear, in order
    heard: list[int] = []

    def note(items: list[object]) -> None:
        voices = b"".join(
            item.voice if isinstance(item, Sound) else item for item in items if isinstance(item, (Sound, bytes))
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
