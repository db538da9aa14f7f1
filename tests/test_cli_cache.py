"""`lgsfm cache` on the command line: what it prints and how it ends."""

import json

import pytest
from cli_helpers import run
from fuzz.stores import write_files


@pytest.fixture
def output(tmp_path):
    """An output folder of stores and a database."""
    write_files(tmp_path)
    (tmp_path / "database.db").unlink()
    return tmp_path


def test_verify_says_that_all_is_well(output):
    ended = run("cache", "verify", output)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("features-sift-0.h5")
    assert lines[0].endswith("12 photos, ok")
    assert lines[1].endswith("66 pairs, ok")


def test_damage_is_named_with_exit_code_1_and_repair_ends_it(output):
    path = output / "matches-nearest-0.h5"
    path.write_bytes(path.read_bytes()[:20_000])
    ended = run("cache", "verify", output, "--quiet")
    assert ended.code == 1
    assert "DAMAGED" in ended.out
    assert f"`lgsfm cache repair {output}`" in ended.err
    rows = json.loads(run("cache", "verify", output, "--json", "--quiet").out)["findings"]
    assert [bool(row["problem"]) for row in rows] == [False, True]
    assert "set aside as matches-nearest-0.damaged" in run("cache", "repair", output).out
    assert run("cache", "verify", output).code == 0
    assert run("cache", "repair", output).out == "Nothing is damaged.\n"


def test_prune_needs_to_know_the_last_run(output):
    ended = run("cache", "prune", output)
    assert ended.code == 1
    assert "does not say what the last run was made with" in ended.err


def test_help_begins_with_an_example():
    for words in (("cache",), ("cache", "verify"), ("cache", "repair"), ("cache", "prune")):
        assert f"Example: lgsfm {' '.join(words)}" in " ".join(run(*words, "--help").out.split())
