"""The oldest versions that the gate tests with are those that pyproject.toml promises."""

import re
import tomllib
from itertools import chain

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# of torch there is no older CPU build, and it asks for setuptools; transformers is held at one version
NOT_TESTED = {"setuptools", "torch", "transformers"}


def floors() -> dict[str, str]:
    """Package -> lowest version, of all that is needed, and for the tests."""
    wanted = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    found = (re.match(r"([a-z0-9-]+)>=([0-9.]+)", text) for text in wanted)
    return {match[1]: match[2] for match in found if match and match[1] not in NOT_TESTED}


def test_the_gate_tests_the_oldest_versions():
    """A floor of 4.10 is tested by 4.10.0.82: the first release of it."""
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tested.keys() == floors().keys()
    for package, floor in floors().items():
        assert f"{tested[package]}.".startswith(f"{floor}."), package


def test_the_parts_that_are_tested_exist():
    lines = (ROOT / "tests" / "oldest_parts.txt").read_text(encoding="utf-8").splitlines()
    parts = [line for line in lines if not line.startswith("#")]
    assert parts
    assert [part for part in parts if not (ROOT / part).exists()] == []
