"""A finer look at some pairs: larger pictures and more keypoints, in stores beside those of the first look.

These are the stores of a run with just these options, `--quality high` say: whatever such a run has finished is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from .extraction import extract_features
from .extractors import Extractor
from .layers import FinerLook
from .matchers import Matcher
from .matching import current_pairs, match_features
from .settings import Settings
from .store import FeatureStore, MatchStore
from .types import Pair, Progress
from .workspace import Workspace

__all__ = ["Finer"]


class Finer:
    """What looks closer.

    Args:
        image_dir: folder of the photos.
        workspace: where the stores lie.
        settings: of the finer look, see `Settings.finer`.
        progress: stage -> callback (done, total).
    """

    def __init__(
        self, image_dir: Path, workspace: Workspace, settings: Settings, progress: Callable[[str], Progress | None]
    ) -> None:
        self.image_dir, self.workspace, self.settings, self.progress = image_dir, workspace, settings, progress

    @cached_property
    def extractor(self) -> Extractor:
        """As that of the first look, with other options."""
        return self.settings.make_extractor(self.settings.run.features)

    @cached_property
    def matcher(self) -> Matcher:
        """As that of the first look."""
        return self.settings.make_matcher(self.settings.run.matcher, self.extractor)

    @property
    def features_path(self) -> Path:
        """The feature store."""
        return self.workspace.features(self.settings.identity_of(self.extractor))

    @property
    def matches_path(self) -> Path:
        """The match store."""
        return self.workspace.matches(self.settings.identity_of(self.matcher), self.features_path)

    def look(
        self, pairs: Sequence[Pair], views: Mapping[str, int], masks: Mapping[str, Sequence[Path]]
    ) -> tuple[list[Pair], list[Pair]]:
        """Extracts and matches; what is finished is kept.

        Args:
            pairs: to look at.
            views: image name -> EXIF code of the view.
            masks: mask files of the images that have any.

        Returns:
            The pairs that were matched, and those that were found finished.
        """
        names = sorted({name for pair in pairs for name in pair})
        with (
            FeatureStore(self.features_path, self.settings.identity_of(self.extractor)) as features,
            MatchStore(self.matches_path, self.settings.identity_of(self.matcher)) as matches,
        ):
            extract_features(
                self.image_dir,
                names,
                self.extractor,
                features,
                orientations=views,
                masks=masks,
                at_once=self.settings.photos_at_once,
                progress=self.progress("extract"),
            )
            report = match_features(
                features,
                pairs,
                self.matcher,
                matches,
                batch_size=self.settings.batch_size,
                progress=self.progress("match"),
            )
        return report.computed, report.reused

    @contextmanager
    def opened(self, pairs: set[Pair]) -> Iterator[FinerLook]:
        """The look at pairs, as far as it is finished."""
        if not self.features_path.is_file() or not self.matches_path.is_file():
            yield FinerLook()
            return
        with FeatureStore(self.features_path) as features, MatchStore(self.matches_path) as matches:
            yield FinerLook(features, matches, frozenset(current_pairs(features, pairs, matches)))
