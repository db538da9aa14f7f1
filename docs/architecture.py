"""The picture of the modules, made of the code: the rows are those that tests/test_architecture.py holds imports to."""

from __future__ import annotations

import ast
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lgsfm"

ROOMS = {  # room -> its modules; tests/docs hold that each module of the rows is in one room
    "Command line": "__main__ cli",
    "One run": "pipeline run sources workspace settings summary forecast rates room estimate speed",
    "Stages": (
        "extraction upright pairing matching database mapping batches camera_groups camera_rules cameras "
        "database_reading database_record database_update finer focal healer healing layers rigs view_graph"
    ),
    "Components": "registry extractors matchers retrievers estimators codebook",
    "Networks": "models weights hf",
    "Photos": (
        "images decoding image_checks image_headers image_files heif raw_photos exif masks mask_pixels input_kinds "
        "photo_formats panoramas tiff_tags video"
    ),
    "Two photos": "pair two_view epipolar drawing",
    "What came out": (
        "citing exporting importing localization viewing finished report evaluation poses rendering doctor "
        "diagnosis remedies texture"
    ),
    "Files that last": (
        "store hdf5 files disk salvage integrity manifest manifest_comparison records model_files replaced destination"
    ),
    "Ground": "types errors options observer bars printable citations signals silence threads child background machine",
}


@cache
def layers() -> list[list[str]]:
    """The rows of modules from top to bottom, sorted within a row."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            return [sorted(row) for row in ast.literal_eval(node.value)]
    raise LookupError("tests/test_architecture.py says no LAYERS")


def room_of(module: str) -> str:
    """The room of a module. Raises `LookupError` if it has none: then ROOMS is to be completed."""
    for room, modules in ROOMS.items():
        if module in modules.split():
            return room
    raise LookupError(f"lgsfm.{module} is in no room of docs/architecture.py: say where it belongs")


@cache
def purpose(module: str) -> str:
    """The first line of a module's docstring."""
    path = PACKAGE / f"{module}.py"
    path = path if path.exists() else PACKAGE / module / "__init__.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


def picture() -> str:
    """HTML: a row of boxes for each layer, coloured by room, then what each room holds."""
    numbers = {room: number for number, room in enumerate(ROOMS)}
    rows = []
    for row in layers():
        boxes = (
            f'<a class="module room{numbers[room_of(each)]}" href="#{anchor(room_of(each))}" '
            f'title="{escape(purpose(each), quote=True)}">{each}</a>'
            for each in row
        )
        rows.append(f'<div class="layer">{"".join(boxes)}</div>')
    key = "".join(f'<a class="module room{n}" href="#{anchor(room)}">{room}</a>' for room, n in numbers.items())
    return f'<div class="layer key">{key}</div>\n<div class="layers">\n{chr(10).join(rows)}\n</div>'


def anchor(room: str) -> str:
    """The anchor that mkdocs gives the heading of a room."""
    return room.lower().replace(" ", "-")
