"""Shutdown dates of models, as announced by their vendors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

MODEL_ENDS: Mapping[str, tuple[date, str]] = {
    "gpt-realtime": (date(2027, 1, 20), "gpt-realtime-2.1"),
    "gpt-realtime-2025-08-28": (date(2027, 1, 20), "gpt-realtime-2.1"),
    "gpt-realtime-mini": (date(2027, 1, 20), "gpt-realtime-2.1-mini"),
    "gpt-realtime-mini-2025-12-15": (date(2027, 1, 20), "gpt-realtime-2.1-mini"),
    "gpt-4o-transcribe": (date(2027, 2, 26), "gpt-transcribe"),
    "gpt-4o-mini-transcribe": (date(2027, 2, 26), "gpt-transcribe"),
    "gpt-4o-mini-transcribe-2025-12-15": (date(2027, 2, 26), "gpt-transcribe"),
    "whisper-1": (date(2027, 2, 26), "gpt-transcribe"),
}
"""Model -> its last day and its successor. The days stand in the types of openai 3.57.0 (November 2026) and on
developers.openai.com/api/docs/deprecations. The successor of a voice model is named by docs.retellai.com (deprecation
notice 2027/01-19), that of a transcription by the page itself."""


def ending(model: str, today: date) -> tuple[str, str]:
    """Return a sentence that *model* ends or has ended, and its successor; twice "" if no date is known."""
    if model not in MODEL_ENDS:
        return "", ""
    day, successor = MODEL_ENDS[model]
    return f"{model} {'ends' if today <= day else 'ended'} on {day.isoformat()}", successor
