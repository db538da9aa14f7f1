"""Reconstructs again and again while everything goes wrong, and compares each time with what an undisturbed run gives.

    nice python tests/faults/soak.py --minutes 60 --folder /tmp/soak          # Linux; disk and memory need root

Three scenes, each with an output folder that lives on. A round takes one of them and, at random: takes away, brings
back or changes photos; removes the output folder; flips one bit of a file in it; begins a run and strikes it at a
random moment (see ``kinds.py``). Then the command is run to its end and must give the entries, the database and the
models (one thread: the same bytes) of a run over these photos that nobody disturbed. Every fifth round a process that
lives on reconstructs too, and tells how much memory and how many files it has open.

One line per round, and a summary: rounds, faults, what was lost, what was wrong, what has grown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from interrupt import SHARES, _problems_of_end, _wait_for
from kinds import FAULTS, DiskFull
from PIL import Image
from scene import ALIKED, COURTYARD, PAUSE_S, SIFT, Scene, Watched, command, entries_of
from scene import LEFTOVERS as LEFTOVERS_OF_RUNS

from lgsfm.errors import DamageError

NOT_DAMAGED = (".lock", "colmap.log")
RESIDENT_EVERY = 5
CHANCES = {"photos": 0.35, "anew": 0.3, "damage": 0.3, "fault": 0.75}
CHANGED = "view02.jpg"
VARIANTS = {  # which photos there are, and whether one of them is another one
    "all": lambda names: names,
    "one less": lambda names: names[:-1],
    "changed": lambda names: names,
}


@dataclass
class Place:
    """A scene with the undisturbed results of each variant of its photos, and an output folder that lives on."""

    name: str
    folder: Path
    variants: dict[str, Scene]
    output: Path
    variant: str = "all"
    known: set[tuple[str, object]] = field(default_factory=set)  # entries that runs were told are finished

    @classmethod
    def make(cls, folder: Path, name: str, count: int, words: tuple[str, ...], output: Path) -> Place:
        """Runs all variants undisturbed."""
        numbers = list(range(count))
        variants = {}
        for variant, choose in VARIANTS.items():
            photos = folder / "photos" / variant
            _copy(photos, choose(numbers), is_changed=variant == "changed")
            variants[variant] = Scene.of_photos(folder / variant, variant, photos, words)
        return cls(name, folder, variants, output)

    @property
    def images(self) -> Path:
        """The photos as they are now."""
        return self.folder / "images"

    def take(self, variant: str) -> None:
        """Other photos; entries of a photo that was changed are worth nothing any more."""
        if CHANGED in self.changes(variant):
            self.known = {entry for entry in self.known if CHANGED not in _names(entry[1])}
        self.variant = variant
        shutil.rmtree(self.images, ignore_errors=True)
        shutil.copytree(self.variants[variant].images, self.images)

    def changes(self, variant: str) -> set[str]:
        """The photos that differ."""
        return {CHANGED} if (variant == "changed") != (self.variant == "changed") else set()

    def run(self, **options: object) -> Watched:
        """Begins the command over the photos as they are now."""
        scene = self.variants[self.variant]
        return Watched.start(self.folder / "runs", self.images, self.output, scene.words, **options)  # type: ignore[arg-type]


def _names(key: object) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (str(key),)


def _copy(folder: Path, numbers: Iterable[int], *, is_changed: bool) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        shutil.copy(COURTYARD / f"view{number:02}.jpg", folder)
    if is_changed:  # another photo of the scene in its place
        with Image.open(folder / CHANGED) as photo:
            exif = photo.getexif()
            darker = photo.point([int(value * 0.8) for value in range(256)] * 3)
        darker.save(folder / CHANGED, quality=92, exif=exif)


@dataclass
class Round:
    """What came of one."""

    number: int
    place: str
    variant: str = ""
    begun: str = ""  # "anew" or "again"
    damage: str = ""
    fault: str = ""
    stage: str = ""
    finished: int = 0  # entries that were told to be finished before the last run
    made: int = 0  # by the last run
    lost: int = 0
    mended: int = 0  # entries made again after damage
    repaired: bool = False  # damage that the last run had no need to read was mended by `lgsfm cache repair`
    told: bool = False  # after damage: the first run ended with a message, and the next one was right
    problems: list[str] = field(default_factory=list)
    output_mb: float = 0.0
    resident_mb: float = 0.0
    resident_files: int = 0
    seconds: float = 0.0


def flip_a_bit(output: Path, rng: random.Random) -> str:
    """Damages one file; says which."""
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.name not in NOT_DAMAGED)
    paths = [path for path in paths if path.stat().st_size]
    if not paths:
        return ""
    path = rng.choice(paths)
    place = rng.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"{path.relative_to(output)}:{place}"


def play(place: Place, number: int, rng: random.Random) -> Round:
    """One round."""
    begin, row = time.monotonic(), Round(number, place.name)
    if rng.random() < CHANCES["photos"] or not place.images.exists():
        place.take(rng.choice(list(VARIANTS)))
    row.variant, row.begun = place.variant, "again"
    if rng.random() < CHANCES["anew"] or not place.output.exists():
        shutil.rmtree(place.output, ignore_errors=True)
        place.known, row.begun = set(), "anew"
    if rng.random() < CHANCES["damage"]:
        row.damage = flip_a_bit(place.output, rng) if place.output.exists() else ""
    if rng.random() < CHANCES["fault"]:
        _strike(place, row, rng)
    row.finished = len(place.known)
    again = place.run()
    code = again.wait()
    if code == 1 and row.damage and "Traceback" not in again.said():
        row.told, again = True, place.run()
        code = again.wait()
    if code == 0 and row.damage and _has_damage(place.output):  # which a run that reuses the database does not read
        row.repaired = True
        subprocess.run(command("cache", "repair", place.output, "--quiet"), check=True, capture_output=True)
        again = place.run()
        code = again.wait()
    made = again.finished()
    row.made = len(made)
    if row.damage:
        row.mended = len(made & place.known)
    else:
        row.lost = len(made & place.known)
    if code != 0 or "Traceback" in again.said():
        row.problems.append(f"the last run ended with {code}: {again.said()[-800:]}")
    else:
        row.problems += differences(place, is_damaged=bool(row.damage))
    place.known |= made
    row.output_mb = round(sum(path.stat().st_size for path in place.output.rglob("*") if path.is_file()) / 1e6, 3)
    row.seconds = round(time.monotonic() - begin, 1)
    return row


def _has_damage(output: Path) -> bool:
    try:
        entries_of(output)
    except DamageError:
        return True
    return False


def _strike(place: Place, row: Round, rng: random.Random) -> None:
    is_small_disk = place.output.parent.name == "disk"
    fault = rng.choice([fault for fault in FAULTS if is_small_disk or not isinstance(fault, DiskFull)])
    stages = [stage for stage in SHARES if fault.target != "child" or stage in ("database", "map")]
    stage = rng.choices(stages, [SHARES[stage] for stage in stages])[0]
    with ExitStack() as opened:
        options = {}
        if not isinstance(fault, DiskFull):
            _, options = opened.enter_context(fault.prepared(place.folder))
        run = place.run(pause_s=PAUSE_S, **options)
        _wait_for(run, stage, rng.random() * place.variants[place.variant].seconds.get(stage, 0.2))
        fault.strike(run, rng)
        code = run.wait()
        row.fault, row.stage = fault.name, "done" if code == 0 else run.stage()
        if not row.damage:
            row.problems += _problems_of_end(run, fault, code)
            row.lost += len(run.finished() & place.known)
        run.close_terminal()
        if isinstance(fault, DiskFull):
            fault.relax(place.output.parent.parent)
    place.known |= run.finished()


def differences(place: Place, *, is_damaged: bool) -> list[str]:
    """What differs from the undisturbed run; entries of other photos may be there too."""
    left = [] if is_damaged else LEFTOVERS_OF_RUNS
    found = place.variants[place.variant].problems_of_result(place.output, is_subset=True, leftovers=left)
    for path in place.output.glob("*.damaged*"):
        path.unlink()
    return found


# --------------------------------------------------------------------------------- a process that lives on
class Resident:
    """Reconstructs one scene whenever it is asked to, in one and the same process."""

    def __init__(self, images: Path, output: Path) -> None:
        words = [sys.executable, __file__, "--resident", str(images), str(output)]
        path = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "LGSFM_RATES": ""},
            text=True,
        )

    def ask(self) -> tuple[float, int]:
        """Its memory in MB, and how many files it has open, after one more reconstruction."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        memory, files = self.process.stdout.readline().split()
        return float(memory), int(files)

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


