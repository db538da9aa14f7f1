"""One run over one folder of photos: its stages, each reusing what is finished; all state is in the output folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from .camera_groups import group_cameras
from .camera_rules import rules_digest
from .database import check_pycolmap
from .database_reading import DatabaseReport
from .database_record import DatabaseRecord
from .database_update import DatabaseUpdate
from .diagnosis import Evidence
from .doctor import gather
from .errors import CrashError, InputError, LgsfmError, ReconstructionError
from .extraction import ExtractionReport, extract_features
from .extractors import Extractor, is_rotation_invariant
from .files import read_json, write_json
from .finer import Finer
from .forecast import Files, Forecast
from .healing import SecondLooks
from .images import list_images
from .layers import FinerLook
from .manifest import Contents, write_manifest
from .mapping import ModelSummary, map_database, mapping_notes
from .masks import find_masks, in_words, without_masks
from .matchers import Matcher
from .matching import MatchingReport, current_pairs, match_features
from .model_files import num_images
from .observer import Observer
from .options import digest
from .pairing import Collection, check_choice, read_pairs, select, voting_pairs, write_pairs
from .rigs import check_rigs, split_by_rig
from .settings import Settings, choose_features, stages_of
from .store import FeatureStore, MatchStore, digest_of
from .summary import Summary, Tally
from .types import Pair
from .upright import Orientations, find_turns
from .workspace import Workspace, default_output

__all__ = ["Run"]


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
        self._looks: SecondLooks | None = None
        self._has_begun = False
        known = read_json(self.workspace.options).items() if is_continued else ()
        self.made: dict[str, Any] = {name: made for name, made in known if name in ("extractor", "matcher")}

    def close(self) -> None:
        """Lets other runs work in the output folder."""
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None or issubclass(kind, ReconstructionError):  # without a model, too
                self.write_manifest()
            elif issubclass(kind, LgsfmError):  # what was there before is there still
                with suppress(LgsfmError):
                    self.write_manifest()
        finally:
            self.close()

    def _check_early(self, first: str) -> None:
        """Raises `InputError` for choices that do not fit the photos: now, and not after hours of work."""
        if first in ("extract", "pairs"):
            self.settings.check_retriever()
            check_choice(self.settings.pairs, self.names, image_dir=self.image_dir)
        if first != "map":
            group_cameras(self.image_dir, self.names, self.settings.cameras, skip_unreadable=True)
        if self.settings.mapping.rig:
            check_rigs(Path(self.settings.mapping.rig), self.names)
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
        return self.workspace.features(self.settings.identity_of(self.extractor))

    @property
    def matches_path(self) -> Path:
        """The match store of this run."""
        return self.workspace.matches(self.settings.identity_of(self.matcher), self.features_path)

    # ---------------------------------------------------------------------------- stages
    def extract(self) -> ExtractionReport:
        """Stage 1: features of all images.

        Raises:
            InputError: fewer than two photos can be used.
        """
        identity = self.settings.identity_of(self.extractor)
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
        report.check_enough(self.image_dir)
        return report

    def _extract_upright(self, store: FeatureStore) -> ExtractionReport:
        """Features of all images, seen upright: those that lie in the eyes of the others are seen again, turned."""
        orientations = self._orientations()
        report = self._extract_views(store, orientations.views, self.names)
        names = sorted([*report.computed, *report.reused])
        if orientations.mode == "auto" and not orientations.are_settled(store, names):
            look = partial(orientations.look, self.extractor)
            found = find_turns(names, store, voting_pairs(names, store, self.settings.make_retriever), look)
            orientations.turn(found)
            report = report.followed_by(self._extract_views(store, orientations.views, sorted(found)))
            orientations.settle(store, names)
        self.summary.turned_deg = {name: 90 * turn for name, turn in orientations.turns.items()}
        for name, degrees in self.summary.turned_deg.items():
            self.observer.say(f"Upright: {name} is seen turned by {degrees}° clockwise (--upright exif: as it is).")
        return report

    def _orientations(self) -> Orientations:
        mode = self.settings.upright.upright
        if mode == "auto" and is_rotation_invariant(self.extractor):
            mode = "exif"
        return Orientations(self.image_dir, self.names, mode, self.workspace.upright, self.masks)

    def _extract_views(self, store: FeatureStore, views: dict[str, int], names: list[str]) -> ExtractionReport:
        return extract_features(
            self.image_dir,
            names,
            self.extractor,
            store,
            orientations=views,
            masks=self.masks,
            is_strict=self.settings.run.strict,
            at_once=self.settings.photos_at_once,
            progress=self.forecast.paces["extract"].timed(self.observer.progress("extract")),
        )

    def select_pairs(self) -> list[Pair]:
        """Stage 2: the pairs to match."""
        with self._stage("pairs"), self.settings.limited_threads(), ExitStack() as opened:
            collection = Collection(
                self.names,
                image_dir=self.image_dir,
                features=lambda: opened.enter_context(self.finished_features()),
                retriever=lambda: vars(self).setdefault("retriever", self.settings.make_retriever()),
                matcher=lambda: self.matcher,
                matches=lambda: opened.enter_context(self._finished_matches()) if self.matches_path.is_file() else {},
                prematches=lambda: opened.enter_context(self._prematches()),
                progress=self.observer.progress("pairs"),
            )
            if not (selection := select(collection, self.settings.pairs)).pairs:
                raise InputError(f"There is no pair to match: {self.settings.pairs.pairs} names none.")
            write_pairs(self.workspace.pairs, selection.pairs)
        for line in selection.lines():
            self.observer.say(line)
        return selection.pairs

    def match(self, pairs: list[Pair] | None = None) -> MatchingReport:
        """Stage 3: matches of the pairs; by default of those that stage 2 wrote."""
        pairs = self.selected_pairs() if pairs is None else pairs
        identity = self.settings.identity_of(self.matcher)
        with (
            self._stage("match"),
            self.settings.limited_threads(),
            self.finished_features() as features,
            MatchStore(self.matches_path, identity) as store,
        ):
            progress = self.forecast.paces["match"].timed(self.observer.progress("match"))
            batch_size = self.settings.batch_size
            report = match_features(features, pairs, self.matcher, store, batch_size=batch_size, progress=progress)
            self._count("match", report.computed, report.reused)
        return report

    def build_database(self, selected: list[Pair] | None = None) -> DatabaseReport:
        """Stage 4: COLMAP database with verified matches; of an existing one what is still right is kept.

        Args:
            selected: the pairs of stage 2, by default as it wrote them; those of second looks come with them.
        """
        selected = self.selected_pairs() if selected is None else selected
        looks = self.second_looks(selected)
        with (
            self._stage("database"),
            self.finished_features() as features,
            self._finished_matches() as matches,
            self._finer_look(looks.finer) as finer,
        ):
            names = [name for name in self.names if name in features]
            wanted = sorted({*selected, *looks.pairs})
            current = current_pairs(features, wanted, matches)
            groups = group_cameras(self.image_dir, names, self.settings.cameras)
            groups = split_by_rig(groups, self.settings.mapping.rig)
            self.summary.cameras = [group.row(self.settings.cameras.camera_model) for group in groups]
            update = DatabaseUpdate(self.workspace, self.settings, features, matches, finer)
            record, pairs, kept = update.apply(groups, current, self._identities())
            report = DatabaseReport(**record.report)
            self._count("database", [pair for pair in pairs if pair not in kept], sorted(kept))
            self.summary.num_pairs, self.summary.num_pairs_verified = report.num_pairs, report.num_verified
        known = set(names)
        if missing := {pair for pair in wanted if known.issuperset(pair)} - set(current):
            self.observer.say(f"Warning: {len(missing)} pairs have no matches of the present features: `lgsfm match`.")
        return report

    def map(self) -> list[ModelSummary]:
        """Stage 5: models, the best one first, and why photos are not in it.

        Raises:
            ReconstructionError: there is no model; ``summary.json`` is written all the same.
        """
        self._follow_database()
        return self.finish(*self.make_models(self.workspace.sparse))

    def make_models(self, folder: Path) -> tuple[list[ModelSummary], ReconstructionError | None]:
        """Models of the database in a folder, in the place of those there; without any, what the mapper failed of."""
        before = num_images(folder / "0") if folder == self.workspace.sparse else 0
        with self._stage("map"):
            self.summary.mapper = self.settings.mapping.mapper
            try:
                models = map_database(
                    self.workspace.database,
                    self.image_dir,
                    folder,
                    self.settings.mapping,
                    is_resumable=not self.settings.run.deterministic,
                    former_images=before,
                    log_path=self.workspace.log,
                    progress=self.observer.progress("map"),
                )
            except ReconstructionError as exc:
                if isinstance(exc, CrashError):  # which says nothing about the photos
                    raise
                return [], exc
        if models:
            self._remember("map", models[0].num_reg_images)
        return models, None

    def finish(self, models: list[ModelSummary], problem: ReconstructionError | None = None) -> list[ModelSummary]:
        """Notes the models, and why photos are not in the best one. Raises as `map`."""
        is_kept = not models and bool(self.workspace.kept_fields())  # the models of an earlier run
        doubts = DatabaseRecord.read(self.workspace.database_identity).doubts
        if not is_kept:
            self.summary.set_models(models, self.names)
            self.summary.set_diagnosis(self._evidence(models))
            self.summary.look_alikes = doubts
        self.summary.write(self.workspace.summary)
        if not models:
            raise problem or ReconstructionError(
                self.summary.no_model(self.settings, self.workspace.log, is_model_there=is_kept)
            )
        for note in [*doubts, *mapping_notes(self.settings.mapping, models)]:
            self.observer.say(note)
        return models

    def _evidence(self, models: list[ModelSummary]) -> Evidence:
        return gather(
            self.workspace,
            self.names,
            self.workspace.features(self._identities()["extractor"]),
            failed=self.summary.failed_images,
            masked_out=self.summary.masked_out,
            models=[model.registered for model in models],
            min_inliers=self.settings.verification.min_inliers,
            image_dir=str(self.image_dir.resolve()),
            flags=self.settings.flags,
        )

    def _follow_database(self) -> None:
        """Takes over the choices that the database was made with: they are what the models will be of."""
        known = DatabaseRecord.read(self.workspace.database_identity)
        if not known.identity or not self.workspace.database.is_file():
            raise InputError(f"{self.workspace.root} has no finished database. Run `{self.workspace.command()}`.")
        self.made = known.made
        others = self.settings.differing_from(known.flags)
        file = self.settings.cameras.cameras
        is_same = "cameras" in others or not known.rules or rules_digest(file) in ("", known.rules)
        edited = {} if is_same else {"cameras": f"{file} as it was then"}
        if others or edited:
            self.observer.say(self.settings.difference_in_words({**others, **edited}))
            self.settings = self.settings.changed(others)

    # ---------------------------------------------------------------------------- second looks
    def second_looks(self, selected: Sequence[Pair]) -> SecondLooks:
        """Those that were had at photos that hung by a thread when these pairs were selected."""
        with self.finished_features() as features:
            digests = [(name, digest_of(features, name)) for name in self.names]
        parts = self.settings.verification, self.settings.doppelgangers, self.settings.healing
        options = [part.to_dict() for part in parts]
        begun_with = digest([sorted(selected), digests, self.matches_path.name, options])
        if self._looks is None or self._looks.begun_with != begun_with:
            self._looks = SecondLooks(self.workspace.second_looks, begun_with)
        return self._looks

    @cached_property
    def finer(self) -> Finer | None:
        """What looks closer; None where the first look keeps all keypoints."""
        settings = self.settings.finer(self.extractor)
        return None if settings is None else Finer(self.image_dir, self.workspace, settings, self.observer.progress)

    def look_closer(self, pairs: list[Pair]) -> None:
        """A finer look at pairs: features of their photos, and matches. What is finished is kept."""
        if self.finer is not None:
            with self._stage("finer"), self.settings.limited_threads():
                self._count("finer", *self.finer.look(pairs, self._orientations().views, self.masks))

    # ---------------------------------------------------------------------------- helpers
    def say_forecast(self) -> None:
        """Says what is ahead, `CacheError` if that has no room; fetches the weights for it, so before any work."""
        components = self.extractor, self.matcher
        start = time.perf_counter()
        space = self.workspace
        files = Files(self.features_path, self.matches_path, space.pairs, space.database_identity)
        for line in self.forecast.lines(self.settings, *components, files):
            self.observer.say(line)
        self.early_s = time.perf_counter() - start

    def _remember(self, stage: str, count: int) -> None:
        self.forecast.remember(stage, self.settings, self._identities(), self.summary.seconds[stage], count)

    @contextmanager
    def _finer_look(self, pairs: set[Pair]) -> Iterator[FinerLook]:
        """A finer look at pairs, as far as it was had."""
        if not pairs or self.finer is None:
            yield FinerLook()
            return
        with self.finer.opened(pairs) as look:
            yield look

    @contextmanager
    def finished_features(self) -> Iterator[FeatureStore]:
        """The feature store, for reading. Raises `InputError` if there is none."""
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
        return MatchStore(self.workspace.prematches(self.matches_path), self.settings.identity_of(self.matcher))

    def selected_pairs(self) -> list[Pair]:
        """The pairs that stage 2 wrote, sorted. Raises `InputError` if it has not."""
        if not self.workspace.pairs.is_file():
            raise InputError(f"There is no {self.workspace.pairs}. Run `lgsfm pairs`.")
        return sorted(set(read_pairs(self.workspace.pairs, self.names, skip_unknown=True)))

    @contextmanager
    def _stage(self, stage: str) -> Iterator[None]:
        """Times a stage, and writes options before it and the summary after it; the manifest is not true any more."""
        self._has_begun = True
        self.workspace.manifest.unlink(missing_ok=True)
        self._write_options()
        start, self.early_s = time.perf_counter() - self.early_s, 0.0
        yield
        self.summary.set_seconds(stage, self.tally.add_seconds(stage, time.perf_counter() - start))
        self._remember(stage, self.summary.computed.get(stage, 0))
        self.summary.finish([vars(self)[name] for name in ("extractor", "matcher", "retriever") if name in vars(self)])
        self.summary.write(self.workspace.summary)

    def write_manifest(self) -> None:
        """Notes what is in the output folder now and what it was made with; nothing if no stage was called.

        It is called at the end of the ``with`` block. Raises `CacheError` if a file cannot be read or written.
        """
        if self._has_begun:
            write_manifest(self.workspace, self._contents())

    def _contents(self) -> Contents:
        """What of the output folder is of this run, as far as the stages have come."""
        identities = self._identities()
        features = self.workspace.features(identities["extractor"])
        if not self.workspace.pairs.is_file():
            return Contents(self.names, features.name)
        looks = SecondLooks(self.workspace.second_looks)
        pairs = {*self.selected_pairs(), *looks.pairs}
        if "matcher" not in identities:
            return Contents(self.names, features.name, pairs)
        matches = self.workspace.matches(identities["matcher"], features)
        if not looks.finer or self.finer is None:
            return Contents(self.names, features.name, pairs, matches.name)
        return Contents(self.names, features.name, pairs, matches.name, self.finer.matches_path.name, looks.finer)

    def _count(self, stage: str, computed: list[Any], reused: list[Any]) -> None:
        self.summary.computed[stage], self.summary.reused[stage] = self.tally.count(stage, computed, reused)

    def _write_options(self) -> None:
        options = {name: getattr(self.settings, name).to_dict() for name in stages_of(Settings)}
        flags = dict(self.settings.flags)
        write_json(self.workspace.options, {"flags": flags, **self._identities(), **options}, is_checked=True)

    def _identities(self) -> dict[str, Any]:
        """What made the features and the matches, now or before."""
        used = {name: vars(self)[name] for name in ("extractor", "matcher") if name in vars(self)}
        return {**self.made, **{name: self.settings.identity_of(component) for name, component in used.items()}}
