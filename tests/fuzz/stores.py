"""Random damage of small stores and databases: what is read afterwards is what was written, or it is said.

    python tests/fuzz/stores.py 3000 [SEED]

Each trial changes one file and reads all of it in a child process of limited time and memory. It ends as one of

    same      everything is read as it was written (free space was hit, or nothing that matters)
    said      damage was told, and what could be read is as it was written
    absent    entries are missing; the next run makes them again
    crash     HDF5 or SQLite ended the process, hang: it did not come back, memory: it asked for too much
    wrong     something else was read than was written: must never be
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from lgsfm.database_reading import checksum, fingerprint
from lgsfm.errors import CacheError
from lgsfm.salvage import kind_of_name, surveyed
from lgsfm.store import FeatureStore, MatchStore
from lgsfm.types import Features, Matches

LIMIT_S, LIMIT_BYTES, BLOCK = 10, 3 << 30, 512
OUTCOMES = ("same", "said", "absent", "wrong", "memory")
NUM_IMAGES = 12


def flip(data: bytearray, chance: random.Random) -> None:
    """A single bit."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    """The end is missing."""
    del data[chance.randrange(len(data)) :]


def zero(data: bytearray, chance: random.Random) -> None:
    """A block of zeros."""
    place = chance.randrange(0, len(data), BLOCK)
    data[place : place + BLOCK] = bytes(len(data[place : place + BLOCK]))


def swap(data: bytearray, chance: random.Random) -> None:
    """Two blocks in each other's place."""
    first, second = (chance.randrange(0, len(data) - BLOCK, BLOCK) for _ in range(2))
    data[first : first + BLOCK], data[second : second + BLOCK] = (
        data[second : second + BLOCK],
        data[first : first + BLOCK],
    )


def noise(data: bytearray, chance: random.Random) -> None:
    """A few random bytes."""
    place = chance.randrange(len(data))
    data[place : place + 16] = chance.randbytes(len(data[place : place + 16]))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, zero, swap, noise)


def features(seed: int, n: int = 40) -> Features:
    """Some features."""
    rng = np.random.default_rng(seed)
    arrays = rng.random((n, 2), np.float32), rng.random((n, 16), np.float32), rng.random(n, np.float32)
    return Features(*arrays, (640, 480), "sift", source=f"{seed:064}")


def matches(seed: int, n: int = 30) -> Matches:
    """Some matches."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 40, (n, 2)).astype(np.int32)
    return Matches(indices, rng.random(n, np.float32), (f"{seed:064}", f"{seed + 1:064}"))


def names() -> list[str]:
    """Of the images, some in folders."""
    return [f"{'sub/' * (i % 3)}{i:02}.jpg" for i in range(NUM_IMAGES)]


def write_files(folder: Path) -> list[Path]:
    """A store of each kind and a database with COLMAP's tables."""
    paths = [folder / "features-sift-0.h5", folder / "matches-nearest-0.h5", folder / "database.db"]
    with FeatureStore(paths[0], {"extractor": "sift"}) as store:
        store.update({name: features(i) for i, name in enumerate(names())})
    pairs = [(a, b) for a in names() for b in names() if a < b]
    with MatchStore(paths[1], {"matcher": "nearest"}) as matched:
        matched.update({pair: matches(i) for i, pair in enumerate(pairs)})
    with closing(sqlite3.connect(paths[2])) as database:
        for table in TABLES:
            database.execute(table)
        database.execute("INSERT INTO cameras VALUES (1, 0, 640, 480, x'00', 0)")
        for i, name in enumerate(names(), start=1):
            database.execute("INSERT INTO images VALUES (?, ?, 1)", (i, name))
            database.execute("INSERT INTO keypoints VALUES (?, 40, 2, ?)", (i, features(i).keypoints.tobytes()))
        for i in range(len(pairs)):
            data = matches(i).indices.tobytes()
            database.execute("INSERT INTO matches VALUES (?, 30, 2, ?)", (i, data))
            row = (i, data, *(data[: 8 * k] for k in (9, 9, 9, 4, 3)))
            database.execute("INSERT INTO two_view_geometries VALUES (?, 30, 2, ?, 2, ?, ?, ?, ?, ?)", row)
        database.commit()
    return paths


