"""What is said before a run and kept after it. No speed is asserted."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import copy_photos, views

from lgsfm import forecast, machine
from lgsfm.estimate import GUESSED, MEASURED, SCALED, STAGES, Setup, Work, estimate, reference_seconds
from lgsfm.files import write_json
from lgsfm.forecast import Files, Forecast, Pace, machines_of, seen_pixels, setup_of, tags_of
from lgsfm.machine import Machine
from lgsfm.observer import Observer
from lgsfm.pairing import write_pairs
from lgsfm.pipeline import reconstruct
from lgsfm.rates import MOST_ITEMS, MOST_RECORDS, Speed, Speeds, about, rates_file, rates_of
from lgsfm.run import Run
from lgsfm.settings import Settings
from lgsfm.store import FeatureStore

SIFT = {"features": "sift", "max_edge_px": 800, "max_keypoints": 1500}
SETUP = Setup(extractor="aliked", matcher="lightglue", variant="n16", pixels=700_000, keypoints=2048)
HERE = Machine("a CPU", "cpu", 2)


class Listener(Observer):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @property
    def ahead(self) -> str:
        (line,) = [line for line in self.lines if line.startswith("Ahead")]
        return line


def speed(stage: str = "match", setup: Setup = SETUP, seconds: float = 1.0, count: int = 10) -> Speed:
    made = about(stage, setup, HERE, {})
    return Speed(stage=stage, about=made, reference_s=reference_seconds(stage, setup), seconds=seconds, count=count)


def found(speeds: Speeds, setup: Setup = SETUP, where: Machine = HERE, tags: dict[str, str] | None = None):
    return speeds.find("match", about("match", setup, where, tags or {}), reference_seconds("match", setup))


# --------------------------------------------------------------------------------- the file of speeds
@pytest.fixture
def speeds(tmp_path: Path) -> Speeds:
    return Speeds(tmp_path / "cache" / "rates.json")


def test_a_speed_is_found_again(speeds: Speeds) -> None:
    assert found(speeds) is None
    speeds.add(speed())
    assert found(Speeds(speeds.path)) == (1.0, MEASURED)
    assert [path.name for path in speeds.path.parent.iterdir()] == ["rates.json"]


def test_a_speed_tells_of_other_sizes(speeds: Speeds) -> None:
    speeds.add(speed())
    larger = dataclasses.replace(SETUP, keypoints=4096)
    seconds, source = found(speeds, larger)
    assert source == SCALED
    assert seconds == pytest.approx(reference_seconds("match", larger) / reference_seconds("match", SETUP))
    speeds.add(speed(setup=larger, seconds=9.0))
    assert found(speeds, larger) == (9.0, MEASURED)
    assert found(speeds) == (1.0, MEASURED)


def test_another_component_machine_or_precision_has_speeds_of_its_own(speeds: Speeds) -> None:
    speeds.add(speed())
    assert found(speeds, dataclasses.replace(SETUP, is_adaptive=False)) is None
    assert found(speeds, dataclasses.replace(SETUP, matcher="nearest")) is None
    assert found(speeds, where=Machine("a CPU", "cpu", 4)) is None
    assert found(speeds, where=Machine("a GPU", "cuda:0", 2)) is None
    assert found(speeds, tags={"precision": "half"}) is None


def test_records_are_joined_by_the_number_of_their_items(speeds: Speeds) -> None:
    speeds.add(speed(seconds=1.0, count=30))
    speeds.add(speed(seconds=2.0, count=10))
    assert found(speeds) == (pytest.approx(1.25), MEASURED)
    assert len(speeds.read()) == 1
    speeds.add(speed(seconds=1.0, count=10**6))
    speeds.add(speed(seconds=3.0, count=MOST_ITEMS))  # an old record does not count without end
    assert found(speeds)[0] == pytest.approx(2.0, rel=1e-3)
    speeds.put(speed(seconds=5.0))
    assert found(speeds) == (5.0, MEASURED)


@pytest.mark.parametrize(("stage", "count"), [("extract", 3), ("match", 3), ("verify", 199), ("map", 9)])
def test_a_few_items_tell_nothing(speeds: Speeds, stage: str, count: int) -> None:
    speeds.add(speed(stage, count=count))
    speeds.add(speed(stage, seconds=0.0, count=1000))
    assert speeds.read() == []


def test_old_records_give_way(speeds: Speeds) -> None:
    rows = [dataclasses.asdict(speed()) | {"about": {"number": i}} for i in range(MOST_RECORDS)]
    speeds.path.parent.mkdir()
    speeds.path.write_text(json.dumps({"speeds": rows}))
    speeds.add(speed())
    assert len(speeds.read()) == MOST_RECORDS
    assert found(speeds) == (1.0, MEASURED)


GARBAGE = ["", "{", "[]", '{"speeds": 7}', '{"speeds": [7, null, {"stage": "match"}, {"a": 1}]}', "\0"]
GARBAGE += [json.dumps({"speeds": [dataclasses.asdict(speed()) | {"seconds": value}]}) for value in ("1", -1, None)]


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_as_if_there_were_nothing(speeds: Speeds, text: str) -> None:
    speeds.path.parent.mkdir()
    speeds.path.write_text(text)
    assert speeds.read() == []
    speeds.add(speed())
    assert found(Speeds(speeds.path)) == (1.0, MEASURED)


def test_what_cannot_be_written_is_remembered_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    for path in (tmp_path / "cache" / "rates.json", None):
        speeds = Speeds(path)
        speeds.add(speed())
        assert found(speeds) == (1.0, MEASURED)
        assert found(Speeds(path)) is None


def test_processes_that_write_at_the_same_time_do_not_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, written = os.replace, []

    def late(source: Path, target: Path) -> None:
        written.append(source)
        if len(written) == 1:  # before the first process is done, another one begins
            monkeypatch.setattr("lgsfm.files.os.getpid", lambda: 1)
            write_json(target, {"by": "another"})
        replace(source, target)

    monkeypatch.setattr("lgsfm.files.os.replace", late)
    write_json(tmp_path / "rates.json", {"by": "the first"})
    assert written[0] != written[1]
    assert json.loads((tmp_path / "rates.json").read_text()) == {"by": "the first"}
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_the_file_lies_in_the_cache_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LGSFM_CACHE", str(tmp_path))
    monkeypatch.delenv("LGSFM_RATES")
    assert rates_file() == tmp_path / "rates.json"
    monkeypatch.setenv("LGSFM_RATES", str(tmp_path / "mine.json"))
    assert rates_file() == tmp_path / "mine.json"
    monkeypatch.setenv("LGSFM_RATES", "")
    assert rates_file() is None


# --------------------------------------------------------------------------------- speeds of a setup
def test_what_was_not_measured_is_guessed(speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_core_gflops", lambda: 100.0)
    speeds.add(speed(seconds=0.25))
    rates = rates_of(SETUP, 100, dict.fromkeys(STAGES, HERE), {}, speeds)
    assert rates.sources == {"extract": GUESSED, "match": MEASURED, "verify": GUESSED, "map": GUESSED}
    assert rates.seconds["match"] == 0.25
    assert min(rates.seconds.values()) > 0


def test_all_measured_needs_no_probe(speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "gflops", None)
    for stage in STAGES:
        speeds.add(speed(stage, count=1000))
    assert set(rates_of(SETUP, 100, dict.fromkeys(STAGES, HERE), {}, speeds).sources.values()) == {MEASURED}


@pytest.mark.parametrize(("text", "is_limited"), [("1000000\n", True), ("max\n", False), (f"{2**63 - 4096}\n", False)])
def test_a_container_has_the_memory_that_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_limited: bool
) -> None:
    monkeypatch.setattr(machine, "MEMORY_LIMITS", ())
    every = machine.memory_bytes()
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    assert machine.memory_bytes() == (1_000_000 if is_limited or every is None else every)


def test_the_machine_says_what_it_is() -> None:
    here = machine.cpu()
    assert here.name
    assert here.threads >= 1
    assert here.gflops() > 0
    assert machine.cpu(3).threads == 3
    assert machine.machine_of("cpu") == here
    memory = machine.memory_bytes()
    assert memory is None or memory > 1e8


def test_threads_that_the_environment_names_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert machine.cpu().threads == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert machine.cpu().threads >= 1


# --------------------------------------------------------------------------------- the pace of a stage
def test_the_pace_leaves_out_what_was_done_and_the_first_item(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 101.0, 103.0, 0.0, 50.0, 54.0])
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(clock))
    pace, heard = Pace(), []
    report = pace.timed(lambda done, total: heard.append((done, total)))
    for done in (2, 3, 4, 8):
        report(done, 8)
    assert (pace.count, pace.seconds) == (5, 3.0)
    assert heard == [(2, 8), (3, 8), (4, 8), (8, 8)]
    again = pace.timed(None)
    for done in (0, 1, 2):
        again(done, 2)
    assert (pace.count, pace.seconds) == (6, 7.0)


def test_the_pace_of_batches_leaves_out_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 60.0, 68.0, 72.0])
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(clock))
    pace = Pace()
    report = pace.timed(None)
    report(5, 30)
    report(13, 30)
    assert pace.count == 0  # one batch has no speed to keep
    for done in (21, 30):  # the last batch is what is left
        report(done, 30)
    assert (pace.count, pace.seconds) == (17, 12.0)


IDENTITIES = {
    "extractor": {"extractor": "sift", "options": {"max_edge_px": 800, "max_keypoints": 1500}},
    "matcher": {"matcher": "nearest"},
}


def test_a_second_round_of_matching_counts_once(
    courtyard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LGSFM_RATES", str(tmp_path / "rates.json"))
    told = Forecast(courtyard / "images", views(1, 2))
    settings = Settings.from_flags(SIFT)
    for seconds, count in ((10.0, 10), (40.0, 10)):
        told.paces["match"].seconds, told.paces["match"].count = seconds, count
        told.remember("match", settings, IDENTITIES, 99.0, 99)
    told.remember("match", settings, IDENTITIES, 99.0, 99)  # a third one of a single batch
    (kept,) = told.speeds.read()
    assert (kept.seconds, kept.count) == (2.5, 20)


def test_photos_that_cannot_be_read_do_not_silence_the_forecast(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(5, 6, 7))
    (images / "a.jpg").write_bytes(b"no photo")
    listener = Listener()
    reconstruct(images, tmp_path / "out", observer=listener, **SIFT)
    assert listener.ahead.startswith("Ahead: 4 photos, 6 pairs: about ")


# --------------------------------------------------------------------------------- what decides the cost
def test_names_with_breaks_of_their_own_do_not_silence_the_forecast(tmp_path: Path) -> None:
    """Unicode has line breaks beside that of text files, and names may hold them."""
    pairs = [("a\u2028.jpg", "b.jpg"), ("b.jpg", "c\x85.jpg")]
    write_pairs(tmp_path / "pairs.txt", pairs)
    forecast = Forecast(tmp_path, ["a\u2028.jpg", "b.jpg", "c\x85.jpg"])
    assert forecast._some_pairs(Settings.from_flags({"pairs": "sequential"}), tmp_path / "pairs.txt") == pairs


def test_choices_for_the_matcher_have_speeds_of_their_own_unless_they_are_the_defaults() -> None:
    def tags(**flags: object) -> dict[str, object]:
        return tags_of(Settings.from_flags({"features": "aliked", **flags}))

    assert tags() == tags(precision="auto", batch_size=0, hopeless=0.0) == {}
    assert tags(precision="float32", hopeless=8.0) == {"precision": "float32", "hopeless": 8.0}
    assert tags(batch_size=4) == {"batch_size": 4}
    assert about("extract", SETUP, HERE, {"hopeless": 8.0}) == about("extract", SETUP, HERE, {})


def test_the_setup_is_that_of_the_components() -> None:
    identities = {
        "extractor": {"extractor": "aliked", "options": {"variant": "t16", "max_keypoints": 512}},
        "matcher": {"matcher": "lightglue", "options": {"depth_confidence": -1, "width_confidence": -1}},
    }
    setup = setup_of(identities, "global", 1000)
    assert (setup.extractor, setup.variant, setup.keypoints, setup.pixels) == ("aliked", "t16", 512, 1000)
    assert (setup.matcher, setup.mapper, setup.is_adaptive) == ("lightglue", "global", False)
    assert setup_of({"extractor": {"extractor": "mine"}}, "incremental", 9).keypoints == 0


@pytest.mark.parametrize(("edge", "pixels"), [(0, 6_000_000), (1500, 1_500_000), (9000, 6_000_000)])
def test_pixels_are_those_of_the_middle_photo_as_it_is_seen(edge: int, pixels: int) -> None:
    assert seen_pixels([(3000, 2000), (3000, 2000), (30, 20)], edge) == pixels


# --------------------------------------------------------------------------------- in a run
@pytest.fixture(scope="module")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Listener]:
    """Four photos, what came of them, and what was said."""
    folder, listener = tmp_path_factory.mktemp("forecast"), Listener()
    images = copy_photos(courtyard / "images", folder / "images", views(5, 6, 7, 8))
    reconstruct(images, folder / "out", observer=listener, **SIFT)
    return images, folder / "out", listener


def test_a_run_says_first_what_it_will_take(finished: tuple[Path, Path, Listener]) -> None:
    _, _, listener = finished
    assert listener.lines.index(listener.ahead) == 1  # behind the choice of features
    assert listener.ahead.startswith("Ahead: 4 photos, 6 pairs: about ")
    for text in (
        "extract ",
        "match ",
        "verify ",
        "map ",
        "of memory",
        "of disk",
        "rough guess",
        "`lgsfm bench IMAGES`",
    ):
        assert text in listener.ahead
    assert "reused" not in listener.ahead


def test_second_looks_are_a_condition(finished: tuple[Path, Path, Listener]) -> None:
    images, output, listener = finished
    assert " if photos need second looks; " in listener.ahead
    plain = Listener()
    reconstruct(images, output, observer=plain, budget="none", **SIFT)
    assert "second looks" not in plain.ahead


def test_photos_with_little_to_see_need_little_room(courtyard: Path, save_photo, tmp_path: Path) -> None:
    settings = Settings.from_flags(SIFT)
    extractor = settings.make_extractor("sift")
    matcher = settings.make_matcher("nearest", extractor)
    files = Files(*(tmp_path / name for name in ("f.h5", "m.h5", "pairs.txt", "database.json")))
    for name in ("a.png", "b.png"):
        save_photo(tmp_path / "plain" / name, np.full((600, 800, 3), 90, np.uint8))
    rich = Forecast(courtyard / "images", views(1, 2)).look(settings, extractor, matcher, files)
    plain = Forecast(tmp_path / "plain", ["a.png", "b.png"]).look(settings, extractor, matcher, files)
    assert 0 < plain.disk_bytes < 0.6 * rich.disk_bytes


def test_keypoints_that_are_stored_count_and_not_the_guess(finished: tuple[Path, Path, Listener]) -> None:
    images, output, _ = finished
    settings = Settings.from_flags(SIFT)
    (features,) = output.glob("features-*.h5")
    identities = {"extractor": settings.make_extractor("sift").identity}
    told = Forecast(images, views(5, 6, 7, 8))
    with FeatureStore(features) as store:
        mean = sum(len(found) for found in store.values()) / 4
    assert told._setup(settings, identities, features).expected == round(mean)


def test_too_little_memory_is_a_warning(
    finished: tuple[Path, Path, Listener], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forecast, "available_bytes", lambda: 10_000_000)
    listener = Listener()
    reconstruct(finished[0], tmp_path / "out", observer=listener, **SIFT)
    (line,) = [line for line in listener.lines if "of memory, and 10 MB are free" in line]
    assert line.startswith("Warning: ")
    assert "--quality low" in line


def test_the_memory_of_a_gpu_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "available_bytes", lambda: 10**12)
    monkeypatch.setattr(forecast, "gpu_bytes", lambda machine: 100_000_000)
    machines = dict.fromkeys(STAGES, Machine("RTX", "cuda:0", 1))
    work = Work.all_of(10, 45)
    found = estimate(work, SETUP, rates_of(SETUP, 10, dict.fromkeys(STAGES, HERE), {}, Speeds(None)))
    lines = [line for line in forecast.memory_warnings(work, SETUP, found, machines) if line]
    assert len(lines) == 1
    assert "free on RTX" in lines[0]


def test_only_what_is_not_finished_lies_ahead(finished: tuple[Path, Path, Listener], courtyard: Path) -> None:
    images, output, _ = finished
    again, more = Listener(), Listener()
    reconstruct(images, output, observer=again, **SIFT)
    assert again.ahead.startswith("Ahead: only mapping, all else is reused: about ")
    copy_photos(courtyard / "images", images, views(9))
    reconstruct(images, output, observer=more, **SIFT)
    assert more.ahead.startswith("Ahead: 1 of 5 photos, ")
    assert "of 10 pairs" in more.ahead


def test_without_its_database_a_run_verifies_again(finished: tuple[Path, Path, Listener]) -> None:
    images, output, _ = finished
    listener = Listener()
    (output / "database.json").unlink()
    reconstruct(images, output, observer=listener, **SIFT)
    assert listener.ahead.startswith("Ahead: only verification and mapping, all else is reused: about ")


def test_reuse_that_cannot_be_known_is_a_condition(finished: tuple[Path, Path, Listener]) -> None:
    images, output, _ = finished
    listener = Listener()
    (output / "pairs.txt").unlink()
    reconstruct(images, output, observer=listener, pairs="retrieval", **SIFT)
    assert "if no match is reused" in listener.ahead


def test_a_forecast_that_fails_is_none(
    finished: tuple[Path, Path, Listener], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("nothing works")

    listener = Listener()
    for name in ("setup_of", "count_pairs", "reference_seconds"):
        monkeypatch.setattr(forecast, name, fail)
    assert reconstruct(finished[0], tmp_path / "out", observer=listener, **SIFT).num_reg_images
    assert [line for line in listener.lines if line.startswith("Ahead")] == []


def test_a_run_keeps_how_fast_it_was(courtyard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LGSFM_RATES", str(tmp_path / "rates.json"))
    images = copy_photos(courtyard / "images", tmp_path / "images", views(*range(6, 12)))
    reconstruct(images, tmp_path / "out", **SIFT)
    kept = Speeds(tmp_path / "rates.json").read()
    assert [(row.stage, row.about["component"], row.count) for row in kept] == [
        ("extract", "sift", 5),
        ("match", "nearest", 14),
    ]
    listener = Listener()
    reconstruct(images, tmp_path / "other", observer=listener, **SIFT)
    assert "Times are as measured on this machine, but verify and map are rough guesses." in listener.ahead


def test_a_run_that_reuses_all_does_not_load_torch(finished: tuple[Path, Path, Listener]) -> None:
    images, output, _ = finished
    code = (
        "import sys; from lgsfm.run import Run; from lgsfm.settings import Settings; from pathlib import Path\n"
        f"with Run(Path({str(images)!r}), Path({str(output)!r}), Settings.from_flags({SIFT})) as run:\n"
        "    run.say_forecast(); run.extract()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_stages_with_work_ask_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "machine_of", lambda device, threads: Machine(device, "cuda:0", 1))
    settings = Settings.from_flags({})
    devices = {stage: found.device for stage, found in machines_of(settings, "aliked", is_extracting=False).items()}
    assert devices == {"extract": "cpu", "match": "cuda:0", "verify": "cpu", "map": "cpu"}


def test_the_time_of_the_forecast_is_that_of_the_first_stage(
    finished: tuple[Path, Path, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output, _ = finished
    with Run(images, output, Settings.from_flags(SIFT)) as run:
        run.early_s = 1000.0
        run.extract()
        assert run.summary.seconds["extract"] >= 1000
        run.select_pairs()
        assert run.summary.seconds["pairs"] < 1000
