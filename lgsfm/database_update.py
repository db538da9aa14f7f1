"""The database of a run, brought up to date with its features and matches: what is still right in it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .camera_groups import CameraGroup
from .camera_rules import rules_digest
from .database import build_database, for_matcher
from .database_record import DatabaseContent, DatabaseRecord
from .layers import FinerLook, LayeredFeatures, LayeredMatches
from .settings import Settings
from .store import FeatureStore, MatchStore, digest_of
from .types import Pair
from .view_graph.doppelgangers import drop_doubtful
from .workspace import Workspace

__all__ = ["DatabaseUpdate"]


@dataclass(frozen=True)
class DatabaseUpdate:
    """What goes into the database.

    workspace: where it lies, and what is noted of it
    settings: how it is made
    features, matches: of the first look
    finer: of a finer look at some pairs
    """

    workspace: Workspace
    settings: Settings
    features: FeatureStore
    matches: MatchStore
    finer: FinerLook

    def apply(
        self, groups: Sequence[CameraGroup], pairs: Sequence[Pair], identities: Mapping[str, Any]
    ) -> tuple[DatabaseRecord, Sequence[Pair], set[Pair]]:
        """Makes the database, unless it is there.

        Args:
            groups: the images and their cameras.
            pairs: those of the first look that have matches of the present features.
            identities: of "extractor" and "matcher"; noted for those who go on from it.

        Returns:
            What is noted of it now, the pairs in it, and those of them that it had before.
        """
        content = self._content(groups, pairs, str(identities["matcher"]["matcher"]))

        def build(kept: set[Pair]) -> tuple[list[Pair], list[str]]:
            return self._build(groups, content, kept, str(identities["matcher"]["matcher"]))

        path, options = self.workspace.database_identity, self.settings.cameras
        record, kept = DatabaseRecord.read(path).brought_up_to_date(path, self.workspace.database, content, build)
        record = replace(
            record, flags=dict(self.settings.flags), made=dict(identities), rules=rules_digest(options.cameras)
        )
        record.write(path)
        return record, content.pairs, kept

    def _content(self, groups: Sequence[CameraGroup], pairs: Sequence[Pair], matcher: str) -> DatabaseContent:
        return DatabaseContent.of(
            {name: str(digest_of(self.features, name)) for group in groups for name in group.names},
            groups,
            self.settings.cameras.camera_model,
            sorted({*pairs, *self.finer.pairs}),
            matches=self.matches.path.name,
            verification=for_matcher(self.settings.verification, matcher),
            finer=self.finer.digests,
            doppelgangers=self.settings.doppelgangers.doppelgangers,
        )

    def _build(
        self, groups: Sequence[CameraGroup], content: DatabaseContent, kept: set[Pair], matcher: str
    ) -> tuple[list[Pair], list[str]]:
        """Makes the database anew, with the pairs that are kept; gives those dropped as doubtful, and the doubts."""
        found: list[tuple[list[Pair], list[str]]] = []
        build_database(
            self.workspace.database,
            LayeredFeatures(self.features, self.finer),
            LayeredMatches(self.matches, self.features, self.finer),
            content.pairs,
            groups,
            camera_model=self.settings.cameras.camera_model,
            verification=for_matcher(self.settings.verification, matcher),
            kept=kept,
            review=lambda path: found.append(drop_doubtful(path, self.settings.doppelgangers)),
            is_repeatable=self.settings.run.deterministic,
            log_path=self.workspace.log,
        )
        return found[0]
