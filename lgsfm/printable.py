"""Texts of others as people may see them: names in files may hold what controls a terminal, or have no end."""

from __future__ import annotations

import re

__all__ = ["printable", "shortened"]

# Controls but for tab and newline; and what ends lines or turns the direction of writing
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MOST_LETTERS = 400  # of a text with a name in it: two long paths


def printable(text: str) -> str:
    """The text with the characters escaped that would control a terminal: names in files of others may have any."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, most: int = MOST_LETTERS) -> str:
    """The text without its middle, if it is longer than that.

    >>> shortened("0123456789", 5)
    '01 ... 89'
    """
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"
