"""A loudspeaker that swallows what it gets first: silence goes before each sound, and every account stays right.

First the ring buffer alone, where a frame is 20 samples and a sample a millisecond; then all of it on a virtual card.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.audio.cues import CuePolicy, Cues
from device_agent.audio.echo_control import EchoControl
from device_agent.audio.jitter import JitterEstimator
from device_agent.audio.playback_buffer import Marker, OutputFrame, PlaybackBuffer
from device_agent.audio.playout import PlayoutThread
from device_agent.core.actions import Cue
from device_agent.core.events import PlaybackEnded, PlaybackStarted
from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import frame_bytes, samples
from device_agent.hardware.ports import Cut, never
from device_agent.runtime.rendezvous import Rendezvous
from device_agent.simulator import Simulator
from tests.support.agent_process import RATE as HERTZ
from tests.support.agent_process import config, question, running
from tests.support.cards import FifoCard, RemoteSpeaker, wait_for

RATE, FRAME, BUFFER, WAKE = 1000, 20, 120, 500
SILENCE = OutputFrame(bytes(2 * FRAME))
LEAD = [SILENCE] * (WAKE // FRAME)


class Clock:
    ms = 0.0

    def __call__(self) -> float:
        return self.ms / 1000


class Listener:
    """Reads like the speaker's thread, with a loudspeaker that holds BUFFER ms and then takes a frame in its time."""

    def __init__(self, wake: int = WAKE, prefill_ms: int = 0) -> None:
        self.clock = Clock()
        self.playback = PlaybackBuffer(RATE, wake=wake, prefill=JitterEstimator(prefill_ms / 1000), clock=self.clock)
        self.echo = EchoControl(RATE)
        self.items: list[object] = []
        self.holds_until = 0.0  # when all that was written has sounded

    def read(self, count: int = 1) -> list[object]:
        """Read so many items, each of which is there without waiting."""
        for _ in range(count):
            item = self.playback.read()
            self.items.append(item)
            if isinstance(item, OutputFrame):
                self.echo.played(item, BUFFER / 1000, self.clock())
                self.holds_until = max(self.clock.ms, self.holds_until) + len(item.pcm) // 2
                self.clock.ms = max(self.clock.ms, self.holds_until - BUFFER)
            elif isinstance(item, Marker):
                self.echo.dropped(self.clock())
                self.holds_until = self.clock.ms
        return self.items[-count:]


def voice(count: int, first: int = 1) -> bytes:
    return np.arange(first, first + count, dtype=np.int16).tobytes()


def test_with_nothing_to_wake_nothing_goes_before_a_sound():
    here = Listener(wake=0)
    here.playback.write("a", voice(40))
    assert here.read(2) == [PlaybackStarted("a"), OutputFrame(voice(20), voice(20))]


def test_silence_goes_before_a_reply_and_before_a_cue():
    reply, cue = Listener(), Listener()
    reply.playback.write("a", voice(40))
    cue.playback.play(voice(20))
    assert reply.read(len(LEAD) + 2) == [*LEAD, PlaybackStarted("a"), OutputFrame(voice(20), voice(20))]
    assert cue.read(len(LEAD) + 1) == [*LEAD, OutputFrame(voice(20), cue=True)]


def test_it_goes_before_the_first_of_several_and_not_between_them():
    here = Listener()
    here.playback.play(voice(20))
    here.read(len(LEAD) + 1)
    here.playback.play(voice(20))
    assert here.read() == [OutputFrame(voice(20), cue=True)]
    here.read(3)  # silence behind it; the loudspeaker still runs
    here.playback.write("a", voice(40))
    assert here.read(2) == [PlaybackStarted("a"), OutputFrame(voice(20), voice(20))]


@pytest.mark.parametrize("ends", ["reply", "cue", "cut", "reopened"])
def test_it_goes_again_before_what_comes_after_the_loudspeaker_stopped(ends):
    here = Listener()
    if ends == "cue":
        here.playback.play(voice(20))
    else:
        here.playback.write("a", voice(40))
    if ends == "reply":
        here.playback.finish()
    here.read(len(LEAD) + 2)
    if ends == "cut":
        here.playback.cut()
        here.playback.accept()
    if ends == "reopened":
        here.playback.request_reopen(at_once=True)
    while not isinstance(here.read()[0], (Marker, PlaybackEnded)):
        pass
    here.playback.play(voice(20))
    *lead, sound = here.read(len(LEAD) + 1)
    assert lead == LEAD
    assert sound.cue


