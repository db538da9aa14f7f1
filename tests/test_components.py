"""What every extractor and matcher promises, asked of each one in the registry whose weights are here."""

import dataclasses
import json
from functools import cache

import numpy as np
import pytest

from lgsfm import weights
from lgsfm.errors import InputError
from lgsfm.extractors import extract_visible
from lgsfm.images import read_photo
from lgsfm.matchers import match
from lgsfm.registry import available, component_class
from lgsfm.types import Features

EXTRACTORS = [name for name in available("extractor") if name != "imported"]  # which computes nothing
MATCHERS = [name for name in available("matcher") if name != "imported"]
SHIFT = (40, 24)  # px along x and y between the two views of the scene
SIZE = (240, 320)  # height, width of the views

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def fetch(model):
    file = weights.find(model)
    if file is None:
        pytest.skip(f"the weights of {model} are not on this computer")
    return file


def make_extractor(name, device="cpu", **options):
    extractor = component_class("extractor", name)
    return extractor(extractor.options_class(**options), device, fetch)


def make_matcher(name, kind, device="cpu", **options):
    matcher = component_class("matcher", name)
    try:
        return matcher(matcher.options_class(**options), device, fetch, kind)
    except InputError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def scene(tmp_path_factory, texture, save_photo):
    """Photo files: two views of one picture, shifted; the first view stored in each orientation; nothing but grey."""
    folder = tmp_path_factory.mktemp("scene")
    picture = texture(SIZE[1] + SHIFT[0], SIZE[0] + SHIFT[1])
    view = picture[: SIZE[0], : SIZE[1]]
    for code in range(1, 9):
        save_photo(folder / f"{code}.png", view, code)
    save_photo(folder / "shifted.png", picture[SHIFT[1] :, SHIFT[0] :])
    save_photo(folder / "grey.png", np.full((*SIZE, 3), 128, np.uint8))
    return folder


@cache
def extracted(path, extractor_name, **options):
    return make_extractor(extractor_name, **options).extract(read_photo(path))


def without_keypoints(features):
    return dataclasses.replace(
        features, keypoints=features.keypoints[:0], descriptors=features.descriptors[:0], scores=features.scores[:0]
    )


def other_value(field, value_type):
    """A valid value of an option that is not its default."""
    meta, default = field.metadata, field.default
    if meta.get("choices"):
        return next(choice for choice in meta["choices"] if choice != default)
    if value_type is bool:
        return not default
    highest = meta.get("maximum")
    return default + 1 if highest is None or default + 1 <= highest else (meta["minimum"] + default) / 2


# --- extractors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_are_as_promised(name, scene):
    found = extracted(scene / "1.png", name)
    assert len(found) > 100
    assert found.keypoints.dtype == found.descriptors.dtype == found.scores.dtype == np.float32
    assert ((found.keypoints >= -0.5) & (found.keypoints <= np.array(SIZE[::-1]) - 0.5)).all()
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    rank = np.argsort(np.argsort(-found.scores))
    assert np.corrcoef(rank, np.arange(len(found)))[0, 1] > 0.98  # the best first, but for sub-pixel refinement
    photo = read_photo(scene / "1.png")
    assert (found.extractor, found.source, found.image_size) == (name, photo.digest, photo.size)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_fewer_keypoints_are_the_best_ones(name, scene):
    everything, few = (extracted(scene / "1.png", name, max_keypoints=count) for count in (0, 50))
    assert len(few) == 50 < len(everything)
    np.testing.assert_allclose(few.scores, everything.scores[:50], rtol=1e-5)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_same_photo_gives_the_same_features(name, scene):
    again = make_extractor(name).extract(read_photo(scene / "1.png"))
    for array in ("keypoints", "descriptors", "scores"):
        np.testing.assert_array_equal(getattr(again, array), getattr(extracted(scene / "1.png", name), array))


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("code", range(2, 9))
def test_a_turned_photo_has_the_same_features_at_the_same_things(name, code, scene):
    upright, turned = extracted(scene / "1.png", name), extracted(scene / f"{code}.png", name)
    assert turned.orientation == code
    assert turned.image_size == (SIZE if code > 4 else SIZE[::-1])
    np.testing.assert_allclose(turned.upright_keypoints, upright.keypoints, atol=1e-3)
    np.testing.assert_allclose(turned.descriptors, upright.descriptors, atol=1e-5)
    stored = [read_pixels(scene / f"{c}.png", found.keypoints) for c, found in ((1, upright), (code, turned))]
    assert (stored[0] == stored[1]).all(axis=1).mean() > 0.98  # not all, for halves of a pixel round up or down


def read_pixels(path, keypoints):
    """Colours of the file as it is stored, without our reader."""
    from PIL import Image

    x, y = np.round(keypoints).astype(int).T
    return np.asarray(Image.open(path))[y, x]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_reduced_photo_has_its_features_at_the_same_things(name, scene):
    """Keypoints of the photo at 3/4 of its size, next to those of the whole: no bias by half a pixel."""
    path = scene / "1.png"
    whole = extracted(path, name, max_keypoints=0).keypoints
    reduced = make_extractor(name).extract(read_photo(path, 240)).keypoints
    offsets = reduced[:, None] - whole
    nearest = offsets[np.arange(len(reduced)), np.linalg.norm(offsets, axis=2).argmin(1)]
    close = nearest[np.linalg.norm(nearest, axis=1) < 1]
    assert len(close) > len(reduced) / 4
    assert np.abs(close.mean(axis=0)).max() < 0.14


