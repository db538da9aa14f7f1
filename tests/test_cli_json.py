"""--json: one JSON object on stdout, of every command whose result is data, also where it ends with an error."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import SIFT, command, copy_photos, hide_weights, run, run_process, summary_of, views
from PIL import Image
from test_cli_help import ALL

from lgsfm import weights
from lgsfm.cli.answer import Answer, plain
from lgsfm.errors import WeightsError

NOT_DATA = {("view",), ("completion",), ("cache",), ("weights",)}  # a page, a script, and groups of commands
MISSING = {  # command -> arguments that name nothing there is
    "reconstruct": "missing",
    "extract": "missing",
    "pairs": "missing",
    "match": "missing",
    "database": "missing",
    "map": "missing",
    "evaluate": "missing missing.txt",
    "frames": "missing.mp4",
    "doctor": "missing",
    "manifest": "missing",
    "report": "missing",
    "pose": "missing.jpg missing.png --features sift",
    "show": "missing.jpg missing.png --features sift",
    "localize": "missing missing.jpg",
    "export": "missing ply",
    "import": "out --features missing.h5 --images missing",
    "into-database": "missing missing.db",
    "cite": "missing",
    "bench": "missing",
    "cache verify": "missing",
    "cache repair": "missing",
    "cache prune": "missing",
    "weights list": "--weights-dir missing",
    "weights fetch": "missing",
}


@pytest.fixture(scope="module")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Four photos, stage by stage: (output folder, what each stage printed)."""
    folder = tmp_path_factory.mktemp("json")
    images = copy_photos(courtyard / "images", folder / "images", views(4, 5, 6, 7))
    (images / "torn.jpg").write_bytes((images / "view04.jpg").read_bytes()[:300])
    told = {}
    for stage in ("extract", "pairs", "match", "database", "map"):
        options = SIFT if stage == "extract" else ()
        told[stage] = answer(stage, images, "-o", folder / "out", *options)
    return folder / "out", told


def answer(*words: Any, code: int = 0) -> dict[str, Any]:
    ended = run(*words, "--json")
    assert ended.code == code, ended.err
    found = json.loads(ended.out)
    assert isinstance(found, dict)
    return found


