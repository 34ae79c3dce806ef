"""The documents, taken apart: blocks of code, spans of code in the text, headings, links."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.support.paths import ROOT

OPERATORS = {"&&", "||", "|", ";", "&"}


@dataclass(frozen=True)
class Block:
    """What stands between two fences: *about* is what stands behind the language."""

    document: str
    language: str
    about: str
    text: str


def documents() -> list[str]:
    """Return the names of all of them, as seen from the top."""
    return [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")),
    ]


@cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str) -> Iterator[Block]:
    """Yield the blocks of code, without the indentation of a list around them."""
    for found in re.finditer(r"^( *)```(\w*) ?([^\n]*)\n(.*?)^\1```$", text_of(document), re.MULTILINE | re.DOTALL):
        yield Block(document, found[2], found[3], textwrap.dedent(found[4]))


def prose(document: str) -> str:
    """Return the text without its blocks of code."""
    return without_code(text_of(document))


def without_code(text: str) -> str:
    """Return *text* without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(document: str) -> list[str]:
    """Return what stands in `backticks` in the text, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def written_by_hand(document: str) -> str:
    """Return the text without code, without what `make docs` writes into it, and without addresses."""
    text = re.sub(r"<!-- (\w+): written by .*?<!-- end of \1 -->", "", prose(document), flags=re.DOTALL)
    return re.sub(r"`[^`]+`|\]\([^)]+\)", "", text)


def links(document: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(document))


def anchors(document: str) -> set[str]:
    """Return the names of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def commands(document: str) -> Iterator[list[str]]:
    """Yield the words of each command in the blocks of shell, without sudo and variables in front of it."""
    for block in blocks(document):
        if block.language == "sh":
            for line in block.text.splitlines():
                yield from _commands_in(line)


def _commands_in(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in OPERATORS:
            words.append(word)
            continue
        while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
            del words[0]
        if words:
            yield words
        words = []


def block(document: str, about: str, language: str = "python") -> str:
    """Return the block of *document* that says *about* behind its language."""
    (found,) = (each for each in blocks(document) if (each.language, each.about) == (language, about))
    return found.text
