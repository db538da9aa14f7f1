"""Thousands of damaged texts through what reads them: pair lists, camera rules, poses, configurations.

    python tests/fuzz/texts.py --count 2500            # of each kind; --seed, --kind, --keep FOLDER

Every text must be read or refused by an error of lgsfm, in time, within 256 MiB and without an end of the process.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutated
from sandbox import fuzz

from lgsfm.camera_rules import read_rules
from lgsfm.errors import LgsfmError
from lgsfm.evaluation import evaluate
from lgsfm.hf.config import AutoConfig, LightGlueConfig, SuperPointConfig
from lgsfm.pairing.files import read_pairs
from lgsfm.poses import load_poses

__all__ = ["KINDS", "text", "text_case"]

MEMORY_BYTES = 256 << 20
NAMES = ["a.jpg", "b.jpg", "sub dir/é c.jpg", "#d.png"]
WORDS = (
    *("", "0", "-1", "nan", "NaN", "Infinity", "1e400", "1e-400", "-0.0", "9" * 30, "9" * 5000, "0x10", "true", "null"),
    *("[]", "{}", '"x"', "[" * 3000, "../../etc/passwd", "/etc/passwd", "C:\\x", "\0", "\x1b[2J", "\t", " ", "\r\n"),
    *("\u2028", "#", "é", "*"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 0.5, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x", "float16"),
    *([], {}, [1], ["x"], [[]], [2**40] * 4, [1.5] * 4, [True] * 4, {"model_type": "aliked"}, {"model_type": []}),
)
MORE_KEYS = ("auto_map", "trust_remote_code", "torch_dtype", "model_type", "size", "images", "__class__", "check", "")


def originals() -> dict[str, str]:
    """An intact text of each kind."""
    rng = np.random.default_rng(0)
    poses = [" ".join([name, *(f"{value:.6f}" for value in rng.normal(size=7))]) for name in NAMES]
    rules = [
        {"images": "left/*.jpg", "model": "OPENCV", "params": [1200, 1200, 960, 540, 0, 0, 0, 0], "shared": True},
        {"images": ["phone/", "IMG_1*"], "size": [4032, 3024], "focal_px": 3010},
        {"images": "old/", "trusted": False},
    ]
    return {
        "pairs": f"# two names\n{NAMES[0]}\t{NAMES[1]}\n{NAMES[0]} {NAMES[2]}\n{NAMES[3]}\t{NAMES[2]}\n",
        "rules": json.dumps(rules, indent=1),
        "poses": "# name qw qx qy qz cx cy cz\n" + "\n".join(poses) + "\n",
        "config": LightGlueConfig().to_json_string(),
        "detector": SuperPointConfig().to_json_string(),
    }


def _pairs(path: Path) -> None:
    for pair in read_pairs(path, NAMES):
        assert set(pair) <= set(NAMES)


def _rules(path: Path) -> None:
    for rule in read_rules(path):
        assert rule.focal_px is None or 0 < rule.focal_px < np.inf
        assert np.isfinite(rule.params).all()
        for name in NAMES:
            rule.fits(name, (4032, 3024))


def _poses(path: Path) -> None:
    poses = load_poses(path)
    for pose in poses.values():
        assert np.isfinite(pose.rotation).all()
        assert np.isfinite(pose.centre).all()
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-6)
    if len(poses) > 1:
        found = evaluate(poses, poses)
        assert all(0 <= value <= 100 + 1e-9 for value in found.auc.values())


def _config(path: Path) -> None:
    path.rename(path.parent / "config.json")
    config = AutoConfig.from_pretrained(path.parent)
    assert type(config).from_dict(config.to_dict()) == config or "nan" in repr(config)


KINDS: dict[str, Callable[[Path], None]] = {
    "pairs": _pairs,
    "rules": _rules,
    "poses": _poses,
    "config": _config,
    "detector": _config,
}


def _other_value(value: Any, rng: np.random.Generator) -> Any:
    """The JSON value with another one somewhere in it, a key more, or one less."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return VALUES[rng.integers(len(VALUES))]
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[rng.integers(len(keys))]
    what = rng.random()
    if what < 0.1:
        del value[key]
    elif what < 0.2 and isinstance(value, dict):
        value[MORE_KEYS[rng.integers(len(MORE_KEYS))]] = VALUES[rng.integers(len(VALUES))]
    else:
        value[key] = _other_value(value[key], rng)
    return value


def text(kind: str, seed: int, number: int) -> bytes:
    """The damaged text of this number: bytes changed, or numbers and words in it."""
    rng = np.random.default_rng((seed, sorted(KINDS).index(kind), number))
    data = originals()[kind]
    if data[0] in "[{" and rng.random() < 0.5:
        return json.dumps(_other_value(json.loads(data), rng)).encode()
    if rng.random() < 0.3:
        return mutated(data.encode(), rng)
    for _ in range(int(rng.integers(1, 4))):
        parts = data.split(" ")
        at = int(rng.integers(len(parts)))
        word = WORDS[rng.integers(len(WORDS))]
        ending = parts[at][len(parts[at].rstrip(",\n]}")) :] if rng.random() < 0.8 else ""
        parts[at] = word + ending
        data = " ".join(parts)
    return data.encode()


def text_case(kind: str, seed: int, folder: Path, number: int) -> str:
    """Reads a text; the outcome in words."""
    path = folder / "text"
    path.write_bytes(text(kind, seed, number))
    try:
        KINDS[kind](path)
    except LgsfmError as exc:
        return f"refused by {type(exc).__name__}"
    return "read"


def main() -> int:
    return fuzz(
        __doc__.splitlines()[0], list(KINDS), text, text_case, count=2500, memory_bytes=MEMORY_BYTES, limit_s=10
    )


if __name__ == "__main__":
    sys.exit(main())
