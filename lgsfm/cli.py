"""The command line: argv -> settings -> API -> print. Results go to stdout, all else to stderr.

Exit codes: 0 done, 1 an error that lgsfm explains, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import __version__, weights
from .errors import LgsfmError
from .evaluation import evaluate
from .extractors import ExtractorOptions
from .pairing import is_file
from .pipeline import Observer, Run
from .settings import Settings, flag_fields
from .summary import Summary
from .types import Progress
from .workspace import Workspace, default_output

__all__ = ["main"]

Command = Callable[[argparse.Namespace, "_Terminal"], None]
PRESET_FLAGS = {name for preset in ExtractorOptions.presets.values() for name in preset}
OF_THE_MOMENT = ("device", "offline", "strict", "weights_dir")  # flags that a later stage does not take over
UNITS = {"extract": "photo", "match": "pair", "map": "photo", "weights": "B"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    # Threads of OpenMP that wait without burning their core: beside any other busy program, six times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    arguments = _parser().parse_args(argv)
    is_quiet = getattr(arguments, "quiet", False)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("lgsfm").setLevel(logging.ERROR if is_quiet else logging.INFO)
    terminal = _Terminal(is_quiet)
    try:
        with closing(terminal):
            arguments.command(arguments, terminal)
            sys.stdout.flush()
    except LgsfmError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the result has read enough, as in `lgsfm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it ends
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


# --------------------------------------------------------------------------------- commands
def _reconstruct(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _flags(arguments), terminal)
    run.reconstruct()
    _say_cameras(run.summary, terminal)
    print(json.dumps(asdict(run.summary), indent=2, ensure_ascii=False) if arguments.json else table(run.summary))


def _extract(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True)
    report = run.extract()
    print(f"{len(report.computed)} computed, {len(report.reused)} reused, {len(report.failed)} skipped")
    print(run.features_path)


def _pairs(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True)
    run.select_pairs()
    print(run.workspace.pairs)


def _match(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True)
    report = run.match()
    print(f"{len(report.computed)} computed, {len(report.reused)} reused, {len(report.skipped)} without features")
    print(run.matches_path)


def _database(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True)
    report = run.build_database()
    _say_cameras(run.summary, terminal)
    print(f"{report.num_verified} of {report.num_pairs} matched pairs verified, {report.num_inliers} inliers")
    print(run.workspace.database)


def _map(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    run = _run(arguments, _continued_flags(arguments, terminal), terminal, is_continued=True)
    run.map()
    print(table(run.summary))


def _evaluate(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    result = evaluate(arguments.model, arguments.reference)
    print(json.dumps(result.to_dict(), indent=2) if arguments.json else result.table())


def _weights_list(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    rows = weights.status(_folder(arguments.weights_dir))
    if arguments.json:
        print(json.dumps([{**asdict(row), "path": row.path and str(row.path)} for row in rows], indent=2))
        return
    for row in rows:
        use = "commercial use allowed" if row.commercial_use else "non-commercial use only"
        place = (
            f"{row.path} ({row.source})" if row.present else row.problem or f"not here: lgsfm weights fetch {row.model}"
        )
        print(f"{row.name}\n  model    {row.model}\n  licence  {row.licence} ({use})\n  place    {place}")
        print(f"  sha256   {row.sha256}\n  cite     {row.citation}")


def _weights_fetch(arguments: argparse.Namespace, terminal: _Terminal) -> None:
    folder = _folder(arguments.weights_dir)
    for name in arguments.names or ("aliked-n16", "lightglue-aliked"):
        file = weights.fetch(name, weights_dir=folder, offline=arguments.offline, progress=terminal.progress("weights"))
        print(f"{name}: {file.path} ({file.spec.licence})")


# --------------------------------------------------------------------------------- arguments
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lgsfm",
        description="From a folder of photos to a COLMAP model with learned features.",
        epilog="Try: lgsfm reconstruct images/ -o out",
    )
    parser.add_argument("--version", action="version", version=f"lgsfm {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    stages: list[tuple[str, Command, str]] = [
        (
            "reconstruct",
            _reconstruct,
            "photos to COLMAP models: all stages; goes on where an interrupted run stopped",
        ),
        ("extract", _extract, "stage 1: features of the photos"),
        ("pairs", _pairs, "stage 2: choose the pairs to match"),
        ("match", _match, "stage 3: match the pairs"),
        ("database", _database, "stage 4: COLMAP database with geometrically verified matches"),
        ("map", _map, "stage 5: COLMAP models"),
    ]
    for name, function, text in stages:
        more = "" if function is _reconstruct else ". Flags not given are those of the last command on the same output."
        _add_stage(commands.add_parser(name, help=text, description=text + more), function)
    _add_evaluate(commands)
    _add_weights(commands)
    return parser


def _add_stage(command: argparse.ArgumentParser, function: Command) -> None:
    command.set_defaults(command=function)
    command.add_argument("images", type=Path, help="folder of photos, with sub-folders")
    command.add_argument("-o", "--output", type=Path, help="output folder (default: IMAGES-lgsfm, beside the photos)")
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    if function is _reconstruct:
        command.add_argument("--json", action="store_true", help="print the summary as JSON")
    groups: dict[str, Any] = {"": command}
    for flag in flag_fields():
        owner = " and ".join(flag.owners)
        if owner not in groups:
            groups[owner] = command.add_argument_group(f"options of {owner}")
        _add_flag(groups[owner], flag.field, flag.value_type)


def _add_flag(group: Any, field: Any, value_type: type) -> None:
    """A flag for an options field; it stays unset (None) unless given, so that presets keep their say."""
    name = f"--{field.name.replace('_', '-')}"
    default = (
        ""
        if field.name in PRESET_FLAGS or field.default == "" or field.default is False
        else f" (default: {field.default})"
    )
    text = f"{field.metadata['help']}{default}".replace("%", "%%")
    if value_type is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        choices = field.metadata.get("choices")
        metavar = None if choices else {int: "N", float: "X"}.get(value_type, "NAME")
        group.add_argument(name, type=value_type, choices=choices, default=None, metavar=metavar, help=text)


def _add_evaluate(commands: Any) -> None:
    text = "compare a model with a reference: registered images, AUC of pose errors, camera-centre error"
    command = commands.add_parser("evaluate", help=text, description=text)
    command.set_defaults(command=_evaluate)
    command.add_argument("model", type=Path, help="COLMAP model folder, or an output folder of lgsfm")
    command.add_argument("reference", type=Path, help="COLMAP model folder, or text: image qw qx qy qz cx cy cz")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_weights(commands: Any) -> None:
    text = "the weights of the networks: licences, presence, download"
    actions = commands.add_parser("weights", help=text, description=text).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )
    listing = actions.add_parser("list", help="licence, presence and place of each file")
    listing.set_defaults(command=_weights_list)
    listing.add_argument("--json", action="store_true", help="print JSON")
    fetching = actions.add_parser("fetch", help="put weights in place; by default those of ALIKED + LightGlue")
    fetching.set_defaults(command=_weights_fetch)
    fetching.add_argument("names", nargs="*", metavar="NAME", help="of a model, as `lgsfm weights list` shows it")
    fetching.add_argument("--offline", action="store_true", help="never use the network")
    fetching.add_argument("--quiet", action="store_true", help="no progress, only the result")
    for action in (listing, fetching):
        action.add_argument("--weights-dir", default="", help="folder that holds the weights of the networks")


def _run(
    arguments: argparse.Namespace, flags: dict[str, Any], terminal: _Terminal, *, is_continued: bool = False
) -> Run:
    settings = Settings.from_flags(flags)
    return Run(arguments.images, arguments.output, settings, terminal, is_continued=is_continued)


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given; the name of a pair file as an absolute path, since they are recorded."""
    names = [flag.field.name for flag in flag_fields()]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if is_file(given.get("pairs", "")):
        given["pairs"] = str(Path(given["pairs"]).resolve())
    return given


