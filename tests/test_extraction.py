"""The feature stage with a dictionary for the store and an extractor that is a plain function of the photo."""

import threading

import numpy as np
import pytest

from lgsfm.errors import InputError
from lgsfm.extraction import MIN_EDGE_PX, extract_features
from lgsfm.extractors import ExtractorOptions
from lgsfm.store import FeatureStore
from lgsfm.types import Features


class ToyExtractor:
    """One keypoint in the middle of the photo; its descriptor is the mean colour."""

    kind = "toy"

    def __init__(self, **options):
        self.options = ExtractorOptions(**options)
        self.seen = []

    def extract(self, photo):
        self.seen.append(photo.rgb.shape)
        middle = np.array([[photo.rgb.shape[1] - 1, photo.rgb.shape[0] - 1]], np.float32) / 2
        colour = photo.rgb.mean((0, 1), dtype=np.float32)[None]
        keypoints = photo.to_stored(middle)
        return Features(keypoints, colour, np.ones(1, np.float32), photo.size, "toy", photo.orientation, photo.digest)


@pytest.fixture
def folder(tmp_path, save_photo):
    """Three photos of different colours."""
    for i, name in enumerate(["a.png", "é/b c.png", "c.png"]):
        save_photo(tmp_path / name, np.full((40, 60, 3), 50 * i, np.uint8), orientation=(1, 6, 3)[i])
    return tmp_path


NAMES = ["a.png", "c.png", "é/b c.png"]


def colours(store):
    return {name: found.descriptors[0, 0] for name, found in store.items()}


def test_each_photo_gets_its_features(folder):
    store, extractor = {}, ToyExtractor()
    report = extract_features(folder, NAMES, extractor, store)
    assert (report.computed, report.reused, report.failed) == (NAMES, [], {})
    assert colours(store) == {"a.png": 0, "é/b c.png": 50, "c.png": 100}
    assert extractor.seen == [(40, 60, 3)] * 3
    assert store["é/b c.png"].image_size == (40, 60)  # stored upright it would be (60, 40)
    np.testing.assert_allclose(store["é/b c.png"].keypoints, [[19.5, 29.5]])


@pytest.mark.parametrize(("edge", "shape"), [(30, (20, 30, 3)), (0, (40, 60, 3))])
def test_photos_are_reduced_as_the_options_say(edge, shape, folder):
    extractor = ToyExtractor(max_edge_px=edge)
    extract_features(folder, NAMES, extractor, store := {})
    assert extractor.seen == [shape] * 3
    np.testing.assert_allclose(store["a.png"].keypoints, [[29.5, 19.5]])


def test_the_order_of_photos_does_not_matter(folder):
    extract_features(folder, NAMES, ToyExtractor(), one := {})
    extract_features(folder, NAMES[::-1], ToyExtractor(), other := {})
    assert colours(one) == colours(other)


def test_a_second_run_computes_nothing(folder):
    extract_features(folder, NAMES, ToyExtractor(), store := {})
    again, calls = ToyExtractor(), []
    report = extract_features(folder, NAMES, again, store, progress=lambda *call: calls.append(call))
    assert (report.reused, report.computed, again.seen, calls) == (NAMES, [], [], [])


def test_a_damaged_entry_is_computed_again(folder, tmp_path):
    with FeatureStore(tmp_path / "s.h5", {"extractor": "toy"}) as store:
        extract_features(folder, NAMES, ToyExtractor(), store)
        store.file["c.png/keypoints"][0, 0] += 1
        report = extract_features(folder, NAMES, ToyExtractor(), store)
        assert (report.computed, report.reused) == (["c.png"], ["a.png", "é/b c.png"])
        np.testing.assert_allclose(store["c.png"].keypoints, [[29.5, 19.5]])


def test_a_changed_photo_is_computed_again(folder, save_photo):
    extract_features(folder, NAMES, ToyExtractor(), store := {})
    save_photo(folder / "c.png", np.full((40, 60, 3), 7, np.uint8))
    report = extract_features(folder, NAMES, ToyExtractor(), store)
    assert (report.computed, report.reused) == (["c.png"], ["a.png", "é/b c.png"])
    assert colours(store)["c.png"] == 7