def test_it_is_the_time_in_which_a_reply_waits_for_its_prefill():
    """The ring takes in what comes meanwhile, and nothing waits twice."""
    here = Listener(prefill_ms=300)
    here.playback.write("a", voice(40))
    assert here.read(len(LEAD) + 1) == [*LEAD, PlaybackStarted("a")]


def test_a_loudspeaker_that_is_awake_is_kept_so_while_a_reply_waits_for_its_prefill():
    here = Listener(wake=100, prefill_ms=300)
    here.playback.write("a", voice(40))
    items = here.read(16)
    assert items[:15] == [SILENCE] * 15
    while items[-1] == SILENCE:
        items += here.read()
    assert items[-1] == PlaybackStarted("a")
    assert here.clock.ms >= 300


def test_a_reply_that_comes_in_the_silence_behind_a_cue_finds_the_loudspeaker_awake():
    here = Listener(prefill_ms=300)
    here.playback.play(voice(20))
    here.read(len(LEAD) + 2)
    here.playback.write("a", voice(40))
    items: list[object] = []
    while PlaybackStarted("a") not in items:
        items += here.read()
    assert Marker.FLUSH not in items


def test_a_cut_in_the_silence_has_heard_nothing_and_leaves_nothing():
    here = Listener()
    here.playback.write("a", voice(400))
    here.read(10)
    assert here.playback.cut() == ("a", 0)
    assert here.read() == [Marker.FLUSH]
    assert here.playback.quiet


@pytest.mark.parametrize("read", [1, 3, 6, 7, 20])
def test_what_was_heard_of_a_cut_reply_is_what_was_read_without_what_the_loudspeaker_holds(read):
    """As ``agent`` reckons it, for the service to be told where the reply was cut."""
    here = Listener()
    here.playback.write("a", voice(900))
    here.read(len(LEAD) + 1 + read)
    _, read_ms = here.playback.cut()
    heard_ms = read_ms - 1000 * here.echo.unheard(here.clock())
    sounded_ms = FRAME * read - (here.holds_until - here.clock.ms)
    assert read_ms == FRAME * read
    assert heard_ms == pytest.approx(sounded_ms, abs=1)
    assert sounded_ms == pytest.approx(max(0, FRAME * read - BUFFER), abs=FRAME) or read < BUFFER // FRAME


def test_what_the_loudspeaker_still_has_behind_the_silence_is_no_gap():
    here = Listener()
    here.playback.write("a", voice(40))
    here.read(len(LEAD) + 3)
    here.clock.ms = here.holds_until - 1
    here.playback.write("a", voice(40, 41))
    assert here.playback.underruns == 0
    assert here.read() == [OutputFrame(voice(20, 41), voice(20, 41))]


def test_a_reply_that_fell_silent_goes_on_with_a_loudspeaker_that_is_awake():
    here = Listener()
    here.playback.write("a", voice(40))
    here.read(len(LEAD) + 3)
    here.clock.ms = here.holds_until + 100
    here.playback.write("a", voice(40, 41))
    assert here.playback.underruns == 1
    assert here.read(len(LEAD) + 1) == [*LEAD, OutputFrame(voice(20, 41), voice(20, 41))]


def test_an_edit_takes_effect_at_once():
    here = Listener()
    here.playback.write("a", voice(40))
    here.read(3)
    here.playback.wake = 0
    assert here.read() == [PlaybackStarted("a")]


DEEDS = st.lists(
    st.tuples(st.sampled_from(["write", "finish", "cue", "ring", "hush", "cut", "read", "wait"]), st.integers(1, 200)),
    max_size=60,
)


@given(DEEDS, st.sampled_from([20, 100, 500]))
def test_whatever_happens_a_loudspeaker_that_stopped_gets_silence_before_sound(deeds, wake):
    here = Listener(wake, prefill_ms=100)
    for number, (deed, size) in enumerate(deeds):
        do(here, deed, size, reply=str(sum(each in ("finish", "cut") for each, _ in deeds[:number])))
    here.playback.ring(b"")
    here.playback.finish()
    read_what_is_there(here, 10_000)
    assert here.playback.quiet
    quiet = 0  # ms of silence since the loudspeaker stopped; -1: it is awake
    for item in here.items:
        if isinstance(item, (Marker, PlaybackEnded)):
            quiet = 0
        elif isinstance(item, OutputFrame) and quiet >= 0:
            assert item == SILENCE or quiet >= wake, "it would be swallowed"
            quiet = quiet + FRAME if item == SILENCE else -1


