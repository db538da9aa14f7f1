"""Renders `courtyard`, a small set of photos whose poses are known exactly.

    python datasets/render_scene.py            writes datasets/courtyard (about a minute; the same bytes every time)
    python datasets/render_scene.py --check    measures how exactly the renderer keeps to its own cameras

World: metres, X right along the facade, Y into it, Z up. Cameras look with x right, y down, z forward.
"""

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from PIL import Image, TiffImagePlugin
from scene_courtyard import courtyard
from scene_renderer import Array, Buffers, Pose, Quad, Renderer, bake_light, sample

WIDTH, HEIGHT = 800, 600
F35 = 28  # [mm] focal length on a 36 x 24 mm frame of the same diagonal
DIAGONAL_35 = float(np.hypot(36, 24))
FOCAL = F35 * float(np.hypot(WIDTH, HEIGHT)) / DIAGONAL_35  # [px]
SUPERSAMPLING = 3
JPEG_QUALITY = 67
SUNS = [np.array([-0.62, -0.5, 0.62]), np.array([0.5, -0.62, 0.78])]  # directions towards the sun


@dataclass(frozen=True)
class Light:
    sun: int | None  # index into SUNS; None = overcast
    sun_colour: tuple[float, float, float]
    sky_colour: tuple[float, float, float]


MORNING = Light(0, (2.3, 1.95, 1.5), (0.95, 1.15, 1.5))
NOON = Light(1, (2.3, 2.2, 2.0), (1.0, 1.15, 1.4))
OVERCAST = Light(None, (0, 0, 0), (2.5, 2.6, 2.7))


@dataclass(frozen=True)
class View:
    azimuth: float  # [deg] around the target, 0 = straight in front of the facade
    distance: float  # [m] on the ground
    height: float  # [m]
    target: tuple[float, float, float]  # [m]
    roll: float = 0.0  # [deg]
    light: Light = NOON
    gain: float = 1.0
    gamma: float = 1.0  # on top of the display's 2.2
    warmth: float = 0.0  # red up, blue down, as a fraction
    sensor_noise: float = 1.2  # [grey levels]

    def pose(self) -> Pose:
        a, r = np.radians(self.azimuth), np.radians(self.roll)
        target = np.array(self.target)
        centre = np.array([target[0], target[1], 0]) + self.distance * np.array([np.sin(a), -np.cos(a), 0])
        centre[2] = self.height
        z = (target - centre) / np.linalg.norm(target - centre)
        x = np.cross(z, [0, 0, 1]) / np.linalg.norm(np.cross(z, [0, 0, 1]))
        y = np.cross(z, x)
        return Pose(np.array([np.cos(r) * x + np.sin(r) * y, np.cos(r) * y - np.sin(r) * x, z]), centre)


VIEWS = [
    View(-43, 7.4, 1.7, (-0.1, -1.2, 1.7), 1.5, MORNING, 0.95, 1.0, 0.04),
    View(-36, 6.2, 2.6, (-0.3, -1.0, 1.6), -2.0, MORNING, 1.1, 1.05, 0.02),
    View(-29, 8.1, 1.5, (-0.4, -0.8, 2.1), 0.8, OVERCAST, 1.0, 1.0, -0.03),
    View(-22, 5.3, 1.3, (-0.9, -0.6, 1.5), 3.0, MORNING, 0.8, 0.95, 0.0),
    View(-15, 7.0, 3.4, (0.2, -1.0, 1.5), -1.2, NOON, 1.0, 1.0, 0.0),
    View(-8, 8.6, 1.6, (0.1, -0.6, 2.2), 0.5, NOON, 0.75, 1.1, 0.05),
    View(-2, 6.0, 1.1, (0.4, -0.6, 1.7), -3.5, OVERCAST, 1.25, 1.0, 0.03, 2.2),
    View(5, 4.9, 1.9, (0.9, -0.5, 1.4), 1.0, NOON, 1.05, 1.0, -0.02),
    View(11, 7.6, 2.2, (0.3, -0.8, 1.8), 2.2, MORNING, 1.2, 0.95, 0.08),
    View(18, 6.6, 1.4, (0.0, -0.7, 1.9), -1.5, NOON, 0.9, 1.0, 0.02),
    View(24, 5.4, 3.0, (0.4, -0.9, 1.3), 0.0, NOON, 1.15, 1.05, 0.0),
    View(31, 7.3, 1.6, (0.2, -0.9, 1.8), 2.5, OVERCAST, 0.5, 1.05, 0.0, 2.5),
    View(37, 6.4, 2.0, (0.0, -1.0, 1.6), -2.5, MORNING, 1.0, 1.0, 0.06),
    View(44, 7.0, 1.5, (-0.2, -1.1, 1.7), 1.2, NOON, 1.1, 1.0, -0.04),
]