def test_an_unusable_photo_is_named_and_skipped(folder, save_photo):
    extract_features(folder, NAMES, ToyExtractor(), store := {})
    (folder / "c.png").write_bytes((folder / "c.png").read_bytes()[:60])
    save_photo(folder / "tiny.png", np.zeros((MIN_EDGE_PX - 1, 100, 3), np.uint8))
    report = extract_features(folder, [*NAMES, "tiny.png", "missing.png"], ToyExtractor(), store)
    assert report.reused == ["a.png", "é/b c.png"]
    assert list(report.failed) == ["c.png", "tiny.png", "missing.png"]
    assert report.failed["tiny.png"] == f"smaller than {MIN_EDGE_PX} pixels."
    assert report.failed["missing.png"] == "the file does not exist."
    assert "c.png" not in report.failed["c.png"]  # whoever prints it names the photo
    assert sorted(store) == ["a.png", "é/b c.png"]  # the features of the photo that c.png was are gone


def test_a_photo_that_is_too_narrow_only_when_reduced_is_told_so(tmp_path, save_photo):
    save_photo(tmp_path / "wide.png", np.zeros((40, 600, 3), np.uint8))
    assert extract_features(tmp_path, ["wide.png"], ToyExtractor(max_edge_px=0), {}).computed == ["wide.png"]
    with pytest.raises(InputError, match=r"too narrow once reduced to 60x4 pixels\. Raise --max-edge-px"):
        extract_features(tmp_path, ["wide.png"], ToyExtractor(max_edge_px=60), {})


def test_strict_names_the_photo_that_is_too_small(tmp_path, save_photo):
    save_photo(tmp_path / "tiny.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"tiny\.png: smaller than 16 pixels\.$"):
        extract_features(tmp_path, ["tiny.png"], ToyExtractor(), {}, is_strict=True)


@pytest.mark.parametrize("edge", [1, MIN_EDGE_PX - 1])
def test_photos_are_not_reduced_to_nothing(edge):
    with pytest.raises(InputError, match="max_edge_px must be at least 16, or 0 for the full size"):
        ExtractorOptions(max_edge_px=edge)


def test_strict_stops_at_an_unusable_photo(folder):
    (folder / "c.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"c\.png"):
        extract_features(folder, NAMES, ToyExtractor(), {}, is_strict=True)


def test_no_thread_outlives_an_error_that_somebody_keeps(folder):
    """One that Python's collector had to end would be ended in the middle of anything, and may then wait for itself."""
    (folder / "a.png").write_bytes(b"no photo")
    with pytest.raises(InputError) as kept:
        extract_features(folder, NAMES, ToyExtractor(), {}, is_strict=True)
    assert kept.tb is not None  # with all that the stage knew
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")] == []


def test_no_usable_photo_is_an_error(folder):
    for name in NAMES:
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"None of the 3 photos in .*a\.png.*0 bytes"):
        extract_features(folder, NAMES, ToyExtractor(), {})


def test_an_extractor_that_cannot_work_is_not_blamed_on_the_photos(folder):
    class Broken(ToyExtractor):
        def extract(self, photo):
            raise InputError("Device 'cuda' cannot be used here.")

    with pytest.raises(InputError, match=r"^Device 'cuda'"):
        extract_features(folder, NAMES, Broken(), {})


def test_progress_counts_reused_and_failed_photos_too(folder):
    extract_features(folder, NAMES[:1], ToyExtractor(), store := {})
    (folder / "c.png").write_bytes(b"")
    calls = []
    extract_features(folder, NAMES, ToyExtractor(), store, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_what_was_finished_before_an_interrupt_stays(folder):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    store = {}
    with pytest.raises(KeyboardInterrupt):
        extract_features(folder, NAMES, ToyExtractor(), store, progress=stop)
    assert sorted(store) == NAMES[:2]
    assert extract_features(folder, NAMES, ToyExtractor(), store).computed == NAMES[2:]
