"""What the tests of DISK and of XFeat have in common: golden files of `tests/golden/make_golden.py`."""

import numpy as np
import pytest
import torch

from lgsfm import weights
from lgsfm.errors import LgsfmError
from lgsfm.images import read_photo
from lgsfm.models import photo_tensor
from lgsfm.models.lightglue import Adaptivity, network_from_weights, normalize_keypoints
from lgsfm.models.lightglue_fast import FastLightGlue

PHOTOS = ("view00.jpg", "view04.jpg")
MAX_KEYPOINTS = 512


def tensors_of(model):
    """The weights of a model, if they are here or can be had."""
    try:
        return weights.load(weights.fetch(model))
    except LgsfmError as exc:
        pytest.skip(f"no weights of {model}: {exc}")


def image_of(courtyard, name):
    return photo_tensor(read_photo(courtyard / "images" / name).rgb, torch.device("cpu"))


def golden_of(golden_dir, kind):
    """Those of a kind of features, without its name."""
    with np.load(golden_dir / "disk_xfeat.npz") as file:
        return {key.removeprefix(f"{kind}/"): file[key] for key in file if key.startswith(f"{kind}/")}


def assert_equal(found, scale, golden, name, score_tolerance):
    """Keypoints (times ``scale``), scores and descriptors are those of the reference, in any order."""
    keypoints = found.keypoints.numpy() * scale
    expected = golden[f"{name}/keypoints"]
    assert len(keypoints) == len(expected) == MAX_KEYPOINTS
    distance = np.linalg.norm(keypoints[:, None] - expected[None], axis=2)
    nearest = distance.argmin(0)
    assert distance.min(0).max() < 1e-3
    assert np.abs(found.scores.numpy()[nearest] - golden[f"{name}/keypoint_scores"]).max() < score_tolerance
    assert np.abs(found.descriptors.numpy()[nearest] - golden[f"{name}/descriptors"]).max() < 1e-3  # kept in float16
    assert (np.diff(found.scores.numpy()) <= 0).all()


def assert_equal_matches(kind, golden, courtyard):
    """LightGlue with the weights for a kind of features finds what the reference finds, on both paths."""
    network = network_from_weights(tensors_of(f"lightglue-{kind}"))
    sides = []
    for name in PHOTOS:
        height, width = image_of(courtyard, name).shape[-2:]
        keypoints = normalize_keypoints(torch.from_numpy(golden[f"{name}/keypoints"]), width, height)
        sides.append((keypoints, torch.from_numpy(golden[f"{name}/descriptors"].astype(np.float32))))
    fast = FastLightGlue(network)
    adaptivity = Adaptivity(-1, -1, 0.1)
    (keypoints0, descriptors0), (keypoints1, descriptors1) = sides
    plain = network((keypoints0, keypoints1), (descriptors0, descriptors1), adaptivity)
    for found in (plain, fast(*(fast.prepare(*side) for side in sides), adaptivity)):
        assert {*map(tuple, found.indices.tolist())} == {*map(tuple, golden["matches"].tolist())}
        assert len(found.indices) > 50
        assert np.abs(np.sort(found.scores.numpy()) - np.sort(golden["match_scores"])).max() < 1e-3
