"""Notes on valid settings of a service: a model that is to be withdrawn, a tool that waits for an approval."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from urllib.parse import urlsplit

from ..config.model import ServiceConfig
from ..services.endings import ending
from ..services.registry import rules
from .findings import Finding, Mark


def notes(service: ServiceConfig, today: date) -> Iterator[Finding]:
    """Yield what the owner should know about the settings of *service*."""
    yield from _ending(service, today)
    yield from _waiting_for_approval(service)


def _ending(service: ServiceConfig, today: date) -> Iterator[Finding]:
    """Look for the end of the model; a server of one's own, or a proxy, may use any names."""
    cls = rules(service.name, service.dialect)
    own = service.url and urlsplit(service.url).hostname != urlsplit(cls.url).hostname
    model = service.model or cls.model
    said, successor = ending(model, today)
    if not said or (own and service.name != "litellm"):
        return
    if service.name == "litellm":
        said, advice = f"if the alias {model} stands for the model: {said}", "let the proxy lead it to"
    else:
        advice = "write into config.yaml, under service, model:"
    yield Finding("model", said, Mark.NOTE, f"{advice} {successor}", {"model": model, "successor": successor})


def _waiting_for_approval(service: ServiceConfig) -> Iterator[Finding]:
    """Look for tools that wait for an approval, which a speaker cannot give."""
    if not rules(service.name, service.dialect).asks_approval:
        return
    for tool in service.tools:
        if isinstance(tool, dict) and tool["type"] == "mcp" and tool.get("require_approval") in (None, "always"):
            label = tool.get("server_label", "")
            text = f"the tools of the MCP server {label} wait for an approval, which a speaker cannot give"
            advice = "write require_approval: never beside its server_label, in service.tools"
            yield Finding("tools", text, Mark.NOTE, advice, {"server_label": label})
