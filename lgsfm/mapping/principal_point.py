"""Refines the principal point of a finished model where the photos determine it.

COLMAP keeps it at the centre of the image, because few or flat views cannot tell it from a rotation. Real lenses are
off by tens of pixels, and with many views of a deep scene that is the largest error left in the poses. So: adjust once
more with it free, and keep the result only if the fit gets better by more than what a free parameter explains.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pycolmap

__all__ = ["MIN_IMAGES", "refine_principal_points", "shared_cameras", "shift"]

MIN_IMAGES = 5  # of a camera, for its principal point to be considered
MIN_GAIN = 0.01  # by which the mean reprojection error must fall
MAX_SHIFT = 0.05  # of the long edge; a larger one is no lens but a wrong model


def refine_principal_points(
    model: pycolmap.Reconstruction, *, is_forced: bool = False, threads: int = -1
) -> pycolmap.Reconstruction:
    """The model with refined principal points, or the model itself where the photos do not determine them.

    Args:
        model: a converged reconstruction; not changed.
        is_forced: keep the refined ones in any case.
        threads: of the bundle adjustment; -1 takes all cores.
    """
    cameras = shared_cameras(model)
    if not cameras:
        return model
    free = _adjusted(model, cameras, is_free=True, threads=threads)
    if is_forced:
        return free
    fixed = _adjusted(model, cameras, is_free=False, threads=threads)
    plausible = [number for number in cameras if shift(free.cameras[number]) <= MAX_SHIFT]
    if plausible and plausible != cameras:  # one camera that runs away must not hold back the others
        free = _adjusted(fixed, plausible, is_free=True, threads=threads)
    gain = 1 - free.compute_mean_reprojection_error() / max(fixed.compute_mean_reprojection_error(), 1e-12)
    is_plausible = bool(plausible) and all(shift(free.cameras[number]) <= MAX_SHIFT for number in plausible)
    return free if gain >= MIN_GAIN and is_plausible else model


def shared_cameras(model: pycolmap.Reconstruction) -> list[int]:
    """The cameras that have a principal point and at least `MIN_IMAGES` registered images."""
    counts = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    return [n for n, count in counts.items() if count >= MIN_IMAGES and has_principal_point(model.cameras[n])]


def has_principal_point(camera: pycolmap.Camera) -> bool:
    """Whether the camera model has one; that of panoramas has none."""
    return len(camera.principal_point_idxs()) == 2


def shift(camera: pycolmap.Camera) -> float:
    """Distance of the principal point from the centre, as a share of the long edge; 0 for a camera without one."""
    if not has_principal_point(camera):
        return 0.0
    x = camera.principal_point_x - camera.width / 2
    y = camera.principal_point_y - camera.height / 2
    return (x * x + y * y) ** 0.5 / max(camera.width, camera.height)


def _adjusted(
    model: pycolmap.Reconstruction, cameras: list[int], *, is_free: bool, threads: int
) -> pycolmap.Reconstruction:
    """A copy after bundle adjustment, the principal points of the cameras free or not; other cameras stay."""
    copy = pycolmap.Reconstruction(model)
    config = pycolmap.BundleAdjustmentConfig()
    for number, image in copy.images.items():
        if image.has_pose:
            config.add_image(number)
    for number in copy.cameras:
        if number not in cameras:
            config.set_constant_cam_intrinsics(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions(refine_principal_point=is_free, print_summary=False)
    solver: Any = getattr(options, "ceres", options)  # a part of its own in some versions of pycolmap
    solver.solver_options.num_threads = threads
    pycolmap.create_default_bundle_adjuster(options, config, copy).solve()
    copy.update_point_3d_errors()
    return copy
