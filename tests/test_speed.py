"""`lgsfm bench`, with a matcher and an extractor that are there anyway. No speed is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import copy_photos, run, views

from lgsfm import speed
from lgsfm.cli.bench import table
from lgsfm.errors import InputError, MemoryShortageError
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
    needs = Estimate(seconds={"match": seconds}, disk_bytes=1, beside_bytes=1, memory={"match": int(memory)})
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
    quality, reason = recommend(presets, 3_000_000_000)
    assert quality == "medium"
    assert "4.0 GB of memory (of the 3.0 GB of memory here, at most 80% is reckoned with)" in reason
    assert "recommended up to" not in reason


def test_it_is_said_if_no_preset_fits_into_the_memory() -> None:
    quality, reason = recommend([outlook(quality, 1) for quality in speed.QUALITIES], 1_000_000)
    assert quality == "low"
    assert "even that does not fit (of the 1 MB of memory here" in reason


def test_a_preset_for_which_memory_ran_out_is_not_recommended() -> None:
    presets = [outlook(quality, 1000) for quality in speed.QUALITIES]
    quality, reason = recommend(presets, None, ("high", "extreme"))
    assert quality == "medium"
    assert "(it is recommended up to 10 min and memory ran out)" in reason


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
    with pytest.raises(InputError, match=r"Too few photos in .*b\.png"):
        bench(settings(), tmp_path)


@pytest.mark.parametrize("bad", [(0,), (2,), (0, 1, 9)])
@pytest.mark.parametrize("kept_bytes", [8, 20_000])  # not even a header; a header and some of the pixels
def test_a_bad_photo_is_left_out(
    courtyard: Path, tmp_path: Path, rates: Speeds, bad: tuple[int, ...], kept_bytes: int
) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(*range(10)))
    for i in bad:
        photo = images / views(i)[0]
        photo.write_bytes(photo.read_bytes()[:kept_bytes])
    report = bench(settings(max_edge_px=400, max_keypoints=200), images, is_quick=True)
    (row,) = report.measurements
    assert 4 <= row.num_photos <= 8 - len(bad)
    assert {kept.stage for kept in rates.read()} == {"extract", "match"}


def test_photos_that_are_all_cut_short_are_named(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    for photo in images.iterdir():
        photo.write_bytes(photo.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"Too few photos in .* can be used\. .*\.jpg"):
        bench(settings(max_edge_px=400), images)


def test_threads_that_were_asked_for_are_those_that_work(
    courtyard: Path, rates: Speeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, measure = [], speed.measure

    def watched(*arguments: Any) -> Any:
        threads.append(torch.get_num_threads())
        return measure(*arguments)

    monkeypatch.setattr(speed, "measure", watched)
    before = torch.get_num_threads()
    report = bench(settings(max_edge_px=400, max_keypoints=200, threads=1), courtyard / "images", is_quick=True)
    assert (threads, report.machine.threads) == ([1], 1)
    assert torch.get_num_threads() == before


def test_what_was_measured_before_memory_ran_out_is_reported(
    courtyard: Path, rates: Speeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [SizeOfWork("", 300, 100), SizeOfWork("low", 400, 200), SizeOfWork("medium", 500, 300)]
    measure = speed.measure

    def limited(pictures: Any, extractor: Any, matcher: Any, asked: SizeOfWork, *others: Any) -> Any:
        if asked.edge_px >= limit:
            raise MemoryShortageError("Not enough memory.")
        return measure(pictures, extractor, matcher, asked, *others)

    monkeypatch.setattr(speed, "measure", limited)
    monkeypatch.setattr(speed, "sizes_of", lambda *arguments, **options: sizes)
    limit = 500
    report = bench(settings(), courtyard / "images", is_quick=True)
    assert [row.size for row in report.measurements] == sizes[:2]
    assert report.recommended == "low"
    assert "memory ran out" in report.reason
    assert "At 500 px with 300 keypoints, memory ran out; no larger size was measured." in table(report)
    limit = 300
    with pytest.raises(MemoryShortageError):
        bench(settings(), courtyard / "images", is_quick=True)


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
    assert found["collections"][0]["estimate"]["memory_bytes"] > 1e8
    assert found["measurements"][0]["size"] == {"quality": "", "edge_px": 400, "keypoints": 200}


def small_views(folder: Path, count: int) -> list[str]:
    from lgsfm.rendering import save_views

    return save_views(folder, count, (480, 320))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--images", "1"), 2, "1 is below 2"),
        (("--images", "abc"), 2, "'abc' is no whole number"),
        (("",), 2, "the name of the folder is empty"),
        (("nowhere",), 1, "does not exist"),
        (("--features", "supperpoint"), 1, "Available: aliked, disk, imported, sift, superpoint, xfeat"),
    ],
)
def test_wrong_usage_is_explained(words: tuple[str, ...], code: int, message: str) -> None:
    ended = run("bench", *words)
    assert ended.code == code
    assert message in ended.err


def test_an_interrupted_bench_says_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lgsfm.cli.bench.bench", interrupted)
    ended = run("bench")
    assert ended.code == 130
    assert "kept for forecasts" in ended.err
    assert "goes on from there" not in ended.err
