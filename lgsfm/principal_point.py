"""Refines the principal point of a finished model where the photos determine it.

COLMAP keeps it at the centre of the image, because few or flat views cannot tell it from a rotation. Real lenses are
off by tens of pixels, and with many views of a deep scene that is the largest error left in the poses. So: adjust once
more with it free, and keep the result only if the fit gets better by more than what a free parameter explains.
"""

from __future__ import annotations

from collections import Counter

import pycolmap

__all__ = ["refine_principal_points"]

MIN_IMAGES = 5  # of a camera, for its principal point to be considered
MIN_GAIN = 0.01  # by which the mean reprojection error must fall
MAX_SHIFT = 0.05  # of the long edge; a larger one is no lens but a wrong model


def refine_principal_points(model: pycolmap.Reconstruction, *, is_forced: bool = False) -> pycolmap.Reconstruction:
    """The model with refined principal points, or the model itself where the photos do not determine them.

    Args:
        model: a converged reconstruction; not changed.
        is_forced: keep the refined one in any case.
    """
    cameras = shared_cameras(model)
    if not cameras:
        return model
    fixed, free = _adjusted(model, cameras, is_free=False), _adjusted(model, cameras, is_free=True)
    gain = 1 - free.compute_mean_reprojection_error() / max(fixed.compute_mean_reprojection_error(), 1e-12)
    is_plausible = all(_shift(free.cameras[number]) <= MAX_SHIFT for number in cameras)
    return free if is_forced or (gain >= MIN_GAIN and is_plausible) else model


def shared_cameras(model: pycolmap.Reconstruction) -> list[int]:
    """The cameras of at least `MIN_IMAGES` registered images."""
    counts = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    return [number for number, count in counts.items() if count >= MIN_IMAGES]


def _adjusted(model: pycolmap.Reconstruction, cameras: list[int], *, is_free: bool) -> pycolmap.Reconstruction:
    """A copy after bundle adjustment, the principal points of the cameras free or not."""
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
    pycolmap.create_default_bundle_adjuster(options, config, copy).solve()
    copy.update_point_3d_errors()
    return copy


def _shift(camera: pycolmap.Camera) -> float:
    """Distance of the principal point from the centre, as a share of the long edge."""
    x = camera.principal_point_x - camera.width / 2
    y = camera.principal_point_y - camera.height / 2
    return (x * x + y * y) ** 0.5 / max(camera.width, camera.height)
