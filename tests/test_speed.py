"""`lgsfm bench`, with a matcher and an extractor that are there anyway. No speed is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import run

from lgsfm import speed
from lgsfm.errors import InputError
from lgsfm.estimate import MEASURED, STAGES, Estimate, Rates
from lgsfm.extractors.sift import SiftExtractor, SiftOptions
from lgsfm.images import photo_from_array
from lgsfm.matchers import match
from lgsfm.matchers.nearest import NearestMatcher, NearestOptions
from lgsfm.rates import Speeds
from lgsfm.rendering import render_views, wall_to_view
from lgsfm.settings import ComponentSettings
from lgsfm.speed import Outlook, SizeOfWork, bench, recommend, sizes_of, some_photos

SMALL = ("--features", "sift", "--max-edge-px", "400", "--max-keypoints", "200")


def settings(**flags: object) -> ComponentSettings:
    return ComponentSettings.from_flags({"features": "sift", **flags})


def outlook(quality: str, seconds: float, memory: float = 1e9) -> Outlook:
    needs = Estimate(seconds={"match": seconds}, disk_bytes=1, memory_bytes=int(memory))
    rates = Rates(seconds={}, mapped_images=10, sources=dict.fromkeys(STAGES, MEASURED))
    return Outlook(quality=quality, num_images=10, num_pairs=45, estimate=needs, rates=rates)


# --------------------------------------------------------------------------------- pictures
def test_rendered_views_are_the_same_each_time_and_overlap() -> None:
    size = (480, 320)
    first, second = render_views(2, size), render_views(2, size)
    assert [view.shape for view in first] == [(320, 480, 3)] * 2
    np.testing.assert_array_equal(first, second)
    extractor = SiftExtractor(SiftOptions(max_keypoints=500), "cpu", None)
    features = [extractor.extract(photo_from_array(view[..., ::-1])) for view in render_views(3, size)[1:]]
    assert min(len(found) for found in features) == 500
    found = match(NearestMatcher(NearestOptions(), "cpu", None, "sift"), *features)
    assert len(found) > 30


def test_the_middle_of_the_wall_is_in_the_middle_of_each_view() -> None:
    for yaw, pitch in ((0, 0), (25, 0), (-20, 10)):
        x, y, z = wall_to_view(yaw, pitch, 1.0, (480, 320)) @ (360, 360, 1)
        assert (x / z, y / z) == pytest.approx((240, 160))


# --------------------------------------------------------------------------------- what is measured
def test_sizes_are_those_of_the_presets_and_half_of_the_lowest() -> None:
    sizes = sizes_of("aliked", settings(features="aliked"), is_quick=False)
    assert [(size.quality, size.edge_px, size.keypoints) for size in sizes] == [
        ("", 512, 512),
        ("low", 768, 1024),
        ("medium", 1024, 2048),
        ("high", 1600, 4096),
    ]
    quick = sizes_of("aliked", settings(features="aliked"), is_quick=True)
    assert [size.quality for size in quick] == ["low", "medium"]


def test_sizes_that_the_flags_name_are_the_only_ones() -> None:
    assert sizes_of("sift", settings(quality="low"), is_quick=False) == [SizeOfWork("low", 1000, 2048)]
    assert sizes_of("sift", settings(max_keypoints=99), is_quick=False) == [SizeOfWork("", 1600, 99)]


def test_photos_of_a_large_collection_are_neighbours() -> None:
    names = [f"{i:03}" for i in range(200)]
    assert some_photos(names) == names[95:105]
    assert some_photos(names[:20]) == names[:20:2]
    assert some_photos(names[:3]) == names[:3]


# --------------------------------------------------------------------------------- recommendation
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((1, 2, 3, 4), "extreme"),
        ((10, 100, 500, 1_000), "high"),
        ((100, 3_000, 9_000, 90_000), "medium"),
        ((1_000, 4_000, 16_000, 64_000), "low"),
        ((10**5, 10**6, 10**7, 10**8), "low"),
    ],
)
def test_the_preset_follows_the_time(seconds: tuple[float, ...], expected: str) -> None:
    presets = [outlook(quality, value) for quality, value in zip(speed.QUALITIES, seconds, strict=True)]
    quality, reason = recommend(presets, None)
    assert quality == expected
    assert ("would take" in reason) == (expected != "extreme")


def test_the_preset_fits_into_the_memory() -> None:
    presets = [
        outlook(quality, 1, memory) for quality, memory in zip(speed.QUALITIES, (1e9, 2e9, 4e9, 8e9), strict=True)
    ]
    assert recommend(presets, 3_000_000_000)[0] == "medium"
    assert recommend(presets, 1_000_000)[0] == "low"


# --------------------------------------------------------------------------------- all of it
@pytest.fixture
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """Where this test keeps its speeds."""
    monkeypatch.setenv("LGSFM_RATES", str(tmp_path / "rates.json"))
    return Speeds(tmp_path / "rates.json")


def test_bench_measures_photos_and_keeps_the_speeds(courtyard: Path, rates: Speeds) -> None:
    steps: list[tuple[int, int]] = []
    report = bench(
        settings(max_edge_px=400, max_keypoints=200),
        courtyard / "images",
        is_quick=True,
        progress=lambda done, total: steps.append((done, total)),
    )
    (row,) = report.measurements
    assert (row.size.edge_px, row.size.keypoints) == (400, 200)
    assert 0 < row.found_keypoints <= 200
    assert row.num_photos >= 4
    assert row.num_pairs >= 4
    assert (report.features, report.matcher) == ("sift", "nearest")
    assert [outlook.num_images for outlook in report.presets] == [14] * 4
    assert [outlook.num_images for outlook in report.collections] == [14, 100, 1_000, 10_000]
    assert report.recommended in speed.QUALITIES
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == ((0, 100), (100, 100))
    assert {kept.stage for kept in rates.read()} == {"extract", "match"}


def test_one_photo_cannot_be_measured(tmp_path: Path, save_photo, texture) -> None:
    save_photo(tmp_path / "a.png", texture())
    with pytest.raises(InputError, match="holds one image"):
        bench(settings(), tmp_path)


def test_photos_that_cannot_be_used_are_named(tmp_path: Path, save_photo, texture) -> None:
    save_photo(tmp_path / "a.png", texture())
    (tmp_path / "b.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match="Too few photos"):
        bench(settings(), tmp_path)


# --------------------------------------------------------------------------------- the command
def test_the_command_prints_tables(courtyard: Path, rates: Speeds) -> None:
    ended = run("bench", courtyard / "images", *SMALL, "--quick", "--images", "250")
    assert ended.code == 0, ended.err
    for text in (
        "Machine  ",
        "Device               cpu, ",
        "torch ",
        "sift, nearest",
        "For 250 photos, 4,",
        "Recommended",
    ):
        assert text in ended.out
    for count in ("100 photos, 1,672 pairs", "1,000 photos, 16,972 pairs", "10,000 photos, 169,972 pairs"):
        assert count in ended.out
    assert "bench" in ended.err
    assert ended.out.splitlines()[-1].startswith("Times are as measured on this machine, but ")


def test_the_command_prints_json_of_rendered_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgsfm.speed.save_views", small_views)
    ended = run("bench", *SMALL, "--quick", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["source"].startswith("6 rendered pictures")
    assert found["presets"][0]["num_images"] == 100
    assert found["collections"][0]["total_s"] > 0
    assert found["measurements"][0]["size"] == {"quality": "", "edge_px": 400, "keypoints": 200}


def small_views(folder: Path, count: int) -> list[str]:
    from lgsfm.rendering import save_views

    return save_views(folder, count, (480, 320))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--images", "1"), 2, "1 is below 2"),
        (("nowhere",), 1, "does not exist"),
        (("--features", "supperpoint"), 1, "Available: aliked, sift, superpoint"),
    ],
)
def test_wrong_usage_is_explained(words: tuple[str, ...], code: int, message: str) -> None:
    ended = run("bench", *words)
    assert ended.code == code
    assert message in ended.err
