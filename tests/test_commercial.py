"""`--commercial`: weights that are not for commercial use are refused before anything is downloaded."""

from __future__ import annotations

import json

import pytest
from cli_helpers import copy_photos, hide_weights, run, views

from lgsfm import weights
from lgsfm.errors import WeightsError
from lgsfm.retrievers.dinov2 import Dinov2Options, Dinov2Retriever
from lgsfm.settings import Settings, choose_features


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Fails on any try to download."""
    hide_weights(monkeypatch, tmp_path / "cache")

    def forbidden(*_: object) -> None:
        raise AssertionError("something is downloaded")

    monkeypatch.setattr("lgsfm.weights.downloads", forbidden)


def test_non_commercial_weights_are_refused_with_what_to_take(no_network):
    with pytest.raises(WeightsError, match=r"MagicLeap.*--features aliked, or sift"):
        weights.fetch("superpoint", commercial=True)
    with pytest.raises(AssertionError, match="downloaded"):  # and not without the flag
        weights.fetch("superpoint")


def test_weights_that_are_here_are_refused_too(no_network, tmp_path, monkeypatch):
    spec = weights.MODELS["superpoint"][0]
    (tmp_path / spec.name).write_bytes(b"x")
    monkeypatch.setattr("lgsfm.weights._sha256", lambda path: spec.sha256)
    assert weights.fetch("superpoint", weights_dir=tmp_path).spec == spec
    with pytest.raises(WeightsError, match="not for commercial use"):
        weights.fetch("superpoint", weights_dir=tmp_path, commercial=True)


def test_of_two_files_the_one_that_is_allowed_is_taken(no_network, tmp_path, monkeypatch):
    """The safetensors file of LightGlue holds SuperPoint, too."""
    for spec in weights.MODELS["lightglue-superpoint"]:
        (tmp_path / spec.name).write_bytes(spec.sha256.encode())
    monkeypatch.setattr("lgsfm.weights._sha256", lambda path: path.read_text())
    (tmp_path / "superpoint_lightglue.pth").rename(tmp_path / "aside")
    assert not weights.fetch("lightglue-superpoint", weights_dir=tmp_path).spec.commercial_use
    (tmp_path / "aside").rename(tmp_path / "superpoint_lightglue.pth")
    assert weights.fetch("lightglue-superpoint", weights_dir=tmp_path, commercial=True).spec.commercial_use


def test_auto_takes_what_is_allowed(monkeypatch):
    monkeypatch.setattr("lgsfm.weights.is_put_in_place", lambda *_: True)
    chosen = {flag: choose_features(Settings.from_flags({"commercial": flag}).run)[0] for flag in (False, True)}
    assert chosen == {False: "superpoint", True: "aliked"}


def test_a_retriever_of_unknown_licence_is_refused_unseen(no_network, monkeypatch):
    pytest.importorskip("transformers")
    assert Dinov2Retriever.allows_commercial_use(Dinov2Options())
    flags = {"retriever": "dinov2", "retriever_model": "somebody/dinov2-fine-tuned"}
    monkeypatch.setattr(Dinov2Retriever, "__init__", lambda *_, **__: pytest.fail("it is looked for"))
    with pytest.raises(WeightsError, match="--retriever asmk"):
        Settings.from_flags({**flags, "commercial": True}).make_retriever()


def test_a_run_ends_before_it_begins(no_network, courtyard, tmp_path):
    photos = copy_photos(courtyard / "images", tmp_path / "photos", views(0, 1))
    ran = run("reconstruct", photos, "-o", tmp_path / "out", "--features", "superpoint", "--commercial")
    assert ran.code == 1
    assert "not for commercial use" in ran.err
    assert not list((tmp_path / "out").glob("*.h5"))
    pose = run("pose", photos / "view00.jpg", photos / "view01.jpg", "--features", "superpoint", "--commercial")
    assert (pose.code, "not for commercial use" in pose.err) == (1, True)


def test_it_is_recorded_and_later_commands_keep_it(courtyard, tmp_path):
    photos = copy_photos(courtyard / "images", tmp_path / "photos", views(0, 1))
    ran = run("extract", photos, "-o", tmp_path / "out", "--features", "sift", "--max-edge-px", "200", "--commercial")
    assert ran.code == 0
    options = json.loads((tmp_path / "out" / "options.json").read_text())
    assert options["run"]["commercial"] is True
    ran = run("pairs", photos, "-o", tmp_path / "out", "--features", "superpoint", "--pairs", "retrieval")
    assert ran.code == 1
    assert "not for commercial use" in ran.err
