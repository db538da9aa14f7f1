"""What the properties are tried on: names, pairs, features, matches, rotations; and how many examples of each.

Properties are what must hold for any input; hypothesis makes up the inputs. The gate tries the same few examples each
time. To look for more, say how many of each::

    LGSFM_EXAMPLES=2000 python -m pytest tests/properties

A failing example is printed in its smallest form; the fix gets a plain test with it, or an ``@example``.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lgsfm.types import Features, Matches, canonical_pair

PHASES = [Phase.explicit, Phase.generate]
examples = int(os.environ.get("LGSFM_EXAMPLES") or 0)
settings.register_profile(
    "lgsfm",
    database=None,
    deadline=None,
    derandomize=not examples,
    max_examples=examples or 40,
    phases=PHASES if os.environ.get("LGSFM_NO_SHRINKING") else [*PHASES, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],  # that says nothing about the code
)
settings.load_profile("lgsfm")  # here, not in a conftest.py, which would hide that of the folder above

LETTERS = st.characters(exclude_categories=("Cs", "Cc"), min_codepoint=32, exclude_characters="/")
ODD = [
    "%",
    "%2F",
    "%25",
    "#",
    " ",
    "..x",
    "..",
    "...",
    "\\",
    "'",
    '"',
    "a",
    "a-b",
    "é",
    "e\u0301",
    "中",
    "\ufeff",
    "\u2028",
]
ODD += ["\x85", "keypoints", "scores", "descriptors", "image_size", "complete", "x" * 200]
PARTS = st.one_of(st.sampled_from(ODD), st.text(LETTERS, min_size=1, max_size=12), st.integers(0, 120).map(str))
PARTS = PARTS.filter(lambda part: part != ".")  # no file is called so

#: names as `lgsfm.images.list_images` may give them, and more
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PHOTOS = NAMES.map(lambda name: f"{name}.jpg")

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
unit_float32 = st.floats(0, 1, width=32)
sizes = st.tuples(st.integers(1, 9000), st.integers(1, 9000))
orientations = st.integers(1, 8)


@st.composite
def pair_lists(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES, max_size: int = 8):
    """Names, and canonical pairs of them without repetition."""
    chosen = draw(st.lists(names, min_size=2, max_size=max_size, unique=True))
    places = st.tuples(*[st.integers(0, len(chosen) - 1)] * 2).filter(lambda ij: ij[0] != ij[1])
    pairs = {canonical_pair(chosen[i], chosen[j]) for i, j in draw(st.lists(places, max_size=12))}
    return chosen, sorted(pairs)


@st.composite
def feature_sets(draw: st.DrawFn) -> Features:
    """Features of all shapes, with descriptors that float16 holds exactly."""
    n, dim = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    return Features(
        keypoints=draw(hnp.arrays(np.float32, (n, 2), elements=float32)),
        descriptors=draw(hnp.arrays(np.float16, (n, dim), elements=st.floats(-1, 1, width=16))).astype(np.float32),
        scores=draw(hnp.arrays(np.float32, (n,), elements=float32)),
        image_size=draw(sizes),
        extractor=draw(st.sampled_from(["aliked", "sift", "é 中"])),
        orientation=draw(orientations),
        source=draw(st.text("0123456789abcdef", max_size=8)),
    )


@st.composite
def match_sets(draw: st.DrawFn) -> Matches:
    """Matches of all lengths, with indices up to the largest of int32."""
    k = draw(st.integers(0, 5))
    return Matches(
        indices=draw(hnp.arrays(np.int32, (k, 2), elements=st.integers(0, 2**31 - 1))),
        scores=draw(hnp.arrays(np.float32, (k,), elements=unit_float32)),
        sources=draw(st.tuples(*[st.text("0123456789abcdef", max_size=8)] * 2)),
    )


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    """(4,) unit quaternions (w, x, y, z), of rotations by 0 and by 180 degrees too."""
    part = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-1, 1))
    q = draw(hnp.arrays(np.float64, 4, elements=part).filter(lambda q: np.linalg.norm(q) > 1e-3))
    return q / np.linalg.norm(q)


def points(n: int, low: float = -50.0, high: float = 9000.0) -> st.SearchStrategy[np.ndarray]:
    """(n, 2) float64 px."""
    return hnp.arrays(np.float64, (n, 2), elements=st.floats(low, high))


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
