"""`lgsfm reconstruct`, its stages alone, and `lgsfm evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..cameras import DEFAULT_FOCAL_FACTOR
from ..diagnosis import REASONS
from ..errors import CrashError, ReconstructionError
from ..evaluation import evaluate
from ..pipeline import run_stages
from ..run import Run
from ..settings import OF_THE_MOMENT, Settings, flag_fields
from ..sources import open_source
from ..summary import Summary
from ..workspace import Workspace, default_output
from .answer import add_json
from .flags import PRESET_FLAGS, add_flags, folder, given_flags
from .terminal import Terminal

__all__ = ["add_commands", "table"]

MOST_CAMERAS = 12  # that the terminal lists: photos from the internet have one each
Command = Callable[[argparse.Namespace, Terminal], None]
CONTINUED = (
    ". Flags not given are those of the last command on the same output, but for "
    f"{', '.join('--' + name.replace('_', '-') for name in OF_THE_MOMENT)}; with another --features, --matcher, "
    "--retriever or --quality the options of components begin anew."
)
FOLDERS = ("image_dir", "output", "num_images")
STAGE_FIELDS = {  # of the summary, that a stage alone prints with --json
    "extract": ("features", "features_reason", "weights", "failed_images", "masked_out", "turned_deg"),
    "pairs": (),
    "match": ("features", "matcher", "weights"),
    "database": ("num_pairs", "num_pairs_verified", "cameras"),
}


def add_commands(commands: Any) -> None:
    """Adds the commands."""
    stages: list[tuple[str, Command, str]] = [
        (
            "reconstruct",
            _reconstruct,
            "photos to COLMAP models, all stages; goes on where it stopped",
        ),
        ("extract", _extract, "stage 1: features of the photos"),
        ("pairs", _pairs, "stage 2: choose the pairs to match"),
        ("match", _match, "stage 3: match the pairs"),
        ("database", _database, "stage 4: COLMAP database with geometrically verified matches"),
        ("map", _map, "stage 5: COLMAP models"),
    ]
    for name, function, text in stages:
        more = "" if function is _reconstruct else CONTINUED
        example = f"Example: lgsfm {name} images/ -o out. {text[0].upper()}{text[1:]}"
        _add_stage(commands.add_parser(name, help=text, description=example + more), function)
    _add_evaluate(commands)


def _add_stage(command: argparse.ArgumentParser, function: Command) -> None:
    command.set_defaults(command=function)
    command.add_argument("images", type=folder, help="folder of photos, with sub-folders; or a video")
    command.add_argument("-o", "--output", type=folder, help="output folder (default: IMAGES-lgsfm, beside the photos)")
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    add_json(command)
    add_flags(command, Settings)


def _add_evaluate(commands: Any) -> None:
    text = "compare a model with a reference: AUC of pose errors"
    command = commands.add_parser(
        "evaluate",
        help=text,
        description="Example: lgsfm evaluate out truth.txt. Compares a model with a reference: registered images, AUC "
        "of pose errors, errors of rotations, directions and camera centres.",
    )
    command.set_defaults(command=_evaluate)
    command.add_argument("model", type=Path, help="COLMAP model folder, or an output folder of lgsfm")
    command.add_argument("reference", type=Path, help="COLMAP model folder, or text: image qw qx qy qz cx cy cz")
    add_json(command)


# --------------------------------------------------------------------------------- commands
def _reconstruct(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _run(arguments, given_flags(arguments, Settings), terminal) as run, _summary_without_model(run, terminal):
        run_stages(run)
    _say_cameras(run.summary, terminal)
    terminal.answer(run.summary, table(run.summary))


def _extract(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _continued_run(arguments, terminal, "extract") as run:
        report = run.extract()
    counts = f"{len(report.computed)} computed, {len(report.reused)} reused, {len(report.failed)} skipped"
    values = _of_stage(run.summary, "extract")
    terminal.answer({**values, "path": run.features_path}, f"{counts}\n{run.features_path}")


def _pairs(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _continued_run(arguments, terminal, "pairs") as run:
        pairs = run.select_pairs()
    path = run.workspace.pairs
    terminal.answer({**_of_stage(run.summary, "pairs"), "num_selected": len(pairs), "path": path}, str(path))


def _match(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _continued_run(arguments, terminal, "match") as run:
        report = run.match()
    skipped = len(report.skipped)
    counts = f"{len(report.computed)} computed, {len(report.reused)} reused, {skipped} without features"
    values = {**_of_stage(run.summary, "match"), "num_skipped": skipped, "path": run.matches_path}
    terminal.answer(values, f"{counts}\n{run.matches_path}")


def _database(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _continued_run(arguments, terminal, "database") as run:
        report = run.build_database()
    _say_cameras(run.summary, terminal)
    path = run.workspace.database
    counts = f"{report.num_verified} of {report.num_pairs} matched pairs verified, {report.num_inliers} inliers"
    values = {**_of_stage(run.summary, "database"), "num_inliers": report.num_inliers, "path": path}
    terminal.answer(values, f"{counts}\n{path}")


def _map(arguments: argparse.Namespace, terminal: Terminal) -> None:
    with _continued_run(arguments, terminal, "map") as run, _summary_without_model(run, terminal):
        run.map()
    terminal.answer(run.summary, table(run.summary))


def _evaluate(arguments: argparse.Namespace, terminal: Terminal) -> None:
    result = evaluate(arguments.model, arguments.reference)
    terminal.answer(result.to_dict(), result.table())


@contextmanager
def _summary_without_model(run: Run, terminal: Terminal) -> Iterator[None]:
    """Where there is no model, programs get the summary all the same: it says why, photo by photo."""
    try:
        yield
    except ReconstructionError as exc:
        if not isinstance(exc, CrashError):  # which says nothing about the photos
            terminal.answer(run.summary)
        raise


def _of_stage(summary: Summary, stage: str) -> dict[str, Any]:
    """What a stage alone did, named as in ``summary.json``."""
    known = asdict(summary)
    parts = {name: {stage: known[name][stage]} for name in ("computed", "reused", "seconds") if stage in known[name]}
    return {**{name: known[name] for name in (*FOLDERS, *STAGE_FIELDS[stage])}, **parts}


def _run(arguments: argparse.Namespace, flags: dict[str, Any], terminal: Terminal, **choices: Any) -> Run:
    is_continued = choices.get("is_continued", False)
    settings = Settings.from_flags(flags)
    source = open_source(arguments.images, arguments.output, settings, terminal, is_continued=is_continued)
    return Run(source.image_dir, source.output, source.settings, terminal, **choices)


def _continued_run(arguments: argparse.Namespace, terminal: Terminal, stage: str) -> Run:
    return _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True, first=stage)


def _continued_flags(arguments: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """The flags that were given and, where none was, those of the last command on the same output folder.

    A component that is chosen anew, or another quality, begins without the recorded options of components.
    """
    given = given_flags(arguments, Settings)
    recorded = Workspace.of_run(arguments.output or default_output(arguments.images)).recorded_flags()
    forgotten = set(OF_THE_MOMENT)
    if {"features", "matcher", "retriever", "quality"} & set(given):
        forgotten |= PRESET_FLAGS | {flag.field.name for flag in flag_fields() if flag.owners}
    kept = {name: value for name, value in recorded.items() if name not in forgotten and name not in given}
    if kept:
        words = [f"--{name.replace('_', '-')} {value}" for name, value in kept.items()]
        terminal.say(f"Options of the last command in this folder: {' '.join(words)}")
    return {**kept, **given}


# --------------------------------------------------------------------------------- what people see
def _say_cameras(summary: Summary, terminal: Terminal) -> None:
    lines = ["Cameras:"]
    rows = sorted(summary.cameras, key=lambda row: -row["num_images"])  # those of the same number in their order
    for row in rows[:MOST_CAMERAS]:
        source = ("given" if row.get("is_given") else "EXIF") + ("" if row.get("is_trusted", True) else ", not trusted")
        focal = f"{row['focal_px']:.1f} px ({source})" if row["focal_px"] else "a GUESS"
        size = f"{row['width']}x{row['height']}"
        photos = "photo " if row["num_images"] == 1 else "photos"
        lines.append(f"  {row['num_images']:4} {photos}  {size:>11}  focal length {focal}  {row['label']}")
    if len(rows) > MOST_CAMERAS:
        rest = sum(row["num_images"] for row in rows[MOST_CAMERAS:])
        more = len(rows) - MOST_CAMERAS
        lines.append(f"  and {more} more cameras of {rest} photos (summary.json and report.html list all)")
    guessed = [row for row in summary.cameras if not row["focal_px"]]
    if guessed:
        lines.append(
            f"Warning: nothing tells the focal length of {sum(row['num_images'] for row in guessed)} photos "
            f"({len(guessed)} of {len(summary.cameras)} cameras). The mapper starts from "
            f"{DEFAULT_FOCAL_FACTOR:g} times the long edge; if you know better, say it with --cameras FILE."
        )
    terminal.close()
    terminal.say("\n".join(lines))


def table(summary: Summary) -> str:
    """The summary for people."""
    lines = [
        f"Registered images    {summary.num_reg_images} of {summary.num_images}",
        f"Models               {len(summary.models)}, best: {Path(summary.output) / (summary.best_model or '')}",
        f"Points               {summary.num_points3D}",
        f"Mean track length    {summary.mean_track_length:.2f} images",
        f"Mean reproj. error   {summary.mean_reprojection_error_px:.3f} px",
    ]
    refined = summary.models[0]["principal_points_refined"] if summary.models else 0
    if refined:
        lines.append(f"Principal points     {refined} refined (--principal-point fixed keeps them at the centre)")
    if summary.features:
        lines.append(f"Features, matcher    {summary.features}, {summary.matcher}")
    stages = {name: value for name, value in summary.seconds.items() if name != "total"}
    for stage, seconds in {**stages, "total": summary.seconds.get("total", 0.0)}.items():
        lines.append(f"  {stage:18} {seconds:8.1f} s{_work(summary, stage)}")
    if len(summary.models) > 1:
        others = ", ".join(f"{model['path']} ({model['num_reg_images']})" for model in summary.models[1:])
        lines.append(f"Other models         {others}")
    reasons = {found["image"]: found["reason"] for found in summary.diagnoses}
    for reason in REASONS:
        if names := [name for name in summary.unregistered if reasons.get(name) == reason]:
            lines.append(f"Not registered       {len(names)} {reason}: {_some(names)}")
    if reasons:
        lines.append(f"Numbers and advice   lgsfm doctor {summary.output}")
    page = Workspace.of_run(Path(summary.output)).report
    if summary.models and page.is_file():
        lines.append(f"Look at it           {page}, in a browser")
    return "\n".join(lines)


def _work(summary: Summary, stage: str) -> str:
    """How much of a stage was done and how much was found done."""
    computed, reused = summary.computed.get(stage), summary.reused.get(stage)
    if computed is None or reused is None:
        return ""
    if reused and not computed:
        return "  all reused"
    return f"  {computed} computed" + (f", {reused} reused" if reused else "")


def _some(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more (summary.json lists all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
