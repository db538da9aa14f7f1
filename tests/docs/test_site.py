"""The site: it builds without a warning and without a network, and its picture of the modules is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import docs_pages
import hooks  # of docs/
import pytest
from conftest import ROOT
from docs_pages import architecture

import lgsfm


def test_each_module_of_the_rows_is_in_one_room() -> None:
    modules = sorted(module for row in architecture.layers() for module in row)
    assert sorted(" ".join(architecture.ROOMS.values()).split()) == modules


def test_the_picture_shows_each_module_with_its_purpose() -> None:
    picture = architecture.picture()
    for row in architecture.layers():
        for module in row:
            assert f">{module}</a>" in picture
            assert architecture.purpose(module)


def test_each_room_has_a_paragraph_and_says_where_to_change_what() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = dict(part.split("\n", 1) for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:])
    for room in architecture.ROOMS:
        assert "*Change here:*" in told[room]
    known = {module for row in architecture.layers() for module in row}
    named = re.findall(r"`(\w+)`", "".join(told[room].split("*Change here:*")[1] for room in architecture.ROOMS))
    assert set(named) <= known | {"formats", "__init__"}


def test_the_reference_has_all_public_names() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    told = [path.rpartition(".")[::2] for path in re.findall(r"^::: lgsfm\.([\w.]+)$", page, re.MULTILINE)]
    assert {name: home for home, name in told if home} == lgsfm._HOMES


def test_all_pages_are_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in docs_pages.PAGES if f": {page.removeprefix('docs/')}\n" not in navigation] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_all_pages_and_asks_the_network_for_nothing(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {page.removeprefix("docs/").replace(".md", ".html") for page in docs_pages.PAGES} <= pages.keys()
    for text in pages.values():
        assert re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//", text) == []
        assert (
            re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|preload)\"?[^>]*href=\"?(?:https?:)?//", text) == []
        )


def test_pictures_of_the_repository_are_on_the_site(site: Path) -> None:
    shown = set(re.findall(r"<img[^>]*src=\"([^\"]+)\"", (site / "index.html").read_text(encoding="utf-8")))
    assert "datasets/courtyard/images/view00.jpg" in shown
    assert [name for name in shown if not name.startswith("data:") and not (site / name).is_file()] == []


def test_no_mark_is_left_on_a_page(site: Path) -> None:
    assert all("<!-- README" not in path.read_text(encoding="utf-8") for path in site.rglob("*.html"))


def test_a_section_of_the_readme_that_is_gone_is_an_error() -> None:
    with pytest.raises(KeyError, match="No such heading"):
        hooks.filled("<!-- README: No such heading -->")
