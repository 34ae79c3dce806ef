"""The doctor, run in this process on a written configuration."""

from __future__ import annotations

import io
import json
from pathlib import Path

from device_agent.doctor.doctor import check
from tests.support.agent_process import question, write_wav

KEY = "a-key-that-is-secret"


def write_config(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "config.yaml"
    heard = write_wav(folder / "heard.wav", question())
    path.write_text(
        f"service: {{url: '{url}'}}\nmicrophone: {{device: 'wav:{heard}'}}\n"
        f"speaker: {{device: 'wav:{folder}/said.wav'}}\nbutton: {{pin: }}\nlight: {{pin: }}\n{more}"
    )
    return path


def printed(path: Path, **options: bool) -> tuple[int, str]:
    out = io.StringIO()
    return check(path, out, **options), out.getvalue()


def told(path: Path, **options: bool) -> tuple[int, dict]:
    status, text = printed(path, as_json=True, **options)
    return status, json.loads(text)


def marks(document: dict) -> dict[str, str]:
    return {each["name"]: each["mark"] for each in document["checks"]}


def services(document: dict) -> list[dict[str, dict]]:
    """Return what was said of each service, by name."""
    groups = dict.fromkeys(each["group"] for each in document["checks"] if each["group"].startswith("Service"))
    return [{each["name"]: each for each in document["checks"] if each["group"] == group} for group in groups]
