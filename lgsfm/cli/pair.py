"""`lgsfm pose` and `lgsfm show`: two photos, their relative pose and a picture of their matches."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..cameras import ESTIMATED, Camera
from ..destination import check_file
from ..drawing import MAX_LINES, check_picture_name, draw_matches, is_drawing, save_picture
from ..epipolar import quaternion_wxyz
from ..errors import InputError, PoseError
from ..finished import FinishedRun
from ..images import list_images, read_photo
from ..pair import MatchedPair, PairMatcher, camera_of
from ..pairing import read_pairs
from ..settings import PairSettings
from ..two_view import (
    TwoViewMatrix,
    TwoViewOptions,
    TwoViewPose,
    estimate_fundamental,
    estimate_homography,
    estimate_pose,
)
from ..types import Features
from .answer import add_json
from .flags import add_flags, given_flags
from .terminal import Terminal

__all__ = ["add_commands"]


class Source(NamedTuple):
    """A pair with its matches, wherever they came from."""

    paths: tuple[Path, Path]
    names: tuple[str, str]
    pair: MatchedPair
    cameras: tuple[Camera, Camera]


def add_commands(commands: Any) -> None:
    """Adds the commands."""
    text = "the relative pose of two photos"
    pose = commands.add_parser(
        "pose",
        help=text,
        description=f"Example: lgsfm pose a.jpg b.jpg. Prints {text}: rotation and unit translation cam1_from_cam0, "
        "with x right, y down and z forward in the stored photo. Exit code 1 if there is no reliable pose.",
    )
    pose.set_defaults(command=_pose)
    pose.add_argument("image0", help="photo 0; with --run its name")
    pose.add_argument("image1", help="photo 1; with --run its name")
    pose.add_argument("--fundamental", action="store_true", help="the fundamental matrix too, in pixels")
    pose.add_argument("--homography", action="store_true", help="the homography too, in pixels")
    text = "a picture of two photos and their matches"
    show = commands.add_parser(
        "show",
        help=text,
        description=f"Example: lgsfm show a.jpg b.jpg -o matches.png. Draws {text}, coloured by confidence, "
        "outliers red.",
    )
    show.set_defaults(command=_show)
    show.add_argument("photos", nargs="*", metavar="IMAGE", help="two photos; with --run two names; none with --list")
    show.add_argument("-o", "--output", type=Path, help="picture (default: matches.png), or folder (default: matches)")
    show.add_argument("--list", type=Path, metavar="FILE", help="draw each pair of a file with two names per line")
    show.add_argument(
        "--max-lines",
        type=_not_negative,
        default=MAX_LINES,
        metavar="N",
        help=f"matches drawn as lines; 0: all ({MAX_LINES})",
    )
    show.add_argument("--edge-px", type=_positive, default=1000, metavar="N", help="long edge of each photo (1000)")
    for command in (pose, show):
        command.add_argument(
            "--images", type=Path, dest="image_dir", metavar="DIR", help="folder of the photos of --run or --list"
        )
        command.add_argument("--run", type=Path, metavar="OUT", help="take the matches of a finished run, compute none")
        add_json(command)
        command.add_argument("--quiet", action="store_true", help="only the result")
        for i in (0, 1):
            command.add_argument(
                f"--camera{i}",
                metavar="CAMERA",
                help=f"of photo {i}: focal length in pixels, MODEL,PARAMS... as COLMAP writes them, or the folder of a "
                "model (default: EXIF, else a guess)",
            )
        add_flags(command, PairSettings)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def _not_negative(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return int(text)


# --------------------------------------------------------------------------------- commands
def _pose(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Prints what can be told, and then fails if there is no reliable pose."""
    sources = _Sources(arguments, terminal)
    source = sources.of(arguments.image0, arguments.image1)
    options = sources.settings.two_view
    points = source.pair.points0, source.pair.points1
    error_px = options.error_px(*(features.image_size for features in source.pair.features))
    asked: dict[str, Callable[[], Any]] = {"pose": lambda: estimate_pose(*points, *source.cameras, options=options)}
    if arguments.fundamental:
        asked["fundamental"] = lambda: estimate_fundamental(*points, error_px, options)
    if arguments.homography:
        asked["homography"] = lambda: estimate_homography(*points, error_px, options)
    found: dict[str, Any] = {}
    failures: dict[str, PoseError] = {}
    for name, estimate in asked.items():
        try:
            found[name] = estimate()
        except PoseError as exc:
            failures[name] = exc
    if "pose" in found:
        _warn_of_guesses(source, found["pose"], terminal)
    terminal.answer(_as_json(source, found), _report(source, found))
    for name, failure in failures.items():
        if name != "pose":
            terminal.say(f"Warning: {failure}.")
    if "pose" in failures:
        raise failures["pose"]