def do(here: Listener, deed: str, size: int, reply: str) -> None:
    p = here.playback
    match deed:
        case "write":
            p.write(reply, voice(size))
        case "finish":
            p.finish(reply)
        case "cue":
            p.play(voice(25))
        case "ring" | "hush":
            p.ring(voice(25) if deed == "ring" else b"")
        case "cut":
            p.cut()
            p.accept()
        case "wait":
            here.clock.ms += size
        case "read":
            read_what_is_there(here, size)


def read_what_is_there(here: Listener, most: int) -> None:
    """Read without ever waiting: where the reader would have to wait, an error ends the reading."""
    here.playback._wait = nothing_there  # type: ignore[method-assign]
    try:
        for _ in range(most):
            here.read()
    except LookupError:
        pass


def nothing_there() -> None:
    raise LookupError


# On a card ------------------------------------------------------------------------------------------------------------


class Uncut:
    """A loudspeaker in another process, which cannot be told of a cut in the middle of a call."""

    underruns = 0

    def __init__(self, speaker: RemoteSpeaker) -> None:
        self._speaker = speaker
        self.open, self.drop, self.close = speaker.open, speaker.drop, speaker.close

    @property
    def latency(self) -> float:
        return self._speaker.latency

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        self._speaker.write(pcm)

    def drain(self, cut: Cut = never) -> None:
        self._speaker.drain()


@contextmanager
def speaking(card: FifoCard, wake: int):
    """Yield a ring buffer whose sound a real thread plays on the card; what it tells is in the list."""
    pytest.importorskip("pyaudio", reason="needs PyAudio")
    playback, told = PlaybackBuffer(HERTZ, wake=wake), []
    speaker = Uncut(card.process().speaker(HERTZ))
    mouth = PlayoutThread(playback, speaker, EchoControl(HERTZ), told.append, Rendezvous())
    stopping = threading.Event()
    thread = threading.Thread(target=mouth.run, args=[stopping])
    thread.start()
    try:
        yield playback, told
    finally:
        stopping.set()
        mouth.wake()
        thread.join(20)


def chirp(seconds: float) -> bytes:
    time = np.arange(samples(seconds, HERTZ)) / HERTZ
    return (8000 * np.sin(2 * np.pi * (200 * time + 1000 * time**2))).astype(np.int16).tobytes()


@pytest.mark.parametrize("what", ["cue", "reply"])
@pytest.mark.parametrize(("swallows", "wake", "whole"), [(0.3, 300, True), (0.8, 800, True), (0.3, 0, False)])
def test_a_sound_is_whole_on_a_card_that_swallows_its_beginning(what, swallows, wake, whole):
    said = chirp(0.3) if what == "reply" else Cues(HERTZ, CuePolicy(50, 70)).sound(Cue.LISTENING)
    with FifoCard(HERTZ, paced=True, swallows=swallows) as card, speaking(card, wake) as (playback, told):

        def is_whole() -> bool:
            play(playback, said, told if what == "reply" else None)
            wait_for(lambda: playback.quiet and card.asleep, "the card to fall asleep")
            return said in card.heard()

        for _ in range(2):  # again after it fell asleep
            # On a busy machine the card may run dry, and fall asleep in the middle.
            assert any(is_whole() for _ in range(5)) if whole else not is_whole()


def play(playback: PlaybackBuffer, said: bytes, told: list[object] | None) -> None:
    """Play a cue, or a reply to its end."""
    if told is None:
        playback.play(said)
        return
    told.clear()
    for start in range(0, len(said), frame_bytes(HERTZ)):
        playback.write("a", said[start : start + frame_bytes(HERTZ)])
    playback.finish("a")
    wait_for(lambda: PlaybackEnded("a") in told, "the end of the reply")


@pytest.mark.slow
@pytest.mark.parametrize(("wake", "whole"), [(400, True), (0, False)])
def test_an_answer_is_whole_where_the_configuration_says_so(tmp_path, wake, whole):
    with Simulator(think_s=0.05) as simulator, FifoCard(HERTZ, paced=True, swallows=0.4) as card:
        path = config(tmp_path, simulator.url)
        path.write_text(path.read_text().replace("volume: 100", f"volume: 100, wake_ms: {wake}"))
        with running("run", "--config", path, env=card.env) as agent:
            agent.says("-> ready")
            card.play(question())
            agent.says("speaking -> ready")
            heard = card.heard()
            assert agent.end(15) == 0, agent.log
    (turn,) = simulator.turns
    assert (turn.pcm in heard) is whole
    assert likeness(turn.pcm[2 * HERTZ : 3 * HERTZ], heard)[0] > 0.999, "it sounded at all"