@pytest.mark.parametrize("name", EXTRACTORS)
def test_nothing_to_see(name, scene):
    found = extracted(scene / "grey.png", name)
    usual = extracted(scene / "1.png", name)
    assert len(found) < len(usual) / 2  # networks see something at the edges
    assert found.descriptors.shape[1] == usual.descriptors.shape[1]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_photos_of_odd_sizes(name, tmp_path, texture, save_photo):
    for width, height in [(16, 16), (17, 131), (131, 16)]:
        path = save_photo(tmp_path / f"{width}.png", texture(width, height))
        found = make_extractor(name).extract(read_photo(path))
        assert ((found.keypoints >= -0.5) & (found.keypoints <= np.array([width, height]) - 0.5)).all()


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("code", [1, 6])
def test_no_keypoint_lies_under_a_mask_and_others_take_its_place(name, code, scene, tmp_path):
    """All that is left is what is found there without the mask: no new maxima at its edge, nothing moved."""
    from PIL import Image

    path, budget = scene / f"{code}.png", 50
    size = SIZE if code == 6 else SIZE[::-1]
    visible = np.zeros(size[::-1], np.uint8)
    visible[: size[1] * 2 // 3, : size[0] * 2 // 3] = 1
    Image.fromarray(visible).save(tmp_path / "mask.png")
    extractor = make_extractor(name, max_keypoints=budget)
    masked = extract_visible(extractor, read_photo(path, masks=[tmp_path / "mask.png"]))
    x, y = np.floor(masked.keypoints + 0.5).astype(int).T
    assert visible[y, x].all()
    assert len(masked) == budget
    whole = extracted(path, name, max_keypoints=0)
    x, y = np.floor(whole.keypoints + 0.5).astype(int).T
    best = np.flatnonzero(visible[y, x])[:budget]
    np.testing.assert_allclose(masked.keypoints, whole.keypoints[best], atol=1e-4)
    np.testing.assert_allclose(masked.descriptors, whole.descriptors[best], atol=1e-5)
    assert len(extractor.extract(read_photo(path))) == budget


@pytest.mark.parametrize(("kind", "name"), [("extractor", n) for n in EXTRACTORS] + [("matcher", n) for n in MATCHERS])
def test_each_option_is_part_of_the_identity(kind, name):
    """Else a change of the option would reuse stale results."""
    options_class = component_class(kind, name).options_class

    def identity(**options):
        made = make_extractor(name, **options) if kind == "extractor" else make_matcher(name, "aliked", **options)
        return json.dumps(made.identity, sort_keys=True)

    changed = [{field.name: other_value(field, value_type)} for field, value_type in options_class.fields()]
    identities = [identity(), *(identity(**options) for options in changed)]
    assert len(set(identities)) == len(changed) + 1
    assert identity() == identities[0]
    assert json.loads(identities[0])[kind] == name


# --- matchers ------------------------------------------------------------------------------------------


@pytest.fixture(params=[(matcher, extractor) for matcher in MATCHERS for extractor in EXTRACTORS], ids="-".join)
def pairing(request, scene):
    """A matcher, and a function from a photo's name to its features."""
    matcher, extractor = request.param
    return make_matcher(matcher, extractor), lambda photo: extracted(scene / f"{photo}.png", extractor)


def share_right(found, features0, features1):
    moved = features0.upright_keypoints[found.indices[:, 0]] - features1.upright_keypoints[found.indices[:, 1]]
    return (np.abs(moved - SHIFT).max(axis=1) < 2).mean()


@pytest.mark.parametrize("code", [1, 6])
def test_two_views_are_matched(code, pairing):
    matcher, features = pairing
    first, second = features(code), features("shifted")
    found = match(matcher, first, second)
    assert len(found) > 60
    assert share_right(found, first, second) > 0.9
    assert found.indices.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert found.scores.min() >= 0
    assert found.scores.max() <= 1
    assert (np.diff(found.indices[:, 0]) > 0).all()  # ascending, so each keypoint of image 0 once
    assert len(set(found.indices[:, 1])) == len(found)
    assert found.sources == (first.digest, second.digest)


def test_matching_again_gives_the_same(pairing):
    matcher, features = pairing
    prepared = [matcher.prepare(features(name)) for name in (1, "shifted")]
    matcher.match_prepared(*prepared[::-1])  # must leave no trace in what was prepared
    one, other = matcher.match_prepared(*prepared), match(matcher, features(1), features("shifted"))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("empty", [(True, False), (False, True), (True, True)])
def test_images_without_keypoints_have_no_matches(empty, pairing):
    matcher, features = pairing
    full = features(1)
    pair = [without_keypoints(full) if is_empty else full for is_empty in empty]
    found = match(matcher, *pair)
    assert found.indices.shape == (0, 2)
    assert found.indices.dtype == np.int32
    assert found.scores.shape == (0,)
    assert found.sources == (pair[0].digest, pair[1].digest)


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_keypoints(count, pairing):
    matcher, features = pairing
    full = features(1)
    cut = {name: getattr(full, name)[:count] for name in ("keypoints", "descriptors", "scores")}
    few = dataclasses.replace(full, **cut)
    assert len(match(matcher, few, few)) <= count
    assert len(match(matcher, few, full)) <= count


def test_features_of_another_kind_are_refused(pairing):
    matcher, features = pairing
    foreign = dataclasses.replace(features(1), extractor="foreign")
    with pytest.raises(InputError, match="but got foreign features"):
        matcher.prepare(foreign)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_default_device_works_from_photo_to_matches(name, scene):
    extractor = make_extractor(name, "auto")
    matcher = make_matcher(extractor.matcher, extractor.kind, "auto")
    first, second = (extractor.extract(read_photo(scene / photo)) for photo in ("1.png", "shifted.png"))
    assert isinstance(first, Features)
    assert share_right(match(matcher, first, second), first, second) > 0.9
