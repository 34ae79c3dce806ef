"""Form of an API key, and mistakes in its place: quotes, a name, a part of it, the key of another company.

No message shows any of the key.
"""

from __future__ import annotations

import re

MAX_KEY_BYTES = 4096
"""The keys of all services are far shorter."""
MIN_KEY_CHARS = 20
"""The companies give out keys of 40 characters and more."""
COMPANIES = {"xai": "xAI", "openai": "OpenAI", "ultravox": "Ultravox"}
"""First word of a service -> the company that gives out its keys; a proxy gives out keys of any form."""
ISSUERS = {"xai-": "xAI", "sk-ant-": "Anthropic", "sk-": "OpenAI", "AIza": "Google", "gsk_": "Groq"}
"""Beginning of a key -> the company that gives out such keys; the first that fits is right."""
QUOTES = "\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
NAMED = re.compile(r"(export\s+)?\w*(key|token|secret)\w*\s*[=:]\s*[^=\s]", re.IGNORECASE)


def text_of(raw: bytes) -> str:
    """Return *raw* as text, without the space around it."""
    return raw.decode(errors="replace").strip()


def key_flaw(raw: bytes) -> str:
    """Return why *raw* is no key, as the end of a sentence about its place; "" where it may be one. A key travels in a
    header, so that it has to be one visible word."""
    text = text_of(raw)
    if not text:
        return "is empty; write the key there"
    if NAMED.match(text):
        return "has a name in front of the key; keep only the key, without the name and the ="
    if text[0] in QUOTES or text[-1] in QUOTES:
        return "has quotes around the key; keep only the key, without quotes"
    if text.lower().startswith("bearer"):
        return "has the word Bearer in front of the key; keep only the key"
    if len(raw) > MAX_KEY_BYTES or not all("!" <= character <= "~" for character in text):
        return "holds more than a key; keep only the key, on one line"
    return ""


def issuer(text: str) -> str:
    """Return the company whose keys begin like *text*; "" where that is unknown."""
    return next((company for begin, company in ISSUERS.items() if text.startswith(begin)), "")


def wrong_company(text: str, service: str) -> str:
    """Return why the key *text* is not for the company of *service*, as ``key_flaw`` does; for a service at the address
    of its company, not for one behind a proxy."""
    wanted = COMPANIES.get(service.partition("-")[0])
    whose = issuer(text)
    if not wanted or whose in ("", wanted):
        return ""
    return f"is a key of {whose}, but {service} needs a key of {wanted}"


def too_short(text: str, service: str) -> str:
    """Return why *text* is only a part of a key, as ``wrong_company`` does."""
    company = COMPANIES.get(service.partition("-")[0])
    if company is None or len(text) >= MIN_KEY_CHARS:
        return ""
    return f"is too short for a key of {company}: was all of it copied?"
