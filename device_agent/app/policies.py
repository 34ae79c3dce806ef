"""Policies of the parts, from the configuration."""

from __future__ import annotations

from ..audio.cues import CuePolicy
from ..audio.gate import ATTACK_WINDOW_FRAMES, GatePolicy
from ..config.model import Config, TalkConfig
from ..core.conversation import TurnPolicy
from ..dsp.pcm import frames
from ..state.store import StateStore


def turn_policy(config: Config) -> TurnPolicy:
    """Return the policy of the conversation."""
    return TurnPolicy(
        voice_starts=config.talk.start == "voice",
        voice_interrupts=config.talk.interrupt == "voice",
        press_unmutes=config.controls.mute is None,
        follow_up_s=config.talk.follow_up_s,
        idle_s=None if stays_connected(config) else config.connection.idle_s,
        patience_s=config.service.patience_s,
    )


def gate_policy(talk: TalkConfig) -> GatePolicy:
    """Return the policy of the gate."""
    return GatePolicy(max(frames(talk.silence_ms), ATTACK_WINDOW_FRAMES), frames(talk.preroll_ms), talk.end == "device")


def cue_policy(config: Config) -> CuePolicy:
    """Return the policy of the cues."""
    return CuePolicy(config.cues.volume, config.alarms.volume, config.cues.play)


def half_duplex(config: Config) -> bool:
    """Return whether the microphone is ignored while the loudspeaker plays."""
    return config.talk.interrupt != "voice"


def stays_connected(config: Config) -> bool:
    """Return whether the connection stays open between turns."""
    return config.connection.mode == "always"


def can_unmute(config: Config) -> bool:
    """Return whether the device has a control that unmutes; without one, a muted speaker would stay muted."""
    return config.controls.mute is not None or config.button.pin is not None


def begins_muted(config: Config, switch: bool | None, memory: StateStore) -> bool:
    """Return whether the device starts muted: as its *switch* says, if there is one, else as it was."""
    if switch is not None:
        return switch
    return memory.get("muted", False) is True and can_unmute(config)


def remembered_volume(memory: StateStore, configured: int) -> int:
    """Return the volume as it was, unless config.yaml has got another one since."""
    volume = memory.get("volume", configured)
    known = memory.get("configured_volume", None) == configured
    if not known or not isinstance(volume, int) or isinstance(volume, bool) or not 0 <= volume <= 100:
        memory.put("configured_volume", configured)
        memory.put("volume", configured)
        return configured
    return volume
