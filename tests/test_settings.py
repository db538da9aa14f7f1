import re

import pytest

from lgsfm import weights
from lgsfm.errors import InputError
from lgsfm.extractors.aliked import AlikedOptions
from lgsfm.extractors.sift import SiftOptions
from lgsfm.matchers.nearest import NearestOptions
from lgsfm.settings import QUALITIES, Settings, choose_features, flag_fields


def settings(**flags):
    return Settings.from_flags(flags)


def sift(**flags):
    return settings(features="sift", **flags).make_extractor("sift")


def test_flags_reach_the_options_that_have_them():
    chosen = settings(mapper="global", overlap=3, max_error_px=2, camera_mode="single", ratio=0.7, words=16)
    assert chosen.mapping.mapper == "global"
    assert chosen.pairs.overlap == 3
    assert chosen.verification.max_error_px == 2.0
    assert chosen.cameras.camera_mode == "single"
    assert chosen.make_matcher("nearest", sift()).options.ratio == 0.7
    assert chosen.make_retriever().options.words == 16


def test_a_misspelt_flag_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(InputError) as caught:
        settings(max_keypionts=500)
    assert "Unknown option 'max_keypionts'" in str(caught.value)
    assert "Did you mean 'max_keypoints'?" in str(caught.value)
    assert {"mapper", "ratio", "variant", "words", "seed"} <= set(re.findall(r"\w+", str(caught.value)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"features": "surf"}, "Unknown extractor 'surf'"),
        ({"matcher": "flann"}, "Unknown matcher 'flann'"),
        ({"retriever": "netvlad"}, "Unknown retriever 'netvlad'"),
        ({"retriever": "auto"}, "Unknown retriever 'auto'"),  # else it would show after the extraction
        ({"quality": "best"}, "quality: 'best'. Available: extreme, high, low, medium"),
        ({"mapper": "fast"}, "mapper: 'fast'"),
        ({"camera_model": "PINHOL"}, "Did you mean 'PINHOLE'?"),
    ],
)
def test_bad_choices_show_at_once(flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        settings(**flags)


def test_a_flag_of_another_component_is_refused():
    with pytest.raises(InputError, match="Option variant is of aliked, not of the extractor 'sift'"):
        sift(variant="n32")
    with pytest.raises(InputError, match="detection_threshold is of aliked and disk and superpoint and xfeat, not of"):
        sift(detection_threshold=0.1)
    with pytest.raises(InputError, match="Option depth_confidence is of lightglue, not of the matcher 'nearest'"):
        settings(depth_confidence=0.5).make_matcher("auto", sift())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"words": -1}, "words must be at least 0"),
        ({"retriever": "vlad", "words": 1}, "words must be at least 2"),
        ({"features": "aliked", "ratio": 0.5}, "Option ratio is of nearest, not of the matcher 'lightglue'"),
        ({"features": "aliked", "detection_threshold": 2.0}, "detection_threshold must be at most 1"),
        ({"features": "sift", "contrast_threshold": -1.0}, "contrast_threshold must be at least 0"),
        ({"features": "sift", "max_edge_px": 8}, "max_edge_px must be at least 16, or 0"),
        ({"matcher": "nearest", "ratio": 1.5}, "ratio must be at most 1"),
        ({"matcher": "nearest", "depth_confidence": 0.5}, "depth_confidence is of lightglue, not of the matcher"),
    ],
)
def test_options_of_components_are_checked_before_any_weights_are_fetched(flags, message, monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda *arguments, **options: pytest.fail("weights were fetched"))
    with pytest.raises(InputError, match=re.escape(message)):
        settings(**flags)


def test_features_chosen_automatically_are_checked_before_their_weights_are_fetched(monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda *arguments, **options: pytest.fail("weights were fetched"))
    with pytest.raises(InputError, match="Option ratio is of nearest, not of the matcher 'lightglue'"):
        settings(ratio=0.5).make_extractor("aliked")


def test_choices_that_differ_from_those_of_a_database():
    chosen = settings(features="sift", overlap=3, mapper="global", device="cpu")
    assert chosen.differing_from({"features": "sift", "overlap": 3, "threads": 1}) == {}
    others = chosen.differing_from({"features": "sift", "max_error_px": 2.0, "overlap": 4})
    assert others == {"max_error_px": 2.0, "overlap": 4}
    assert chosen.differing_from({"features": "sift", "overlap": 3, "seed": 5}) == {"seed": 5}  # RANSAC's, too
    text = chosen.difference_in_words({"overlap": None, "max_error_px": 2.0})
    assert "--overlap by default (asked for: 3), --max-error-px 2.0 (asked for: the default)" in text
    assert dict(chosen.changed({"overlap": None, "seed": 5}).flags) == {
        "features": "sift",
        "mapper": "global",
        "device": "cpu",
        "seed": 5,
    }


@pytest.mark.parametrize("quality", QUALITIES)
def test_preset_then_flag(quality):
    preset = SiftOptions.presets[quality]
    assert sift(quality=quality).options == SiftOptions(**preset)
    changed = sift(quality=quality, max_keypoints=77).options
    assert (changed.max_keypoints, changed.max_edge_px) == (77, preset["max_edge_px"])


def test_better_quality_means_more_pixels_and_keypoints():
    assert QUALITIES == ("low", "medium", "high", "extreme")
    for options in (AlikedOptions, SiftOptions):
        presets = [options.presets[quality] for quality in QUALITIES]
        for name in ("max_edge_px", "max_keypoints"):
            values = [preset[name] for preset in presets]
            assert values == sorted(set(values))


SUPERPOINT = {"superpoint", "lightglue-superpoint"}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (SUPERPOINT, "superpoint"),
        ({"superpoint"}, "aliked"),
        ({"lightglue-superpoint"}, "aliked"),
        (set(), "aliked"),
    ],
)
def test_auto_takes_superpoint_only_if_its_weights_are_in_place(present, expected, monkeypatch, tmp_path):
    asked = []

    def is_put_in_place(model, weights_dir=None):
        asked.append(weights_dir)
        return model in present

    monkeypatch.setattr(weights, "is_put_in_place", is_put_in_place)
    name, reason = choose_features(settings(weights_dir=str(tmp_path)).run)
    assert name == expected
    assert all(model in reason for model in SUPERPOINT - present)
    assert set(asked) == {tmp_path}
    assert choose_features(settings(features="sift").run) == ("sift", "asked for")


def test_matcher_auto_is_what_fits_the_features():
    assert settings().make_matcher("auto", sift()).identity["matcher"] == "nearest"
    with pytest.raises(InputError, match="no LightGlue weights for sift features"):
        settings().make_matcher("lightglue", sift())


def test_each_flag_is_listed_once_and_explained():
    names = [flag.field.name for flag in flag_fields()]
    assert len(names) == len(set(names))
    assert [flag.field.name for flag in flag_fields() if not flag.field.metadata.get("help")] == []
    owners = {flag.field.name: flag.owners for flag in flag_fields()}
    assert owners["mapper"] == owners["max_keypoints"] == ()
    assert (owners["variant"], owners["ratio"], owners["words"]) == (("aliked",), ("nearest",), ("asmk", "vlad"))
    assert owners["detection_threshold"] == ("aliked", "disk", "superpoint", "xfeat")
    defaults = {flag.field.name: flag.defaults for flag in flag_fields()}
    assert (defaults["detection_threshold"], defaults["ratio"]) == ((0.2, 0.5, 0.005, 0.05), (NearestOptions().ratio,))