def _continued_flags(arguments: argparse.Namespace, terminal: _Terminal) -> dict[str, Any]:
    """The flags that were given and, where none was, those of the last command on the same output folder.

    A component that is chosen anew, or another quality, begins without the recorded options of components.
    """
    given = _flags(arguments)
    recorded = Workspace(arguments.output or default_output(arguments.images)).recorded_flags()
    forgotten = set(OF_THE_MOMENT)
    if {"features", "matcher", "retriever", "quality"} & set(given):
        forgotten |= PRESET_FLAGS | {flag.field.name for flag in flag_fields() if flag.owners}
    kept = {name: value for name, value in recorded.items() if name not in forgotten and name not in given}
    if kept:
        words = [f"--{name.replace('_', '-')} {value}" for name, value in kept.items()]
        terminal.say(f"Options of the last command in this folder: {' '.join(words)}")
    return {**kept, **given}


def _folder(path: str) -> Path | None:
    return Path(path) if path else None


# --------------------------------------------------------------------------------- what people see
class _Terminal(Observer):
    """Lines and progress bars on stderr."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bars: dict[str, tqdm[Any]] = {}

    def say(self, text: str) -> None:
        """One line, above the bars."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def progress(self, stage: str) -> Progress | None:
        """A bar with rate and remaining time, which appears with the first report."""
        if self.quiet:
            return None

        def report(done: int, total: int) -> None:
            bar = self.bars.get(stage)
            if bar is None:
                self.close()  # stages follow each other
                unit = UNITS.get(stage, "it")
                bar = tqdm(
                    desc=f"{stage:8}",
                    total=total,
                    initial=0 if stage == "weights" else done,
                    unit=unit,
                    unit_scale=unit == "B",
                    mininterval=0.5,
                    file=sys.stderr,
                )
                self.bars[stage] = bar
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()  # and keep it: the mapper may report its last photo again
                if stage == "weights":
                    del self.bars[stage]  # the next file has a bar of its own

        return report

    def close(self) -> None:
        """Ends a bar that did not reach its total."""
        for bar in self.bars.values():
            bar.close()


def _say_cameras(summary: Summary, terminal: _Terminal) -> None:
    lines = ["Cameras:"]
    for row in summary.cameras:
        focal = f"{row['focal_px']:.1f} px (EXIF)" if row["focal_px"] else "a GUESS"
        size = f"{row['width']}x{row['height']}"
        lines.append(f"  {row['num_images']:4} photos  {size:>11}  focal length {focal}  {row['label']}")
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
    if summary.unregistered:
        lines.append(f"Not registered       {_some(summary.unregistered)}")
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
