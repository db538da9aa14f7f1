"""Where every second of `lgsfm reconstruct` goes, as a table.

    python tests/benchmarks/profile_run.py IMAGES [--flags features=aliked max_keypoints=2048 pairs=exhaustive]

Runs all stages in a fresh output folder and times the calls between which the work divides. What happens in a thread
beside the networks (decoding, writing) is in brackets: it is no part of the sum. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

PARTS = [  # (row of the table, module, name of the function or method)
    ("extract: read, decode, resize", "lgsfm.extraction", "read_photo"),
    ("extract: network", "lgsfm.extractors.aliked", "AlikedExtractor.extract"),
    ("extract: votes on what is up", "lgsfm.run", "find_turns"),
    ("match: once per image", "lgsfm.matchers.lightglue", "LightGlueMatcher.prepare"),
    ("match: once per pair", "lgsfm.matchers.lightglue", "LightGlueMatcher.match_batch"),
    ("  (one pair, in older versions)", "lgsfm.matchers.lightglue", "LightGlueMatcher.match_prepared"),
    ("  linear layers", "lgsfm.models.linear", "InferenceLinear.forward"),
    ("  attention", "torch.nn.functional", "scaled_dot_product_attention"),
    ("  assignment", "lgsfm.models.lightglue_fast", "FastLightGlue.assign"),
    ("stores: write", "lgsfm.store", "_Store.__setitem__"),
    ("stores: read", "lgsfm.store", "_Store.__getitem__"),
    ("database: import", "lgsfm.database", "import_matches"),
    ("database: verify", "lgsfm.database", "verify_matches"),
    ("map", "lgsfm.run", "map_database"),
]


class Clock:
    """Seconds per row; apart those spent in the main thread."""

    def __init__(self) -> None:
        self.main: dict[str, float] = defaultdict(float)
        self.beside: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def wrap(self, row: str, module: str, name: str) -> None:
        """Times a function from now on; one that does not exist (in another version) is left out."""
        *path, last = name.split(".")
        try:
            owner: Any = import_module(module)
        except ModuleNotFoundError:
            return
        for part in path:
            owner = getattr(owner, part, None)
        if owner is not None and hasattr(owner, last):
            setattr(owner, last, self.timed(row, getattr(owner, last)))

    def timed(self, row: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                is_main = threading.current_thread() is threading.main_thread()
                (self.main if is_main else self.beside)[row] += time.perf_counter() - start
                self.calls[row] += 1

        return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flags", nargs="*", default=["features=aliked", "max_keypoints=2048", "pairs=exhaustive"])
    arguments = parser.parse_args()
    flags = {
        name: int(value) if value.isdigit() else value for name, _, value in (f.partition("=") for f in arguments.flags)
    }

    import lgsfm.pipeline

    clock = Clock()
    for part in PARTS:
        clock.wrap(*part)
    loaded = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        summary = lgsfm.pipeline.reconstruct(arguments.folder, output, **flags)
    total = time.perf_counter() - STARTED
    print(f"{'part':34} {'seconds':>8} {'share':>6} {'calls':>6}")
    print(f"{'start: imports':34} {loaded - STARTED:8.2f} {(loaded - STARTED) / total:6.1%}")
    for row, _, _ in PARTS:
        if clock.main[row]:
            print(f"{row:34} {clock.main[row]:8.2f} {clock.main[row] / total:6.1%} {clock.calls[row]:6}")
        if clock.beside[row]:
            print(f"{row:34} [{clock.beside[row]:6.2f}] beside {clock.calls[row]:6}")
    print(f"{'all':34} {total:8.2f}")
    print(f"stages: {summary.seconds}, registered {summary.num_reg_images} of {summary.num_images}")


if __name__ == "__main__":
    main()
