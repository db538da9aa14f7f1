"""`lgsfm cite`: the papers behind a run, by its records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_helpers import run

from lgsfm import cite
from lgsfm.citations import BIBTEX, COMPONENTS
from lgsfm.errors import InputError
from lgsfm.files import write_json
from lgsfm.registry import BUILT_IN
from lgsfm.weights_table import MODELS

OF_ALIKED = {"extractor": "aliked", "weights": "aa"}
OF_LIGHTGLUE = {"matcher": "lightglue", "weights": "bb"}


def output_folder(folder: Path, *, options=None, summary=None, **files) -> Path:
    """An output folder with these records."""
    made = {"extractor": OF_ALIKED, "matcher": OF_LIGHTGLUE, "pairs": {"pairs": "exhaustive"}}
    told = {"num_images": 10, "num_pairs_verified": 9, "mapper": "auto", "models": [{"mapper": "incremental"}]}
    told["weights"] = [{"name": "a.pth", "sha256": "aa", "licence": "BSD-3-Clause"}]
    write_json(folder / "options.json", {"flags": {}, "run": {"retriever": "asmk"}, **made, **(options or {})})
    write_json(folder / "summary.json", {**told, **(summary or {})})
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    return folder


def keys(folder: Path) -> list[str]:
    return [citation.key for citation in cite(folder)]


def test_all_that_was_used_is_named_once(tmp_path):
    found = cite(output_folder(tmp_path))
    assert [citation.key for citation in found] == [
        "zhao2023aliked",
        "lindenberger2023lightglue",
        "schoenberger2016sfm",
        "chum2003loransac",
        "lgsfm",
    ]
    assert found[0].licences == ["BSD-3-Clause"]
    assert found[2].used_for == ["verification colmap", "mapper incremental"]


@pytest.mark.parametrize(
    "records",
    [
        {"options": {"pairs": {"pairs": "sequential+retrieval"}}},
        {"options": {"pairs": {"pairs": "auto"}}, "summary": {"num_images": 61}},
        {"upright": {"voted": "12ab", "turns": {}}},
        {"second-looks": {"rounds": [{}]}},
    ],
)
def test_retrieval_is_cited_where_photos_were_compared_as_wholes(tmp_path, records):
    assert "tolias2013asmk" in keys(output_folder(tmp_path, **records))


def test_retrieval_is_not_cited_where_it_was_not_used(tmp_path):
    records = {"options": {"pairs": {"pairs": "auto"}}, "summary": {"num_images": 60}}
    assert "tolias2013asmk" not in keys(output_folder(tmp_path, **records))


def test_other_components_have_other_papers(tmp_path):
    options = {
        "extractor": {"extractor": "sift"},
        "matcher": {"matcher": "nearest"},
        "pairs": {"pairs": "retrieval"},
        "run": {"retriever": "vlad"},
    }
    found = keys(output_folder(tmp_path, options=options, summary={"models": [{"mapper": "global"}]}))
    assert {"lowe2004sift", "jegou2010vlad", "pan2024glomap"} <= set(found)
    assert not {"zhao2023aliked", "lindenberger2023lightglue"} & set(found)


def test_the_database_tells_what_the_models_are_of(tmp_path):
    """A later command may have had other options."""
    record = {
        "identity": "",
        "fingerprint": "",
        "report": {"num_pairs": 1},
        "images": {},
        "finer": [],
        "origin": "",
        "dropped": [["a", "b"]],
        "doubts": [],
        "flags": {},
        "made": {"extractor": {"extractor": "superpoint"}},
        "rules": "",
    }
    found = keys(output_folder(tmp_path, database=record))
    assert "detone2018superpoint" in found
    assert "zhao2023aliked" not in found
    assert "zach2010loops" in found  # look-alikes were dropped


def test_what_nobody_here_can_cite_is_said(tmp_path):
    folder = output_folder(tmp_path, options={"matcher": {"matcher": "magic"}})
    assert "magic" not in BIBTEX
    printed = run("cite", folder).out
    assert "% matcher magic\n% no paper is known of it here" in printed


def test_printed_as_bibtex_and_as_json(tmp_path):
    folder = output_folder(tmp_path)
    printed = run("cite", folder).out
    assert re.findall(r"^@\w+\{(\w+),", printed, re.MULTILINE) == keys(folder)
    assert printed.count("{") == printed.count("}")
    assert "% extractor aliked; weights: BSD-3-Clause" in printed
    assert [row["key"] for row in json.loads(run("cite", folder, "--json").out)["citations"]] == keys(folder)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no output folder of lgsfm"):
        cite(tmp_path)


def test_each_component_and_each_weight_file_has_an_entry():
    for kind, names in BUILT_IN.items():
        assert set(COMPONENTS[kind]) == set(names), kind
    cited = {key for names in COMPONENTS.values() for keys_ in names.values() for key in keys_}
    assert cited == set(BIBTEX)
    for specs in MODELS.values():
        assert {spec.citation.partition(":")[0] for spec in specs} <= set(BIBTEX)
    for key, entry in BIBTEX.items():
        assert re.match(rf"@\w+\{{{key},\n", entry)
        assert entry.count("{") == entry.count("}")
        assert all(f"  {field} " in entry for field in ("author", "title", "year")), key
