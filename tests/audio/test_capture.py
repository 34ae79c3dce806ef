"""The microphone's thread: what wakes it, and what ends it. A real thread, and a microphone with hands."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.app.factories import open_echo, open_gate
from device_agent.audio.capture import CaptureThread
from device_agent.config.model import Config, TalkConfig
from device_agent.core.errors import DeviceFailed
from device_agent.core.events import DeviceReady, Event, MicrophoneLost
from device_agent.link.outbox import Outbox

RATE = 16000
PATIENCE_S = 20.0


class Card:
    """A microphone that opens or fails when it is let, and hears silence."""

    def __init__(self) -> None:
        self.overflows = 0
        self.works = True
        self.frames = 0
        self.heard: Callable[[], None] = lambda: None
        self.opening = threading.Event()
        """The card is being opened."""
        self.let = threading.Event()
        self.let.set()

    def open(self) -> None:
        self.opening.set()
        assert self.let.wait(PATIENCE_S)
        self._try()

    def read(self) -> bytes:
        self._try()
        self.frames += 1
        self.heard()
        return bytes(RATE // 50 * 2)

    def _try(self) -> None:
        if not self.works:
            raise DeviceFailed("unplugged")

    def close(self) -> None: ...


class Listening:
    """Ears that live in a thread, and what they tell."""

    def __init__(self, *, muted: bool = False) -> None:
        config = Config()
        self.card, self.told, self.stopping = Card(), [], threading.Event()
        self._happened = threading.Condition()
        self.card.heard = self._wake
        self.meetings = 0
        self.ears = CaptureThread(
            self.card,
            open_echo(config, RATE),
            open_gate(TalkConfig(), RATE),
            Outbox(limit=100_000).put,
            self._tell,
            self,  # type: ignore[arg-type]
            muted=muted,
            patient=True,
        )
        self._thread = threading.Thread(target=self.ears.run, args=(self.stopping,), daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.card.let.set()
        self.stop()
        assert self.ended()

    def meet(self) -> None:
        """Of the ports that are closed for a moment."""
        self.meetings += 1

    def stop(self) -> None:
        """What a worker does."""
        self.stopping.set()
        self.ears.wake()

    def ended(self) -> bool:
        self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def hears(self) -> None:
        """Wait until frames are read."""
        before = self.card.frames
        with self._happened:
            assert self._happened.wait_for(lambda: self.card.frames > before + 1, PATIENCE_S)

    def _tell(self, event: Event) -> None:
        with self._happened:
            self.told.append(type(event))
            self._happened.notify_all()

    def _wake(self) -> None:
        with self._happened:
            self._happened.notify_all()

    def tells(self, kind: type, times: int = 1) -> None:
        with self._happened:
            assert self._happened.wait_for(lambda: self.told.count(kind) >= times, PATIENCE_S)


def test_a_stop_while_the_card_fails_to_open_is_not_overlooked():
    with Listening() as listening:
        listening.card.let.clear()
        listening.ears.reopen()
        listening.card.opening.clear()
        assert listening.card.opening.wait(PATIENCE_S)
        listening.card.works = False
        listening.stop()
        listening.card.let.set()
        assert listening.ended()


def test_a_microphone_that_is_muted_while_the_card_fails_is_not_lost():
    with Listening() as listening:
        listening.tells(DeviceReady)
        listening.card.let.clear()
        listening.card.opening.clear()
        listening.ears.reopen()
        assert listening.card.opening.wait(PATIENCE_S)
        listening.ears.mute(True)
        listening.card.works = False
        listening.card.let.set()
        listening.tells(DeviceReady, 2)
        assert MicrophoneLost not in listening.told
        listening.card.works = True
        listening.ears.mute(False)
        listening.tells(DeviceReady, 3)


def test_a_wish_to_reopen_does_not_outlive_a_mute():
    with Listening(muted=True) as listening:
        listening.ears.mute(False)
        listening.tells(DeviceReady, 2)
        listening.card.let.clear()
        listening.card.opening.clear()
        listening.ears.reopen()
        assert listening.card.opening.wait(PATIENCE_S)
        before = listening.meetings
        listening.ears.reopen()
        listening.ears.mute(True)
        listening.card.let.set()
        listening.ears.mute(False)
        listening.tells(DeviceReady, 3)
        assert listening.meetings == before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["mute", "unmute", "reopen", "break", "mend", "wake"]), max_size=12),
    st.booleans(),
)
def test_after_any_of_it_they_hear_again_and_they_end(steps, muted):
    with Listening(muted=muted) as listening:
        for step in steps:
            match step:
                case "mute" | "unmute":
                    listening.ears.mute(step == "mute")
                case "reopen":
                    listening.ears.reopen()
                case "wake":
                    listening.ears.wake()
                case _:
                    listening.card.works = step == "mend"
        listening.card.works = True
        listening.ears.mute(False)
        listening.hears()
