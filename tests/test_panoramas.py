"""Panoramas of a room whose walls are known: their views, the cameras of these, and models of them."""

import json
import shutil

import numpy as np
import pycolmap
import pytest
from cli_helpers import run
from conftest import textured
from PIL import Image

from lgsfm.camera_rules import read_rules
from lgsfm.errors import InputError
from lgsfm.images import list_images, read_photo
from lgsfm.panoramas import PanoramaOptions, is_panorama, panorama_hint, render_view, split_panoramas
from lgsfm.rigs import check_rigs

HALF = np.array([3.0, 1.6, 2.4])  # of the room [m]; x right, y down, z forward
PX_PER_M = 90
WIDTH, NUM_PANORAMAS = 960, 5


class Room:
    """A box with a picture on each wall."""

    def __init__(self) -> None:
        self.walls = {}
        for axis in range(3):
            a, b = (other for other in range(3) if other != axis)
            for sign in (-1, 1):
                size = round(2 * HALF[a] * PX_PER_M), round(2 * HALF[b] * PX_PER_M)
                self.walls[axis, sign] = textured(*size, seed=2 * axis + (sign > 0))

    def colours(self, centre: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """(N, 3) uint8: what rays (N, 3) from a point in the room meet."""
        with np.errstate(divide="ignore"):
            lengths = (np.where(rays > 0, HALF, -HALF) - centre) / rays
        axis = np.argmin(np.where(rays == 0, np.inf, lengths), axis=1)
        points = centre + rays * np.take_along_axis(lengths, axis[:, None], 1)
        seen = np.zeros((len(rays), 3), np.uint8)
        for (wall, sign), texture in self.walls.items():
            own = (axis == wall) & (np.sign(rays[:, wall]) == sign)
            a, b = (other for other in range(3) if other != wall)
            x, y = ((points[own, i] + HALF[i]) * PX_PER_M for i in (a, b))
            rows, columns = texture.shape[:2]
            seen[own] = texture[y.astype(int).clip(0, rows - 1), x.astype(int).clip(0, columns - 1)]
        return seen

    def panorama(self, centre: np.ndarray, width: int = WIDTH) -> np.ndarray:
        """(width / 2, width, 3) uint8, the mean of 2 x 2 rays each."""
        right = ((np.arange(2 * width) + 0.5) / (2 * width) - 0.5) * 2 * np.pi
        down = ((np.arange(width) + 0.5) / width - 0.5) * np.pi
        right, down = np.meshgrid(right, down)
        rays = np.stack([np.sin(right) * np.cos(down), np.sin(down), np.cos(right) * np.cos(down)], -1)
        fine = self.colours(centre, rays.reshape(-1, 3)).reshape(width, 2 * width, 3).astype(np.float32)
        return fine.reshape(width // 2, 2, width, 2, 3).mean((1, 3)).astype(np.uint8)


def centre(i: int) -> np.ndarray:
    return np.array([0.3 * i - 0.75, 0.1 * np.sin(i), 0.25 * np.cos(1.3 * i)])


@pytest.fixture(scope="module")
def room():
    return Room()


@pytest.fixture(scope="module")
def photos(room, tmp_path_factory):
    folder = tmp_path_factory.mktemp("panoramas")
    for i in range(NUM_PANORAMAS):
        Image.fromarray(room.panorama(centre(i))).save(folder / f"p{i}.jpg", quality=95)
    return folder


@pytest.mark.parametrize("yaw_deg", [0.0, 60.0, 180.0, 300.0])  # at 180 degrees the seam is in the middle
def test_a_view_is_what_a_pinhole_camera_sees(room, yaw_deg):
    view = render_view(room.panorama(centre(2)), yaw_deg)
    edge = view.shape[0]
    assert view.shape == (edge, edge, 3)
    focal = WIDTH / (2 * np.pi)
    assert edge == round(2 * focal)
    across = (np.arange(edge) + 0.5 - edge / 2) / focal
    x, y = np.meshgrid(across, across)
    yaw = np.radians(yaw_deg)
    rays = np.stack([np.cos(yaw) * x + np.sin(yaw), y, np.cos(yaw) - np.sin(yaw) * x], -1)
    expected = room.colours(centre(2), rays.reshape(-1, 3)).reshape(view.shape)
    # a shift by a pixel makes it twice that
    assert np.abs(view.astype(int) - expected).mean() < 0.6 * np.abs(view[:, 1:].astype(int) - expected[:, :-1]).mean()
    assert np.abs(view.astype(int) - expected).mean() < 12


def test_cameras_and_rig_say_how_the_views_look(photos, tmp_path):
    views = split_panoramas(photos, tmp_path / "views", PanoramaOptions(panoramas=True, panorama_views=4))
    names = list_images(views.folder)
    assert names == [f"yaw{yaw:03}/p{i}.jpg" for yaw in (0, 90, 180, 270) for i in range(NUM_PANORAMAS)]
    check_rigs(views.rig, names)
    size = read_photo(views.folder / names[0]).size
    for rule in read_rules(views.cameras):
        focal, x, y = rule.params
        assert (focal, x, y) == pytest.approx((WIDTH / (2 * np.pi), size[0] / 2, size[1] / 2))
    for camera, yaw in zip(json.loads(views.rig.read_text())[0]["cameras"][1:], (90, 180, 270), strict=True):
        w, x, y, z = camera["cam_from_rig_rotation"]
        ahead = pycolmap.Rotation3d(np.array([x, y, z, w])).inverse() * np.array([0.0, 0, 1])
        np.testing.assert_allclose(ahead, [np.sin(np.radians(yaw)), 0, np.cos(np.radians(yaw))], atol=1e-12)


def test_only_what_changed_is_split_again(photos, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("p0.jpg", "p1.jpg", "p2.jpg"):
        (source / name).write_bytes((photos / name).read_bytes())
    options = PanoramaOptions(panoramas=True, panorama_views=4)
    views = split_panoramas(source, tmp_path / "views", options)
    assert views.rendered == 3
    assert split_panoramas(source, tmp_path / "views", options).rendered == 0
    (source / "p1.jpg").write_bytes((photos / "p4.jpg").read_bytes())
    (source / "p2.jpg").unlink()
    (views.folder / "yaw090" / "p0.jpg").unlink()
    assert split_panoramas(source, tmp_path / "views", options).rendered == 2
    assert len(list_images(views.folder)) == 8
    fewer = PanoramaOptions(panoramas=True, panorama_views=5)
    assert split_panoramas(source, tmp_path / "views", fewer).rendered == 2
    assert len(list_images(views.folder)) == 10


def test_views_may_lie_in_the_folder_of_the_panoramas(photos, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("p0.jpg", "p1.jpg"):
        (source / name).write_bytes((photos / name).read_bytes())
    flags = ("--panoramas", "--panorama-views", "4", "--features", "sift", "--max-keypoints", "100")
    for split in (2, 0):
        ran = run("extract", source, "-o", source / "out", *flags)
        assert ran.code == 0, ran.err
        assert f"({split} split now)" in ran.err


def test_what_is_no_panorama_is_named(photos, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "p0.jpg").write_bytes((photos / "p0.jpg").read_bytes())
    Image.new("RGB", (640, 480)).save(source / "flat.jpg")
    with pytest.raises(InputError, match=r"twice as wide as high.*flat\.jpg"):
        split_panoramas(source, tmp_path / "views", PanoramaOptions())
    Image.new("RGB", (640, 320)).save(source / "flat.jpg")
    with pytest.raises(InputError, match=r"(640x320, 960x480|960x480, 640x320)"):
        split_panoramas(source, tmp_path / "views", PanoramaOptions())
    assert [is_panorama(size) for size in ((5760, 2880), (5760, 2884), (4000, 3000), (2880, 5760))] == [
        *(True, True, False, False)
    ]


def test_who_forgets_to_say_that_photos_are_panoramas_is_told(photos, tmp_path):
    flags = ("--features", "sift", "--max-keypoints", "100", "--pairs", "sequential", "--budget", "0")
    assert "say --panoramas" in run("reconstruct", photos, "-o", tmp_path / "out", *flags).err
    known = run("reconstruct", photos, "-o", tmp_path / "known", *flags, "--camera-model", "PINHOLE")
    assert "say --panoramas" not in known.err
    names = list_images(photos)
    assert panorama_hint(photos, names)
    for i in range(len(names)):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{i}.jpg")
    for name in names[:-1]:
        shutil.copy(photos / name, tmp_path)
    assert not panorama_hint(tmp_path, list_images(tmp_path))


def test_panoramas_are_reconstructed(photos, tmp_path):
    output = tmp_path / "out"
    flags = ("--panoramas", "--panorama-views", "4", "--features", "sift", "--max-keypoints", "500")
    ran = run("reconstruct", photos, "-o", output, *flags)
    assert ran.code == 0, ran.err
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert (model.num_reg_images(), model.num_reg_frames()) == (4 * NUM_PANORAMAS, NUM_PANORAMAS)
    found = {}
    for image in model.images.values():
        found.setdefault(image.name.partition("/")[2], []).append(image.projection_center())
    spread = max(np.ptp(np.array(places), axis=0).max() for places in found.values())
    places = np.array([np.mean(found[f"p{i}.jpg"], axis=0) for i in range(NUM_PANORAMAS)])
    true = np.array([centre(i) for i in range(NUM_PANORAMAS)])
    assert spread < 0.02 * np.linalg.norm(np.ptp(places, axis=0))
    apart, truly = (np.linalg.norm(each[:, None] - each[None], axis=2) for each in (places, true))
    scale = truly.sum() / apart.sum()
    assert np.abs(scale * apart - truly).max() < 0.02
    other = run("reconstruct", photos, "-o", output, *flags, "--rig", photos / "rig.json")
    assert "exclude each other" in other.err
