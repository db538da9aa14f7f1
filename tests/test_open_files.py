"""A run keeps few files open, however many photos there are."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

PHOTOS = 200
MOST_FILES = 64  # that a process may have open; the libraries alone take about a dozen

RUN = """
import json, os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
from lgsfm.observer import Observer
from lgsfm.run import Run
from lgsfm.settings import Settings

class Watch(Observer):
    files = {}
    def progress(self, stage):
        return lambda done, total: self.files.setdefault(stage, []).append(len(os.listdir("/proc/self/fd")))

flags = {"features": "sift", "max_keypoints": 64, "pairs": "sequential", "overlap": 2, "upright": "exif"}
with Run(Path(sys.argv[1]), Path(sys.argv[2]), Settings.from_flags(flags), Watch()) as run:
    run.extract()
    run.match(run.select_pairs())
    run.build_database()
    counts = run.summary.computed
print(json.dumps([counts, Watch.files, len(os.listdir("/proc/self/fd"))]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the files in /proc")
def test_the_number_of_open_files_does_not_follow_the_number_of_photos(tmp_path, texture, save_photo):
    picture = texture(320, 240)
    for i in range(PHOTOS):
        y, x = np.unravel_index(i, (10, 20))
        save_photo(tmp_path / "images" / f"{i:03}.png", picture[8 * y : 8 * y + 72, 8 * x : 8 * x + 96])
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "images"), str(tmp_path / "out"), str(MOST_FILES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    computed, files, at_the_end = json.loads(done.stdout)
    assert computed["extract"] == PHOTOS
    assert computed["match"] == computed["database"] == 2 * PHOTOS - 3
    for stage in ("extract", "match"):
        counts = files[stage]
        assert len(counts) > 50
        assert max(counts[len(counts) // 2 :]) <= max(counts[: len(counts) // 2])
    assert at_the_end <= min(files["extract"])
