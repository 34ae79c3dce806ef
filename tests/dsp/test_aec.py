"""Our own voice is taken out of what the microphone hears, by the real canceller in a room of software."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from device_agent.audio.gate import Gate, GatePolicy
from device_agent.core.actions import GateMode
from device_agent.core.errors import ConfigError
from device_agent.core.events import TalkStarted
from device_agent.dsp.aec import (
    BLOCKS_PER_SECOND,
    ECHO_LINGER_S,
    JUDGED_BLOCKS,
    MAX_PLAYBACK_LEAD_S,
    TRUSTED_AFTER_PROOFS,
    WARM_UP_BLOCKS,
    Canceller,
)
from device_agent.dsp.pcm import frame_bytes, level
from device_agent.dsp.vad import VoiceDetector
from tests.support.echo_room import Happening, Reply, Room, Scene, at_level, erle, hiss, speech, survived, to_pcm, voice

RATE = 24000
FRAME = frame_bytes(RATE)
BLOCK = 2 * RATE // BLOCKS_PER_SECOND
KNOWN_S = 9.0
"""Seconds after which the canceller knows any of these rooms, if we began to talk after one."""

pytest.importorskip("livekit.rtc.apm", reason="needs livekit, which is there for 64 bit")


def scene(room: Room | None = None, rate: int = RATE, seconds: float = 16.0, **more: object) -> Scene:
    """We talk from 1 s on."""
    return Scene(room or Room(), rate, seconds, [Reply(1.0, speech(rate, seconds - 2, seed=3))], **more)


class Hands:
    """An engine that does what a test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.gain = 1.0
        self.missing = 0
        self.held: bytes | None = None  # the last block, when it holds one back

    def hold(self) -> None:
        """From now on what is heard comes out one block later."""
        self.held = bytes(BLOCK)

    def cancel(self, played: bytes, heard: bytes) -> bytes:
        self.calls.append((played, heard))
        if self.held is not None:
            self.held, heard = heard, self.held
        wave = np.frombuffer(heard, np.int16) * self.gain
        return np.clip(wave, -32768, 32767).astype(np.int16).tobytes()[self.missing :]


# What it takes away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_our_voice_is_taken_out_at_every_rate(rate):
    there = scene(rate=rate)
    assert erle(there, there.clean(Canceller(rate)), KNOWN_S, 15) > 30


@pytest.mark.parametrize(
    ("room", "least"),
    [
        (Room(delay=0.25), 30),
        (Room(delay=0.4), 30),
        (Room(loss_db=20), 20),  # only 24 dB are above the noise
        (Room(direct_db=-10), 28),
        (Room(clips=True), 30),
        (Room(drift_ppm=100), 28),
        (Room(jump_at=4.0), 28),
    ],
)
def test_our_voice_is_taken_out_in_every_room(room, least):
    there = scene(room)
    assert erle(there, there.clean(Canceller(RATE)), KNOWN_S, 15) > least


def test_a_room_is_known_from_the_first_words_and_stays_known():
    replies = [Reply(1.0, speech(RATE, 10, seed=3)), Reply(14.0, speech(RATE, 5, seed=4))]
    there = Scene(Room(), RATE, 20.0, replies)
    cleaned = there.clean(Canceller(RATE))
    assert erle(there, cleaned, 1, 2.5) > 20
    assert erle(there, cleaned, 14, 15.5) > 30


def test_late_frames_change_nothing_at_all():
    even, uneven = scene(), scene(stall=0.1)
    assert [piece.what for piece in even.pieces()] != [piece.what for piece in uneven.pieces()]
    assert np.array_equal(even.clean(Canceller(RATE)), uneven.clean(Canceller(RATE)))


@pytest.mark.parametrize("ahead", [0.02, 0.3])
def test_any_buffer_of_a_loudspeaker_will_do(ahead):
    there = scene(ahead=ahead)
    assert erle(there, there.clean(Canceller(RATE)), KNOWN_S, 15) > 30


