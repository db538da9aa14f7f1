"""The page in a real browser: it fits, can be used by keys, and asks nothing of the network.

Needs the package playwright and a Chromium: `chromium-headless-shell` or `chromium` on the PATH (of Debian's packages),
or what LGSFM_BROWSER names. Skipped where there is none. LGSFM_SCREENSHOTS names a folder to keep the pictures in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from report_helpers import make_run

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WEBGL = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    found = os.environ.get("LGSFM_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH, and LGSFM_BROWSER names none")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(WEBGL))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with failures and a hostile name."""
    return make_run(courtyard, tmp_path_factory.mktemp("browser")) / "report.html"


@contextmanager
def opened(browser: Any, report: Path, **options: Any) -> Iterator[Any]:
    """The page; what it complains of, and what it asks of the network, fails the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert complaints == []


def focused(page: Any) -> str:
    """The id of what has the focus, else its class."""
    return page.evaluate("document.activeElement.id || document.activeElement.className")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_fits_and_its_first_screen_tells_the_result(browser, report, tmp_path, width, height, scheme) -> None:
    with opened(browser, report, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for part in ("h1", ".ring", "[data-figure=num_reg_images]", "[data-figure=total]"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) > 384) == (scheme == "light")
        folder = Path(os.environ.get("LGSFM_SCREENSHOTS", tmp_path))
        page.screenshot(path=folder / f"report-{width}-{scheme}.png", full_page=True)


def test_a_hostile_name_is_a_name(browser, report) -> None:
    with opened(browser, report) as page:
        assert page.evaluate("typeof hacked") == "undefined"
        assert "<script>" in " ".join(page.locator(".sheet .name").all_inner_texts())


def test_photos_are_looked_through_by_keys(browser, report) -> None:
    with opened(browser, report) as page:
        page.keyboard.press("Tab")
        assert focused(page) == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        thumb = page.locator(".sheet .thumb").first
        thumb.focus()
        page.keyboard.press("Enter")
        assert page.locator("#lightbox").is_visible()
        names = [page.locator("#lightbox-name").inner_text()]
        for key in ("ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
            names.append(page.locator("#lightbox-name").inner_text())
        assert names[0] == names[2] != names[1]
        assert page.evaluate(DRAWN.replace("ID", "lightbox-points")) > 100  # where the photo sees 3D points
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        assert not page.locator("#lightbox").is_visible()
        assert focused(page) == "thumb"
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Enlarge {names[1]}"


DRAWN = """(() => { const canvas = document.getElementById("ID");
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const pen = copy.getContext("2d"); pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, copy.width, copy.height).data.filter((value, i) => i % 4 === 3 && value).length; })()"""


def test_the_model_is_drawn_and_turned_by_keys(browser, report) -> None:
    with opened(browser, report) as page:
        canvas = page.locator("#cloud")
        canvas.focus()
        seen = [canvas.screenshot()]
        for key in ("ArrowLeft", "+", "0"):
            page.keyboard.press(key)
            page.wait_for_timeout(300)
            seen.append(canvas.screenshot())
        assert len({seen[0], seen[1], seen[2]}) == 3
        assert seen[3] == seen[0]
        page.locator("#with-cameras").uncheck()
        canvas.focus()
        page.wait_for_timeout(300)
        assert canvas.screenshot() != seen[0]
        assert not page.locator("#plans").is_visible()


def test_without_scripts_and_on_paper_there_are_still_pictures(browser, report) -> None:
    with opened(browser, report, java_script_enabled=False) as page:
        assert page.locator("#plans").is_visible()
        assert not page.locator("#viewer").is_visible()
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert page.locator("#plans").is_visible()
        assert not page.locator("nav").is_visible()