TABLES = (
    "CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY, model, width, height, params, prior_focal_length)",
    "CREATE TABLE images (image_id INTEGER PRIMARY KEY, name, camera_id)",
    "CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY, rows, cols, data)",
    "CREATE TABLE matches (pair_id INTEGER PRIMARY KEY, rows, cols, data)",
    "CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY, rows, cols, data, config, F, E, H, qvec, tvec)",
)


def content_of(path: Path) -> dict[object, object]:
    """All that is in a store, by its keys and in bytes; or the tables of a database."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            tables = ("cameras", "images", "keypoints", "matches", "two_view_geometries")
            return {name: database.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}
    with kind_of_name(path)(path) as store:
        return {key: _frozen(store[key]) for key in store}


def _frozen(value: Features | Matches) -> tuple[object, ...]:
    return tuple(
        (part.dtype.str, part.shape, part.tobytes()) if isinstance(part, np.ndarray) else part
        for name, part in vars(value).items()
        if name != "digest"  # remembered, where it was asked for
    )


def look(path: Path, expected: dict[object, object], record: tuple[str, str]) -> str:
    """How a damaged file reads."""
    if path.suffix == ".db":
        if (fingerprint(path), checksum(path)) != record:
            return "said"
        return "same" if content_of(path) == expected else "wrong"
    try:
        with kind_of_name(path)(path) as store:
            damaged = surveyed(store).damaged
            found = {}
            for key in expected:
                try:
                    found[key] = _frozen(store[key])  # type: ignore[index]
                except (KeyError, CacheError):
                    continue
            others = set() if damaged else set(store) - set(expected)
    except CacheError:
        return "said"
    if others or any(found[key] != expected[key] for key in found):
        return "wrong"
    return "said" if damaged else "absent" if len(found) < len(expected) else "same"


def outcome(path: Path, expected: dict[object, object], record: tuple[str, str]) -> str:
    """`look` in a child process, which damage may crash or hang."""
    child = os.fork()
    if not child:
        code = len(OUTCOMES)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT_S)
            code = OUTCOMES.index(look(path, expected, record))
        except MemoryError:
            code = OUTCOMES.index("memory")
        except BaseException as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
    code = os.WEXITSTATUS(status)
    return OUTCOMES[code] if code < len(OUTCOMES) else "error"


def fuzz(count: int, seed: int, folder: Path) -> Counter[tuple[str, str, str]]:
    """So many trials: how often each (file, damage, outcome) came."""
    paths = write_files(folder)
    expected = [content_of(path) for path in paths]
    records = [(fingerprint(path), checksum(path)) if path.suffix == ".db" else ("", "") for path in paths]
    originals = [path.read_bytes() for path in paths]
    chance = random.Random(seed)
    counts: Counter[tuple[str, str, str]] = Counter()
    for trial in range(count):
        which, damage = trial % len(paths), DAMAGES[trial // len(paths) % len(DAMAGES)]
        data = bytearray(originals[which])
        damage(data, chance)
        paths[which].write_bytes(data)
        result = outcome(paths[which], expected[which], records[which])
        counts[paths[which].suffix + " " + paths[which].name.partition("-")[0], damage.__name__, result] += 1
        if result in ("wrong", "error"):
            print(f"seed {seed}, trial {trial}: {paths[which].name}, {damage.__name__}: {result}", file=sys.stderr)
    return counts


if __name__ == "__main__":
    number, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as name:
        found = fuzz(number, seed, Path(name))
    for row, times in sorted(found.items()):
        print(*row, times, sep="\t")
    print(dict(Counter(result for (_, _, result), times in found.items() for _ in range(times))))
    sys.exit(any(result in ("wrong", "error") for _, _, result in found))
