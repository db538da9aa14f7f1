"""Runs after runs in one folder: what is kept, what is made again, what is said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import cli_helpers
import pytest
import torch
from cli_helpers import copy_photos, summary_of, views
from cli_helpers import run as command
from PIL import Image

from lgsfm import database_record, database_update
from lgsfm import run as run_module
from lgsfm.database_record import DatabaseRecord
from lgsfm.errors import CacheError, InputError, LgsfmError, ReconstructionError
from lgsfm.finished import FinishedRun
from lgsfm.healing import Look, SecondLooks
from lgsfm.observer import Observer
from lgsfm.pipeline import reconstruct
from lgsfm.run import Run
from lgsfm.settings import Settings
from lgsfm.summary import Summary, Tally

SIFT = {"features": "sift", "max_edge_px": 800, "max_keypoints": 1500}
QUICK = {"features": "sift", "max_edge_px": 400, "max_keypoints": 200}
TRIPLE = views(5, 6, 7)


class Listener(Observer):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three photos and what came of them; copy the output before you change it."""
    folder = tmp_path_factory.mktemp("finished")
    images = copy_photos(courtyard / "images", folder / "images", TRIPLE)
    reconstruct(images, folder / "out", **SIFT)
    return images, folder / "out"


@pytest.fixture
def own(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy that a test may change."""
    images, output = (shutil.copytree(folder, tmp_path / folder.name) for folder in finished)
    return images, output


def continued(images: Path, output: Path, flags: dict[str, object], listener: Listener | None = None) -> Run:
    return Run(images, output, Settings.from_flags(flags), listener, is_continued=True)


def count_calls(component: object, method: str) -> list[object]:
    """A list that grows with each call of a method from now on."""
    calls: list[object] = []
    original = getattr(component, method)

    def counted(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        return original(*arguments, **options)

    setattr(component, method, counted)
    return calls


# --------------------------------------------------------------------------------- the lock
def test_a_retry_inside_except_finds_the_folder_free(own: tuple[Path, Path]) -> None:
    images, output = own
    try:
        reconstruct(images, output, **SIFT, min_inliers=100_000)
    except LgsfmError:  # whose traceback holds on to all that was there
        assert reconstruct(images, output, **SIFT).num_reg_images == 3
    else:
        pytest.fail("no model was expected")


def test_the_folder_is_taken_until_the_run_is_closed(own: tuple[Path, Path]) -> None:
    images, output = own
    settings = Settings.from_flags(SIFT)
    with Run(images, output, settings), pytest.raises(CacheError, match="in use by another process"):
        Run(images, output, settings)
    Run(images, output, Settings.from_flags(SIFT)).close()


# --------------------------------------------------------------------------------- the database
def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete_geometries(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM two_view_geometries")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("spoil", [truncate, delete_geometries, Path.unlink])
def test_a_database_that_is_not_as_it_was_left_is_made_again(own: tuple[Path, Path], spoil) -> None:
    images, output = own
    spoil(output / "database.db")
    summary = reconstruct(images, output, **SIFT)
    assert (summary.computed["database"], summary.num_reg_images) == (3, 3)
    assert reconstruct(images, output, **SIFT).reused["database"] == 3


def test_another_pycolmap_makes_the_database_again(own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    images, output = own
    monkeypatch.setattr(database_record, "pycolmap_version", lambda: "4.9.9")
    assert reconstruct(images, output, **SIFT).computed["database"] == 3


# --------------------------------------------------------------------------------- map alone
def test_mapping_with_other_options_than_those_of_the_database_says_so(own: tuple[Path, Path]) -> None:
    images, output = own
    listener = Listener()
    with continued(images, output, {**SIFT, "max_keypoints": 77, "threads": 1}, listener) as run:
        run.map()
    (line,) = [line for line in listener.lines if line.startswith("Warning")]
    assert "--max-keypoints 1500 (asked for: 77)" in line
    assert "lgsfm database" in line
    recorded = json.loads((output / "options.json").read_text())
    assert recorded["flags"] == {**SIFT, "threads": 1}  # what is true of the models
    assert recorded["extractor"]["options"]["max_keypoints"] == 1500
    assert FinishedRun(output).pair(*TRIPLE[:2])  # it still finds features and matches


def test_mapping_with_the_options_of_the_database_says_nothing(own: tuple[Path, Path]) -> None:
    images, output = own
    listener = Listener()
    flags = {**SIFT, "mapper": "global", "min_model_size": 2, "device": "cpu"}
    with continued(images, output, flags, listener) as run:
        run.map()
    assert listener.lines == []


def test_refined_principal_points_of_few_photos_are_no_silent_wish(own: tuple[Path, Path]) -> None:
    listener = Listener()
    with continued(*own, {**SIFT, "principal_point": "refined"}, listener) as run:
        run.map()
    assert "at least 5 registered photos" in listener.lines[-1]


# --------------------------------------------------------------------------------- the summary
def test_until_there_are_new_models_the_summary_tells_of_the_old_ones(
    own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output = own
    before = summary_of(output)

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "match_features", interrupt)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(images, output, **QUICK)
    after = summary_of(output)
    for field in ("num_reg_images", "best_model", "models", "num_points3D", "unregistered", "mapper"):
        assert after[field] == before[field]
    assert after["best_model"] == "sparse/0"
    assert "map" not in after["seconds"]


def test_without_models_in_the_folder_nothing_old_is_told(own: tuple[Path, Path]) -> None:
    images, output = own
    shutil.rmtree(output / "sparse")
    with Run(images, output, Settings.from_flags(SIFT)) as run:
        run.extract()
    assert (summary_of(output)["num_reg_images"], summary_of(output)["best_model"]) == (0, None)


# --------------------------------------------------------------------------------- no model
def test_models_that_are_too_small_are_named_as_the_cause(own: tuple[Path, Path], courtyard: Path) -> None:
    images, output = own
    copy_photos(courtyard / "images", images, views(0))
    shutil.copy(courtyard / "images" / "view12.jpg", images / "z.jpg")
    with pytest.raises(ReconstructionError, match="smaller than --min-model-size 5") as caught:
        reconstruct(images, output, **SIFT, min_model_size=5, mapper="incremental", budget="none")
    assert "good start" not in str(caught.value)
    assert summary_of(output)["num_reg_images"] == 3  # the models of the earlier run are still there


def test_a_pair_file_that_names_no_pair_is_an_error_before_the_matching(own: tuple[Path, Path]) -> None:
    pairs = own[0].parent / "none.txt"
    pairs.write_text("# nothing yet\n")
    with pytest.raises(InputError, match=r"no pair to match: .*none\.txt names none"):
        reconstruct(*own, **SIFT, pairs=str(pairs))


@pytest.mark.parametrize(
    ("num_pairs", "num_verified", "flags", "text"),
    [
        (0, 0, {}, "no pair of them has any matches. The photos may not overlap, or the pairs (--pairs)"),
        (9, 0, {}, "none of the 9 matched pairs passed geometric verification"),
        (9, 4, {}, "none of the 4 verified pairs was a good start"),
        (9, 4, {"camera_model": "FOV"}, "or not be of a camera of the model FOV. More"),
    ],
)
def test_no_model_has_a_cause(
    num_pairs: int, num_verified: int, flags: dict[str, str], text: str, tmp_path: Path
) -> None:
    summary = Summary("images", "out", num_images=5, num_pairs=num_pairs, num_pairs_verified=num_verified)
    message = summary.no_model(Settings.from_flags(flags), tmp_path / "colmap.log", is_model_there=False)
    assert text in message
    assert "FOV" in text or "camera of the model" not in message
    assert "earlier run" not in message


# --------------------------------------------------------------------------------- pairs
def test_friends_of_friends_are_matched_in_a_second_round(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(4, 5, 6, 7))
    flags = {**SIFT, "pairs": "sequential+transitive", "overlap": 1, "budget": "none"}
    listener = Listener()
    summary = reconstruct(images, tmp_path / "out", observer=listener, **flags)
    assert summary.num_reg_images == 4
    assert summary.num_pairs > 3
    said = [line for line in listener.lines if line.startswith(("Pairs", "Friends"))]
    assert said[:2] == [
        "Friends of friends (transitive) follow when these pairs have been matched.",
        "Pairs: 3 (sequential + transitive; sequential 3, transitive 0).",
    ]
    num_matched = len((tmp_path / "out" / "pairs.txt").read_text().splitlines())
    assert (summary.computed["match"], summary.reused["match"]) == (num_matched, 0)  # of both rounds
    again = reconstruct(images, tmp_path / "out", **flags)
    assert again.num_pairs == summary.num_pairs
    assert (again.computed["match"], again.reused["match"]) == (0, num_matched)


def test_the_rounds_of_a_run_add_up() -> None:
    tally = Tally()
    assert tally.count("match", ["ab", "bc"], ["cd"]) == (2, 1)
    assert tally.count("match", ["ac"], ["ab", "bc", "cd"]) == (3, 1)
    assert tally.count("extract", [], ["a"]) == (0, 1)
    assert [tally.add_seconds("match", 2), tally.add_seconds("pairs", 1), tally.add_seconds("match", 3)] == [2, 1, 5]


def test_a_quick_look_is_kept(own: tuple[Path, Path]) -> None:
    images, output = own
    with continued(images, output, {**SIFT, "pairs": "prematch", "prematch_min_matches": 5}) as run:
        looks = count_calls(run.matcher, "match_prepared")
        pairs = run.select_pairs()
        assert pairs
        assert len(looks) > 0
        looks.clear()
        assert run.select_pairs() == pairs
        assert looks == []


def test_pairs_of_a_model_and_a_choice_that_cannot_work(own: tuple[Path, Path]) -> None:
    images, output = own
    model = str(output / "sparse" / "0")
    with continued(images, output, {**SIFT, "pairs": "covisibility", "covisibility_model": model}) as run:
        assert run.select_pairs() == [(a, b) for a in TRIPLE for b in TRIPLE if a < b]
    with pytest.raises(InputError, match="name its folder with --covisibility-model"):
        continued(images, output, {**SIFT, "pairs": "covisibility"})


def test_pairs_by_gps_without_gps_fail_before_anything_is_extracted(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", TRIPLE)
    with pytest.raises(InputError, match="GPS"):
        reconstruct(images, tmp_path / "out", **SIFT, pairs="spatial")
    assert not list(tmp_path.glob("out/features-*"))


def test_pairs_are_selected_with_as_many_threads_as_asked_for(
    own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(*arguments: object) -> object:
        seen.append(torch.get_num_threads())
        return select(*arguments)

    select = run_module.select
    monkeypatch.setattr(run_module, "select", watched)
    with continued(*own, {**SIFT, "threads": 1}) as run:
        run.select_pairs()
    assert seen == [1]


# --------------------------------------------------------------------------------- files of stages before
def test_a_stage_needs_no_file_that_only_stages_before_it_read(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", TRIPLE)
    mask, rules, pairs = tmp_path / "masks" / "view05.jpg.png", tmp_path / "cameras.json", tmp_path / "pairs.txt"
    mask.parent.mkdir()
    Image.new("L", (8, 6), 255).save(mask)
    rules.write_text('[{"images": "*", "focal_px": 640}]')
    pairs.write_text("view05.jpg view06.jpg\nview06.jpg view07.jpg\n")
    flags = [f"--{option}={file}" for option, file in (("masks", mask.parent), ("cameras", rules), ("pairs", pairs))]
    assert command("extract", images, *cli_helpers.SIFT, *flags).code == 0
    shutil.rmtree(mask.parent)
    assert command("pairs", images).code == 0
    pairs.unlink()
    assert command("match", images).code == 0
    assert command("database", images).code == 0
    rules.unlink()
    ended = command("map", images)
    assert ended.code == 0, ended.err
    assert "Warning" not in ended.err
    for stage in ("extract", "pairs", "database"):  # which do need one
        assert command(stage, images).code == 1


def test_mapping_with_rules_that_were_edited_says_so(own: tuple[Path, Path]) -> None:
    images, output = own
    rules = output / "cameras.json"
    flags = {**SIFT, "cameras": str(rules)}
    rules.write_text('[{"images": "*", "focal_px": 640}]')
    with continued(images, output, flags) as run:
        run.build_database()
    for content, is_new in (('[ {"images": "*", "focal_px": 640.0} ]', False), ('[{"images": "*"}]', True)):
        rules.write_text(content)
        listener = Listener()
        with continued(images, output, flags, listener) as run:
            run.map()
        said = [line for line in listener.lines if line.startswith("Warning")]
        assert len(said) == is_new
        assert all(f"--cameras {rules} as it was then (asked for: {rules})" in line for line in said)


# --------------------------------------------------------------------------------- second looks and sudden ends
def test_a_run_that_dies_while_the_database_is_judged_leaves_the_old_one_and_its_record(
    own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output = own
    before = (output / "database.json").read_text()

    def die(path: Path, options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(database_update, "drop_doubtful", die)
    with continued(images, output, {**SIFT, "min_inliers": 40}) as run, pytest.raises(KeyboardInterrupt):
        run.build_database()
    monkeypatch.undo()
    record = DatabaseRecord.read(output / "database.json")
    assert record == DatabaseRecord() or ((output / "database.json").read_text() == before)
    listener = Listener()
    with continued(images, output, {**SIFT, "min_inliers": 40}, listener) as run:
        run.build_database()
    record = DatabaseRecord.read(output / "database.json")
    assert record.is_of(output / "database.db")
    assert record.flags["min_inliers"] == 40


def test_a_look_on_trial_when_a_run_was_killed_is_judged_by_the_next_one(courtyard: Path, tmp_path: Path) -> None:
    images, output = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2, 3)), tmp_path / "out"
    flags = {**SIFT, "budget": "100"}
    reconstruct(images, output, **flags)
    with continued(images, output, flags) as run:
        looks = run.second_looks(run.selected_pairs())
        looks.settled = ["match"]
        looks.add(Look([("view00.jpg", "view01.jpg")], is_finer=True), is_on_trial=True)
        run.look_closer([("view00.jpg", "view01.jpg")])
        run.build_database()  # and here it is killed
        assert run.summary.computed["database"] == 1
    (output / "sparse.other").mkdir()
    summary = reconstruct(images, output, **flags)
    assert not (output / "sparse.other").exists()
    assert summary.num_reg_images == 4
    assert SecondLooks(output / "second-looks.json").finer == set()  # nobody is missing: there was nothing to judge
    again = reconstruct(images, output, **flags)
    assert (again.computed["database"], again.reused["database"]) == (0, 6)
