"""From photos to a model: the stages in order, each reusing what is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from .camera_groups import group_cameras
from .camera_rules import rules_digest
from .database import DatabaseReport, build_database, check_pycolmap
from .database_reading import fingerprint
from .errors import InputError, ReconstructionError
from .extraction import ExtractionReport, extract_features
from .extractors import Extractor, is_rotation_invariant
from .files import read_json, write_json
from .forecast import Files, Forecast
from .images import list_images
from .mapping import ModelSummary, map_database, mapping_note, principal_point_note
from .masks import find_masks, in_words, without_masks
from .matchers import Matcher
from .matching import MatchingReport, match_features
from .options import digest
from .pairing import Collection, check_choice, num_rounds, read_pairs, select, voting_pairs, write_pairs
from .settings import Settings, choose_features
from .store import FeatureStore, MatchStore, digest_of, sources_of
from .summary import Summary, Tally
from .types import Pair, Progress
from .upright import Orientations, find_turns
from .workspace import Workspace, default_output

__all__ = ["Observer", "Run", "reconstruct"]


class Observer:
    """Told what happens during a run; this one listens to nothing. Override what you want to hear."""

    def say(self, text: str) -> None:
        """One line for people."""

    def progress(self, stage: str) -> Progress | None:
        """The callback (done, total) for the items of a stage, or None."""
        return None


class Run:
    """One run over one folder of photos: each method is a stage, reuses what is finished, and may be called alone.

        with Run(images, output, settings) as run:  # or call close(): until then no other run may work there
            run.extract()

    Args:
        image_dir: folder of photos.
        output: folder of the results; None means beside the photos, ``images-lgsfm`` for ``images``.
        settings: all choices.
        observer: told what happens.
        is_continued: a later stage alone: the summary keeps what earlier commands wrote of the other stages.
        first: the first stage that will be called; files that only stages before it read need not be there any more.

    Raises:
        InputError: photos, folders or choices are unusable.
        CacheError: another process is at work in the output folder.
    """

    def __init__(
        self,
        image_dir: Path,
        output: Path | None,
        settings: Settings,
        observer: Observer | None = None,
        *,
        is_continued: bool = False,
        first: str = "extract",
    ) -> None:
        check_pycolmap()
        self.image_dir = Path(image_dir)
        self.names = without_masks(settings.masks, self.image_dir, list_images(self.image_dir))
        if len(self.names) < 2:
            raise InputError(f"{self.image_dir} holds one image, {self.names[0]}. A reconstruction needs at least two.")
        self.settings = settings
        self.observer = observer or Observer()
        self.forecast = Forecast(self.image_dir, self.names)
        self.early_s = 0.0  # that the forecast took, for which the first stage need not load torch
        self._check_early(first)
        self.workspace = Workspace.open(output or default_output(self.image_dir), self.image_dir)
        self.lock = self.workspace.lock()
        self.summary = Summary(str(self.image_dir.resolve()), str(self.workspace.root), num_images=len(self.names))
        self.summary.adopt(self.workspace.summary, None if is_continued else self.workspace.kept_fields())
        self.tally = Tally()
        known = read_json(self.workspace.options) if is_continued else {}
        self.made: dict[str, Any] = {name: known[name] for name in ("extractor", "matcher") if name in known}

    def close(self) -> None:
        """Lets other runs work in the output folder."""
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_early(self, first: str) -> None:
        """Raises `InputError` for choices that do not fit the photos: now, and not after hours of work."""
        if first in ("extract", "pairs"):
            check_choice(self.settings.pairs, self.names, image_dir=self.image_dir)
        if first != "map":
            group_cameras(self.image_dir, self.names, self.settings.cameras, skip_unreadable=True)
        if first == "extract":
            _ = self.masks

    @cached_property
    def masks(self) -> dict[str, tuple[Path, ...]]:
        """The masks of those photos that have any."""
        return find_masks(self.settings.masks, self.names)

    # ---------------------------------------------------------------------------- components
    @cached_property
    def extractor(self) -> Extractor:
        """The chosen extractor; its weights are fetched here."""
        name, reason = choose_features(self.settings.run)
        self.observer.say(f"Features: {name} ({reason}).")
        self.summary.features, self.summary.features_reason = name, reason
        return self.settings.make_extractor(name, progress=self.observer.progress("weights"))

    @cached_property
    def matcher(self) -> Matcher:
        """The chosen matcher; its weights are fetched here."""
        name = self.settings.run.matcher
        matcher = self.settings.make_matcher(name, self.extractor, progress=self.observer.progress("weights"))
        self.summary.matcher = str(matcher.identity["matcher"])
        return matcher

    @property
    def features_path(self) -> Path:
        """The feature store of this run."""
        return self.workspace.features(self.extractor.identity)

    @property
    def matches_path(self) -> Path:
        """The match store of this run."""
        return self.workspace.matches(self.matcher.identity, self.features_path)

    # ---------------------------------------------------------------------------- stages
    def extract(self) -> ExtractionReport:
        """Stage 1: features of all images.

        Raises:
            InputError: fewer than two photos can be used.
        """
        identity = self.extractor.identity
        if self.masks:
            self.observer.say(in_words(self.masks, self.names))
        with (
            self._stage("extract"),
            self.settings.limited_threads(),
            FeatureStore(self.features_path, identity) as store,
        ):
            report = self._extract_upright(store)
            self._count("extract", report.computed, report.reused)
            self.summary.failed_images, self.summary.masked_out = report.failed, report.masked_out
        for name in report.masked_out:
            self.observer.say(f"Masked out {name}: no keypoint lies outside of its mask.")
        for name, reason in report.failed.items():
            self.observer.say(f"Skipped {name}: {reason}")
        if len(report.computed) + len(report.reused) < 2:
            raise InputError(
                f"Only one photo in {self.image_dir} can be used. A reconstruction needs at least two. "
                f"Skipped: {', '.join(report.failed)}."
            )
        return report

    def _extract_upright(self, store: FeatureStore) -> ExtractionReport:
        """Features of all images, seen upright: those that lie in the eyes of the others are seen again, turned."""
        mode = self.settings.upright.upright
        if mode == "auto" and is_rotation_invariant(self.extractor):
            mode = "exif"
        orientations = Orientations(self.image_dir, self.names, mode, self.workspace.upright, self.masks)
        report = self._extract_views(store, orientations.views)
        names = sorted([*report.computed, *report.reused])
        if mode == "auto" and not orientations.are_settled(store, names):
            look = partial(orientations.look, self.extractor)
            found = find_turns(names, store, voting_pairs(names, store, self.settings.make_retriever), look)
            orientations.turn(found)
            report = report.followed_by(self._extract_views(store, orientations.views, sorted(found)))
            orientations.settle(store, names)
        self.summary.turned_deg = {name: 90 * turn for name, turn in orientations.turns.items()}
        for name, degrees in self.summary.turned_deg.items():
            self.observer.say(
                f"Upright: {name} is seen turned by {degrees} degrees clockwise (--upright exif: as it is)."
            )
        return report

    def _extract_views(
        self, store: FeatureStore, views: dict[str, int], names: list[str] | None = None
    ) -> ExtractionReport:
        return extract_features(
            self.image_dir,
            self.names if names is None else names,
            self.extractor,
            store,
            orientations=views,
            masks=self.masks,
            is_strict=self.settings.run.strict,
            progress=self.forecast.paces["extract"].timed(self.observer.progress("extract")),
        )

    def select_pairs(self) -> list[Pair]:
        """Stage 2: the pairs to match."""
        with self._stage("pairs"), self.settings.limited_threads(), ExitStack() as opened:
            collection = Collection(
                self.names,
                image_dir=self.image_dir,
                features=lambda: opened.enter_context(self._finished_features()),
                retriever=self.settings.make_retriever,
                matcher=lambda: self.matcher,
                matches=lambda: opened.enter_context(self._finished_matches()) if self.matches_path.is_file() else {},
                prematches=lambda: opened.enter_context(self._prematches()),
                progress=self.observer.progress("pairs"),
            )
            selection = select(collection, self.settings.pairs)
            if not selection.pairs:
                raise InputError(f"There is no pair to match: {self.settings.pairs.pairs} names none.")
            write_pairs(self.workspace.pairs, selection.pairs)
        for line in selection.lines():
            self.observer.say(line)
        return selection.pairs

    def match(self, pairs: list[Pair] | None = None) -> MatchingReport:
        """Stage 3: matches of the pairs; by default of those that stage 2 wrote."""
        pairs = self._selected_pairs() if pairs is None else pairs
        identity = self.matcher.identity
        with (
            self._stage("match"),
            self.settings.limited_threads(),
            self._finished_features() as features,
            MatchStore(self.matches_path, identity) as store,
        ):
            progress = self.forecast.paces["match"].timed(self.observer.progress("match"))
            batch_size = self.settings.run.batch_size
            report = match_features(features, pairs, self.matcher, store, batch_size=batch_size, progress=progress)
            self._count("match", report.computed, report.reused)
        return report

    def build_database(self, pairs: list[Pair] | None = None) -> DatabaseReport:
        """Stage 4: COLMAP database with verified matches; an existing one of the same content is kept."""
        pairs = self._selected_pairs() if pairs is None else pairs
        with (
            self._stage("database"),
            self._finished_features() as features,
            self._finished_matches() as matches,
        ):
            names = [name for name in self.names if name in features]
            pairs = [pair for pair in pairs if pair in matches and pair[0] in features and pair[1] in features]
            groups = group_cameras(self.image_dir, names, self.settings.cameras)
            camera_model = self.settings.cameras.camera_model
            self.summary.cameras = [group.row(camera_model) for group in groups]
            identity = digest(
                {
                    "images": [(name, digest_of(features, name)) for name in names],
                    "matches": [
                        self.matches_path.name,
                        *((*pair, *(sources_of(matches, pair) or ())) for pair in pairs),
                    ],
                    "cameras": self.summary.cameras,
                    "verification": self.settings.verification.to_dict(),
                    "pycolmap": version("pycolmap"),
                }
            )
            known = read_json(self.workspace.database_identity)
            content = fingerprint(self.workspace.database)
            is_reused = known.get("identity") == identity and content != "" and known.get("content") == content
            if is_reused:
                report = DatabaseReport(**known["report"])
            else:
                self.workspace.database_identity.unlink(missing_ok=True)
                report = build_database(
                    self.workspace.database,
                    features,
                    matches,
                    pairs,
                    groups,
                    camera_model=camera_model,
                    verification=self.settings.verification,
                    log_path=self.workspace.log,
                )
                content = fingerprint(self.workspace.database)
            record = {"identity": identity, "content": content, "report": asdict(report)}
            rules = rules_digest(self.settings.cameras.cameras)
            record |= {"flags": dict(self.settings.flags), "made": self._identities(), "rules": rules}
            write_json(self.workspace.database_identity, record)
            self._count("database", [] if is_reused else pairs, pairs if is_reused else [])
            self.summary.num_pairs, self.summary.num_pairs_verified = report.num_pairs, report.num_verified
        return report

    def map(self) -> list[ModelSummary]:
        """Stage 5: models, the best one first.

        Raises:
            ReconstructionError: there is no model; ``summary.json`` is written all the same.
        """
        self._follow_database()
        with self._stage("map"):
            self.summary.mapper = self.settings.mapping.mapper
            models = map_database(
                self.workspace.database,
                self.image_dir,
                self.workspace.sparse,
                self.settings.mapping,
                log_path=self.workspace.log,
                progress=self.observer.progress("map"),
            )
            if models or not self.workspace.kept_fields():
                self.summary.set_models(models, self.names)
        if not models:
            is_model_there = bool(self.workspace.kept_fields())
            raise ReconstructionError(
                self.summary.no_model(self.settings, self.workspace.log, is_model_there=is_model_there)
            )
        self._remember("map", models[0].num_reg_images)
        for note in (mapping_note(models), principal_point_note(self.settings.mapping, models)):
            if note:
                self.observer.say(note)
        return models

    def _follow_database(self) -> None:
        """Takes over the choices that the database was made with: they are what the models will be of."""
        known = read_json(self.workspace.database_identity)
        if not known or not self.workspace.database.is_file():
            raise InputError(f"There is no finished database in {self.workspace.root}. Run `lgsfm database`.")
        self.made = known.get("made", self.made)
        others = self.settings.differing_from(known.get("flags", self.settings.flags))
        file = self.settings.cameras.cameras
        is_same = "cameras" in others or not known.get("rules") or rules_digest(file) in ("", known["rules"])
        edited = {} if is_same else {"cameras": f"{file} as it was then"}
        if others or edited:
            self.observer.say(self.settings.difference_in_words({**others, **edited}))
            self.settings = self.settings.changed(others)

    def reconstruct(self) -> Summary:
        """All stages."""
        self._say_forecast()  # makes extractor and matcher: all weights are fetched before any work
        self.extract()
        for _ in range(num_rounds(self.settings.pairs)):
            pairs = self.select_pairs()
            self.match(pairs)
        self.build_database(pairs)
        self.map()
        return self.summary

    # ---------------------------------------------------------------------------- helpers
    def _say_forecast(self) -> None:
        components = self.extractor, self.matcher
        start = time.perf_counter()
        space = self.workspace
        files = Files(self.features_path, self.matches_path, space.pairs, space.database_identity)
        if text := self.forecast.say(self.settings, *components, files):
            self.observer.say(text)
        self.early_s = time.perf_counter() - start

    def _remember(self, stage: str, count: int) -> None:
        self.forecast.remember(stage, self.settings, self._identities(), self.summary.seconds[stage], count)

    @contextmanager
    def _finished_features(self) -> Iterator[FeatureStore]:
        if not self.features_path.is_file():
            raise InputError(f"There are no features in {self.workspace.root} for these options. Run `lgsfm extract`.")
        with FeatureStore(self.features_path) as store:
            yield store

    @contextmanager
    def _finished_matches(self) -> Iterator[MatchStore]:
        if not self.matches_path.is_file():
            raise InputError(f"There are no matches in {self.workspace.root} for these options. Run `lgsfm match`.")
        with MatchStore(self.matches_path) as store:
            yield store

    def _prematches(self) -> MatchStore:
        return MatchStore(self.workspace.prematches(self.matches_path), self.matcher.identity)

    def _selected_pairs(self) -> list[Pair]:
        if not self.workspace.pairs.is_file():
            raise InputError(f"There is no {self.workspace.pairs}. Run `lgsfm pairs`.")
        return sorted(set(read_pairs(self.workspace.pairs, self.names, skip_unknown=True)))

    @contextmanager
    def _stage(self, stage: str) -> Iterator[None]:
        """Times a stage, and writes options before it and the summary after it."""
        self._write_options()
        start, self.early_s = time.perf_counter() - self.early_s, 0.0
        yield
        self.summary.set_seconds(stage, self.tally.add_seconds(stage, time.perf_counter() - start))
        self._remember(stage, self.summary.computed.get(stage, 0))
        self.summary.finish([component for name, component in vars(self).items() if name in ("extractor", "matcher")])
        self.summary.write(self.workspace.summary)

    def _count(self, stage: str, computed: list[Any], reused: list[Any]) -> None:
        self.summary.computed[stage], self.summary.reused[stage] = self.tally.count(stage, computed, reused)

    def _write_options(self) -> None:
        stages = ("run", "upright", "masks", "pairs", "cameras", "verification", "mapping")
        options = {name: getattr(self.settings, name).to_dict() for name in stages}
        write_json(self.workspace.options, {"flags": dict(self.settings.flags), **self._identities(), **options})

    def _identities(self) -> dict[str, Any]:
        """What made the features and the matches, now or before."""
        used = {name: vars(self)[name] for name in ("extractor", "matcher") if name in vars(self)}
        return {**self.made, **{name: component.identity for name, component in used.items()}}


def reconstruct(
    image_dir: str | Path, output: str | Path | None = None, *, observer: Observer | None = None, **flags: Any
) -> Summary:
    """From a folder of photos to COLMAP models in ``output/sparse``; goes on where an interrupted run stopped.

    Args:
        image_dir: folder of photos, with sub-folders.
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
    folder = None if output is None else Path(output)
    with Run(Path(image_dir), folder, Settings.from_flags(flags), observer) as run:
        return run.reconstruct()
