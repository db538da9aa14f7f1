"""The learned retriever: tokens equal those of transformers, photos upright, errors that say what to do."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch

from lgsfm.errors import InputError, WeightsError
from lgsfm.images import photo_from_array
from lgsfm.pairing import PairOptions, select_pairs, voting_pairs
from lgsfm.retrievers import dinov2
from lgsfm.retrievers.dinov2 import Dinov2Options, Dinov2Retriever, describe_tokens
from lgsfm.settings import Settings
from lgsfm.types import Features

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with random weights, as ``save_pretrained`` writes it."""
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14
    )
    path = tmp_path_factory.mktemp("model")
    transformers.Dinov2Model(config).save_pretrained(path)
    return path


def retriever(folder, **options):
    return Dinov2Retriever(Dinov2Options(retriever_model=str(folder), retriever_edge_px=56, **options), device="cpu")


def picture(seed=0, size=(60, 80)):
    rough = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC)


def test_descriptors_are_made_of_the_tokens_of_transformers(folder):
    ours = retriever(folder)
    images = {"a": picture(0), "b": picture(1), "tall": picture(2, (90, 60)), "c": picture(3)}
    found = ours.describe_photos(list(images), lambda name, edge: photo_from_array(images[name], edge))
    network = transformers.AutoModel.from_pretrained(folder).eval()
    for row, image in zip(found, images.values(), strict=True):
        with torch.no_grad():
            tokens = network(pixel_values=ours.pixels(image)[None]).last_hidden_state[0].numpy()
        mean = (tokens[1:].astype(float) ** 3).mean(0)
        parts = [tokens[0], np.cbrt(mean)]
        expected = np.concatenate([part / np.linalg.norm(part) for part in parts]) / np.sqrt(2)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert found.shape == (4, 64)
    assert found.dtype == np.float32
    assert ours.describe_photos([], None).shape == (0, 0)


def test_pixels_are_whole_patches_normalised_and_not_cropped(folder):
    pixels = retriever(folder).pixels(np.full((60, 125, 3), 255, np.uint8))
    assert pixels.shape == (3, 56, 112)
    np.testing.assert_allclose(pixels[:, 3, 3], (1 - np.array(dinov2.MEAN)) / dinov2.STD, rtol=1e-5)
    assert retriever(folder).pixels(np.zeros((50, 5000, 3), np.uint8)).shape == (3, 56, 224)


def test_registers_are_no_patches():
    tokens = torch.randn(1, 1 + 4 + 9, 8)
    other = tokens.clone()
    other[:, 1:5] += 5
    assert torch.equal(describe_tokens(tokens, 4), describe_tokens(other, 4))
    assert not torch.allclose(describe_tokens(tokens, 0), describe_tokens(other, 0))


@pytest.fixture
def collection(tmp_path):
    """Three scenes, two photos each; one photo lies on its side, and its features say so."""
    features = {}
    for scene in range(3):
        for view in range(2):
            name, turned = f"{view}-{scene}.png", (view, scene) == (1, 0)
            image = picture(scene)
            cv2.imwrite(str(tmp_path / name), np.rot90(image, 1 if turned else 0))
            none = np.zeros(0, np.float32)
            size = (60, 80) if turned else (80, 60)
            features[name] = Features(
                np.zeros((0, 2), np.float32), np.zeros((0, 8), np.float32), none, size, "sift", 6 if turned else 1
            )
    return tmp_path, features


def test_pairs_are_selected_by_the_upright_photos(collection, folder):
    images, features = collection
    options = PairOptions(pairs="retrieval", neighbors=1)
    pairs = select_pairs(list(features), options, features=features, retriever=retriever(folder), image_dir=images)
    assert pairs == [(f"0-{scene}.png", f"1-{scene}.png") for scene in range(3)]
    with pytest.raises(InputError, match="looks at the photos"):
        select_pairs(list(features), options, features=features, retriever=retriever(folder))


def test_what_is_up_is_voted_on_without_it(folder):
    features = {
        f"{i:02}.jpg": Features(
            np.zeros((4, 2), np.float32), np.eye(4, 8, dtype=np.float32), np.ones(4, np.float32), (9, 9), "sift"
        )
        for i in range(61)
    }
    assert voting_pairs(list(features), features, lambda: retriever(folder))


def test_settings_make_it_and_its_weights_are_on_record(folder):
    flags = {"retriever": "dinov2", "retriever_model": str(folder), "device": "cpu", "offline": True}
    made = Settings.from_flags(flags).make_retriever()
    assert made.device == "cpu"
    assert made.offline
    assert len(made.weight_file.sha256) == 64
    assert made.weight_file.spec.licence == "unknown, look it up"
    assert "unknown" in next(iter(made.notes()))
    assert dinov2.LICENCES["facebook/dinov2-base"] == "Apache-2.0"
    with pytest.raises(InputError, match="retriever_model is of dinov2"):
        Settings.from_flags({"retriever": "asmk", "retriever_model": "x"})


def test_a_missing_model_is_said_by_a_check_that_needs_no_photos(tmp_path, folder):
    flags = {"retriever": "dinov2", "offline": True}
    with pytest.raises(WeightsError, match=r"config\.json of the model"):
        Settings.from_flags({**flags, "retriever_model": str(tmp_path)}).check_retriever()
    Settings.from_flags({**flags, "retriever_model": str(folder)}).check_retriever()
    Settings.from_flags({}).check_retriever()


def test_without_transformers_it_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(dinov2, "find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(InputError, match=r"pip install 'lgsfm\[retrieval\]'"):
        Settings.from_flags({"retriever": "dinov2"})


def test_weights_that_cannot_be_had_are_one_error_that_says_what_to_do(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("LGSFM_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"offline mode is on .* --retriever asmk"):
        Dinov2Retriever(Dinov2Options(retriever_model="nobody/nothing"))
    with pytest.raises(WeightsError, match=r"config\.json of the model"):
        retriever(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")  # may run code: not read
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        retriever(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit", "auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(InputError, match=r"type 'vit'.*dinov2"):
        retriever(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        _ = retriever(tmp_path).network