def camera_matrix(scale: float = 1.0) -> Array:
    """Pinhole matrix of a picture enlarged by `scale`, in continuous pixel coordinates."""
    return np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1 / scale]]) * scale


# --------------------------------------------------------------------------------------------------------- photos


def sky(pose: Pose, x: Array, y: Array) -> Array:
    """(N, 3) linear radiance of a pale sky with thin clouds at pixels x, y; a function of direction alone."""
    rays = np.column_stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones(len(x))]) @ pose.R
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    waves = np.random.default_rng(3).normal(0, (4, 4, 12), (4, 3)) * np.array([[1], [2], [4], [7]])
    wisps = np.sin(rays @ waves.T + 2 * np.sin(rays @ waves[::-1].T)) @ [0.4, 0.3, 0.2, 0.1]
    blue = np.array([0.75, 0.9, 1.1]) - np.clip(rays[:, 2:], 0, 1) * np.array([0.5, 0.4, 0.2])
    return blue + 0.3 * np.maximum(wisps, 0)[:, None]


def develop(seen: Buffers, view: View, rng: np.random.Generator) -> Array:
    """Lights the scene and takes the photo: (HEIGHT, WIDTH, 3) uint8 sRGB."""
    light = view.light
    shade = seen.light[..., :1] * np.array(light.sky_colour, np.float32) + 0.07
    if light.sun is not None:
        shade += seen.light[..., light.sun + 1, None] * np.array(light.sun_colour, np.float32)
    radiance = (seen.albedo / 255) ** 2.2 * shade
    rows, cols = np.nonzero(seen.inverse_depth == 0)
    scale = WIDTH / radiance.shape[1]
    radiance[rows, cols] = sky(view.pose(), (cols + 0.5) * scale, (rows + 0.5) * scale)
    linear = cv2.resize(radiance, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)  # the mean over each pixel
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    vignette = 1 / (1 + 0.5 * (x**2 + y**2) / FOCAL**2)
    balance = view.gain * np.array([1 + view.warmth, 1, 1 - view.warmth])
    exposed = 1 - np.exp(-1.3 * np.maximum(linear * balance * vignette[..., None], 0))  # a soft shoulder
    grey = 255 * exposed ** (view.gamma / 2.2)
    grey += view.sensor_noise * rng.standard_normal(grey.shape)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def exif() -> Image.Exif:
    """Camera and focal length; the sensor's pixel pitch follows from the 35 mm equivalent."""
    ratio = TiffImagePlugin.IFDRational
    tags = Image.Exif()
    tags.update({0x010F: "lgsfm", 0x0110: "renderer", 0x0112: 1})
    pitch = ratio(round(FOCAL / F35 * 10 * 10**6), 10**6)  # [px/cm]
    tags.get_ifd(0x8769).update(
        {
            0x920A: ratio(F35, 1),
            0xA405: F35,
            0xA002: WIDTH,
            0xA003: HEIGHT,
            0xA20E: pitch,
            0xA20F: pitch,
            0xA210: 3,
        }
    )
    return tags


# --------------------------------------------------------------------------------------------------- ground truth


