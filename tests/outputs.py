"""What is in an output folder, to be compared with what is in another one."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
from cli_helpers import figures_of

from lgsfm.errors import CacheError
from lgsfm.store import FeatureStore, MatchStore

Entries = dict[tuple[str, object], str]


def entries_of(output: Path) -> Entries:
    """The finished entries of all stores: (file, key) -> hash of the data."""
    entries: Entries = {}
    for store in open_stores(output):
        for key, value in store.items():
            arrays = [array for array in vars(value).values() if isinstance(array, np.ndarray)]
            entries[store.path.name, key] = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        store.close()
    return entries


def open_stores(output: Path) -> Iterator[FeatureStore | MatchStore]:
    for kind, pattern in ((FeatureStore, "features-*.h5"), (MatchStore, "*matches-*.h5")):
        for path in sorted(output.glob(pattern)):
            try:
                yield kind(path)
            except CacheError:  # killed before the file was a file
                continue


def tables_of(output: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the database, table by table, in an order of their own."""
    with closing(sqlite3.connect(f"file:{output / 'database.db'}?mode=ro", uri=True)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in sorted(names)}


def files_of(folder: Path) -> dict[str, str]:
    """The files below a folder: name -> hash; none where there is no folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def model_of(output: Path, scratch: Path) -> dict[str, float]:
    """The model of a database, made by one thread: with several the last digits, even a point or two, may differ."""
    work = scratch / "one-thread"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = pycolmap.IncrementalPipelineOptions(random_seed=0, num_threads=1)
    models = pycolmap.incremental_mapping(output / "database.db", scratch, work, options)
    return figures_of(models[0])
