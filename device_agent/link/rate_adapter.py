"""Rate adapter: converts the audio of one connection between the sample rates of the device and of the service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.actions import Action
from ..core.events import AudioTurn, Event, ReplyAudio, ReplyEnded, Speech, TalkEnded, TalkStarted
from ..dsp.resampling import Resampler, resample


class RateAdapter:
    """Resamples between *rate*, that of the device in Hz, and the rate given to each call, which a service may change
    when the session begins. Equal rates pass untouched. Belongs to the link's thread.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._up, self._down = Resampler(rate, rate), Resampler(rate, rate)
        self._up_rate = self._down_rate = rate
        self._reply = ""

    def up(self, item: Speech | Action, rate: int) -> Iterable[Speech | Action]:
        """Return *item* with its audio at *rate*; before the end of a turn, the rest in the filter."""
        return (item,) if rate == self._rate else self._converted_up(item, rate)

    def _converted_up(self, item: Speech | Action, rate: int) -> Iterator[Speech | Action]:
        if rate != self._up_rate:
            self._up, self._up_rate = Resampler(self._rate, rate), rate
        match item:
            case bytes():
                if sound := self._up.feed(item):
                    yield sound
                return
            case AudioTurn(pcm):
                item = AudioTurn(resample(pcm, self._rate, rate))
            case TalkStarted():
                self._up.clear()
            case TalkEnded():
                if rest := self._up.flush():
                    yield rest
        yield item

    def down(self, event: Event, rate: int) -> Iterable[Event]:
        """Return *event*, whose audio has *rate*, at the device's rate; before the end of a reply, the rest."""
        return (event,) if rate == self._rate else self._converted_down(event, rate)

    def _converted_down(self, event: Event, rate: int) -> Iterator[Event]:
        if rate != self._down_rate:
            self._down, self._down_rate = Resampler(rate, self._rate), rate
        if isinstance(event, ReplyAudio):
            if event.reply != self._reply:
                self._down.clear()
            self._reply = event.reply
            yield ReplyAudio(event.reply, self._down.feed(event.pcm))
            return
        if isinstance(event, ReplyEnded) and event.reply == self._reply and (rest := self._down.flush()):
            yield ReplyAudio(event.reply, rest)
        yield event