def surface_points(depths: dict[str, Array], poses: dict[str, Pose], count: int, min_views: int = 4) -> list[tuple]:
    """True points on the surfaces: [(xyz, [(name, pixel), ...]), ...], each seen unoccluded in min_views or more."""
    rng = np.random.default_rng(11)
    K = camera_matrix()
    points = []
    for name, inverse_depth in depths.items():
        px = rng.integers((8, 8), (WIDTH - 8, HEIGHT - 8), (count, 2)) + 0.5  # pixel centres: no mixed depths
        q = sample(inverse_depth, px[None, :, 0] / WIDTH, px[None, :, 1] / HEIGHT)[0]
        rays = np.column_stack([px, np.ones(count)])[q > 0] @ np.linalg.inv(K).T
        points.append(rays / q[q > 0, None] @ poses[name].R + poses[name].centre)
    xyz = np.concatenate(points)
    seen: list[list] = [[] for _ in xyz]
    for name, inverse_depth in depths.items():
        px, depth = poses[name].project(K, xyz)
        inside = (depth > 0) & (px > 2).all(1) & (px < (WIDTH - 2, HEIGHT - 2)).all(1)
        q = sample(inverse_depth, px[None, :, 0] / WIDTH, px[None, :, 1] / HEIGHT)[0]
        for i in np.flatnonzero(inside & (np.abs(q * depth - 1) < 0.004)):
            seen[i].append((name, px[i]))
    tracks = [(p, s) for p, s in zip(xyz, seen, strict=True) if len(s) >= min_views]
    return [tracks[i] for i in np.linspace(0, len(tracks) - 1, count).astype(int)]


def colmap_camera() -> pycolmap.Camera:
    params = [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
    return pycolmap.Camera(model="PINHOLE", width=WIDTH, height=HEIGHT, params=params, camera_id=1)


def colmap_model(poses: dict[str, Pose], tracks: list[tuple]) -> pycolmap.Reconstruction:
    """The true cameras, poses and surface points in COLMAP's form."""
    rec = pycolmap.Reconstruction()
    rec.add_camera_with_trivial_rig(colmap_camera())
    observed: dict[str, list] = {name: [] for name in poses}
    ids = {name: i for i, name in enumerate(poses, 1)}
    elements = []
    for _, views in tracks:
        elements.append([(ids[name], len(observed[name])) for name, _ in views])
        for name, px in views:
            observed[name].append(px)
    for name, pose in poses.items():
        image = pycolmap.Image(name=name, keypoints=np.array(observed[name]), camera_id=1, image_id=ids[name])
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), -pose.R @ pose.centre)
        rec.add_image_with_trivial_frame(image, rigid)
    for (xyz, _), seen in zip(tracks, elements, strict=True):
        rec.add_point3D(xyz, pycolmap.Track([pycolmap.TrackElement(*e) for e in seen]))
    return rec


def ground_truth_text(poses: dict[str, Pose]) -> str:
    lines = [
        "# The true camera of every photo; world: metres, X right along the facade, Y into it, Z up.",
        f"# One pinhole camera: {WIDTH} x {HEIGHT} px, focal length {FOCAL!r} px, no distortion, principal point",
        f"# ({WIDTH / 2}, {HEIGHT / 2}) where the centre of the top-left pixel is (0.5, 0.5).",
        "# image qw qx qy qz cx cy cz: rotation cam_from_world (camera: x right, y down, z forward), camera centre",
    ]
    for name, pose in poses.items():
        x, y, z, w = pycolmap.Rotation3d(pose.R).quat
        lines.append(" ".join([name, *(f"{v:.12f}" for v in (w, x, y, z, *pose.centre))]))
    return "\n".join(lines) + "\n"


