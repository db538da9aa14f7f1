"""The file of rules that tells what is known of some cameras: a JSON list, of which the first rule that fits holds.

    [
      {"images": "left/*.jpg", "model": "OPENCV", "params": [1200, 1200, 960, 540, 0, 0, 0, 0], "shared": true},
      {"images": ["phone/", "IMG_1*"], "size": [4032, 3024], "focal_px": 3010},
      {"images": "old/", "trusted": false}
    ]

images    names relative to the folder of photos, folders, or patterns, in which * also stands for /
size      [width, height]: only photos stored at this size
model     COLMAP's name of the camera model; without it as --camera-model says
params    all parameters in COLMAP's order and pixels (the centre of the top-left pixel is 0.5, 0.5), or instead
focal_px  the focal length alone
shared    true: one camera for all these photos; false: one for each; without it as --camera-mode says
trusted   false: the focal length is a start and no more; true: it is an error if none is known
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .cameras import MODELS
from .errors import InputError, unknown_name
from .options import digest

__all__ = ["CameraRule", "read_rules", "rules_digest"]

EXAMPLE = '[{"images": "left/*", "focal_px": 1200}]'


@dataclass(frozen=True)
class CameraRule:
    """One rule of the file."""

    path: Path
    number: int  # in the file, from 1
    patterns: tuple[str, ...]
    size: tuple[int, int] | None = None  # (width, height) px
    model: str = ""
    params: tuple[float, ...] = ()
    focal_px: float | None = None
    is_shared: bool | None = None
    is_trusted: bool | None = None

    @property
    def label(self) -> str:
        """The rule for people."""
        return f"rule {self.number} of {self.path.name}"

    @property
    def where(self) -> str:
        """The rule in an error."""
        return f"{self.path}, rule {self.number}"

    @property
    def focal_key(self) -> str:
        """The key that gives the focal length, "" if none does."""
        return "params" if self.params else "focal_px" if self.focal_px else ""

    def fits(self, name: str, size: tuple[int, int] | None) -> bool:
        """Whether it is of the image with this name and stored (width, height)."""
        return self.size in (None, size) and any(_fits(pattern, name) for pattern in self.patterns)


def _fits(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(name, pattern)


def read_rules(path: Path) -> list[CameraRule]:
    """The rules in a file.

    Raises:
        InputError: it cannot be read, or says something that has no meaning.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as exc:
        raise InputError(f"{path} is nested too deeply. An example of what is wanted: {EXAMPLE}") from exc
    except OSError as exc:
        raise InputError(f"The camera file '{path}' cannot be read: {exc.strerror}. Check --cameras.") from exc
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise InputError(f"{path} is no JSON: {exc.msg} in {place}. An example of what is: {EXAMPLE}") from exc
    except ValueError as exc:
        raise InputError(f"{path} is no JSON text in UTF-8: {exc}.") from exc
    if not isinstance(content, list):
        raise InputError(f"{path} must hold a list of rules, such as {EXAMPLE}")
    return [_rule(path, number, entry) for number, entry in enumerate(content, start=1)]


def rules_digest(file: str) -> str:
    """Hash of what the rules in a file say; "" where there is no such file. Raises `InputError` as `read_rules`."""
    if not file or not Path(file).is_file():
        return ""
    return digest([{**asdict(rule), "path": ""} for rule in read_rules(Path(file))])


def _rule(path: Path, number: int, entry: Any) -> CameraRule:
    where = f"{path}, rule {number}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be an object in braces, such as {EXAMPLE[1:-1]}, not {json.dumps(entry)}.")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in KEYS:
            raise InputError(f"{where}: {unknown_name('key', key, KEYS)}")
        field, convert, wanted = KEYS[key]
        try:
            values[field] = convert(value)
        except (TypeError, ValueError, OverflowError) as exc:
            raise InputError(f"{where}: '{key}' must be {wanted}, not {json.dumps(value)}.") from exc
        except InputError as exc:
            raise InputError(f"{where}: '{key}': {exc}") from exc
    if "patterns" not in values:
        raise InputError(f"{where} has no 'images': it must say which photos it is of.")
    if "params" in values and "focal_px" in values:
        raise InputError(f"{where} has 'params' and 'focal_px', which the parameters hold already: give one of them.")
    return CameraRule(path, number, **values)


# --------------------------------------------------------------------------------- values
def _patterns(value: Any) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns or not all(isinstance(text, str) and text for text in patterns):
        raise ValueError
    return tuple(patterns)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: Any) -> float:
    if _number(value) <= 0:
        raise ValueError
    return float(value)


def _params(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(_number(number) for number in value)


def _size(value: Any) -> tuple[int, int]:
    width, height = value
    if not all(type(edge) is int and edge > 0 for edge in (width, height)):
        raise ValueError
    return width, height


def _model(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    if value.upper() not in MODELS:
        raise unknown_name("camera model", value.upper(), MODELS)
    return value.upper()


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


# key -> field of `CameraRule`, conversion, what a value must be
KEYS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "images": ("patterns", _patterns, "a name, folder or pattern, or a list of them"),
    "size": ("size", _size, "two whole numbers of pixels, [width, height]"),
    "model": ("model", _model, "COLMAP's name of a camera model"),
    "params": ("params", _params, "a list of finite numbers"),
    "focal_px": ("focal_px", _positive, "a positive number of pixels"),
    "shared": ("is_shared", _bool, "true or false"),
    "trusted": ("is_trusted", _bool, "true or false"),
}
