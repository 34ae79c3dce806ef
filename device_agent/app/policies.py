"""What a configuration means to one part of the device."""

from __future__ import annotations

from typing import Any

from ..audio.gate import ATTACK_WINDOW_FRAMES
from ..config.model import Config, TalkConfig
from ..dsp.pcm import frames
from ..state.store import StateStore


def conversation_rules(config: Config) -> dict[str, Any]:
    """Return what the conversation goes by."""
    return {
        "voice_starts": config.talk.start == "voice",
        "voice_interrupts": config.talk.interrupt == "voice",
        "follow_up": config.talk.follow_up_s,
        "idle": None if stays_connected(config) else config.connection.idle_s,
        "press_unmutes": config.controls.mute is None,
        "patience_s": config.service.patience_s,
    }


def gate_rules(talk: TalkConfig) -> dict[str, int]:
    """Return what the gate goes by, in frames."""
    return {"silence": max(frames(talk.silence_ms), ATTACK_WINDOW_FRAMES), "preroll": frames(talk.preroll_ms)}


def cue_rules(config: Config) -> dict[str, Any]:
    """Return which cues there are, and how loud."""
    return {"volume": config.cues.volume, "alarm_volume": config.alarms.volume, "wanted": config.cues.play}


def half_duplex(config: Config) -> bool:
    """Return whether the device is deaf while it speaks."""
    return config.talk.interrupt != "voice"


def stays_connected(config: Config) -> bool:
    """Return whether there is a connection although nobody speaks."""
    return config.connection.mode == "always"


def can_unmute(config: Config) -> bool:
    """Return whether there is something to unmute by: a speaker that could only be muted would be deaf for good."""
    return config.controls.mute is not None or config.button.pin is not None


def begins_muted(config: Config, switch: bool | None, memory: StateStore) -> bool:
    """Return whether the microphone is to be closed: by its *switch*, if there is one, else as it was."""
    if switch is not None:
        return switch
    return memory.get("muted", False) is True and can_unmute(config)


def remembered_volume(memory: StateStore, configured: int) -> int:
    """Return the volume as it was, unless the owner has written another one into config.yaml since."""
    volume = memory.get("volume", configured)
    known = memory.get("configured_volume", None) == configured
    if not known or not isinstance(volume, int) or isinstance(volume, bool) or not 0 <= volume <= 100:
        memory.put("configured_volume", configured)
        memory.put("volume", configured)
        return configured
    return volume
