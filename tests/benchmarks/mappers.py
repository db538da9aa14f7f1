"""How the mappers compare on one database, whole or with a share of its matches: registered photos, AUC, seconds.

    python tests/benchmarks/mappers.py OUT/database.db ground_truth.txt --share 0.05

Of each pair with matches a random share is kept and verified again, as if the photos were harder. The database is not
changed. One thread, so that the models are exactly the same each time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pycolmap

from lgsfm import LgsfmError
from lgsfm.database import VerificationOptions, verify_matches
from lgsfm.evaluation import evaluate
from lgsfm.mapping import MappingOptions, map_database, mapping_note


def thin(path: Path, share: float) -> None:
    """Keeps a share of the matches of each pair, and verifies them again."""
    rng = np.random.default_rng(0)
    database = pycolmap.Database.open(path)
    pair_ids, matches = database.read_all_matches()
    database.clear_matches()
    database.clear_two_view_geometries()
    for pair_id, found in zip(pair_ids, matches, strict=True):
        kept = found[rng.random(len(found)) < share]
        if len(kept) >= 8:
            database.write_matches(*pycolmap.pair_id_to_image_pair(pair_id), kept)
    database.close()
    verify_matches(path, VerificationOptions(), log_path=path.with_name("log"))


def main() -> None:
    """Maps a copy with each mapper and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("truth", type=Path, nargs="?")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--mappers", nargs="+", default=["incremental", "global", "auto"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        database = Path(shutil.copy(arguments.database, work / "database.db"))
        (work / "photos").mkdir()
        if arguments.share < 1:
            thin(database, arguments.share)
        for mapper in arguments.mappers:
            start = time.perf_counter()
            options, output = MappingOptions(mapper=mapper, threads=1), work / mapper
            try:
                models = map_database(database, work / "photos", output, options, log_path=work / "log")
            except LgsfmError as exc:
                print(f"{mapper:12} {exc}")
                continue
            seconds = time.perf_counter() - start
            sizes = ", ".join(str(model.num_reg_images) for model in models) or "none"
            auc = evaluate(output / "0", arguments.truth).auc if models and arguments.truth else {}
            figures = " / ".join(f"{auc[limit]:.1f}" for limit in (1, 3, 5, 10) if limit in auc)
            print(f"{mapper:12} registered {sizes}   AUC@1/3/5/10 {figures}   {seconds:.1f} s   {mapping_note(models)}")


if __name__ == "__main__":
    main()
