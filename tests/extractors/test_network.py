"""What extractors have from `NetworkExtractor`, asked of one that finds two keypoints in any photo."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lgsfm.errors import MemoryShortageError
from lgsfm.extractors import ExtractorOptions
from lgsfm.extractors.network import NetworkExtractor
from lgsfm.images import Photo
from lgsfm.models.keypoints import Keypoints, best_first

FILES = {"two": SimpleNamespace(sha256="abc")}


class TwoExtractor(NetworkExtractor):
    """Keypoints at two pixels of what it sees."""

    kind = "two"
    options_class = ExtractorOptions

    def loaded(self):
        self.num_loads = getattr(self, "num_loads", 0) + 1
        return torch.nn.Identity()

    def detect(self, image, visible):
        self.seen, self.visible = self.network(image), visible
        return Keypoints(torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.tensor([0.9, 0.1]), torch.eye(2))


@pytest.fixture
def photo():
    rgb = np.full((3, 4, 3), 255, np.uint8)
    mask = np.eye(3, 4, dtype=bool)
    return Photo(rgb=rgb, size=(6, 8), orientation=6, scale=(2.0, 2.0), digest="d", mask=mask)


def extractor(options=ExtractorOptions()):  # noqa: B008
    return TwoExtractor(options, "cpu", FILES.__getitem__)


def test_the_identity_names_the_weights_and_the_options():
    options = ExtractorOptions(max_keypoints=7)
    expected = {"extractor": "two", "version": 1, "options": options.to_dict(), "weights": "abc"}
    assert extractor(options).identity == expected


def test_weights_are_located_at_once_and_loaded_once_with_the_first_photo(photo):
    with pytest.raises(KeyError):
        TwoExtractor(ExtractorOptions(), "cpu", {}.__getitem__)
    made = extractor()
    assert not hasattr(made, "num_loads")
    made.extract(photo)
    made.extract(photo)
    assert made.num_loads == 1


def test_keypoints_are_of_the_stored_photo_and_features_know_their_origin(photo):
    made = extractor()
    features = made.extract(photo)
    np.testing.assert_allclose(features.upright_keypoints, [[0.5, 0.5], [6.5, 2.5]])
    assert (features.keypoints < photo.size).all()  # raw pixels of a photo that is stored lying
    np.testing.assert_allclose(features.scores, [0.9, 0.1], rtol=1e-6)
    assert (features.extractor, features.orientation, features.source) == ("two", 6, "d")
    assert made.seen.shape == (1, 3, 3, 4)
    assert made.seen.max() == 1
    assert torch.equal(made.visible, torch.eye(3, 4, dtype=torch.bool))


def test_want_of_memory_is_explained(photo, monkeypatch):
    def fail(self, image, visible):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TwoExtractor, "detect", fail)
    with pytest.raises(MemoryShortageError, match="--max-edge-px"):
        extractor().extract(photo)


def test_equal_scores_stay_in_their_order():
    scores = torch.tensor([0.5, 0.9, 0.5, 0.7] * 50)  # enough for a sort that is not stable to show it
    found, order = best_first(scores, 0)
    assert order.tolist() == sorted(range(200), key=lambda i: -scores[i])
    assert torch.equal(found, scores[order])
    for part, whole in zip(best_first(scores, 60), (found, order), strict=True):
        assert torch.equal(part, whole[:60])
