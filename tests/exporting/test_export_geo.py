"""Models on the earth: GPS positions that are exact, off, wrong, missing, or in a line."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest
from export_scenes import GPS, earth_centred, geodetic, gps_tags, make_world, picture, save_jpeg

from lgsfm import export
from lgsfm.errors import InputError

ORIGIN = (-33.4569, 179.99999, 520.0)  # beside the date line, south
SCALE_M = 40.0
TURN = pycolmap.Rotation3d(np.array([0.3, -1.2, 0.7])).matrix()
NAMES = tuple(f"{number}.jpg" for number in range(10))


def at_home(image, noise=(0.0, 0.0, 0.0), flat=False) -> tuple[float, float, float]:
    """Where a camera of the model is on the earth."""
    enu = SCALE_M * TURN @ image.projection_center() + noise
    return geodetic(enu * [1, 1, 0] if flat else enu, ORIGIN)


def located(noises, **more):
    """What the photos know: the true place, off by these [m]; of those without noise that is None nothing."""

    def exif(name: str, image: pycolmap.Image) -> dict:
        noise = noises.get(name, (0, 0, 0))
        return {} if noise is None else {"gps": gps_tags(*at_home(image, noise, **more))}

    return exif


def places(folder) -> dict[str, tuple[np.ndarray, dict]]:
    """Image -> where the GeoJSON has it, earth-centred, and its properties."""
    content = json.loads((folder / "cameras.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    found = {}
    for feature in content["features"]:
        longitude, latitude, altitude = feature["geometry"]["coordinates"]
        assert -180 <= longitude <= 180
        found[feature["properties"]["image"]] = earth_centred(latitude, longitude, altitude), feature["properties"]
    return found


def largest_error_m(world, folder) -> float:
    found = places(folder)
    wanted = {image.name: earth_centred(*at_home(image)) for image in world.model.images.values()}
    assert set(found) == set(wanted)
    return max(float(np.linalg.norm(found[name][0] - wanted[name])) for name in wanted)


def test_exact_positions_place_the_model_exactly(tmp_path):
    world = make_world(tmp_path, names=NAMES, exif=located({}))
    folder = export(world.output, "geo").path
    assert largest_error_m(world, folder) < 0.02
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    assert model.compute_mean_reprojection_error() < 1e-3
    alignment = json.loads((folder / "alignment.json").read_text())
    matrix = np.array(alignment["enu_from_model"])
    assert np.linalg.det(matrix[:3, :3]) ** (1 / 3) == pytest.approx(SCALE_M, rel=1e-4)
    image = world.image("3.jpg")
    aligned = next(each for each in model.images.values() if each.name == "3.jpg").projection_center()
    np.testing.assert_allclose(matrix[:3, :3] @ image.projection_center() + matrix[:3, 3], aligned, atol=1e-6)
    origin = alignment["origin"].values()
    np.testing.assert_allclose(
        earth_centred(*geodetic(aligned, tuple(origin))), earth_centred(*at_home(image)), atol=0.02
    )


def test_headings_are_clockwise_from_north(tmp_path):
    world = make_world(tmp_path, names=NAMES, exif=located({}))
    found = places(export(world.output, "geo").path)
    for image in world.model.images.values():
        centre, along = image.projection_center(), image.cam_from_world().rotation.matrix()[2]
        east, north, up = TURN @ along
        assert found[image.name][1]["heading_deg"] == pytest.approx(np.degrees(np.arctan2(east, north)) % 360, abs=0.1)
        assert found[image.name][1]["pitch_deg"] == pytest.approx(np.degrees(np.arcsin(up)), abs=0.1)
        assert np.isfinite(centre).all()


def test_wrong_and_missing_positions_do_no_harm(tmp_path):
    rng = np.random.default_rng(0)
    noises = {name: rng.normal(0, 0.5, 3) for name in NAMES}
    noises |= {"2.jpg": (300.0, 0, 0), "5.jpg": (0, -80.0, 20), "7.jpg": None}
    world = make_world(tmp_path, names=NAMES, exif=located(noises))
    done = export(world.output, "geo")
    assert largest_error_m(world, done.path) < 2.5
    assert "7 of 9 GPS positions agree" in done.notes[0]
    assert "2.jpg, 5.jpg" in done.notes[0]
    properties = {name: each for name, (_, each) in places(done.path).items()}
    assert properties["7.jpg"]["gps_residual_m"] is None
    assert properties["2.jpg"]["gps_residual_m"] == pytest.approx(300, abs=3)


def test_wrong_heights_can_be_left_out(tmp_path):
    """Cameras on a plane, their heights nonsense."""
    rng = np.random.default_rng(1)
    noises = {name: (0, 0, rng.normal(0, 60)) for name in NAMES}

    def exif(name, image):
        latitude, longitude, _ = at_home(image, flat=True)
        return {"gps": gps_tags(latitude, longitude, 500 + abs(noises[name][2]))}

    world = make_world(tmp_path, names=NAMES, exif=exif)
    for image in world.model.images.values():  # onto the plane
        pose = image.cam_from_world().matrix()
        centre = TURN.T @ (TURN @ image.projection_center() * [1, 1, 0])
        image.frame.set_cam_from_world(
            image.camera_id, pycolmap.Rigid3d(np.hstack([pose[:, :3], (-pose[:, :3] @ centre)[:, None]]))
        )
    world.model.write(world.output / "sparse" / "0")
    folder = export(world.output, "geo", gps_altitude=False).path
    matrix = np.array(json.loads((folder / "alignment.json").read_text())["enu_from_model"])
    np.testing.assert_allclose(matrix[:3, :3], SCALE_M * TURN, atol=0.5)


def test_on_a_line_the_photos_say_what_is_up(tmp_path):
    """Nothing in the positions tells how the model is turned about the line."""
    world = make_world(tmp_path, names=NAMES)
    level = pycolmap.Rotation3d(np.array([0.0, 0.4, 0.0])).matrix()  # held upright, y down
    for number, image in enumerate(sorted(world.model.images.values(), key=lambda image: image.name)):
        centre = np.array([0.5 * number, 0, 0])
        motion = pycolmap.Rigid3d(np.hstack([level, (-level @ centre)[:, None]]))
        image.frame.set_cam_from_world(image.camera_id, motion)
        place = geodetic(np.array([0, 10.0 * number, 0]), ORIGIN)
        save_jpeg(world.photos / image.name, picture(0), gps=gps_tags(*place))
    world.model.write(world.output / "sparse" / "0")
    done = export(world.output, "geo")
    assert "on a line" in done.notes[0]
    matrix = np.array(json.loads((done.path / "alignment.json").read_text())["enu_from_model"])
    np.testing.assert_allclose(matrix[:3, :3] @ [1, 0, 0], [0, 20, 0], atol=0.01)
    np.testing.assert_allclose(matrix[:3, :3] @ [0, -1, 0], [0, 0, 20], atol=0.01)


def test_what_cannot_be_placed_is_said(tmp_path):
    two = {name: None for name in NAMES[2:]}
    world = make_world(tmp_path / "two", names=NAMES, exif=located(two))
    with pytest.raises(InputError, match="2 of 10 photos in the model have a GPS position"):
        export(world.output, "geo")
    same = make_world(tmp_path / "same", names=NAMES, exif=lambda *_: {"gps": gps_tags(*ORIGIN)})
    with pytest.raises(InputError, match="too coarse"):
        export(same.output, "geo")
    rng = np.random.default_rng(3)
    off = make_world(tmp_path / "off", names=NAMES, exif=located({name: rng.normal(0, 20, 3) for name in NAMES}))
    with pytest.raises(InputError, match="--gps-error-m 10"):
        export(off.output, "geo")
    assert export(off.output, "geo", gps_error_m=50.0).num_images == len(NAMES)


def test_a_model_on_the_earth_is_exported_like_others(tmp_path):
    world = make_world(tmp_path, names=NAMES, exif=located({}))
    folder = export(world.output, "geo").path
    assert export(folder, "nerfstudio").num_images == len(NAMES)
    assert export(folder, "glb", up="z").path == folder / "export" / "model.glb"


def test_a_photo_without_altitude_counts_as_of_the_usual_height(tmp_path):
    def exif(name, image):
        tags = gps_tags(*at_home(image))
        return {"gps": {tag: tags[tag] for tag in tags if name != "4.jpg" or tag < GPS.GPSAltitudeRef}}

    world = make_world(tmp_path, names=NAMES, exif=exif)
    done = export(world.output, "geo")
    assert "9 of 10 GPS positions agree" in done.notes[0]
    assert largest_error_m(world, done.path) < 0.02
