"""The parts of the report on worlds whose answers are known: the upright scene, packing, charts, budgets."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
from conftest import saved, textured
from report_helpers import make_large_run, read_page

from lgsfm.database_reading import VerifiedPair
from lgsfm.report import write_report
from lgsfm.report.charts import draw_graph, error_histogram, match_matrix
from lgsfm.report.collect import PhotoRow, coverage
from lgsfm.report.pictures import PHOTO_BYTES, thumbnails
from lgsfm.report.scene import Scene, SceneCamera, upright_frame
from lgsfm.report.shown import MOST_POINTS, pack_keypoints, pack_scene
from lgsfm.report.words import duration, percent
from lgsfm.view_graph import ViewGraph
from lgsfm.view_graph.layout import layout

LARGEST = 20_000_000  # bytes of a page of 500 photos


def camera(name: str, rotation: np.ndarray, centre: tuple[float, ...], seen: np.ndarray | None = None) -> SceneCamera:
    points = np.zeros((0, 2)) if seen is None else seen
    return SceneCamera(name, rotation, np.array(centre), (640, 480), "SIMPLE_PINHOLE", 500.0, (), points, 0.5)


def looking(forward: tuple[float, ...], down: tuple[float, ...]) -> np.ndarray:
    """cam_from_world of a camera that looks that way, and shows that way as down."""
    z, y = np.array(forward, float), np.array(down, float)
    return np.array([np.cross(y, z), y, z])


def scene(cameras: list[SceneCamera], points: np.ndarray) -> Scene:
    count = len(points)
    colours = np.arange(3 * count).reshape(count, 3).astype(np.uint8)
    return Scene(points, colours, np.ones(count), np.full(count, 2), {each.name: each for each in cameras})


CLOUD = np.random.default_rng(0).normal(size=(500, 3))


# ---------------------------------------------------------------------------- the upright scene
def test_up_is_what_the_photos_show_as_up() -> None:
    turns = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-0.6, 0.8, 0.0)]
    cameras = [camera(str(i), looking(way, (0, 0, -1)), (3, 4 + i / 9, 5)) for i, way in enumerate(turns)]
    frame = upright_frame(scene(cameras, CLOUD + np.array([3, 4, 5])), {})
    assert frame.rotation @ [0, 0, 1] == pytest.approx([0, 1, 0], abs=1e-9)
    assert np.linalg.det(frame.rotation) == pytest.approx(1)
    shown = frame(CLOUD + np.array([3, 4, 5]))
    assert np.median(shown, axis=0) == pytest.approx([0, 0, 0], abs=1e-9)
    assert np.mean(np.linalg.norm(shown, axis=1) <= 1 + 1e-9) == pytest.approx(0.9, abs=0.01)


def test_photos_that_are_stored_lying_count_as_they_are_seen() -> None:
    upright, lying = looking((1, 0, 0), (0, 0, -1)), looking((1, 0, 0), (0, 1, 0))  # EXIF 6: stored x is up at the end
    found = {
        code: upright_frame(scene([camera("a", rotation, (0, 0, 0))], CLOUD), {"a": code}).rotation @ [0, 0, 1]
        for code, rotation in ((1, upright), (6, lying), (8, lying))
    }
    assert found[1] == pytest.approx([0, 1, 0], abs=1e-9)
    assert abs(found[6][1]) == pytest.approx(1)
    assert found[6][1] == pytest.approx(-found[8][1])


def test_from_the_air_up_is_where_the_cameras_are() -> None:
    headings = [(math.cos(a), math.sin(a), 0.0) for a in np.linspace(0, 2 * math.pi, 8, endpoint=False)]
    cameras = [camera(str(i), looking((0, 0, -1), way), (i % 3, i // 3, 9)) for i, way in enumerate(headings)]
    frame = upright_frame(scene(cameras, CLOUD), {})
    assert frame.rotation @ [0, 0, 1] == pytest.approx([0, 1, 0], abs=1e-9)


# ---------------------------------------------------------------------------- packing
def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_packed_scene_holds_points_colours_and_poses() -> None:
    world = scene([camera("b", looking((0, 1, 0), (0, 0, -1)), (0, -5, 0))], CLOUD)
    frame = upright_frame(world, {})
    packed = pack_scene(world, frame, [PhotoRow("a"), PhotoRow("b", model=0)])
    points = unpacked(packed["points"], "<i2").reshape(-1, 3) * packed["unit"]
    assert points == pytest.approx(frame(CLOUD), abs=packed["unit"])
    assert (unpacked(packed["colours"], "u1").reshape(-1, 3) == world.colours).all()
    number, *values = packed["cameras"][0]
    assert number == 1
    centre, rotation = np.array(values[:3]), np.array(values[3:12]).reshape(3, 3)
    assert centre == pytest.approx(frame(np.array([[0, -5, 0]]))[0], abs=1e-3)
    seen = rotation @ (frame(CLOUD) - centre).T * frame.radius  # as the camera sees the world
    assert pytest.approx((CLOUD - [0, -5, 0]) @ world.cameras["b"].rotation.T, abs=5e-3) == seen.T
    assert values[12:] == pytest.approx([320 / 500, 240 / 500])
    stand = np.array([math.sin(packed["yaw"]), 0, math.cos(packed["yaw"])])  # behind the camera, which looks away
    assert frame.rotation @ [0, -1, 0] == pytest.approx(stand, abs=1e-3)


def test_of_many_points_some_are_shown_and_strays_are_not() -> None:
    many = np.random.default_rng(0).normal(size=(MOST_POINTS + 5000, 3))
    many[:100] *= 1000
    world = scene([camera("a", np.eye(3), (0, 0, -3))], many)
    packed = pack_scene(world, upright_frame(world, {}), [PhotoRow("a", model=0)])
    assert (packed["shown"], packed["total"]) == (MOST_POINTS, MOST_POINTS + 5000)
    assert len(unpacked(packed["points"], "<i2")) == 3 * MOST_POINTS
    assert np.abs(unpacked(packed["points"], "<i2") * packed["unit"]).max() < 12


def test_places_in_photos_are_those_of_the_upright_view() -> None:
    corner = np.array([[-0.5, -0.5], [639.5, 239.5]])
    world = scene([camera("a", np.eye(3), (0, 0, 0), corner)], CLOUD)
    for code, expected in ((1, [[0, 0], [1, 0.5]]), (3, [[1, 1], [0, 0.5]]), (6, [[1, 0], [0.5, 1]])):
        packed = pack_keypoints([world], [PhotoRow("a", model=0, orientation=code), PhotoRow("b")])
        assert list(packed) == ["a"]
        assert unpacked(packed["a"], "<u2").reshape(-1, 2) / 65535 == pytest.approx(np.array(expected), abs=1e-4)


def test_coverage_is_the_share_of_cells() -> None:
    assert coverage(np.zeros((0, 2)), (640, 480)) == 0
    assert coverage(np.array([[0.0, 0.0], [1.0, 1.0], [639.0, 479.0]]), (640, 480)) == 2 / 256
    x, y = np.meshgrid(np.arange(0, 320, 5), np.arange(0, 480, 5))
    assert coverage(np.column_stack([x.ravel(), y.ravel()]), (640, 480)) == 0.5


# ---------------------------------------------------------------------------- charts
def test_histograms_count_everything_once() -> None:
    values = np.random.default_rng(0).exponential(0.7, 1000)
    found = error_histogram(values)
    assert found is not None
    assert sum(bar.count for bar in found.bars) == found.count == 1000
    assert found.bars[0].count == np.sum(values < found.bars[0].end)
    assert found.is_open
    assert max(bar.height for bar in found.bars) == 1
    assert [float(text) for _, text in found.ticks] == pytest.approx(
        [share * found.bars[-1].end for share, _ in found.ticks]
    )
    whole = error_histogram(np.array([2, 2, 3, 5]), whole=True)
    assert whole is not None
    assert [(bar.start, bar.count) for bar in whole.bars] == [(2, 2), (3, 1), (4, 0), (5, 1)]
    assert not whole.is_open
    assert error_histogram(np.zeros(0)) is None
    assert error_histogram(np.zeros(3)).bars[0].count == 3  # type: ignore[union-attr] - all points are exact


PAIRS = {
    ("a", "b"): VerifiedPair(90, 80, "calibrated"),
    ("b", "c"): VerifiedPair(50, 20, "calibrated"),
    ("a", "c"): VerifiedPair(40, 30, "calibrated"),
    ("c", "d"): VerifiedPair(40, 30, "calibrated"),
    ("e", "f"): VerifiedPair(40, 30, "calibrated"),
    ("a", "g"): VerifiedPair(10, 0),
}
NAMES = "abcdefg"


def test_the_view_graph_is_drawn_in_its_box_with_components_apart() -> None:
    graph = ViewGraph(NAMES, PAIRS)
    places = layout(graph, 400, 300)
    assert sorted(places) == list(NAMES)
    assert all(0 < x < 400 and 0 < y < 300 for x, y in places.values())
    assert places == layout(graph, 400, 300)
    boxes = [np.array([places[name] for name in names]) for names in ("abcd", "ef", "g")]
    for i, first in enumerate(boxes):
        for second in boxes[i + 1 :]:
            apart = (first.max(0) < second.min(0)) | (second.max(0) < first.min(0))
            assert apart.any()
    drawing = draw_graph(graph, [PhotoRow(name, model=0) for name in NAMES], 400, 300)
    assert len(drawing.edges) == 5
    assert sum(edge.is_bridge for edge in drawing.edges) == 2
    assert [node.name for node in drawing.nodes] == list(NAMES)
    assert layout(ViewGraph([], {}), 400, 300) == {}


def test_the_match_matrix_is_symmetric_and_tells_failed_pairs_from_untried_ones() -> None:
    strength, failed = match_matrix(list(NAMES), PAIRS)
    assert (strength == strength.T).all()
    assert strength[0, 1] == 1 > strength[0, 2] > strength[1, 2] > 0 == strength[0, 3]
    assert np.argwhere(failed).tolist() == [[0, 6], [6, 0]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.6, "60 s"), (171, "2 min 51 s"), (1148, "19 min"), (7300, "2 h 2 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percents_do_not_round_to_all_or_nothing() -> None:
    assert [percent(share).split("\N{NARROW NO-BREAK SPACE}")[0] for share in (0, 0.001, 0.999, 1)] == [
        "0",
        "1",
        "99",
        "100",
    ]
    assert percent(None) == "–"


# ---------------------------------------------------------------------------- budgets
def test_photos_are_shown_upright_and_small_enough(tmp_path) -> None:
    saved(tmp_path / "a.png", textured(300, 200), 6)
    found = thumbnails(tmp_path, {"a.png": None, "missing.png": None})
    assert list(found) == ["a.png"]
    assert (found["a.png"].width, found["a.png"].height) == (300, 200)
    assert thumbnails(tmp_path, {"a.png": 1})["a.png"].width == 200  # as stored, if that was how it was seen
    assert thumbnails(tmp_path, {}) == {}


def test_pictures_from_outside_of_the_folder_are_not_shown(tmp_path) -> None:
    """An output folder of a stranger could ask for them."""
    saved(tmp_path / "secret.png", textured(300, 200), 1)
    (tmp_path / "photos").mkdir()
    saved(tmp_path / "photos" / "a.png", textured(300, 200), 1)
    names = ("../secret.png", str(tmp_path / "secret.png"), "b/../../secret.png", "a.png")
    assert list(thumbnails(tmp_path / "photos", dict.fromkeys(names, 1))) == ["a.png"]


def test_a_page_of_500_noisy_photos_stays_small(tmp_path) -> None:
    output = make_large_run(tmp_path)
    path = write_report(output)
    assert path.stat().st_size < LARGEST
    page = read_page(path)
    pictures = [one for one in page.all("img") if one.attributes.get("id", "").startswith("photo-")]
    assert len(pictures) == 500
    assert sum(len(one.attributes["src"]) for one in pictures) < PHOTO_BYTES * 4 / 3 + 500 * 40
    assert page.all("h1")[0].text == "All 500 photos are in the model"
    assert len(page.data["scenes"][0]["cameras"]) == 500