def _show(arguments: argparse.Namespace, terminal: Terminal) -> None:
    if bool(arguments.list) == bool(arguments.photos) or len(arguments.photos) not in (0, 2):
        raise InputError("Give two photos, or --list FILE: lgsfm show a.jpg b.jpg, or lgsfm show --list pairs.txt.")
    sources = _Sources(arguments, terminal)
    if not arguments.list:
        path = arguments.output or Path("matches.png")
        _check_picture(sources, path)
        row = _draw(sources, (arguments.photos[0], arguments.photos[1]), path)
        terminal.answer({"path": path, "pairs": [row]}, str(path))
        return
    folder = arguments.output or Path("matches")
    pairs = sources.listed()
    if not pairs:
        raise InputError(f"{arguments.list} names no pair of two photos.")
    places = [folder / _picture_name(number, names) for number, names in enumerate(pairs, start=1)]
    for path in places:  # before the work
        _check_picture(sources, path)
    report = terminal.progress("show")
    rows = []
    for number, (path, names) in enumerate(zip(places, pairs, strict=True), start=1):
        rows.append(_draw(sources, sources.files(names), path))
        if report:
            report(number, len(pairs))
    terminal.answer({"path": folder, "pairs": rows}, str(folder))


def _picture_name(number: int, names: tuple[str, str]) -> str:
    """The name of the picture of a pair of a list, as any system takes it."""
    first, second = (re.sub(r'[/\\:*?"<>|]', "_", name).rpartition(".")[0][-80:] for name in names)
    return f"{number:04}_{first}--{second}.png"


def _check_picture(sources: _Sources, path: Path) -> None:
    """Raises `InputError` if a picture may not be written there."""
    check_picture_name(path)
    check_file(path, "picture of matches", is_drawing, run=sources.run.workspace if sources.run else None)
    photos = sources.run.image_dir if sources.run else sources.arguments.image_dir
    if photos and Path(photos).resolve() in path.resolve().parents:
        raise InputError(
            f"{path} is in the folder of the photos, where the next run would take it for one of them. Choose another "
            "place with -o."
        )


def _draw(sources: _Sources, images: tuple[str, str], path: Path) -> dict[str, Any]:
    """Draws a pair; gives what there is in the picture, as plain values."""
    arguments = sources.arguments
    source = sources.of(*images)
    inliers, judgement = sources.judge(source)
    photos = [read_photo(file, arguments.edge_px, orientation=1).rgb for file in source.paths]
    title = f"{source.paths[0].name}  |  {source.paths[1].name}   {judgement}"
    pair = source.pair
    picture = draw_matches(
        (photos[0], photos[1]),
        pair.features,
        pair.indices,
        pair.scores,
        inliers,
        title=title,
        edge_px=arguments.edge_px,
        max_lines=arguments.max_lines,
    )
    save_picture(path, picture)
    num_inliers = None if inliers is None else int(inliers.sum())  # None: not verified
    names = {"image0": source.names[0], "image1": source.names[1]}
    return {**names, "path": path, "num_matches": len(pair), "num_inliers": num_inliers}


# --------------------------------------------------------------------------------- where pairs come from
class _Sources:
    """Gives pairs with their matches: computed from files, or out of a finished run."""

    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self.arguments, self.terminal = arguments, terminal
        flags = given_flags(arguments, PairSettings)
        self.settings = PairSettings.from_flags(flags)
        self.given = (arguments.camera0, arguments.camera1)
        self.run = None
        if arguments.run:
            _refuse_flags_of_networks(flags)
            terminal.say_photos(arguments.run, arguments.image_dir)
            self.run = FinishedRun(arguments.run, arguments.image_dir)
        self.pairs: PairMatcher | None = None
        self.known: dict[str, Features] = {}  # of photos, which a list names again and again

    def of(self, image0: str, image1: str) -> Source:
        """The pair of two images."""
        if self.run:
            return self._of_run(self.run, image0, image1)
        if self.pairs is None:
            self.pairs = PairMatcher(self.settings, progress=self.terminal.progress("weights"))
            self.terminal.say(f"Features: {self.pairs.features_name} ({self.pairs.features_reason}).")
        pair = self.pairs.match(image0, image1, known=self.known)
        cameras = [
            camera_of(image, features.image_size, camera)
            for image, features, camera in zip((image0, image1), pair.features, self.given, strict=True)
        ]
        return Source((Path(image0), Path(image1)), (image0, image1), pair, (cameras[0], cameras[1]))

    def _of_run(self, run: FinishedRun, image0: str, image1: str) -> Source:
        names = run.name_of(image0), run.name_of(image1)
        pair = run.pair(*names)
        cameras = [
            run.camera(name) if camera is None else camera_of(run.photo(name), features.image_size, camera)
            for name, features, camera in zip(names, pair.features, self.given, strict=True)
        ]
        paths = run.photo(names[0]), run.photo(names[1])
        return Source(paths, names, pair, (cameras[0], cameras[1]))

    def judge(self, source: Source) -> tuple[np.ndarray | None, str]:
        """Inliers of a pair, and the judgement in words; those of a run are its own."""
        count = len(source.pair)
        if self.run:
            inliers = self.run.inliers(*source.names, source.pair)
            verified = "not verified" if inliers is None else f"{inliers.sum()} verified"
            return inliers, f"{count} matches, {verified}"
        try:
            options = self.settings.two_view
            pose = estimate_pose(source.pair.points0, source.pair.points1, *source.cameras, options=options)
        except PoseError as exc:
            return np.zeros(count, bool) if exc.inliers is None else exc.inliers, str(exc)
        return pose.inliers, f"{count} matches, {pose.num_inliers} inliers, {pose.configuration}"

    def listed(self) -> list[tuple[str, str]]:
        """The pairs of --list."""
        if self.run:
            return read_pairs(self.arguments.list, list(self.run.features))
        if not self.arguments.image_dir:
            raise InputError("--list needs the folder of the photos: --images DIR, or a finished run: --run OUT.")
        return read_pairs(self.arguments.list, list_images(self.arguments.image_dir))

    def files(self, names: tuple[str, str]) -> tuple[str, str]:
        """Names of --list as `of` takes them."""
        if self.run:
            return names
        return str(self.arguments.image_dir / names[0]), str(self.arguments.image_dir / names[1])


