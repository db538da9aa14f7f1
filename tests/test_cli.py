"""The command line, end to end on rendered photos whose cameras are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pycolmap
import pytest
from cli_helpers import SIFT, Ran, copy_photos, hide_weights, nearly, run, run_process, statistics, summary_of, views

from lgsfm import weights
from lgsfm.cli.reconstruction import _say_cameras, table
from lgsfm.cli.terminal import Terminal
from lgsfm.errors import WeightsError
from lgsfm.evaluation import evaluate
from lgsfm.poses import load_poses
from lgsfm.settings import flag_fields
from lgsfm.summary import Summary

STAGES = ("extract", "pairs", "match", "database", "map")
SINGLE_WORDS = ("reconstruct", *STAGES, "evaluate", "bench")
COMMANDS = (*((word,) for word in SINGLE_WORDS), ("weights", "list"), ("weights", "fetch"))


@pytest.fixture(scope="module")
def whole(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """All photos of the courtyard, reconstructed in a process of its own: (how it ended, output folder)."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return run_process("reconstruct", courtyard / "images", "-o", output, *SIFT), output


@pytest.fixture(scope="module")
def six(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six photos and what came of them: (image folder, output folder). Copy the output before you change it."""
    folder = tmp_path_factory.mktemp("six")
    images = copy_photos(courtyard / "images", folder / "images", views(*range(6)))
    ended = run("reconstruct", images, *SIFT, "--quiet")
    assert ended.code == 0, ended.err
    return images, folder / "images-lgsfm"


@pytest.fixture
def own_six(six: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of `six` that a test may change."""
    images, output = (shutil.copytree(folder, tmp_path / folder.name) for folder in six)
    return images, output


# --------------------------------------------------------------------------------- reconstruct
def test_all_photos_register_and_the_poses_are_exact(whole: tuple[Ran, Path], courtyard: Path) -> None:
    ended, output = whole
    assert ended.code == 0, ended.err
    result = run("evaluate", output, courtyard / "ground_truth.txt", "--json")
    assert result.code == 0
    figures = json.loads(result.out)
    assert figures["num_registered"] == figures["num_images"] == 14
    assert figures["auc"]["5"] > 95
    assert figures["median_rotation_error_deg"] < 0.2


def test_evaluate_takes_a_model_as_reference_and_prints_a_table(whole: tuple[Ran, Path], courtyard: Path) -> None:
    result = run("evaluate", whole[1] / "sparse" / "0", courtyard / "sparse")
    assert result.code == 0
    assert "14 of 14" in result.out
    assert "AUC" in result.out
    assert result.err == ""


def test_the_result_is_on_stdout_and_all_else_on_stderr(whole: tuple[Ran, Path]) -> None:
    ended, _ = whole
    assert ended.out.startswith("Registered images    14 of 14\n")
    for line in ("Points ", "Mean track length ", "Mean reproj. error ", "Features, matcher    sift, nearest"):
        assert line in ended.out
    assert ended.out.splitlines()[-2].startswith("  total ")
    assert ended.out.splitlines()[-1].startswith("Look at it ")
    assert "photo/s" not in ended.out
    for text in ("Features: sift (asked for).", "Pairs: 91 (exhaustive).", "photo/s", "pair/s", "647.1 px (EXIF)"):
        assert text in ended.err
    assert "Traceback" not in ended.err


def test_each_stage_has_one_bar_which_ends_full(whole: tuple[Ran, Path]) -> None:
    for stage, total in (("extract", 14), ("match", 91), ("map", 14)):
        assert whole[0].err.count(f"\n{stage}: {total} of {total}") in (1, 2)  # tqdm may write a full bar twice


def test_the_summary_tells_what_came_out(whole: tuple[Ran, Path]) -> None:
    _, output = whole
    summary = summary_of(output)
    assert summary["num_images"] == summary["num_reg_images"] == 14
    assert summary["unregistered"] == []
    assert summary["failed_images"] == {}
    assert summary["num_points3D"] > 300
    assert summary["mean_track_length"] > 3
    assert 0 < summary["mean_reprojection_error_px"] < 1
    assert summary["best_model"] == "sparse/0"
    assert summary["models"][0]["path"] == "sparse/0"
    assert (summary["features"], summary["features_reason"]) == ("sift", "asked for")
    assert (summary["matcher"], summary["mapper"]) == ("nearest", "auto")
    assert summary["num_pairs"] == 91
    assert 13 <= summary["num_pairs_verified"] <= 91
    assert summary["computed"] == {"extract": 14, "match": 91, "database": 91}
    assert summary["reused"] == {"extract": 0, "match": 0, "database": 0}
    assert set(summary["seconds"]) == {*STAGES, "total"}
    parts = sum(seconds for stage, seconds in summary["seconds"].items() if stage != "total")
    assert summary["seconds"]["total"] == pytest.approx(parts, abs=0.01)
    (camera,) = summary["cameras"]
    assert camera["focal_px"] == pytest.approx(647.15, abs=0.5)
    assert camera["num_images"] == 14
    assert set(summary["versions"]) == {"lgsfm", "pycolmap", "torch", "numpy", "h5py", "python"}
    assert summary["weights"] == []


def test_the_options_tell_what_was_asked_for(whole: tuple[Ran, Path]) -> None:
    options = json.loads((whole[1] / "options.json").read_text())
    assert options["flags"] == {"features": "sift", "max_edge_px": 800, "max_keypoints": 1500}
    assert options["extractor"]["options"]["max_keypoints"] == 1500
    assert options["matcher"]["matcher"] == "nearest"
    assert options["mapping"]["mapper"] == "auto"


def test_pycolmap_reads_the_model(whole: tuple[Ran, Path]) -> None:
    _, output = whole
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert model.num_reg_images() == summary_of(output)["num_reg_images"]
    assert model.num_points3D() == summary_of(output)["num_points3D"]
    colours = [tuple(point.color) for point in model.points3D.values()]
    assert len(set(colours)) > 10  # read from the photos


def test_the_output_folder_holds_what_is_documented_and_nothing_else(whole: tuple[Ran, Path]) -> None:
    names = sorted(path.name for path in whole[1].iterdir() if path.name != ".lock")
    features, matches = names[3], names[5]
    assert features.startswith("features-sift-")
    assert matches.startswith("matches-nearest-")
    assert names == [
        "colmap.log",
        "database.db",
        "database.json",
        features,
        "manifest.json",
        matches,
        "options.json",
        "pairs.txt",
        "report.html",
        "second-looks.json",
        "sparse",
        "summary.json",
    ]
    assert "fatal" not in (whole[1] / "colmap.log").read_text().lower()


def test_json_prints_the_summary(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    ended = run("reconstruct", images, "-o", output, *SIFT, "--json")
    assert ended.code == 0
    assert json.loads(ended.out) == summary_of(output)


def test_quiet_says_nothing_but_the_result(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    ended = run("reconstruct", images, "-o", output, *SIFT, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Registered images    6 of 6\n")


def test_the_default_output_lies_beside_the_photos(six: tuple[Path, Path]) -> None:
    images, output = six
    assert output == images.with_name("images-lgsfm")
    assert (output / "sparse" / "0").is_dir()
    assert sorted(path.name for path in images.iterdir()) == views(*range(6))  # nothing among the photos


# --------------------------------------------------------------------------------- reuse
def test_a_second_run_reuses_all_but_the_mapping_and_says_so(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    before = statistics(output)
    ended = run("reconstruct", images, "-o", output, *SIFT)
    assert ended.code == 0
    summary = summary_of(output)
    assert summary["computed"] == {"extract": 0, "match": 0, "database": 0}
    assert summary["reused"] == {"extract": 6, "match": 15, "database": 15}
    assert ended.out.count("all reused") == 3
    assert "photo/s" not in ended.err.partition("map")[0]  # no bar for what is done
    assert statistics(output) == nearly(before)


def test_a_photo_added_later_costs_itself_and_its_pairs(own_six: tuple[Path, Path], courtyard: Path) -> None:
    images, output = own_six
    copy_photos(courtyard / "images", images, views(6))
    ended = run("reconstruct", images, "-o", output, *SIFT)
    assert ended.code == 0
    summary = summary_of(output)
    assert (summary["computed"]["extract"], summary["reused"]["extract"]) == (1, 6)
    assert (summary["computed"]["match"], summary["reused"]["match"]) == (6, 15)
    assert summary["num_reg_images"] == 7
    assert "1 computed, 6 reused" in ended.out


def test_a_photo_replaced_under_its_name_is_computed_again(own_six: tuple[Path, Path], courtyard: Path) -> None:
    images, output = own_six
    shutil.copy(courtyard / "images" / "view06.jpg", images / "view00.jpg")
    assert run("reconstruct", images, "-o", output, *SIFT).code == 0
    summary = summary_of(output)
    assert (summary["computed"]["extract"], summary["computed"]["match"]) == (1, 5)
    assert (summary["computed"]["database"], summary["reused"]["database"]) == (5, 10)  # what is verified is kept


def test_a_photo_taken_away_is_gone_from_the_model(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    (images / "view05.jpg").unlink()
    assert run("reconstruct", images, "-o", output, *SIFT).code == 0
    summary = summary_of(output)
    assert summary["num_images"] == summary["num_reg_images"] == 5
    assert (summary["computed"]["extract"], summary["computed"]["match"]) == (0, 0)
    names = {image.name for image in pycolmap.Reconstruction(output / "sparse" / "0").images.values()}
    assert names == set(views(*range(5)))


def test_other_options_have_a_cache_of_their_own_and_both_are_kept(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    before = statistics(output)
    fewer = ("--features", "sift", "--max-edge-px", "800", "--max-keypoints", "600")
    assert run("reconstruct", images, "-o", output, *fewer).code == 0
    assert summary_of(output)["computed"] == {"extract": 6, "match": 15, "database": 15}
    assert statistics(output)["points"] < before["points"]
    assert len(list(output.glob("features-sift-*.h5"))) == len(list(output.glob("matches-nearest-*.h5"))) == 2
    assert run("reconstruct", images, "-o", output, *SIFT).code == 0
    summary = summary_of(output)
    assert (summary["computed"]["extract"], summary["computed"]["match"]) == (0, 0)
    assert summary["computed"]["database"] == 15  # there is one database, of the other options by now
    assert statistics(output) == nearly(before)


# --------------------------------------------------------------------------------- stages
def test_the_stages_one_by_one_give_the_model_of_reconstruct(six: tuple[Path, Path], tmp_path: Path) -> None:
    images, reference = six
    output = tmp_path / "out"
    options: tuple[str, ...] = SIFT  # for the first; the others take those of the command before
    lines = []
    for stage in STAGES:
        ended = run(stage, images, "-o", output, *options)
        assert ended.code == 0, ended.err
        lines.append(ended.out.splitlines())
        options = ()
    assert lines[0][0] == "6 computed, 0 reused, 0 skipped"
    assert Path(lines[0][1]).name.startswith("features-sift-")
    assert lines[1] == [str(output / "pairs.txt")]
    assert lines[2][0] == "15 computed, 0 reused, 0 without features"
    assert "of 15 matched pairs verified" in lines[3][0]
    assert lines[3][1] == str(output / "database.db")
    assert lines[4][0] == "Registered images    6 of 6"
    assert statistics(output) == nearly(statistics(reference))


def test_options_of_a_stage_hold_for_the_stages_after_it(six: tuple[Path, Path], tmp_path: Path) -> None:
    images, output = six[0], tmp_path / "out"
    assert run("extract", images, "-o", output, *SIFT).code == 0
    assert run("pairs", images, "-o", output, "--pairs", "sequential", "--overlap", "2").code == 0
    ended = run("match", images, "-o", output, "--ratio", "0.7")
    assert ended.out.startswith("9 computed"), ended.err
    ended = run("database", images, "-o", output)
    assert ended.code == 0, ended.err
    assert "of 9 matched pairs verified" in ended.out


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("match", "lgsfm pairs"),
        ("database", "lgsfm pairs"),
        ("map", "lgsfm reconstruct"),
    ],
)
def test_a_stage_names_the_one_that_must_come_first(
    six: tuple[Path, Path], tmp_path: Path, stage: str, missing: str
) -> None:
    ended = run(stage, six[0], "-o", tmp_path / "out", *SIFT)
    assert ended.code == 1
    assert missing in ended.err


def test_a_pair_file_is_used_as_it_is(own_six: tuple[Path, Path]) -> None:
    images, output = own_six
    pairs = images.parent / "my pairs.txt"
    pairs.write_text("# mine\nview01.jpg view00.jpg\nview01.jpg\tview02.jpg\n")
    ended = run("pairs", images, "-o", output, "--pairs", str(pairs))
    assert ended.code == 0, ended.err
    assert (output / "pairs.txt").read_text() == "view00.jpg\tview01.jpg\nview01.jpg\tview02.jpg\n"


@pytest.mark.parametrize("mapper", ["global", "hierarchical"])
def test_the_other_mappers_register_all_photos(own_six: tuple[Path, Path], mapper: str) -> None:
    if mapper == "hierarchical" and not hasattr(pycolmap, "hierarchical_mapping"):
        pytest.skip("this pycolmap has no hierarchical mapper")
    images, output = own_six
    ended = run("map", images, "-o", output, "--mapper", mapper)
    assert ended.code == 0, ended.err
    assert summary_of(output)["mapper"] == mapper
    assert statistics(output)["images"] == 6


def test_retrieval_and_sequential_pairs_register_all_photos(six: tuple[Path, Path], tmp_path: Path) -> None:
    images, features = six[0], next(six[1].glob("features-*.h5"))
    output = tmp_path / "out"
    output.mkdir()
    shutil.copy(features, output)
    options = ("--pairs", "retrieval+sequential", "--overlap", "1", "--neighbors", "2", "--words", "8")
    ended = run("reconstruct", images, "-o", output, *SIFT, *options)
    assert ended.code == 0, ended.err
    summary = summary_of(output)
    assert summary["num_reg_images"] == 6
    assert 5 <= summary["num_pairs"] < 15


# --------------------------------------------------------------------------------- learned features
def test_aliked_and_lightglue_reconstruct(courtyard: Path, tmp_path: Path) -> None:
    try:
        for model in ("aliked-n16", "lightglue-aliked"):
            weights.fetch(model)
    except WeightsError as exc:
        pytest.skip(f"no weights of ALIKED and LightGlue: {exc}")
    images = copy_photos(courtyard / "images", tmp_path / "images", views(*range(4, 9)))
    output = tmp_path / "out"
    options = ("--features", "aliked", "--max-keypoints", "600", "--max-edge-px", "640")
    ended = run("reconstruct", images, "-o", output, *options)
    assert ended.code == 0, ended.err
    summary = summary_of(output)
    assert summary["num_reg_images"] == 5
    assert (summary["features"], summary["matcher"]) == ("aliked", "lightglue")
    assert {row["name"] for row in summary["weights"]} == {"aliked-n16.pth", "aliked_lightglue.pth"}
    assert all(len(row["sha256"]) == 64 and row["licence"] for row in summary["weights"])
    truth = {
        name: pose for name, pose in load_poses(courtyard / "ground_truth.txt").items() if name in views(*range(4, 9))
    }
    assert evaluate(load_poses(output), truth).auc[5] > 85


# --------------------------------------------------------------------------------- help, weights, usage
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    ended = run(*words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"usage: lgsfm {' '.join(words)} ")
    if words[0] in ("reconstruct", *STAGES):
        for flag in ("--output", "--quiet", *(f"--{field.name.replace('_', '-')}" for field, *_ in flag_fields())):
            assert f"{flag} " in ended.out or f"{flag}\n" in ended.out or f"{flag}," in ended.out, flag


def test_help_tells_the_default_of_each_component() -> None:
    text = " ".join(run("reconstruct", "--help").out.split())
    assert "(default: 0.2 of aliked, 0.5 of disk, 0.005 of superpoint, 0.05 of xfeat)" in text
    assert "--mapper {auto,incremental,global,hierarchical} COLMAP's mapper;" in text


def test_help_of_the_stages_tells_which_flags_they_do_not_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # else a line may end within a flag
    text = " ".join(run("match", "--help").out.split())
    assert "but for --batch-size, --device, --offline, --strict, --weights-dir; with another --features" in text
    assert "last command" not in run("reconstruct", "--help").out


def test_ctrl_c_while_libraries_are_loaded_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "pycolmap.py").write_text("raise KeyboardInterrupt")
    ended = run_process("reconstruct", "images", PYTHONPATH=str(tmp_path))
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.startswith("Interrupted.")


def test_the_table_gives_the_reason_of_each_photo_that_did_not_register() -> None:
    summary = Summary("images", "out", num_images=4, unregistered=["a.jpg", "b.jpg", "c.jpg"])
    reasons = {"a.jpg": "few matches", "b.jpg": "unreadable", "c.jpg": "few matches"}
    summary.diagnoses = [{"image": name, "reason": reason} for name, reason in reasons.items()]
    lines = table(summary).splitlines()
    assert "Not registered       1 unreadable: b.jpg" in lines
    assert "Not registered       2 few matches: a.jpg, c.jpg" in lines
    assert "Numbers and advice   lgsfm doctor out" in lines


def test_the_table_ends_with_the_page_to_look_at_if_there_is_one(tmp_path: Path) -> None:
    summary = Summary("images", str(tmp_path), best_model="sparse/0", models=[{"principal_points_refined": 0}])
    assert "Look at it" not in table(summary)
    (tmp_path / "report.html").touch()
    assert table(summary).splitlines()[-1] == f"Look at it           {tmp_path / 'report.html'}, in a browser"


def test_of_many_cameras_those_of_most_photos_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary("images", "out")
    for number in range(30):
        row = {"num_images": 1, "width": 100 + number, "height": 100, "focal_px": None, "label": "no EXIF"}
        summary.cameras.append({**row, "num_images": 5} if number == 29 else row)
    _say_cameras(summary, Terminal())
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("     5 photos      129x100")
    assert lines[2].startswith("     1 photo       100x100")
    assert lines[13] == "  and 18 more cameras of 18 photos (summary.json and report.html list all)"
    assert lines[14].startswith("Warning: nothing tells the focal length of 34 photos (30 of 30 cameras)")
    assert len(lines) == 15


def test_the_help_of_the_program_names_every_command() -> None:
    ended = run("--help")
    assert ended.code == 0
    for words in COMMANDS:
        assert f"\n  {words[0]} " in ended.out or f", {words[0]}" in ended.out


def test_the_version() -> None:
    ended = run("--version")
    assert (ended.code, ended.out.split()[0]) == (0, "lgsfm")


def test_weights_list_names_licence_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_weights(monkeypatch, tmp_path)
    ended = run("weights", "list")
    assert (ended.code, ended.err) == (0, "")
    for text in ("aliked-n16", "lightglue-aliked", "superpoint", "non-commercial", "sha256", "lgsfm weights fetch"):
        assert text in ended.out
    rows = json.loads(run("weights", "list", "--json").out)["weights"]
    assert {row["model"] for row in rows} == set(weights.MODELS)
    assert all(row["path"] is None for row in rows)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ((), "required: COMMAND"),
        (("reconstrukt",), "invalid choice: 'reconstrukt'"),
        (("reconstruct",), "required: images"),
        (("reconstruct", "images", "--max-keypoint-count", "5"), "unrecognized arguments: --max-keypoint-count"),
        (("reconstruct", "images", "--max-keypoints", "many"), "argument --max-keypoints: invalid int value: 'many'"),
        (("reconstruct", "images", "--camera-mode", "two"), "invalid choice: 'two'"),
        (("reconstruct", "images", "--mapper", "fast"), "invalid choice: 'fast'"),
        (("reconstruct", "images", "-o", ""), "argument -o/--output: the name of the folder is empty"),
        (("reconstruct", ""), "argument images: the name of the folder is empty"),
        (("reconstruct", "images", "--max-key", "5"), "unrecognized arguments: --max-key"),
        (("weights", "fetch", "--off"), "unrecognized arguments: --off"),
        (("weights",), "required: ACTION"),
        (("evaluate", "model"), "required: reference"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_usage_on_stderr(argv: tuple[str, ...], text: str) -> None:
    ended = run(*argv)
    assert (ended.code, ended.out) == (2, "")
    assert "usage: lgsfm" in ended.err
    assert text in ended.err


def test_each_round_of_a_stage_has_a_bar_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(style="terminal")
    for total in (3, 5):
        report = terminal.progress("match")
        assert report
        for done in range(total + 1):
            report(done, total)
    report(5, 5)  # the last one again
    assert terminal.progress("pairs")
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "5/5" in shown
    assert shown.count("\n") == 2


def test_python_m_lgsfm_is_the_same_program() -> None:
    ended = run_process("--version")
    assert ended == run("--version")
