"""What the tests of the report share: a run to report on, one of 500 photos, and a page taken apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pycolmap
from cli_helpers import SIFT, copy_photos, run, views
from conftest import textured
from PIL import Image

HOSTILE = "a\"'><script>hacked=1<b onclick=x>&amp;{{ 7*7 }}.jpg"  # as a file may be called
EMPTY = frozenset(("br", "img", "input", "link", "meta"))


def make_run(courtyard: Path, folder: Path) -> Path:
    """A run over six photos of the courtyard, one of them of a hostile name, a broken and a blank one, one of
    something else; gives its output folder, beside ``my images``."""
    images = copy_photos(courtyard / "images", folder / "my images", views(0, 1, 2, 3, 4))
    shutil.copy(courtyard / "images" / "view05.jpg", images / HOSTILE)
    (images / "broken.jpg").write_bytes((images / "view00.jpg").read_bytes()[:300])
    Image.new("RGB", (640, 480), "grey").save(images / "blank.jpg")
    Image.fromarray(textured(480, 640, seed=7)).save(images / "other.png")
    output = folder / "out"
    ended = run("reconstruct", images, "-o", output, *SIFT)
    assert ended.code == 0, ended.err
    return output


def make_large_run(folder: Path, num_photos: int = 500) -> Path:
    """An output folder as of so many noisy photos, with a synthetic model and database; gives it."""
    output = folder / "out"
    (output / "sparse" / "0").mkdir(parents=True)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_cameras_per_rig = 1, num_photos, 1
    options.num_points3D, options.num_points2D_without_point3D, options.track_length = 3000, 0, 40
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    write_database(output / "database.db", model)
    model.write(output / "sparse" / "0")
    names = sorted(image.name for image in model.images.values())
    images = folder / "images"
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for i, name in enumerate(names):
        target = images / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if i < 4:
            Image.fromarray(np.roll(noise, 7 * i)).save(target, "JPEG", quality=90)
        else:
            target.hardlink_to(images / names[i % 4])
    summary = {
        "image_dir": str(images),
        "num_images": len(names),
        "num_reg_images": len(names),
        "num_points3D": model.num_points3D(),
        "mean_track_length": model.compute_mean_track_length(),
        "mean_reprojection_error_px": model.compute_mean_reprojection_error(),
        "seconds": {"map": 1.0, "total": 1.0},
    }
    (output / "summary.json").write_text(json.dumps(summary))
    (output / "options.json").write_text(json.dumps({"flags": {}}))
    return output


def write_database(path: Path, model: pycolmap.Reconstruction, neighbors: int = 20) -> None:
    """A database of the images of a model in which each is verified with so many that follow it."""
    verified = pycolmap.TwoViewGeometry()
    verified.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
    numbers = sorted(model.images)
    with pycolmap.Database.open(path) as database, pycolmap.DatabaseTransaction(database):
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for number in numbers:
            database.write_frame(model.image(number).frame, use_frame_id=True)
            database.write_image(model.image(number), use_image_id=True)
        for i, first in enumerate(numbers):
            for apart, second in enumerate(numbers[i + 1 : i + 1 + neighbors]):
                matches = np.tile(np.arange(200 - 8 * apart, dtype=np.uint32)[:, None], (1, 2))
                verified.inlier_matches = matches
                database.write_matches(first, second, matches)
                database.write_two_view_geometry(first, second, verified)


@dataclass
class Element:
    """One element of a page: its tag, attributes, the text and the elements in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    @property
    def all_text(self) -> str:
        return " ".join([self.text, *(child.all_text for child in self.children)])

    def all(self, tag: str = "", **attributes: str) -> Iterator[Element]:
        """The elements in it, at any depth, of a tag and with attributes."""
        for child in self.children:
            if tag in ("", child.tag) and attributes.items() <= child.attributes.items():
                yield child
            yield from child.all(tag, **attributes)


class Page(HTMLParser):
    """A page as a browser would take it apart; unbalanced tags are errors."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.html = html
        self.feed(html)
        self.close()
        assert len(self.open) == 1, f"<{self.open[-1].tag}> is not closed"

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].text += data

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """The elements of a tag and with attributes."""
        return list(self.root.all(tag, **attributes))

    def figure(self, name: str) -> str:
        """The text of a figure of the first screen, without its unit and what sets thousands apart."""
        (found,) = self.all("dd", **{"data-figure": name})
        return found.text.replace("\N{NARROW NO-BREAK SPACE}", "").strip()

    @property
    def data(self):
        (found,) = self.all("script", id="data")
        return json.loads(found.text)


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))
