"""`lgsfm bench`: how fast this machine is, and what collections would take."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from ..estimate import duration, size
from ..settings import ComponentSettings
from ..speed import Outlook, Report, bench
from .answer import add_json
from .flags import add_flags, folder, given_flags
from .terminal import Terminal

__all__ = ["add_commands", "table"]

LONG_MAPPING_S = 600  # from which on another mapper is worth a line


def add_commands(commands: Any) -> None:
    """Adds the command."""
    text = "how fast this machine is, and what collections would take"
    command = commands.add_parser(
        "bench",
        help=text,
        description=f"Example: lgsfm bench images/. Measures {text}: a minute or two. The speeds are kept, for the "
        "forecasts of `lgsfm reconstruct`.",
    )
    command.set_defaults(command=_bench)
    command.add_argument(
        "image_dir", nargs="?", type=folder, metavar="IMAGES", help="folder of photos (default: rendered pictures)"
    )
    command.add_argument(
        "--images",
        type=_at_least_two,
        dest="num_images",
        metavar="N",
        help="photos of the collection that a preset is recommended for (default: those of IMAGES, else 100)",
    )
    command.add_argument("--quick", action="store_true", help="fewer sizes, half a minute")
    add_json(command)
    command.add_argument("--quiet", action="store_true", help="no progress, only the result")
    add_flags(command, ComponentSettings)


def _at_least_two(text: str) -> int:
    try:
        count = int(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from exc
    if count < 2:
        raise argparse.ArgumentTypeError(f"{text} is below 2")
    return count


def _bench(arguments: argparse.Namespace, terminal: Terminal) -> None:
    try:
        report = bench(
            ComponentSettings.from_flags(given_flags(arguments, ComponentSettings)),
            arguments.image_dir,
            num_images=arguments.num_images,
            is_quick=arguments.quick,
            progress=terminal.progress("bench"),
            weights_progress=terminal.progress("weights"),
        )
    except KeyboardInterrupt as exc:
        if type(exc) is not KeyboardInterrupt:  # SIGTERM, which has a message and an exit code of its own
            raise
        terminal.close()
        print("Interrupted. The speeds of the sizes that were finished are kept for forecasts.", file=sys.stderr)
        raise SystemExit(130) from None
    terminal.close()
    terminal.answer(as_json(report), table(report))


def as_json(report: Report) -> dict[str, Any]:
    """The report with the totals, which are no fields of it."""
    found = asdict(report)
    for key in ("presets", "collections"):
        for row, outlook in zip(found[key], getattr(report, key), strict=True):
            row["total_s"] = outlook.estimate.total_s
            row["estimate"]["memory_bytes"] = outlook.estimate.memory_bytes
    return found


# --------------------------------------------------------------------------------- what people see
def table(report: Report) -> str:
    """The report for people."""
    machine = report.machine
    memory = f", {size(report.memory_bytes)} of memory" if report.memory_bytes else ""
    lines = [
        f"Machine              {machine.name}{memory}",
        f"Device               {machine.device}, {machine.threads} CPU threads, torch {report.torch}",
        f"Features, matcher    {report.features}, {report.matcher}",
        f"Pictures             {report.source}",
        "",
        "quality   edge px   keypoints (found)   photos/s   pairs/s   matches per pair",
    ]
    for row in report.measurements:
        found = f"{row.size.keypoints or 'all'} ({row.found_keypoints:.0f})"
        lines.append(
            f"{row.size.quality or '-':8}{row.size.edge_px or 'full':>9}{found:>20}{1 / row.extract_s:>11.2f}"
            f"{1 / row.match_s:>10.2f}{row.found_matches:>19.0f}"
        )
    wanted = report.presets[0]
    if report.shortage:
        lines.append(f"{report.shortage}.")
    lines += ["", f"For {_counted(wanted)}:"]
    lines += [_row(f"{preset.quality:8}", preset) for preset in report.presets]
    lines += [f"Recommended          --quality {report.recommended}: {report.reason}."]
    lines += ["", "Collections, with the pairs of --pairs auto and the preset recommended for each:"]
    for outlook, seconds in zip(report.collections, report.global_mapping_s, strict=True):
        lines.append(_row(f"{outlook.quality:8}{_counted(outlook)}", outlook))
        mapping_s = outlook.estimate.seconds["map"]
        if mapping_s > max(LONG_MAPPING_S, 2 * seconds):
            lines.append(f"    of which mapping {duration(mapping_s)}; with --mapper global {duration(seconds)}")
    lines.append(f"Times are {report.collections[-1].rates.origin()}.")
    return "\n".join(lines)


def _counted(outlook: Outlook) -> str:
    return f"{outlook.num_images:,} photos, {outlook.num_pairs:,} pairs"


def _row(label: str, outlook: Outlook) -> str:
    found = outlook.estimate
    needs = f"{size(found.memory_bytes):>9} memory {size(found.disk_bytes):>9} disk"
    return f"  {label:38} {duration(found.total_s):>9} {needs}"
