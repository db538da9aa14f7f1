"""What the tests of the documentation share: its pages, and the blocks on them."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import architecture  # noqa: F401 - of docs/, which is no package

FENCE = re.compile(r"^([ ]*)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: (language, text). ``bash`` and ``python`` are executed, ``sh`` is only parsed."""
    for found in FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield found[2], textwrap.dedent(found[3])


def commands(page: str) -> list[str]:
    """All command lines of lgsfm on a page: in shell blocks, in indented ones, and in `code` within the text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for language, block in blocks(page) if language in ("bash", "sh") for line in block.splitlines()]
    lines += re.findall(r"^ {4}(?:\$ )?(lgsfm .+)$", FENCE.sub("", text), re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`(lgsfm [^`]+)`", FENCE.sub("", text))]
    return [
        part.strip() for line in lines for part in re.split(r"&&|;|^if ", line) if part.strip().startswith("lgsfm ")
    ]
