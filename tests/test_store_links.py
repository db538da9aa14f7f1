"""Links within a store: of a stranger's, they would lead into other files, or nowhere, or round and round."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lgsfm.errors import CacheError, DamageError
from lgsfm.salvage import remove, rewrite, surveyed
from lgsfm.store import FeatureStore, MatchStore, num_keypoints, source_of
from lgsfm.types import Features, Matches

NAMES = ("a.jpg", "sub/b.jpg")


def features(seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(5, 8)).astype(np.float32)
    return Features(
        keypoints=rng.uniform(0, 99, (5, 2)).astype(np.float32),
        descriptors=descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
        scores=np.ones(5, np.float32),
        image_size=(100, 100),
        extractor="x",
        source=f"source {seed}",
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two photos."""
    path = tmp_path / "features-x-0.h5"
    with FeatureStore(path, {"extractor": "x"}) as opened:
        opened.write_all({name: features() for name in NAMES})
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A store elsewhere."""
    path = tmp_path / "elsewhere" / "features-x-0.h5"
    path.parent.mkdir()
    with FeatureStore(path, {"extractor": "x"}) as opened:
        opened.write_all({"linked.jpg": features(1), "in/secret.jpg": features(2)})
    return path


LINKS = {
    "external entry": lambda file, secret: h5py.ExternalLink(secret, "/linked.jpg"),
    "external, of nothing": lambda file, secret: h5py.ExternalLink(secret.with_name("none.h5"), "/linked.jpg"),
    "soft": lambda file, secret: h5py.SoftLink("/a.jpg"),
    "soft, to the top": lambda file, secret: h5py.SoftLink("/"),
    "soft, to nothing": lambda file, secret: h5py.SoftLink("/nothing"),
    "soft, to itself": lambda file, secret: h5py.SoftLink("/linked.jpg"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_in_the_place_of_an_entry_is_damage_and_goes(kind: str, store: Path, secret: Path, tmp_path: Path):
    before = secret.read_bytes()
    with h5py.File(store, "a") as file:
        file["linked.jpg"] = LINKS[kind](file, secret)
    with FeatureStore(store) as opened:
        state = surveyed(opened)
        assert list(state.damaged) == ["linked.jpg"]
        assert "is a link to elsewhere" in state.damaged["linked.jpg"]
        assert state.names == sorted(NAMES)
        for ask in (
            lambda: opened["linked.jpg"],
            lambda: "linked.jpg" in opened,
            lambda: source_of(opened, "linked.jpg"),
            lambda: num_keypoints(opened, "linked.jpg"),
            lambda: list(opened),
        ):
            with pytest.raises(DamageError, match=r"entry 'linked\.jpg' is damaged: it is a link to elsewhere"):
                ask()
    with FeatureStore(store, {"extractor": "x"}) as opened:  # for who writes it is absent, and is made again
        assert "linked.jpg" not in opened
        assert sorted(opened) == sorted(NAMES)
        opened["linked.jpg"] = features(5)
        assert opened["linked.jpg"].source == "source 5"
    with FeatureStore(store) as opened:
        assert sorted(opened) == sorted((*NAMES, "linked.jpg"))
        assert opened["a.jpg"].source == "source 0"
    assert secret.read_bytes() == before


def test_a_link_is_removed_and_not_what_it_leads_to(store: Path, secret: Path, tmp_path: Path):
    before = secret.read_bytes()
    with h5py.File(store, "a") as file:
        file["linked.jpg"], file["other.jpg"] = h5py.ExternalLink(secret, "/linked.jpg"), h5py.SoftLink("/a.jpg")
    remove(store, ["linked.jpg", "other.jpg"], tmp_path / "log")
    with FeatureStore(store) as opened:
        assert sorted(opened) == sorted(NAMES)
    assert secret.read_bytes() == before


@pytest.mark.parametrize("target", ["/in", "/"])
def test_nothing_is_written_or_removed_through_a_folder_that_is_in_another_file(target: str, store: Path, secret: Path):
    before = secret.read_bytes()
    with h5py.File(store, "a") as file:
        file["linked"] = h5py.ExternalLink(secret, target)
    with FeatureStore(store, {"extractor": "x"}) as opened:
        for name in ("secret.jpg", "new.jpg"):
            with pytest.raises(DamageError):
                opened[f"linked/{name}"] = features(3)
            with pytest.raises(DamageError):
                opened.remove([f"linked/{name}"])
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["keypoints", "scores"])
def test_arrays_are_not_taken_from_other_files(name: str, store: Path, secret: Path):
    with h5py.File(store, "a") as file:
        del file["a.jpg"][name]
        file["a.jpg"][name] = h5py.ExternalLink(secret, f"/linked.jpg/{name}")
    with FeatureStore(store) as opened:
        with pytest.raises(DamageError, match="link to elsewhere"):
            opened["a.jpg"]
        if name == "scores":
            with pytest.raises(DamageError, match="link to elsewhere"):
                opened.count("a.jpg")
        assert list(surveyed(opened).damaged) == ["a.jpg"]


def test_a_store_in_itself_many_times_comes_to_an_end(store: Path, tmp_path: Path):
    with h5py.File(store, "a") as file:
        for number in range(20):  # 20^100 paths
            file[f"self{number}"] = file["/"]
            file["sub"][f"up{number}"] = file["/sub"]
    with FeatureStore(store) as opened:
        state = surveyed(opened)
    assert state.names == sorted(NAMES)
    assert len(state.damaged) == 40
    kept, _ = rewrite(store, tmp_path / "log")
    assert kept == 2
    with FeatureStore(store) as opened:
        assert sorted(opened) == sorted(NAMES)


def test_links_between_matches_are_damage_too(tmp_path: Path):
    found = Matches(np.array([[0, 1]], np.int32), np.ones(1, np.float32), ("s0", "s1"))
    path = tmp_path / "matches-x-0.h5"
    with MatchStore(path, {"matcher": "x"}) as opened:
        opened["a.jpg", "b.jpg"] = found
    with h5py.File(path, "a") as file:
        file["a.jpg/c.jpg"], file["d.jpg"] = h5py.SoftLink("/a.jpg/b.jpg"), h5py.SoftLink("/a.jpg")
    with MatchStore(path) as opened:
        assert sorted(surveyed(opened).damaged) == ["a.jpg/c.jpg", "d.jpg"]
        for key in (("a.jpg", "c.jpg"), ("d.jpg", "b.jpg")):
            with pytest.raises(CacheError, match="link to elsewhere"):
                opened[key]
        assert opened["a.jpg", "b.jpg"].sources == ("s0", "s1")