def test_cut_replies_do_not_put_the_next_one_out_of_step():
    """What was written and never sounded, 0.4 s each time, would be compared with what sounds instead."""
    replies = [Reply(1.0 + 4 * n, speech(RATE, 6, seed=n), cut=5.0 + 4 * n) for n in range(4)]
    there = Scene(Room(), RATE, 18.0, replies, ahead=0.4)
    assert erle(there, there.clean(Canceller(RATE)), KNOWN_S, 16.5) > 28


@pytest.mark.parametrize(("loss_db", "most", "least"), [(20.0, -7.0, 0.4), (6.0, -15.0, 0.15)])
def test_of_a_voice_that_talks_at_the_same_time_something_is_left(loss_db, most, least):
    """The louder we are in the microphone, the less."""
    near = [(9.0 + 3 * n, voice(RATE, pitch=pitch, level_db=-26)) for n, pitch in enumerate((1.15, 0.9))]
    there = scene(Room(loss_db=loss_db), seconds=18, near=near)
    loss, kept = survived(there, there.clean(Canceller(RATE)))
    assert loss > most
    assert kept > least


def begun(there: Scene) -> list[float]:
    """Return when turns begin, as far as the canceller is trusted, in a gate that listens all the time."""
    canceller, gate, times = Canceller(RATE), Gate(VoiceDetector(RATE, 2), GatePolicy(35, 15)), []
    gate.set_mode(GateMode.VOICE)
    for at, what, pcm in there.pieces():
        if what is Happening.PLAYED:
            canceller.played(pcm)
            continue
        frame = canceller.clean(pcm)
        if canceller.trusted and any(isinstance(item, TalkStarted) for item in gate.feed(frame)):
            times.append(at)
    return times


@pytest.mark.parametrize("room", [Room(), Room(loss_db=20), Room(direct_db=-10, delay=0.25), Room(clips=True)])
def test_our_voice_begins_no_turn_and_speech_over_it_does(room):
    assert begun(scene(room, seconds=24)) == []
    first, *_ = begun(scene(room, seconds=24, near=[(12.0, voice(RATE, level_db=-26))]))  # at which we would be silent
    assert 12.1 < first < 13.5


# What it leaves alone -------------------------------------------------------------------------------------------------


def test_without_our_voice_all_passes_bit_for_bit_ten_milliseconds_late():
    canceller, heard = Canceller(RATE), to_pcm(voice(RATE))[: 100 * FRAME]
    out = b"".join(canceller.clean(heard[at : at + FRAME]) for at in range(0, len(heard), FRAME))
    assert out == bytes(BLOCK) + heard[:-BLOCK]


def test_a_loudspeaker_that_plays_silence_costs_nothing():
    engine = Hands()
    canceller = Canceller(RATE, engine)
    for _ in range(100):
        canceller.played(bytes(FRAME))
        canceller.clean(bytes(FRAME))
    assert engine.calls == []


