"""What mkdocs makes of the repository as it builds: sections of the README, photos, and the picture of the modules."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

import architecture  # noqa: E402

PICTURE = re.compile(r"\((?:\.\./)*((?:datasets|examples)/[\w/.-]+\.jpg)\)")
MARK = re.compile(r"^<!-- (README|MODULES)(?:: (.+))? -->$", re.MULTILINE)


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next one.

    Raises:
        KeyError: there is no such heading.
    """
    parts = dict(part.split("\n", 1) for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:])
    return parts[heading].strip()


def filled(markdown: str) -> str:
    """A page with its marks replaced: ``<!-- README: heading -->`` and ``<!-- MODULES -->``."""

    def fill(mark: re.Match[str]) -> str:
        if mark[1] == "MODULES":
            return architecture.picture()
        return section((ROOT / "README.md").read_text(encoding="utf-8"), mark[2])

    return MARK.sub(fill, markdown)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fills a page, and leads to the pictures of the repository from where the page is."""
    up = "../" * page.file.src_uri.count("/")
    return PICTURE.sub(lambda found: f"({up}{found[1]})", filled(markdown))


def on_files(files: Any, config: Any) -> Any:
    """Adds the pictures of the repository that pages show."""
    from mkdocs.structure.files import File

    pages = [*Path(config.docs_dir).rglob("*.md"), ROOT / "README.md"]
    shown = {name for page in pages for name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    for name in sorted(shown):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files
