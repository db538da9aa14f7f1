"""Every small file of an output folder may be anything: what reads it gives a clear error, or does without it."""

from __future__ import annotations

import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pycolmap
import pytest
from cli_helpers import SIFT, copy_photos, run, views
from damages import damaged_texts, whole_texts

from lgsfm.cli import main
from lgsfm.files import write_json

PAIR = ["view00.jpg", "view01.jpg"]
RECORDS = ("summary.json", "options.json", "database.json", "second-looks.json", "upright.json")
FILES = (*RECORDS, "manifest.json", "pairs.txt", "sparse/models.json")
MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin", "frames.bin", "rigs.bin")
CHEAP = ("doctor", "cite", "manifest", "comparison")
READERS = (*CHEAP, "report", "verify", "prune", "export", "localize", "show", "evaluate")
CUTS = 20
MOST = 1  # damages of one file that one command meets


@pytest.fixture(scope="session")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four photos, ``out``, whose small files say all that they can say."""
    root = tmp_path_factory.mktemp("small files")
    photos = copy_photos(courtyard / "images", root / "photos", views(0, 1, 2, 3))
    assert run("reconstruct", photos, "-o", root / "out", *SIFT, "--quiet").code == 0
    row = {"reason": "weak", "is_finer": False, "state": "kept", "seconds": 1.0, "pairs": [PAIR]}
    looks = {"begun_with": "a", "settled": ["map"], "rounds": [row, {**row, "is_finer": True}]}
    write_json(root / "out" / "second-looks.json", looks, is_checked=True)
    turns = {"voted": "a", "turns": {"view00.jpg": {"quarters": 1, "sha256": "0"}}}
    write_json(root / "out" / "upright.json", turns, is_checked=True)
    more = {
        "failed_images": {"bad.jpg": "no photo"},
        "masked_out": ["hidden.jpg"],
        "turned_deg": {"view00.jpg": 90},
        "weights": [{"name": "n", "sha256": "0", "licence": "MIT"}],
    }
    _change(root / "out" / "summary.json", more)
    _change(root / "out" / "manifest.json", {"weights": more["weights"]})
    _change(root / "out" / "database.json", {"dropped": [PAIR], "finer": [PAIR], "doubts": ["a and b"]})
    return root


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished / "out", tmp_path / "out")


@pytest.fixture
def records(finished: Path, tmp_path: Path) -> Path:
    """A copy of its records alone, at which `cache verify` looks in no time."""
    (tmp_path / "records").mkdir()
    for file in RECORDS:
        shutil.copy(finished / "out" / file, tmp_path / "records" / file)
    return tmp_path / "records"


def _change(path: Path, values: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("checksum", None)
    path.write_text(json.dumps({**content, **values}), encoding="utf-8")


def _argv(name: str, finished: Path, output: Path) -> list[str | Path]:
    photo, scratch = finished / "photos" / "view00.jpg", output.parent
    return {
        "doctor": ["doctor", output],
        "cite": ["cite", output],
        "manifest": ["manifest", output],
        "comparison": ["manifest", finished / "out", output],
        "report": ["report", output, "-o", scratch / "report.html"],
        "verify": ["cache", "verify", output, "--quiet"],
        "prune": ["cache", "prune", output, "--quiet"],
        "export": ["export", output, "nerfstudio", "-o", scratch / "export", "--quiet"],
        "localize": ["localize", output, photo, "--quiet"],
        "show": ["show", "--run", output, *PAIR, "-o", scratch / "matches.png", "--quiet"],
        "evaluate": ["evaluate", output, finished / "out"],
    }[name]


def _assert_clear(name: str, finished: Path, output: Path, label: str) -> None:
    """A command ends well, or with an error in words; an exception would come through."""
    try:
        ended = run(*_argv(name, finished, output))
    except Exception as exc:
        raise AssertionError(f"lgsfm {name}, {label}") from exc
    assert ended.code in (0, 1), label
    if ended.code and name != "comparison":  # of which 1 also says that they differ
        assert "Error: " in ended.err, label
    assert "Traceback" not in ended.err + ended.out, label


def _damages(finished: Path, file: str) -> list[tuple[str, str]]:
    intact = (finished / "out" / file).read_text(encoding="utf-8")
    if file.endswith(".json"):
        return damaged_texts(intact)
    return [*whole_texts(json.dumps(intact)), ("a name alone", PAIR[0]), ("names of nobody", "x\ty\n\t\t\t\n")]


# --------------------------------------------------------------------------------- JSON files and pairs.txt
@pytest.mark.parametrize("file", FILES)
def test_commands_live_with_damaged_small_files(file: str, finished: Path, output: Path) -> None:
    chosen = random.Random(file)
    damages = _damages(finished, file)
    for name in READERS:
        for label, text in chosen.sample(damages, 3 if name in CHEAP else 1):
            (output / file).write_text(text, encoding="utf-8")
            _assert_clear(name, finished, output, f"{file}: {label}")


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("file", FILES)
def test_commands_live_with_many_damages_of_small_files(file: str, name: str, finished: Path, output: Path) -> None:
    damages = _damages(finished, file)
    for label, text in random.Random(f"{file} {name}").sample(damages, min(MOST, len(damages))):
        (output / file).write_text(text, encoding="utf-8")
        _assert_clear(name, finished, output, f"{file}: {label}")


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_runs_go_on_from_damaged_small_files(file: str, finished: Path, output: Path) -> None:
    for label, text in random.Random(file).sample(_damages(finished, file), 1):
        for stage in ("match", "map", "reconstruct"):
            (output / file).write_text(text, encoding="utf-8")
            options = SIFT if stage == "reconstruct" else ()
            ended = run(stage, finished / "photos", "-o", output, *options, "--quiet")
            assert ended.code == 0 or "Error: " in ended.err, f"{stage}, {file}: {label}"
        assert ended.code == 0, f"{file}: {label}: {ended.err}"


@pytest.mark.parametrize("file", RECORDS)
@pytest.mark.parametrize("text", ["", "[]", "null", '{"a": ' * 10_000 + "1" + "}" * 10_000, '{"x": "\\ud800"}', '{"'])
def test_files_that_are_no_records_are_named_by_verify(file: str, text: str, records: Path) -> None:
    (records / file).write_text(text, encoding="utf-8")
    ended = run("cache", "verify", records, "--quiet")
    assert (ended.code, f"Damaged: {file}." in ended.err) == (1, True), ended.err


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("summary.json", {"weights": [1]}),
        ("summary.json", {"models": [{"path": 0}]}),
        ("summary.json", {"diagnoses": [{"image": "a.jpg"}]}),
        ("summary.json", {"image_dir": "x" * 10_000}),
        ("summary.json", {"mean_track_length": float("inf")}),
        ("options.json", {"extractor": {"options": {}}}),
        ("options.json", {"matcher": {"matcher": "../../secret"}}),
        ("options.json", {"verification": {"min_inliers": "15"}}),
        ("database.json", {"made": {"extractor": {}}}),
        ("database.json", {"dropped": [["a.jpg"]]}),
        ("database.json", {"report": {}}),
        ("second-looks.json", {"rounds": [{"reason": "weak", "is_finer": True, "seconds": 1.0, "pairs": []}]}),
    ],
    ids=str,
)
def test_records_with_values_of_other_types_are_named_by_verify(
    file: str, values: dict[str, Any], finished: Path, output: Path, records: Path
) -> None:
    _change(output / file, values)
    _change(records / file, values)
    ended = run("cache", "verify", records, "--quiet")
    assert (ended.code, f"Damaged: {file}." in ended.err) == (1, True), ended.err
    for name in ("doctor", "cite"):
        assert run(*_argv(name, finished, output)).code == 0


def test_second_looks_of_an_older_layout_are_as_good_as_none(finished: Path, output: Path) -> None:
    """It had no states: those of all rounds were "kept"."""
    rows = [{"reason": "weak", "is_finer": True, "seconds": 1.0, "pairs": [PAIR]}]
    _change(output / "second-looks.json", {"rounds": rows})
    ended = run("doctor", output)
    assert (ended.code, ended.out.splitlines()[0]) == (0, "Registered 4 of 4 photos in the best model.")


def test_damaged_options_are_told_from_a_folder_of_something_else(output: Path, tmp_path: Path) -> None:
    (output / "options.json").write_text("{", encoding="utf-8")
    said = run("cite", output).err
    assert "options.json cannot be read: " in said
    assert f"`lgsfm cache repair {output}`" in said
    assert "is no output folder of lgsfm" in run("cite", tmp_path).err


# --------------------------------------------------------------------------------- models
@pytest.mark.parametrize("name", ["report", "doctor", "export", "localize", "evaluate", "show"])
@pytest.mark.parametrize("file", MODEL_FILES)
def test_damaged_models_are_named_and_old_results_stay(file: str, name: str, finished: Path, output: Path) -> None:
    """A file that is missing, empty, or cut off at one place of many."""
    chosen = random.Random(f"{file} {name}")
    for share in [chosen.choice((None, 0, chosen.randrange(1, CUTS)))]:
        _damage_model(finished, output, file, share)
        _assert_old_results_stay(name, finished, output, f"{file}: {share}/{CUTS}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "doctor", "export", "localize", "evaluate", "show"])
@pytest.mark.parametrize("file", MODEL_FILES)
def test_models_that_are_cut_off_anywhere_are_named(file: str, name: str, finished: Path, output: Path) -> None:
    for share in (None, *range(0, CUTS, 10)):
        _damage_model(finished, output, file, share)
        _assert_old_results_stay(name, finished, output, f"{file}: {share}/{CUTS}")


@pytest.mark.parametrize("name", ["report", "doctor", "export", "localize", "evaluate", "show"])
def test_text_models_of_garbage_are_named(name: str, finished: Path, output: Path) -> None:
    for path in (output / "sparse" / "0").iterdir():
        path.unlink()
        path.with_suffix(".txt").write_text("1 \x1b[2J nan [[[\n" * 3, encoding="utf-8")
    _assert_old_results_stay(name, finished, output, "text")


def _damage_model(finished: Path, output: Path, file: str, share: int | None) -> None:
    """A file of the model as it was, but for its end: so many parts of it are left; None: it is not there."""
    path = output / "sparse" / "0" / file
    data = (finished / "out" / "sparse" / "0" / file).read_bytes()
    if share is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(data[: len(data) * share // CUTS])


def _assert_old_results_stay(name: str, finished: Path, output: Path, label: str) -> None:
    exported = output.parent / "export"
    shutil.rmtree(exported, ignore_errors=True)
    exported.mkdir()
    (exported / "lgsfm-export.json").write_text('{"format": "nerfstudio"}')
    _assert_clear(name, finished, output, label)
    written = [path.name for path in exported.iterdir()]
    assert "lgsfm-export.json" in written
    assert not list(output.parent.glob(".*.partial"))


# --------------------------------------------------------------------------------- names
HOSTILE = ("\x1b]0;owned\x07a.jpg", "../../secret.jpg", "/etc/passwd", "a\u202egpj.exe", "a\x9b2Jb", "n" * 10_000)


class _Screen(io.StringIO):
    """What takes the text of a terminal."""

    def isatty(self) -> bool:
        return True


def _shown(*argv: str | Path) -> str:
    """All that a command line puts on a terminal."""
    screen = _Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        main([str(word) for word in argv])
    return screen.getvalue()


def _controls(text: str) -> set[str]:
    return {letter for letter in text if letter in "\x1b\x07\x9b\u202e"}


@pytest.fixture
def hostile(finished: Path, output: Path) -> Path:
    """An output folder whose summary and models have names that nobody's photos have."""
    names = {"failed_images": dict.fromkeys(HOSTILE, "\x1b[2J"), "masked_out": [*HOSTILE]}
    _change(output / "summary.json", {"image_dir": "gone", **names})  # else those that are not there are left out
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    for image, name in zip(model.images.values(), HOSTILE, strict=False):
        image.name = name
    model.write(output / "sparse" / "0")
    return output


@pytest.mark.parametrize("name", ["doctor", "verify", "evaluate", "report", "export", "localize", "manifest", "cite"])
def test_names_of_others_control_no_terminal(name: str, finished: Path, hostile: Path) -> None:
    text = _shown(*_argv(name, finished, hostile))
    assert text
    assert not _controls(text)
    assert max(map(len, text.split("\n"))) < 5000


def test_the_doctor_shows_such_names_escaped_and_shortened(finished: Path, hostile: Path) -> None:
    shutil.copytree(finished / "out" / "sparse", hostile / "sparse", dirs_exist_ok=True)
    text = _shown("doctor", hostile)
    assert "\\x1b]0;owned\\x07a.jpg" in text
    assert "a\\u202egpj.exe" in text
    assert "nnn ... nnn" in text


def test_the_page_shows_such_names_escaped(finished: Path, hostile: Path) -> None:
    path = hostile.parent / "report.html"
    assert run("report", hostile, "-o", path).code == 0
    page = path.read_text(encoding="utf-8")
    assert "a\\u202egpj.exe" in page
    assert not _controls(page)
