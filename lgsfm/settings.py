"""All choices of a run, made of flat flags: ``features="aliked", max_keypoints=1024, mapper="global"``.

The flags are the fields of the options classes of the stages and of the chosen components; a flag that none of them
has is an error that lists the valid ones. The command line and the functions of the API both come through here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, get_type_hints

from . import weights
from .camera_groups import CameraOptions
from .database import VerificationOptions
from .errors import InputError, WeightsError, unknown_name
from .extractors import Extractor, ExtractorOptions
from .healing import HealingOptions, parse_budget
from .mapping import MappingOptions
from .masks import MaskOptions
from .matchers import Matcher
from .options import Options, option
from .pairing import PairOptions
from .panoramas import PanoramaOptions
from .registry import available, component_class, component_classes
from .retrievers import Retriever, looks_at_photos
from .two_view import TwoViewOptions
from .types import Progress
from .upright import UprightOptions
from .video.options import FrameOptions
from .view_graph.doppelgangers import DoppelgangerOptions

__all__ = [
    "OF_THE_MOMENT",
    "QUALITIES",
    "ComponentOptions",
    "Flag",
    "PairSettings",
    "RunOptions",
    "Settings",
    "choose_features",
    "finer_options",
    "flag_fields",
    "stages_of",
]

OF_THE_MOMENT = (
    "batch_size",
    "device",
    "offline",
    "strict",
    "weights_dir",
)  # flags that later commands do not take over
FINER_EDGE = 1.5625  # times the long edge, for a finer look: from 1024 to 1600 px, as from --quality medium to high
MOST_PHOTOS = 4  # at work at once: each takes some 400 bytes of memory per pixel
QUALITIES = tuple(ExtractorOptions.presets)

AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True, kw_only=True)
class ComponentOptions(Options):
    """Which networks work, and where they and their weights are found."""

    features: str = option(
        "auto",
        "auto, or the name of an extractor; auto: SuperPoint if its weights are here and not --commercial, else ALIKED",
    )
    matcher: str = option("auto", "auto, or the name of a matcher; auto: what fits the features best")
    quality: str = option("medium", "preset of image size and number of keypoints", choices=QUALITIES)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps; auto takes a GPU if there is one")
    threads: int = option(-1, "CPU threads of the networks and of the mapper; -1 takes all cores", minimum=-1)
    weights_dir: str = option("", "folder that holds the weights of the networks")
    offline: bool = option(False, "never use the network")
    commercial: bool = option(False, "refuse weights that are not for commercial use")

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind, name in (("extractor", self.features), ("matcher", self.matcher)):
            if name not in available(kind) and name != "auto":
                raise unknown_name(kind, name, available(kind))
        if self.device not in ("auto", "cpu"):
            from .models import resolve_device  # loads torch, which the most common choices need not wait for

            resolve_device(self.device)


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComponentOptions):
    """What a run over a collection is made of."""

    retriever: str = option("asmk", "how --pairs retrieval compares photos")
    batch_size: int = option(
        0,
        "pairs handed to the matcher at once, halved where memory runs out; 0 is 4 for each core of a CPU, 32 on a GPU",
        minimum=0,
        maximum=256,
    )
    strict: bool = option(False, "an unusable photo is an error; by default it is skipped and named")
    deterministic: bool = option(
        False,
        "a repeated run gives the same files bit by bit (on the same processor), also with other --threads and "
        "--batch-size or interrupted in between; each photo and each pair has one thread, and the mapper has one",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retriever not in available("retriever"):
            raise unknown_name("retriever", self.retriever, available("retriever"))


class Flag(NamedTuple):
    """One flag: its options field, its type, the components that it belongs to (none if it is for all) and the default
    that each of them has."""

    field: dataclasses.Field[Any]
    value_type: type
    owners: tuple[str, ...]
    defaults: tuple[Any, ...]


@dataclass(frozen=True)
class ComponentSettings:
    """What all settings have in common; subclasses add the options of their stages, one field each."""

    kinds: ClassVar[tuple[str, ...]] = ("extractor", "matcher")  # of components that have flags

    flags: Mapping[str, Any]  # what was asked for
    run: ComponentOptions
    upright: UprightOptions

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Self:
        """Settings from flat flags.

        Raises:
            InputError: a flag does not exist or has an invalid value.
        """
        valid = {flag.field.name for flag in flag_fields(cls)}
        for name in flags:
            if name not in valid:
                raise unknown_name("option", name, valid)
        stages: dict[str, Any] = {name: _pick(options, flags) for name, options in stages_of(cls).items()}
        settings = cls(flags=dict(flags), **stages)
        settings.check_components()
        return settings

    def check_components(self) -> None:
        """Raises `InputError` for options that the chosen components do not take; makes none of them."""
        if self.run.features != "auto":  # else `make_extractor` does, when it is known which
            self._extractor_options(self.run.features)
        elif self.run.matcher != "auto":
            self._matcher_options(self.run.matcher)

    def make_extractor(self, name: str, *, progress: Progress | None = None) -> Extractor:
        """The extractor with its options: defaults, then the quality preset, then the flags.

        Raises:
            InputError: the options of the extractor, or those of the matcher to follow, are unusable.
            WeightsError: its weights cannot be had.
        """
        options = self._extractor_options(name)
        return component_class("extractor", name)(options, self.run.device, self._fetch(progress))

    def _extractor_options(self, name: str) -> Options:
        extractor = component_class("extractor", name)
        self._check_component_flags("extractor", extractor.options_class, name)
        self._matcher_options(extractor.matcher if self.run.matcher == "auto" else self.run.matcher)
        preset = extractor.options_class.presets[self.run.quality]
        return _pick(extractor.options_class, {**preset, **self.flags})

    def _matcher_options(self, name: str) -> Options:
        options = component_class("matcher", name).options_class
        self._check_component_flags("matcher", options, name)
        return _pick(options, self.flags)

    def make_matcher(self, name: str, extractor: Extractor, *, progress: Progress | None = None) -> Matcher:
        """The matcher for the features of an extractor."""
        name = extractor.matcher if name == "auto" else name
        options = self._matcher_options(name)
        return component_class("matcher", name)(options, self.run.device, self._fetch(progress), extractor.kind)

    def limited_threads(self) -> AbstractContextManager[None]:
        """A context in which networks compute as the choices say: no more CPU threads than ``--threads``."""
        if self.run.threads <= 0:
            return nullcontext()
        from .models import limited_threads  # loads torch

        return limited_threads(self.run.threads)

    def _fetch(self, progress: Progress | None) -> Any:
        folder = Path(self.run.weights_dir) if self.run.weights_dir else None

        def fetch(model: str) -> weights.WeightFile:
            run = self.run
            return weights.fetch(
                model, weights_dir=folder, offline=run.offline, commercial=run.commercial, progress=progress
            )

        return fetch

    def _check_component_flags(self, kind: str, options: type[Options], chosen: str) -> None:
        """A flag of another component of the kind is an error, not a silent no-op."""
        own = {field.name for field in dataclasses.fields(options)}
        for name in self.flags:
            owners = [
                other
                for other, component in component_classes(kind).items()
                if name in {field.name for field in dataclasses.fields(component.options_class)}
            ]
            if owners and name not in own:
                raise InputError(f"Option {name} is of {' and '.join(owners)}, not of the {kind} '{chosen}'.")


@dataclass(frozen=True)
class PairSettings(ComponentSettings):
    """All choices for the matches and the pose of two photos, validated."""

    two_view: TwoViewOptions


@dataclass(frozen=True)
class Settings(ComponentSettings):
    """All choices of a run over a collection, validated."""

    kinds: ClassVar[tuple[str, ...]] = ("extractor", "matcher", "retriever")

    run: RunOptions
    video: FrameOptions
    panoramas: PanoramaOptions
    masks: MaskOptions
    pairs: PairOptions
    cameras: CameraOptions
    verification: VerificationOptions
    doppelgangers: DoppelgangerOptions
    healing: HealingOptions
    mapping: MappingOptions

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Self:
        """As of all settings; what cannot be repeated is an error where it is to be deterministic."""
        settings = super().from_flags(flags)
        if not settings.run.deterministic:
            return settings
        settings.check_deterministic()
        return dataclasses.replace(settings, mapping=dataclasses.replace(settings.mapping, threads=1))

    def check_deterministic(self) -> None:
        """Raises `InputError` for choices that make each run another one."""
        if -1 in (self.verification.seed, self.mapping.seed):
            raise InputError("--deterministic and --seed -1, new random numbers each time, exclude each other.")
        if parse_budget(self.healing.budget, 0).seconds is not None:
            raise InputError(
                f"--deterministic: what --budget {self.healing.budget} allows depends on how fast the machine is. "
                "Give it as a number of pairs (500) or a share of them (20%)."
            )

    def limited_threads(self) -> AbstractContextManager[None]:
        """A context in which networks compute as the choices say: their threads, and whether bit by bit the same."""
        if not self.run.deterministic:
            return super().limited_threads()
        from .models import deterministic  # loads torch

        return deterministic(self.run.threads)

    def identity_of(self, component: Extractor | Matcher) -> dict[str, Any]:
        """All that decides what a component makes of its input.

        Its own identity and, where it is so, that the run is deterministic: sums in another order differ in the last
        bits, so entries of other runs cannot be taken over.
        """
        return {**component.identity, **({"deterministic": True} if self.run.deterministic else {})}

    @property
    def photos_at_once(self) -> int:
        """Photos that are at work at once in `limited_threads`: one, or where each has one thread, some."""
        if not self.run.deterministic or not self._is_on_cpu:
            return 1
        from .models import pairs_at_once

        return min(pairs_at_once(), MOST_PHOTOS)

    @property
    def _is_on_cpu(self) -> bool:
        if self.run.device == "cpu":
            return True
        from .models import resolve_device  # loads torch

        return resolve_device(self.run.device).type == "cpu"

    @property
    def batch_size(self) -> int:
        """Pairs that the matcher gets at once, 0: as many as it likes best.

        On a GPU the sums of a pair depend on the pairs beside it, so a deterministic run has none there.
        """
        return 1 if self.run.deterministic and not self._is_on_cpu else self.run.batch_size

    def check_components(self) -> None:
        """Raises `InputError` for options that the chosen components do not take; makes none of them."""
        super().check_components()
        self._retriever_options()

    def make_retriever(self) -> Retriever:
        """The retriever for pair selection."""
        component = component_class("retriever", self.run.retriever)
        allows = getattr(component, "allows_commercial_use", None)
        if self.run.commercial and allows is not None and not allows(self._retriever_options()):
            raise WeightsError(
                f"Nothing says that the weights of --retriever {self.run.retriever}, as it is chosen, are for "
                "commercial use, and --commercial was said. Take --retriever asmk, which needs none."
            )
        place = {"device": self.run.device, "offline": self.run.offline} if looks_at_photos(component) else {}
        return component(self._retriever_options(), **place)

    def check_retriever(self) -> None:
        """Looks for the model of a retriever that needs one, so that what is missing is said before hours of work.

        Raises:
            WeightsError: it cannot be had.
            InputError: it is another kind of model.
        """
        if looks_at_photos(component_class("retriever", self.run.retriever)):
            self.make_retriever()

    def _retriever_options(self) -> Options:
        options = component_class("retriever", self.run.retriever).options_class
        self._check_component_flags("retriever", options, self.run.retriever)
        return _pick(options, self.flags)

    def finer(self, extractor: Extractor) -> Settings | None:
        """Settings of a finer look than that of an extractor: larger pictures, twice the keypoints.

        None where it keeps all keypoints already.
        """
        options = extractor.options
        if not options.max_keypoints:
            return None
        name = str(extractor.identity["extractor"])
        return self.changed({"features": name, **finer_options(options.max_edge_px, options.max_keypoints)})

    def differing_from(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Name -> value in ``flags`` of the choices, made before the mapper has its say, in which they differ."""
        later = (*dataclasses.fields(MappingOptions), *dataclasses.fields(HealingOptions))
        free = {*OF_THE_MOMENT, *(field.name for field in later)} - {"seed"}
        names = sorted({*self.flags, *flags} - free)
        return {name: flags.get(name) for name in names if self.flags.get(name) != flags.get(name)}

    def changed(self, flags: Mapping[str, Any]) -> Settings:
        """Settings with other values of some flags; None takes a flag back."""
        return Settings.from_flags(
            {name: value for name, value in {**self.flags, **flags}.items() if value is not None}
        )

    def difference_in_words(self, others: Mapping[str, Any]) -> str:
        """What to tell who asks for the models of a database that was made with other choices, see `differing_from`."""
        made = ", ".join(
            f"--{name.replace('_', '-')} {'by default' if value is None else value} "
            f"(asked for: {self.flags.get(name, 'the default')})"
            for name, value in others.items()
        )
        return (
            f"Warning: the database was made with {made}, and so are the models of it. "
            "Run the stages before, up to `lgsfm database`, for what is asked for now."
        )


