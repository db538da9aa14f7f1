"""Options: frozen, keyword-only dataclasses that check themselves, hash themselves and become CLI flags.

A component or stage declares its options beside its code::

    @dataclass(frozen=True, kw_only=True)
    class NearestOptions(Options):
        ratio: float = option(0.9, "distance ratio to the second best; 1 keeps all", minimum=0, maximum=1)

``NearestOptions(ratio=2)`` raises `InputError` before anything is computed, and so does
``NearestOptions.from_dict({"ration": 0.8})``, which names the valid options.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

from .errors import InputError, unknown_name

__all__ = ["Options", "digest", "option"]


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A dataclass field with its effect (``help``) and its valid values; bounds are inclusive."""
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


def digest(value: Any, length: int = 12) -> str:
    """Hexadecimal hash of a JSON-able value; independent of the order of dictionary keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all options: validates on construction, converts to and from plain dictionaries."""

    def __post_init__(self) -> None:
        for field, value_type in self.fields():
            value = _as_type(field.name, getattr(self, field.name), value_type)
            object.__setattr__(self, field.name, value)
            _check_value(field, value)

    @classmethod
    def fields(cls) -> Iterator[tuple[dataclasses.Field[Any], type]]:
        """The fields with their resolved types, in the order of their declaration."""
        hints = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            yield field, hints[field.name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Options from a dictionary. Raises `InputError` on a name that does not exist."""
        valid = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in valid:
                raise unknown_name(f"option of {cls.__name__}", name, valid)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON-able values."""
        return dataclasses.asdict(self)


def _as_type(name: str, value: Any, value_type: type) -> Any:
    """``value`` if it is of ``value_type`` (an int passes for a float), else `InputError`."""
    if value_type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_bool_for_int = value_type is int and isinstance(value, bool)
    if value_type in (int, float, str, bool) and (not isinstance(value, value_type) or is_bool_for_int):
        raise InputError(f"Option {name} must be {value_type.__name__}, not {value!r}.")
    return value


def _check_value(field: dataclasses.Field[Any], value: Any) -> None:
    meta = field.metadata
    choices, minimum, maximum = meta.get("choices"), meta.get("minimum"), meta.get("maximum")
    if choices and value not in choices:
        raise unknown_name(f"value of option {field.name}:", str(value), choices)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"Option {field.name} must be a finite number, not {value}.")
    if minimum is not None and value < minimum:
        raise InputError(f"Option {field.name} must be at least {minimum:g}, not {value}.")
    if maximum is not None and value > maximum:
        raise InputError(f"Option {field.name} must be at most {maximum:g}, not {value}.")