def _refuse_flags_of_networks(flags: Mapping[str, Any]) -> None:
    """With --run nothing is computed again, so that flags of the networks would do nothing."""
    own = {field.name for field, _ in TwoViewOptions.fields()}
    useless = [f"--{name.replace('_', '-')}" for name in flags if name not in own]
    if useless:
        raise InputError(f"{', '.join(useless)} cannot change a finished run. Leave it out, or leave out --run.")


# --------------------------------------------------------------------------------- what people see
def _warn_of_guesses(source: Source, pose: TwoViewPose, terminal: Terminal) -> None:
    for i, camera in enumerate(pose.cameras):
        if camera.is_guess or camera.source == ESTIMATED:
            terminal.say(
                f"Warning: the focal length of {source.names[i]} is unknown. {camera.focal_px:.0f} px is "
                f"{camera.source.upper()}, and the pose depends on it. Give --camera{i} if you know better."
            )
    if pose.alternative:
        terminal.say("Warning: the matches lie on a plane, which two poses explain; the second is the alternative.")
    if pose.configuration == "uncalibrated":
        terminal.say("Warning: the matches do not fit the focal lengths; a wrong focal length or lens distortion.")


def _as_json(source: Source, found: dict[str, Any]) -> dict[str, Any]:
    """What was found, as plain values; a pair without a pose is degenerate."""
    values: dict[str, Any] = {"image0": source.names[0], "image1": source.names[1], "num_matches": len(source.pair)}
    values |= found["pose"].to_dict() if "pose" in found else {"configuration": "degenerate"}
    for name, matrix in found.items():
        if isinstance(matrix, TwoViewMatrix):
            values[name] = {"matrix": matrix.matrix.tolist(), "num_inliers": int(matrix.inliers.sum())}
    return values


def _report(source: Source, found: dict[str, Any]) -> str:
    lines = _pose_lines(source, found["pose"]) if "pose" in found else []
    for name, matrix in found.items():
        if isinstance(matrix, TwoViewMatrix):
            lines.append(f"{name.capitalize():20} {int(matrix.inliers.sum())} inliers of {len(matrix.inliers)} matches")
            lines += [f"  {_row(row, 9)}" for row in matrix.matrix]
    return "\n".join(lines)


def _pose_lines(source: Source, pose: TwoViewPose) -> list[str]:
    lines = [
        f"Relative pose        cam1_from_cam0, {pose.configuration}",
        f"Rotation             {pose.rotation_angle_deg:.3f}° about {_row(pose.rotation_axis)}",
        f"  quaternion wxyz    {_row(pose.quaternion_wxyz, 6)}",
        f"Translation          {_translation(pose)}",
        f"Matches, inliers     {pose.num_matches}, {pose.num_inliers} ({pose.estimator}, {pose.max_error_px:.2f} px)",
        f"Angle of rays        {pose.median_angle_deg:.2f}° (median)",
    ]
    if pose.alternative:
        lines += [
            f"Alternative          quaternion wxyz {_row(quaternion_wxyz(pose.alternative.rotation), 6)}",
            f"                     translation     {_row(pose.alternative.translation, 6)}",
        ]
    for name, camera in zip(source.names, pose.cameras, strict=True):
        focal = camera.source.upper() if camera.is_guess or camera.source == ESTIMATED else camera.source
        lines.append(f"Focal length         {camera.focal_px:.1f} px ({focal})  {name}")
    return lines


def _translation(pose: TwoViewPose) -> str:
    if pose.configuration == "panoramic":
        return "unknown: the camera turned on the spot, or the scene is far away"
    return f"{_row(pose.translation, 6)}  (unit length)"


def _row(values: np.ndarray, digits: int = 4) -> str:
    return " ".join(f"{value: .{digits}g}" if digits > 6 else f"{value: .{digits}f}" for value in values)
