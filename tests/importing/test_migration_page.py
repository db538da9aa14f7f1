"""The page for those who come from hloc and COLMAP: all of its commands exist, and what it shows step by step works."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pycolmap
import pytest
from cli_helpers import copy_photos, run, views

from lgsfm import weights
from lgsfm.cli import _parser
from lgsfm.cli.flags import given_flags
from lgsfm.exporting.formats import FORMATS
from lgsfm.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-hloc-and-colmap.md"
TEXT = PAGE.read_text(encoding="utf-8")
STEPS = re.findall(r"^    (lgsfm .+)$", TEXT, re.MULTILINE)  # in blocks of code
INLINE = re.findall(r"`(lgsfm [^`]+)`", TEXT)
COMMANDS = sorted({*STEPS, *(text for text in INLINE if " " in text.removeprefix("lgsfm "))})


def test_the_page_has_the_commands_that_are_tested_below():
    assert len(STEPS) > 12
    assert len(COMMANDS) > 30
    assert {"import", "into-database", "export"} <= {command.split()[1] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pairs.txt").touch()
    arguments = _parser().parse_args(shlex.split(command)[1:])
    if hasattr(arguments, "camera_mode"):
        Settings.from_flags(given_flags(arguments, Settings))  # which looks at the values, too
    if command.startswith("lgsfm export"):
        assert arguments.format in FORMATS


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`(--[a-z][a-z-]*)", TEXT))))
def test_each_flag_that_is_named_alone_exists(flag):
    commands = _parser()._subparsers._group_actions[0].choices.values()
    assert any(flag in command._option_string_actions for command in commands)


@pytest.mark.slow
def test_what_is_shown_step_by_step_works(courtyard, tmp_path, monkeypatch):
    for model in ("aliked-n16", "lightglue-aliked"):
        if weights.find(model) is None:
            pytest.skip(f"the weights of {model} are not on this computer")
    monkeypatch.chdir(tmp_path)
    copy_photos(courtyard / "images", Path("photos"), views(0, 1, 2, 3, 4, 5))
    copy_photos(courtyard / "images", Path("new"), views(6))
    Path("project").mkdir()
    pycolmap.Database.open("project/database.db").close()
    pycolmap.import_images("project/database.db", "photos")
    features, matches = re.findall(r"outputs/\S+\.h5", next(step for step in STEPS if "--matches" in step))
    first, export = STEPS[0], next(step for step in STEPS if step.startswith("lgsfm export"))
    for step in (first, export, *STEPS[1:]):
        if step == export:
            assert_works(step)
            Path("outputs").mkdir(exist_ok=True)
            shutil.copy("for-hloc/features.h5", features)
            shutil.copy("for-hloc/matches.h5", matches)
            continue
        assert_works(step)
    for output in ("out", "from-hloc", "matched-here"):
        assert pycolmap.Reconstruction(f"{output}/sparse/0").num_reg_images() == 6
    pycolmap.geometric_verification("project/database.db")
    Path("models").mkdir()
    assert pycolmap.incremental_mapping("project/database.db", "photos", "models")[0].num_reg_images() == 6


def assert_works(command: str) -> None:
    ran = run(*shlex.split(command)[1:])
    assert ran.code == 0, f"{command}: {ran.err}"
