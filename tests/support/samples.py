"""Samples that several tests use."""

from __future__ import annotations

import json

MORE_THAN_A_PIPE_HOLDS = json.dumps({"long": "é" * 30_000}, ensure_ascii=False)
"""Arguments as long as they may be; what is written to a command has six characters for each of these."""