def test_it_rests_when_our_voice_has_died_away():
    engine = Hands()
    canceller, frame = Canceller(RATE, engine), to_pcm(hiss(RATE // 50, -40.0))
    canceller.played(frame)
    for _ in range(round(ECHO_LINGER_S * 50) + 1):
        canceller.clean(frame)
    worked = len(engine.calls)
    assert canceller.clean(frame) == frame[BLOCK:] + frame[:BLOCK]
    assert len(engine.calls) == worked


def test_what_is_heard_leaves_without_a_gap_or_a_repetition_as_the_work_begins_and_ends():
    """The engine holds 8 to 11 ms back, and what passes beside it is 10 ms late."""
    heard = at_level(np.sin(2 * np.pi * 200 * np.arange(6 * RATE) / RATE), -30.0)
    pcm, canceller, out = to_pcm(heard), Canceller(RATE), b""
    for at in range(0, len(pcm), FRAME):
        if 2 * RATE <= at < 4 * RATE:  # bytes: it works from 1 s to 3.5 s
            canceller.played(to_pcm(hiss(RATE // 50, -60.0, seed=at)))
        out += canceller.clean(pcm[at : at + FRAME])
    cleaned = np.frombuffer(out, np.int16) / 32768
    for second in (0.2, 0.7, 5.2):
        at = round(second * RATE)
        assert np.allclose(cleaned[at : at + RATE // 4], heard[at - RATE // 100 :][: RATE // 4], atol=1e-4)
    loud = [level(out[at : at + FRAME]) for at in range(FRAME, len(out), FRAME)]
    assert min(loud) > -34
    assert max(loud) < -28


def test_the_end_of_what_was_heard_last_does_not_come_out_when_we_talk_again():
    engine = Hands()
    engine.hold()
    canceller, quiet, out = Canceller(RATE, engine), bytes(FRAME), b""
    before, now = to_pcm(hiss(RATE // 50, -20.0)), to_pcm(hiss(10 * RATE // 50, -20.0, seed=2))
    canceller.played(before)
    for frame in [quiet] * round(ECHO_LINGER_S * 50) + [before] * 3:  # it stops in the midst of what is heard
        canceller.clean(frame)
    for _ in range(50):
        canceller.clean(quiet)
    for at in range(0, len(now), FRAME):
        canceller.played(before)
        out += canceller.clean(now[at : at + FRAME])
    assert out == bytes(BLOCK) + now[:-BLOCK]


def test_it_hears_the_room_before_it_hears_our_voice():
    engine, room = Hands(), to_pcm(hiss(RATE, -60.0))
    canceller = Canceller(RATE, engine)
    for at in range(0, len(room), FRAME):
        canceller.clean(room[at : at + FRAME])
    canceller.played(to_pcm(hiss(RATE // 50, -20.0)))
    canceller.clean(bytes(FRAME))
    first = engine.calls[: -FRAME // BLOCK]
    assert len(first) / BLOCKS_PER_SECOND >= 0.2  # seconds
    assert b"".join(heard for _, heard in first) == room[-WARM_UP_BLOCKS * BLOCK :]
    assert not any(any(played) for played, _ in first)


# Out of step ----------------------------------------------------------------------------------------------------------


def test_what_was_played_while_the_microphone_was_not_read_is_bounded_and_forgotten():
    engine = Hands()
    canceller, piece = Canceller(RATE, engine), to_pcm(hiss(RATE // 50, -20.0))
    for _ in range(1000):
        canceller.played(piece)
        assert len(canceller._waiting._pcm) <= 2 * MAX_PLAYBACK_LEAD_S * RATE
    ours = to_pcm(hiss(RATE // 10, -20.0, seed=2))
    for at in range(0, len(ours), FRAME):
        canceller.clean(bytes(FRAME))
        canceller.played(ours[at : at + FRAME])
    canceller.clean(bytes(FRAME))
    compared = b"".join(played for played, _ in engine.calls if any(played))
    assert compared == piece[-BLOCK:] + ours


def test_pieces_of_any_length_become_ten_milliseconds():
    engine = Hands()
    canceller, ours = Canceller(RATE, engine), to_pcm(hiss(RATE, -20.0))
    at = 0
    for size in (2, 1000, 958, 6000, 40, 2000):
        canceller.played(ours[at : at + size])
        at += size
    for _ in range(12):
        canceller.clean(bytes(FRAME))
    assert {len(played) for played, _ in engine.calls} == {len(heard) for _, heard in engine.calls} == {BLOCK}
    assert ours[:at] in b"".join(played for played, _ in engine.calls)


def test_a_frame_must_be_whole_tens_of_milliseconds():
    with pytest.raises(ValueError, match="multiple of 10 ms"):
        Canceller(RATE).clean(bytes(FRAME + 2))


def test_two_threads_may_play_and_listen_at_once():
    canceller, there = Canceller(RATE), scene(seconds=8)
    ours, done = to_pcm(there.replies[0].sound), threading.Event()

    def play() -> None:
        for at in range(0, len(ours), FRAME):
            canceller.played(ours[at : at + FRAME])
            if at % (7 * FRAME) == 0:
                canceller.dropped()
        done.set()

    thread = threading.Thread(target=play)
    thread.start()
    heard = to_pcm(there.microphone)
    out = b"".join(canceller.clean(heard[at : at + FRAME]) for at in range(0, len(heard), FRAME))
    thread.join(20)
    assert done.is_set()
    assert len(out) == len(heard)
    assert canceller._healthy


# Trust ----------------------------------------------------------------------------------------------------------------


def trusted_after(there: Scene) -> float | None:
    """Return after how many seconds of *there* the canceller is trusted."""
    canceller, frames = Canceller(there.rate), 0
    for _, what, pcm in there.pieces():
        if what is Happening.PLAYED:
            canceller.played(pcm)
        else:
            canceller.clean(pcm)
            frames += 1
        if canceller.trusted:
            return frames / 50
    return None


def test_trust_is_earned_by_some_seconds_without_our_voice():
    after = trusted_after(scene())
    assert after is not None
    assert TRUSTED_AFTER_PROOFS * JUDGED_BLOCKS / BLOCKS_PER_SECOND <= after < 9


def test_headphones_and_noise_earn_trust_as_well():
    assert trusted_after(scene(Room(loss_db=90))) is not None
    assert trusted_after(scene(Room(loss_db=30, noise_db=-45))) is not None


def test_an_engine_that_takes_nothing_away_earns_none():
    there = scene()
    canceller = Canceller(RATE, Hands())
    there.clean(canceller)
    assert canceller._healthy
    assert not canceller.trusted


def test_silence_earns_no_trust():
    there = Scene(Room(), RATE, 30.0, [Reply(1.0, hiss(RATE * 28, -65.0))])
    assert trusted_after(there) is None


# When it breaks -------------------------------------------------------------------------------------------------------


def keep_talking(canceller: Canceller, seconds: float) -> list[tuple[bytes, bytes]]:
    """Play and hear at once; return each frame, and what came out."""
    pairs = []
    for number in range(round(seconds * 50)):
        heard = to_pcm(hiss(RATE // 50, -30.0, seed=number))
        canceller.played(heard)
        pairs.append((heard, canceller.clean(heard)))
    return pairs


def assert_it_gave_up(canceller: Canceller, caplog: pytest.LogCaptureFixture) -> None:
    """Frames pass as they are, 10 ms late, and it was said once."""
    assert not canceller._healthy
    assert not canceller.trusted
    pairs = keep_talking(canceller, 1.0)
    heard, out = b"".join(h for h, _ in pairs), b"".join(o for _, o in pairs)
    assert out[BLOCK:] == heard[:-BLOCK]
    (record,) = caplog.records
    assert "the echo canceller failed" in record.message
    assert "\n" not in record.message


def test_a_library_that_fails_is_passed_by(caplog):
    canceller = Canceller(RATE)
    scene().clean(canceller)
    assert canceller._healthy
    assert canceller.trusted
    canceller._engine._module._ffi_handle.dispose()  # from now on each call finds nothing behind its handle
    pairs = keep_talking(canceller, 0.5)
    assert all(len(out) == len(heard) for heard, out in pairs)
    assert_it_gave_up(canceller, caplog)


@pytest.mark.parametrize("nonsense", [{"gain": 5.0}, {"missing": 2}])
def test_nonsense_is_passed_by(nonsense, caplog):
    engine = Hands()
    canceller = Canceller(RATE, engine)
    keep_talking(canceller, 1.0)
    assert canceller._healthy
    vars(engine).update(nonsense)
    keep_talking(canceller, 1.0)
    assert_it_gave_up(canceller, caplog)


def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "livekit.rtc", None)
    with pytest.raises(ConfigError, match=r"pip install 'device-agent\[echo\]'.*echo\.mode to off"):
        Canceller(RATE)


def test_a_library_that_does_not_load_here_is_the_same_error(tmp_path):
    program = (
        "from device_agent.dsp.aec import Canceller\ntry: Canceller(24000)\nexcept ValueError as error: print(error)"
    )
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LIVEKIT_LIB_PATH": str(broken)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pip install 'device-agent[echo]'" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_library_is_not_loaded_before_it_is_needed():
    program = "import sys, device_agent.dsp.aec; print([name for name in sys.modules if 'livekit' in name])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60) == "[]\n"
