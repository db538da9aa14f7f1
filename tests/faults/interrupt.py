"""Ends runs at random moments of all stages in many ways; what does the next run make of it?

    nice python tests/faults/interrupt.py --trials 220 --folder /tmp/interrupt        # Linux; disk and memory need root

Each trial begins a run over rendered photos, waits for a random moment of a stage, strikes (see ``kinds.py``), looks at
what is left, and runs the same command again. It prints one table of what was counted:

    completed   the next run ended well
    lost        entries of which the first run had been told that they are written, and that the second made again
    wrong       what differs from the undisturbed run: entries, all rows of the database, bytes of the models (one
                thread; of a model that went on from a snapshot the figures), files left behind; what the ended run
                left in ``sparse``; a traceback; a process that lives on; an exit code that means something else
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kinds import FAULTS, Fault
from scene import ALIKED, PAUSE_S, SIFT, STAGES, Scene, Watched

SHARES = {"start": 1, "extract": 4, "pairs": 2, "match": 4, "database": 4, "map": 5, "finish": 1}
OF_CHILD = ("database", "map")


@dataclass
class Trial:
    """What came of one."""

    number: int
    fault: str
    scene: str
    wanted: str  # the stage
    stage: str = ""  # that it hit
    code: int | None = None
    finished: int = 0  # entries before
    lost: int = 0
    completed: bool = False
    problems: list[str] = field(default_factory=list)
    folder: str = ""


def strike(scene: Scene, fault: Fault, stage: str, folder: Path, rng: random.Random, number: int = 0) -> Trial:
    """One trial."""
    trial = Trial(number, fault.name, scene.name, stage, folder=str(folder))
    is_second = stage in ("database", "map", "finish") and rng.random() < 0.5  # there are models of a run before
    with fault.prepared(folder) as (output, options):
        if is_second:
            shutil.copytree(scene.former_output, output)
        run = scene.run(folder, output, pause_s=PAUSE_S, **options)
        _wait_for(run, stage, rng.random() * scene.seconds.get(stage, 0.2))
        fault.strike(run, rng)
        trial.code = run.wait()
        trial.stage = "done" if trial.code == 0 else run.stage()
        trial.problems += _problems_of_end(run, fault, trial.code)
        run.close_terminal()
        fault.relax(folder)
        models = [scene.model, scene.former] if is_second else [scene.model, {}]
        if "FAULTS_SNAPSHOT" not in scene.environment:  # of those only the figures are the same
            trial.problems += scene.problems_at_standstill(output, models)
        finished = run.finished()
        trial.finished = len(finished)

        again = scene.run(folder, output)
        code = again.wait()
        trial.completed = code == 0
        if code != 0 or "Traceback" in again.said():
            trial.problems.append(f"the next run ended with {code}: {again.said()[-600:]}")
        else:
            trial.problems += scene.problems_of_result(output)
        trial.lost = len(finished & again.finished())
        if trial.problems or trial.lost:
            shutil.copytree(output, folder / "kept", dirs_exist_ok=True)
    return trial


def _wait_for(run: Watched, stage: str, seconds: float) -> None:
    """Until a stage has begun, and some seconds of it are over."""
    while stage != "start" and stage not in [line.get("stage") for line in run.lines()]:
        if run.process.poll() is not None:
            return
        run.drain()
        time.sleep(0.003)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run.drain()
        time.sleep(0.002)


def _problems_of_end(run: Watched, fault: Fault, code: int | None) -> list[str]:
    found = []
    if code is None:
        found.append("hangs")
    elif fault.codes is not None and code not in fault.codes:
        found.append(f"exit code {code}: {run.said()[-600:]}")
    if "Traceback" in run.said():
        found.append(f"traceback: {run.said()[-1500:]}")
    if left := run.survivors():
        found.append(f"{len(left)} processes live on")
    return found


def table(trials: Sequence[Trial]) -> str:
    """fault x stage -> trials; and the sums."""
    stages = [stage for stage in (*STAGES, "done") if any(trial.stage == stage for trial in trials)]
    rows = [["fault", *stages, "trials", "completed", "entries before", "lost", "wrong"]]
    for name in [*dict.fromkeys(trial.fault for trial in trials), ""]:
        of = [trial for trial in trials if name in ("", trial.fault)]
        count = Counter(trial.stage for trial in of)
        sums = (
            len(of),
            sum(trial.completed for trial in of),
            sum(trial.finished for trial in of),
            sum(trial.lost for trial in of),
            sum(bool(trial.problems) for trial in of),
        )
        rows.append([name or "all", *(str(count[stage] or "") for stage in stages), *map(str, sums)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=len(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="for the runs; is emptied")
    parser.add_argument("--faults", nargs="*", default=[], help="only those with these names")
    parser.add_argument("--stages", nargs="*", default=[], help="only these stages")
    parser.add_argument("--aliked", type=int, default=10, help="every so manieth trial; 0: none")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    scenes = [
        Scene.make(options.folder / "sift", "sift", range(7), SIFT),
        Scene.make(options.folder / "snapshots", "snapshots", range(7), SIFT, FAULTS_SNAPSHOT="3"),
    ]
    if options.aliked:
        scenes.append(Scene.make(options.folder / "aliked", "aliked", range(5), ALIKED))
    faults = [fault for fault in FAULTS if not options.faults or fault.name in options.faults]
    rng, trials = random.Random(options.seed), []
    log = (options.folder / "trials.jsonl").open("w")
    for number in range(options.trials):
        fault = faults[number % len(faults)]
        stages = [stage for stage in SHARES if fault.target != "child" or stage in OF_CHILD]
        stages = [stage for stage in stages if not options.stages or stage in options.stages]
        stage = rng.choices(stages, [SHARES[stage] for stage in stages])[0]
        scene = scenes[1 if stage == "map" and rng.random() < 0.3 else 0]
        if options.aliked and number % options.aliked == options.aliked - 1:
            scene = scenes[2]
        folder = options.folder / f"trial-{number:04}"
        trials.append(strike(scene, fault, stage, folder, rng, number))
        log.write(json.dumps(asdict(trials[-1])) + "\n")
        log.flush()
        if trials[-1].problems or trials[-1].lost:
            print(trials[-1], flush=True)
        else:
            shutil.rmtree(folder)
    print(table(trials))


if __name__ == "__main__":
    main()
