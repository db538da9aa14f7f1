"""Damaged versions of small JSON files: whole files that are something else, and single values that are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["damaged_texts", "replaced_values", "whole_texts"]

DEEP = 10_000
HUGE = "\0huge"  # stands for numbers that JSON may hold and Python writes otherwise
NESTED = "\0nested"
OTHERS: tuple[Any, ...] = (None, [], {}, "x", -1, 0.5, True, HUGE, NESTED, [[1]], {"x": 1}, ["x"])


def whole_texts(intact: str) -> Iterator[tuple[str, str]]:
    """(name, text) of files that are no such file at all, or half of one."""
    yield from ((repr(text), text) for text in ("", "{}", "[]", "null", '"x"', "1", "-1e400", "\0", "\ufeff{}", "[[]]"))
    yield "nested lists", "[" * DEEP + "]" * DEEP
    yield "nested objects", '{"a":' * DEEP + "1" + "}" * DEEP
    yield "a number of 5000 digits", f'{{"x": {"9" * 5000}}}'
    yield from ((f"cut off at {k}/8", intact[: len(intact) * k // 8]) for k in range(1, 8))


def replaced_values(intact: str) -> Iterator[tuple[str, str]]:
    """(name, text) of files in which one value is of another kind, or one key is not there; without a checksum."""
    content = json.loads(intact)
    content.pop("checksum", None)
    for path in _paths(content):
        name = ".".join(map(str, path))
        yield f"without {name}", _text(_changed(content, path, None, is_gone=True))
        for other in OTHERS:
            yield f"{name} is {str(other).strip(chr(0))}", _text(_changed(content, path, other))


def damaged_texts(intact: str) -> list[tuple[str, str]]:
    """All of them."""
    return [*whole_texts(intact), *replaced_values(intact)]


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values, of a list's those in the first."""
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _changed(content: Any, path: tuple[Any, ...], other: Any, *, is_gone: bool = False) -> Any:
    content = copy.deepcopy(content)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if is_gone:
        del holder[path[-1]]
    else:
        holder[path[-1]] = other
    return content


def _text(content: Any) -> str:
    nested = "[" * DEEP + "]" * DEEP
    return json.dumps(content).replace(json.dumps(HUGE), "1e400").replace(json.dumps(NESTED), nested)