def write_dataset(out: Path) -> None:
    renderer = Renderer(courtyard())
    bake_light(renderer, SUNS, np.array([-0.5, -3.5, 2.0]), 11.0)
    shutil.rmtree(out / "images", ignore_errors=True)
    shutil.rmtree(out / "sparse", ignore_errors=True)
    for folder in ("images", "sparse"):
        (out / folder).mkdir(parents=True)
    poses, depths, tags = {}, {}, exif()
    for i, view in enumerate(VIEWS):
        name = f"view{i:02d}.jpg"
        poses[name] = view.pose()
        scale = SUPERSAMPLING
        seen = renderer.render(camera_matrix(scale), poses[name], scale * WIDTH, scale * HEIGHT)
        depths[name] = seen.inverse_depth[scale // 2 :: scale, scale // 2 :: scale]
        photo = Image.fromarray(develop(seen, view, np.random.default_rng(100 + i)))
        photo.save(out / "images" / name, quality=JPEG_QUALITY, optimize=True, exif=tags)
    colmap_model(poses, surface_points(depths, poses, 250)).write_binary(str(out / "sparse"))
    (out / "ground_truth.txt").write_text(ground_truth_text(poses), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- check


def chequered(quad: Quad, cell: float, px_per_m: int = 160) -> tuple[Quad, Array]:
    """The same rectangle with a chequered texture, and the (N, 3) inner corners of its squares."""
    size = [float(np.linalg.norm(e)) for e in (quad.u, quad.v)]
    n = [max(int(e / cell), 2) for e in size]
    k = round(cell * px_per_m)
    board = np.indices((n[1], n[0])).sum(0) % 2
    texture = np.kron(board, np.ones((k, k)))[..., None] * np.ones(4) * 170 + 40
    texture[..., 3] = 255
    s, t = (g.reshape(-1, 1) for g in np.meshgrid(np.arange(1, n[0]) / n[0], np.arange(1, n[1]) / n[1]))
    return replace(quad, texture=texture.astype(np.uint8)), quad.origin + s * quad.u + t * quad.v


def on_one_surface(inverse_depth: Array, pixels: Array, depth: Array, reach: int = 9) -> Array:
    """(N,) bool: nothing hides the point or its surroundings, which lie in one plane, not seen too obliquely."""
    steps = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)]) * reach
    q = [sample(inverse_depth, (pixels + d)[None, :, 0] / WIDTH, (pixels + d)[None, :, 1] / HEIGHT)[0] for d in steps]
    # inverse depth is linear in the pixel on a plane: the mean over opposite pixels is the middle's
    means = np.array([q[0], *((q[i] + q[i + 1]) / 2 for i in (1, 3, 5, 7))])
    margin = reach + 7
    inside = ((pixels > margin) & (pixels < (WIDTH - margin, HEIGHT - margin))).all(1)
    facing = np.abs(np.array(q) * depth - 1) < 0.05
    return inside & facing.all(0) & (np.abs(means * depth - 1) < 1e-4).all(0)


def check() -> Array:
    """(N, 2) [px] found minus predicted position of chequer corners painted on the scene's large surfaces.

    Predictions are pycolmap's; positions are found by cv2.cornerSubPix in pictures made in the way of the photos.
    """
    large = [q for q in courtyard() if np.linalg.norm(q.u) * np.linalg.norm(q.v) > 15]
    boards, corners = zip(*(chequered(q, 0.5) for q in large), strict=True)
    xyz, renderer, scale = np.concatenate(corners), Renderer(list(boards)), SUPERSAMPLING
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    errors = []
    for view in VIEWS:
        pose = view.pose()
        seen = renderer.render(camera_matrix(scale), pose, scale * WIDTH, scale * HEIGHT)
        picture = cv2.resize(seen.albedo[..., 0], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        picture = cv2.GaussianBlur(picture, (0, 0), 2)  # cornerSubPix is off by 0.07 px on edges as sharp as ours
        local = (xyz - pose.centre) @ pose.R.T
        local = local[local[:, 2] > 0.5]
        truth = colmap_camera().img_from_cam(local)
        truth = truth[on_one_surface(seen.inverse_depth, truth, local[:, 2])]
        start = (truth[:, None] - 0.5).astype(np.float32)  # OpenCV: the centre of the top-left pixel is (0, 0)
        found = cv2.cornerSubPix(picture, start, (8, 8), (-1, -1), stop)
        errors.append(found[:, 0] + 0.5 - truth)
    return np.concatenate(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "courtyard")
    parser.add_argument("--check", action="store_true", help="measure the renderer's exactness, write nothing")
    args = parser.parse_args()
    if not args.check:
        write_dataset(args.out)
        return
    errors = check()
    length, bias = np.linalg.norm(errors, axis=1), errors.mean(0)
    print(f"{len(errors)} corners: mean error {length.mean():.4f} px, median {np.median(length):.4f} px,", end=" ")
    print(f"95% below {np.percentile(length, 95):.4f} px, bias x {bias[0]:+.4f} y {bias[1]:+.4f} px")
    if length.mean() > 0.02:
        raise SystemExit("the renderer disagrees with its cameras")


if __name__ == "__main__":
    main()