# --------------------------------------------------------------------------------- every command
@pytest.mark.parametrize("words", sorted(set(ALL) - NOT_DATA), ids=" ".join)
def test_an_error_is_in_the_object_and_on_stderr(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [*words, *MISSING[" ".join(words)].split()]
    ended = run(*argv, "--json")
    assert ended.code == 1
    error = json.loads(ended.out)["error"]
    assert error["type"] in ("InputError", "WeightsError", "CacheError")
    assert "missing" in error["message"]
    assert ended.err.endswith(f"Error: {error['message']}\n")
    assert run(*argv).out == ""  # people read it on stderr


def test_wrong_usage_prints_nothing() -> None:
    ended = run("doctor", "--json")
    assert (ended.code, ended.out) == (2, "")


def test_an_error_whose_object_nobody_reads_is_an_error_all_the_same(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("doctor", tmp_path / "missing", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"Error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_whatever_the_encoding_it_is_json(tmp_path: Path, encoding: str) -> None:
    ended = run_process("doctor", tmp_path / "é 中 😀", "--json", PYTHONIOENCODING=encoding)
    assert "é 中 😀" in json.loads(ended.out)["error"]["message"]


def test_numbers_that_are_none_and_names_that_control_a_terminal() -> None:
    given, out = Answer(), io.StringIO()
    given.as_json = True
    with redirect_stdout(out):
        given.give({"name": "a\x9b1m\u202e.jpg", "error_px": float("nan"), "path": Path("a") / "b"})
        given.end()
    assert "\x9b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    assert json.loads(out.getvalue()) == {"name": "a\x9b1m\u202e.jpg", "error_px": None, "path": str(Path("a") / "b")}
    assert plain([float("inf"), (1.5,)]) == [None, [1.5]]


# --------------------------------------------------------------------------------- stages
def test_the_stages_tell_what_they_did_in_the_words_of_the_summary(finished: tuple[Path, dict[str, Any]]) -> None:
    output, told = finished
    summary = summary_of(output)
    assert told["map"] == summary
    for stage in ("extract", "match", "database"):
        assert told[stage]["computed"] == {stage: summary["computed"][stage]}
        assert told[stage]["seconds"] == {stage: summary["seconds"][stage]}
    for stage, values in told.items():
        assert values["output"] == str(output)
        assert values["num_images"] == 5
        assert stage == "map" or Path(values["path"]).is_file()
    assert list(told["extract"]["failed_images"]) == ["torn.jpg"]
    assert told["extract"]["features"] == "sift"
    assert told["pairs"]["num_selected"] == 10
    assert (told["match"]["matcher"], told["match"]["num_skipped"]) == ("nearest", 4)
    assert told["database"]["num_pairs_verified"] == summary["num_pairs_verified"] > 0
    assert told["database"]["num_inliers"] > 0


def test_without_a_model_the_summary_is_told_with_the_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, colour in (("a", 90), ("b", 120), ("c", 200)):
        Image.new("L", (200, 150), colour).save(tmp_path / "images" / f"{name}.png")
    found = answer("reconstruct", tmp_path / "images", "-o", tmp_path / "out", *SIFT, code=1)
    assert found.pop("error")["type"] == "ReconstructionError"
    assert found == summary_of(tmp_path / "out")
    assert [each["reason"] for each in found["diagnoses"]] == ["no features"] * 3
    again = answer("map", tmp_path / "images", "-o", tmp_path / "out", code=1)
    assert len(again["unregistered"]) == 3


# --------------------------------------------------------------------------------- others
def test_of_a_finished_run(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output = finished[0]
    page = tmp_path / "page.html"
    assert answer("report", output, "-o", page) == {"path": str(page)}
    assert page.is_file()
    assert {row["name"] for row in answer("export", output)["formats"]} >= {"ply", "gaussians"}
    assert (
        answer("export", output, "ply", "-o", tmp_path / "a.ply")["num_images"] == summary_of(output)["num_reg_images"]
    )
    assert {row["kind"] for row in answer("cache", "verify", output)["findings"]} >= {"features", "matches", "model"}
    assert answer("cache", "prune", output)["is_dry"] is True
    assert answer("cache", "repair", output) == {"actions": []}


def test_what_is_found_and_what_is_wrong_come_in_one_object(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    output = shutil.copytree(finished[0], tmp_path / "out")
    path = next(output.glob("matches-*.h5"))
    path.write_bytes(path.read_bytes()[:5000])
    found = answer("cache", "verify", output, code=1)
    assert [row["path"] for row in found["findings"] if row["problem"]] == [path.name]
    assert found["error"]["type"] == "CacheError"


def test_show_tells_the_pictures_and_the_matches_in_them(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    names = ("view04.jpg", "view05.jpg")
    found = answer("show", "--run", finished[0], *names, "-o", tmp_path / "a.png")
    (row,) = found["pairs"]
    assert found["path"] == row["path"] == str(tmp_path / "a.png")
    assert (row["image0"], row["image1"]) == names
    assert 0 < row["num_inliers"] <= row["num_matches"]
    (tmp_path / "pairs.txt").write_text("view04.jpg view05.jpg\nview04.jpg view06.jpg\n")
    found = answer("show", "--run", finished[0], "--list", tmp_path / "pairs.txt", "-o", tmp_path / "all")
    assert [Path(row["path"]).is_file() for row in found["pairs"]] == [True, True]


def test_pose_tells_the_matches_and_the_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.effect_noise((300, 200), 60).convert("RGB").save(tmp_path / name)
    found = answer("pose", tmp_path / "a.png", tmp_path / "b.png", *SIFT, code=1)
    assert found["configuration"] == "degenerate"
    assert found["error"]["type"] == "PoseError"


def test_weights_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_weights(monkeypatch, tmp_path)
    rows = answer("weights", "list")["weights"]
    assert all(row["path"] is None for row in rows)
    found = answer("weights", "fetch", "--offline", code=1)
    assert found["error"]["type"] == "WeightsError"
    assert "weights" not in found


def test_weights_that_were_fetched_before_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec, *_) = weights.MODELS["aliked-n16"]

    def fetch(name: str, **options: Any) -> weights.WeightFile:
        if name == "nobody":
            raise WeightsError("not there")
        return weights.WeightFile(Path("a.pth"), spec.sha256, spec, "the cache")

    monkeypatch.setattr(weights, "fetch", fetch)
    found = answer("weights", "fetch", "aliked-n16", "nobody", code=1)
    (row,) = found["weights"]
    assert (row["model"], row["name"], row["path"], row["sha256"]) == ("aliked-n16", spec.name, "a.pth", spec.sha256)
    assert found["error"] == {"type": "WeightsError", "message": "not there"}
