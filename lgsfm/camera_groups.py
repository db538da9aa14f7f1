"""Which photos share a camera, and what is known of it before the mapper refines it.

What EXIF tells, or a file of rules says of some photos (see `lgsfm.camera_rules`), else a guess that is marked as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from .camera_rules import CameraRule, read_rules
from .cameras import DEFAULT_FOCAL_FACTOR, MODELS, Camera
from .errors import InputError, unknown_name
from .image_files import image_path
from .images import MIN_EDGE_PX, ImageHeader, read_header, read_photo
from .options import Options, option

__all__ = ["CameraGroup", "CameraOptions", "camera_key", "group_cameras", "make_camera"]

JOINED_BY = {
    "auto": "one size: taken for one camera (else --camera-mode per-image)",
    "single": "one camera as asked for",
    "per-folder": "one folder",
    "per-image": "",
}
SIZES_LISTED = 6  # in an error


@dataclass(frozen=True, kw_only=True)
class CameraOptions(Options):
    """Which images share a camera, and its model."""

    camera_mode: str = option(
        "auto",
        "auto: images of one EXIF make, model, focal length and size share a camera, without EXIF those of one size; "
        "or one camera for all, per folder, or per image",
        choices=("auto", "single", "per-folder", "per-image"),
    )
    camera_model: str = option("SIMPLE_RADIAL", "COLMAP's name of the camera model")
    cameras: str = option(
        "",
        'JSON file of what is known better, a list of rules such as {"images": "left/*", "model": "OPENCV", '
        '"focal_px": 1200}; other keys: params, size, shared, trusted; the first rule that fits a photo holds',
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.camera_model not in MODELS:
            raise unknown_name("camera model", self.camera_model, MODELS)


@dataclass(frozen=True)
class CameraGroup:
    """Images that share a camera."""

    names: tuple[str, ...]
    size: tuple[int, int]  # (width, height) px
    focal_px: float | None  # from EXIF or a rule; None means that it is guessed
    label: str  # for people: make and model, or what made the group
    model: str = ""  # COLMAP's name of the camera model; "" is the one of all other cameras
    params: tuple[float, ...] = ()  # in COLMAP's order and pixels; () means by the focal length, without distortion
    is_trusted: bool = True  # whether a focal length that is no guess is a prior for COLMAP
    is_given: bool = False  # whether the focal length is from a rule

    @property
    def is_guess(self) -> bool:
        """Whether the focal length is a guess."""
        return self.focal_px is None

    def row(self, model: str) -> dict[str, Any]:
        """All of it as JSON-able values for the summary; ``model`` is the one of all other cameras."""
        row: dict[str, Any] = {"model": self.model or model, "width": self.size[0], "height": self.size[1]}
        row["focal_px"] = None if self.focal_px is None else round(self.focal_px, 2)
        row |= {"label": self.label, "num_images": len(self.names), "images": list(self.names)}
        if self.is_given:
            row |= {"focal_px": self.focal_px, "is_given": True, "params": list(self.params)}
        return row if self.is_trusted else {**row, "is_trusted": False}


def group_cameras(
    image_dir: str | Path, names: Sequence[str], options: CameraOptions, *, skip_unreadable: bool = False
) -> list[CameraGroup]:
    """Groups images by camera; each group is of one size.

    Args:
        image_dir: the folder that ``names`` are relative to.
        names: image names.
        options: see `CameraOptions`.
        skip_unreadable: leave out photos that the feature stage will skip.

    Raises:
        InputError: one camera is asked for images of several sizes, or the file of rules cannot be used.
    """
    image_dir = Path(image_dir)
    headers = _headers(image_dir, names, skip_unreadable)
    rules = read_rules(Path(options.cameras)) if options.cameras else []
    rule_of = {name: _rule_of(name, headers[name], rules) for name in sorted(headers)}
    if skip_unreadable:  # else some photos may be missing, by now for reasons of their own
        _check_all_apply(rules, rule_of, names)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, rule in rule_of.items():
        groups.setdefault(_camera_key(name, headers[name], options.camera_mode, rule), []).append(name)
    if skip_unreadable:
        groups = {key: _of_usable_sizes(image_dir, members, headers) for key, members in groups.items()}
    _check_pixels(groups.values(), headers, rule_of)
    return [_camera_group(tuple(members), headers, options, rule_of[members[0]]) for members in groups.values()]


def _rule_of(name: str, header: ImageHeader, rules: Sequence[CameraRule]) -> CameraRule | None:
    """The first rule that fits an image."""
    return next((rule for rule in rules if rule.fits(name, header.size)), None)


def _check_all_apply(
    rules: Sequence[CameraRule], rule_of: Mapping[str, CameraRule | None], names: Sequence[str]
) -> None:
    """Raises `InputError` for a rule without images: most likely its patterns are misspelt."""
    used = {rule.number for rule in rule_of.values() if rule}
    unread = [name for name in names if name not in rule_of]
    used |= {rule.number for rule in rules if any(rule.fits(name, rule.size) for name in unread)}
    for rule in rules:
        if rule.number not in used:
            size = f" of {rule.size[0]}x{rule.size[1]} pixels" if rule.size else ""
            raise InputError(
                f"{rule.where}: 'images' ({', '.join(rule.patterns)}) fits no photo{size} that the rules before leave. "
                f"Names are relative to the folder of photos, such as {min(names)}; * also stands for /."
            )


def _check_pixels(
    groups: Iterable[Sequence[str]], headers: Mapping[str, ImageHeader], rule_of: Mapping[str, CameraRule | None]
) -> None:
    """Raises `InputError` where one focal length in pixels is given for photos of several sizes."""
    of_rule: dict[int, list[str]] = {}
    for name in (name for group in groups for name in group):
        if (rule := rule_of[name]) and rule.focal_key:
            of_rule.setdefault(rule.number, []).append(name)
    for names in of_rule.values():
        rule = rule_of[names[0]]
        if rule and len({headers[name].size for name in names}) > 1:
            raise InputError(
                f"{rule.where}: '{rule.focal_key}' counts pixels, but the photos are of different sizes "
                f'({_listed_sizes(names, headers)}). Give a rule for each size, with "size": [width, height].'
            )


def _headers(image_dir: Path, names: Sequence[str], skip_unreadable: bool) -> dict[str, ImageHeader]:
    headers = {}
    for name in names:
        try:
            header = read_header(image_path(image_dir, name))
        except InputError:
            if not skip_unreadable:
                raise
        else:
            if not skip_unreadable or min(header.size) >= MIN_EDGE_PX:
                headers[name] = header
    return headers


def _of_usable_sizes(image_dir: Path, names: list[str], headers: Mapping[str, ImageHeader]) -> list[str]:
    """Where sizes differ, the images of those sizes of which at least one image can be decoded."""
    sizes = {headers[name].size for name in names}
    if len(sizes) < 2:
        return names

    def is_usable(name: str) -> bool:
        try:
            read_photo(image_path(image_dir, name), MIN_EDGE_PX)
        except InputError:
            return False
        return True

    usable = {size for size in sizes if any(is_usable(name) for name in names if headers[name].size == size)}
    return [name for name in names if headers[name].size in usable] or names


def _camera_key(name: str, header: ImageHeader, mode: str, rule: CameraRule | None) -> tuple[Any, ...]:
    """What two images of one camera have in common."""
    number = rule.number if rule else 0
    if rule and rule.is_shared is not None:
        mode = "single" if rule.is_shared else "per-image"
    if mode == "single":
        return (number,)
    if mode == "per-folder":
        return (number, name.rpartition("/")[0])
    if mode == "per-image":
        return (number, name)
    return (number, *camera_key(header))


def camera_key(header: ImageHeader) -> tuple[Any, ...]:
    """What photos of one camera have in common where nobody says more: EXIF make, model, focal length, and the size."""
    exif = header.exif
    return (exif.make, exif.model, exif.focal_mm, exif.focal_35mm, header.size)


def _listed_sizes(names: Sequence[str], headers: Mapping[str, ImageHeader]) -> str:
    """The sizes of images, each with the first image that has it."""
    first_of = {headers[name].size: name for name in reversed(names)}
    listed = ", ".join(f"{size[0]}x{size[1]} as {first_of[size]}" for size in sorted(first_of)[:SIZES_LISTED])
    return listed + (", ..." if len(first_of) > SIZES_LISTED else "")


def _camera_group(
    names: tuple[str, ...], headers: Mapping[str, ImageHeader], options: CameraOptions, rule: CameraRule | None
) -> CameraGroup:
    """The group of images that share a camera; they must be of one size."""
    header = headers[names[0]]
    if len({headers[name].size for name in names}) > 1:
        listed = _listed_sizes(names, headers)
        if rule and rule.is_shared:
            raise InputError(
                f"{rule.where}: 'shared' puts images of different sizes ({listed}) into one camera. Leave it out, or "
                'give a rule for each size, with "size": [width, height].'
            )
        raise InputError(
            f"--camera-mode {options.camera_mode} puts images of different sizes ({listed}) into one camera. "
            "Use --camera-mode auto."
        )
    focals = [focal for name in names if (focal := headers[name].exif.focal_px(header.size)) is not None]
    joined_by = rule.label if rule else JOINED_BY[options.camera_mode] if len(names) > 1 else ""
    label = _label(header.exif.make, header.exif.model) or f"no EXIF{joined_by and f', {joined_by}'}"
    group = CameraGroup(names, header.size, float(np.median(focals)) if focals else None, label)
    return _ruled(group, rule, options.camera_model) if rule else group


def _ruled(group: CameraGroup, rule: CameraRule, other_model: str) -> CameraGroup:
    """A group with what its rule says of it."""
    focal_px = rule.focal_px or group.focal_px
    if rule.params:
        try:
            focal_px = Camera(rule.model or other_model, group.size, rule.params, "given").focal_px
        except InputError as exc:
            raise InputError(f"{rule.where}: 'params': {exc}") from exc
    if rule.is_trusted and focal_px is None:
        raise InputError(
            f"{rule.where}: 'trusted', but nothing tells the focal length of {group.names[0]}. "
            "Give 'focal_px' or 'params', or leave 'trusted' out."
        )
    return replace(
        group,
        focal_px=focal_px,
        model=rule.model,
        params=rule.params,
        is_trusted=rule.is_trusted is not False,
        is_given=bool(rule.focal_key),
    )


def _label(make: str | None, model: str | None) -> str:
    """Make and model for people; many models begin with the make."""
    make, model = make or "", model or ""
    return model if make and model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def make_camera(group: CameraGroup, model: str) -> pycolmap.Camera:
    """The COLMAP camera of a group, of a model unless it has its own: as given, else with the focal length of EXIF or
    a guess, and the principal point at the centre."""
    width, height = group.size
    model = group.model or model
    if group.params:
        camera = pycolmap.Camera(model=model, width=width, height=height, params=list(group.params))
    else:
        focal = group.focal_px or DEFAULT_FOCAL_FACTOR * max(width, height)
        camera = pycolmap.Camera.create_from_model_name(0, model, focal, width, height)
    camera.has_prior_focal_length = group.is_trusted and not group.is_guess
    return camera
