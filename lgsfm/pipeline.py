"""From photos to a model: the stages of a run in order, with second looks where photos hang by a thread."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .database_reading import read_verified_pairs
from .database_record import DatabaseRecord
from .errors import CrashError, DamageError, ReconstructionError
from .healer import Healer, is_better
from .healing import Look, State, parse_budget
from .mapping import ModelSummary, replace_models
from .observer import Observer
from .pairing import Collection, Scores, look_alikes, num_rounds
from .panoramas import panorama_hint
from .report import try_report
from .run import Run
from .salvage import is_openable, mend
from .settings import Settings
from .sources import open_source
from .store import num_keypoints
from .summary import Summary
from .view_graph import ViewGraph

__all__ = ["reconstruct", "run_stages"]


def run_stages(run: Run) -> Summary:
    """All stages of a run; what turns out to be damaged in a store on the way is made again.

    Raises:
        LgsfmError: as its stages.
    """
    mended: set[tuple[Path | None, tuple[str, ...]]] = set()
    for path in run.workspace.stores():
        if not is_openable(path):
            run.observer.say(mend(DamageError("", path), run.workspace.log))
    while True:
        try:
            return _run_stages(run)
        except DamageError as exc:
            if exc.path is None or (exc.path, exc.entries) in mended:
                raise
            mended.add((exc.path, exc.entries))
            run.observer.say(mend(exc, run.workspace.log))


def _run_stages(run: Run) -> Summary:
    is_lens_told = {"cameras", "camera_model"} & set(run.settings.flags)
    if not is_lens_told and (hint := panorama_hint(run.image_dir, run.names)):
        run.observer.say(hint)
    run.say_forecast()
    run.extract()
    for _ in range(num_rounds(run.settings.pairs)):
        pairs = run.select_pairs()
        run.match(pairs)
    for folder in run.workspace.root.glob(f"{run.workspace.other_models.name}*"):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    looks = run.second_looks(pairs)
    patient = _Patient(run)
    for look in looks.all_rounds():
        patient.match_look(look)  # had before: all of it is there, unless it was removed
    run.build_database(pairs)
    wanted = run.settings.healing.budget
    if wanted == "auto" and run.settings.pairs.is_listed:
        wanted = "none"  # who lists the pairs means these
    budget = parse_budget(wanted, len(pairs))
    healer = Healer(patient, looks, budget, can_look_closer=run.finer is not None, say=run.observer.say)
    healer.before_mapping()
    models, problem = run.make_models(run.workspace.sparse)
    if models:
        run.summary.set_models(models, run.names)  # should a second look be killed
    models = healer.after_mapping(models, _names_with_features(run), patient.map_again)
    try:
        run.finish(models, problem)
    except ReconstructionError:
        try_report(run.workspace.root, run.observer.say)  # which tells why there is no model
        raise
    try_report(run.workspace.root, run.observer.say)
    return run.summary


def _names_with_features(run: Run) -> list[str]:
    """The images that have keypoints."""
    with run.finished_features() as features:
        return [name for name in run.names if num_keypoints(features, name)]


class _Patient:
    """What a `Healer` asks of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def state(self, unregistered: Sequence[str] | None = None) -> State:
        """What is known of the pairs."""
        selected = self.run.selected_pairs()
        looks = self.run.second_looks(selected)
        verified = read_verified_pairs(self.run.workspace.database)
        left_out = None if unregistered is None else tuple(unregistered)
        record = DatabaseRecord.read(self.run.workspace.database_identity)
        return State(
            ViewGraph(_names_with_features(self.run), verified),
            {*selected, *looks.pairs},
            verified,
            looks.finer | {(first, second) for first, second in record.dropped},
            left_out,
        )

    def ranked(self, name: str) -> list[str]:
        """The other images, those that look most like this one first."""
        names, scores = self._alike
        row = bisect_left(names, name)
        order = np.argsort(-scores(row, row + 1)[0], kind="stable")
        return [names[i] for i in order if i != row]

    @cached_property
    def _alike(self) -> tuple[list[str], Scores]:
        with self.run.finished_features() as features:
            collection = Collection(
                self.run.names,
                image_dir=self.run.image_dir,
                features=lambda: features,
                retriever=self.run.settings.make_retriever,
            )
            return collection.described, look_alikes(collection, collection.described)

    def match_look(self, look: Look) -> None:
        """Matches the pairs of a second look."""
        if look.is_finer:
            self.run.look_closer(look.pairs)
        else:
            self.run.match(look.pairs)

    def update_database(self) -> None:
        """Makes the database be of all pairs that are noted."""
        self.run.build_database()

    def pair_seconds(self) -> float:
        """How long one pair takes, as far as is known."""
        return self.run.tally.seconds_each("match")

    def map_again(self, models: list[ModelSummary]) -> list[ModelSummary]:
        """Other models in the place of these, if they are better; those that are there then."""
        space = self.run.workspace
        try:
            others, _ = self.run.make_models(space.other_models)
        except CrashError as exc:  # of what need not be: what is there stays
            self.run.observer.say(f"  It failed, and the models stay as they are: {exc}")
            others = []
        if is_better(others, models):
            replace_models(space.other_models, space.sparse)
            return others
        shutil.rmtree(space.other_models, ignore_errors=True)
        return models


def reconstruct(
    image_dir: str | Path, output: str | Path | None = None, *, observer: Observer | None = None, **flags: Any
) -> Summary:
    """From a folder of photos to COLMAP models in ``output/sparse``; goes on where an interrupted run stopped.

    Args:
        image_dir: folder of photos, with sub-folders; or a video, of which frames are taken (see `lgsfm.video`).
        output: folder of the results; None means beside the photos, ``images-lgsfm`` for ``images``.
        observer: told what happens.
        flags: any option of `lgsfm reconstruct`, for example ``features="aliked"``, ``max_keypoints=1024``,
            ``pairs="sequential"``, ``mapper="global"``.

    Returns:
        What came out; also in ``output/summary.json``.

    Raises:
        InputError: photos or flags are unusable.
        WeightsError: the weights of a network cannot be had.
        CacheError: a file in the output folder cannot be used.
        ReconstructionError: there is no model.
    """
    observer = observer or Observer()
    folder = None if output is None else Path(output)
    source = open_source(Path(image_dir), folder, Settings.from_flags(flags), observer)
    with Run(source.image_dir, source.output, source.settings, observer) as run:
        return run_stages(run)