def finer_options(max_edge_px: int, max_keypoints: int) -> dict[str, int]:
    """What an extractor has for a finer look where it had these: larger pictures, twice the keypoints."""
    return {"max_edge_px": round(FINER_EDGE * max_edge_px), "max_keypoints": 2 * max_keypoints}


def choose_features(run: ComponentOptions) -> tuple[str, str]:
    """The extractor's name and why it was chosen."""
    if run.features != "auto":
        return run.features, "asked for"
    if run.commercial:
        return "aliked", "its weights are for commercial use"
    folder = Path(run.weights_dir) if run.weights_dir else None
    missing = [name for name in ("superpoint", "lightglue-superpoint") if not weights.is_put_in_place(name, folder)]
    if missing:
        return "aliked", f"the weights of {' and '.join(missing)} are not in place"
    return "superpoint", "its weights are in place (licence: non-commercial research)"


def stages_of(settings: type[ComponentSettings]) -> dict[str, type[Options]]:
    """The options of settings, field by field."""
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings) if field.name != "flags"}


def flag_fields(settings: type[ComponentSettings] = Settings) -> list[Flag]:
    """Each flag of the settings once, those of the run and the stages first."""
    run, *stages = stages_of(settings).values()
    general = [(options, "") for options in (run, ExtractorOptions, *stages)]
    components = [
        (component.options_class, name)
        for kind in settings.kinds
        for name, component in component_classes(kind).items()
    ]
    flags: dict[str, Flag] = {}
    for options, owner in [*general, *components]:
        for field, value_type in options.fields():
            known = flags.setdefault(field.name, Flag(field, value_type, (owner,), (field.default,)))
            if owner != known.owners[0] and "" not in known.owners:
                defaults = (*known.defaults, field.default)
                flags[field.name] = known._replace(owners=(*known.owners, owner), defaults=defaults)
    return [flag._replace(owners=()) if "" in flag.owners else flag for flag in flags.values()]


def _pick(options: type[AnyOptions], flags: Mapping[str, Any]) -> AnyOptions:
    """The options of a class from those of the flags that it has."""
    names = {field.name for field in dataclasses.fields(options)}
    return options(**{name: value for name, value in flags.items() if name in names})