def live_on(images: Path, output: Path) -> None:
    """The process: half of the times from the start, half over finished work."""
    import lgsfm

    for number, _ in enumerate(sys.stdin):
        if number % 2 == 0:
            shutil.rmtree(output, ignore_errors=True)
        lgsfm.reconstruct(images, output, features="sift", max_edge_px=640, max_keypoints=800, threads=1)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        print(f"{resident:.1f} {len(os.listdir('/proc/self/fd'))}", flush=True)


def line(row: Round) -> str:
    """A round in short."""
    words = f"{row.number:4} {row.place:6} {row.variant:8} {row.begun:5} {row.fault or '-':24} {row.stage or '-':8}"
    outcome = "WRONG" if row.problems else "right"
    return f"{words} {row.damage or '-':40} made {row.made:2} lost {row.lost} {outcome} {row.seconds:.0f} s"


def summary(rows: list[Round]) -> str:
    """The sums."""
    residents = [(row.resident_mb, row.resident_files) for row in rows if row.resident_files]
    lines = [
        f"{len(rows)} rounds in {sum(row.seconds for row in rows) / 60:.1f} min: "
        f"{sum(bool(row.fault) for row in rows)} faults, {sum(bool(row.damage) for row in rows)} damaged files, "
        f"{sum(row.begun == 'anew' for row in rows)} from the start",
        f"lost {sum(row.lost for row in rows)} of {sum(row.finished for row in rows)} finished entries; "
        f"after damage {sum(row.mended for row in rows)} were made again, "
        f"{sum(row.told for row in rows)} runs ended with a message first",
        f"wrong {sum(bool(row.problems) for row in rows)}",
        "faults: " + ", ".join(f"{name} {n}" for name, n in sorted(Counter(r.fault for r in rows if r.fault).items())),
        "stages: " + ", ".join(f"{name} {n}" for name, n in sorted(Counter(r.stage for r in rows if r.fault).items())),
        "damaged: "
        + ", ".join(
            f"{name} {n}" for name, n in sorted(Counter(r.damage.partition(":")[0] for r in rows if r.damage).items())
        ),
    ]
    if len(residents) > 3:
        memory = np.array([each[0] for each in residents])
        slope = np.polyfit(np.arange(len(memory)), memory, 1)[0]
        lines.append(
            f"the process that lives on, {len(residents)} reconstructions: {memory[0]:.0f} MB, at the end "
            f"{memory[-1]:.0f} MB ({slope:+.2f} MB each); files open {residents[0][1]}, at the end {residents[-1][1]}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the runs; is emptied")
    parser.add_argument("--resident", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resident:
        live_on(*options.resident)
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    end, rng, rows = time.monotonic() + options.minutes * 60, random.Random(options.seed), []
    with ExitStack() as opened:
        small, _ = opened.enter_context(DiskFull("").prepared(options.folder / "small"))
        global_mapper = (*SIFT, "--pairs", "sequential", "--mapper", "global")
        places = [
            Place.make(options.folder / "sift", "sift", 7, SIFT, small),
            Place.make(options.folder / "global", "global", 7, global_mapper, options.folder / "global" / "out"),
            Place.make(options.folder / "aliked", "aliked", 5, ALIKED, options.folder / "aliked" / "out"),
        ]
        resident = Resident(places[0].variants["all"].images, options.folder / "resident")
        opened.callback(resident.close)
        log = opened.enter_context((options.folder / "rounds.jsonl").open("w"))
        while time.monotonic() < end:
            row = play(rng.choices(places, (3, 2, 1))[0], len(rows), rng)
            if row.number % RESIDENT_EVERY == 0:
                row.resident_mb, row.resident_files = resident.ask()
            rows.append(row)
            log.write(json.dumps(asdict(row)) + "\n")
            log.flush()
            print(line(row), *row.problems, flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
