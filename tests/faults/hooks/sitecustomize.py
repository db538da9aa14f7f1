"""What the programs beside this folder need inside the processes that they disturb; idle unless FAULTS_LEDGER is set.

Python runs this file at its start where the folder is on PYTHONPATH. A *ledger*, one JSON object per line, tells which
stage a run is in and which entries it has been told are finished, whatever becomes of the stores afterwards. Pauses
(FAULTS_PAUSE_S) make moments longer that are too short to be hit by chance: around flushes, renames and deletions.

FAULTS_LEDGER         file that lines are appended to
FAULTS_PAUSE_S        the longest pause; 0 or unset: none
FAULTS_SNAPSHOT       snapshots of the mapper after so many images
FAULTS_HALT           "extract:2": stands still in this stage after so many photos or pairs (extract, match) or calls of
                      COLMAP (database, map), and says so in the ledger, until the file FAULTS_GO is there
FAULTS_CHILD          "target:fault": this fault once a child process has loaded COLMAP: abort, segfault, hang or kill
"""

import json
import os
import random
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

LEDGER = os.environ.get("FAULTS_LEDGER", "")
PAUSE_S = float(os.environ.get("FAULTS_PAUSE_S") or 0)
HALT, _, HALT_AFTER = os.environ.get("FAULTS_HALT", "").partition(":")


def note(**line):
    """One line of the ledger, written at once."""
    file = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, json.dumps({**line, "time": time.time()}).encode() + b"\n")
    os.close(file)


def slowly(function):
    """The function between two pauses."""

    def call(*arguments, **options):
        time.sleep(random.random() * PAUSE_S)
        try:
            return function(*arguments, **options)
        finally:
            time.sleep(random.random() * PAUSE_S)

    return call if PAUSE_S else function


def halting(function, stage):
    """The function, which stands still before one of its calls, if that is wanted of this stage."""
    calls = []

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == int(HALT_AFTER) + 1:
            note(halted=stage)
            while not os.path.exists(os.environ["FAULTS_GO"]):
                time.sleep(0.02)
        return function(*arguments, **options)

    return call if stage == HALT else function


def after_store(module):
    """Entries are in the ledger once the store has said that they are written."""
    module.h5py.File.flush = slowly(module.h5py.File.flush)
    write_all = module._Store.write_all

    def noted(self, entries):
        write_all(self, entries)
        note(entries=[[self.path.name, key] for key in entries])

    module._Store.write_all = noted


def after_run(module):
    """Stages are in the ledger when they begin."""
    stage, finish = module.Run._stage, module.Run.finish

    def begun(self, name):
        note(stage=name)
        return stage(self, name)

    def finishing(self, *arguments):
        note(stage="finish")
        return finish(self, *arguments)

    module.Run._stage, module.Run.finish = begun, finishing


def after_nearest(module):
    """A matcher that takes its time."""
    module.NearestMatcher.match_prepared = halting(slowly(module.NearestMatcher.match_prepared), "match")


def after_sift(module):
    """An extractor that stands still."""
    module.SiftExtractor.extract = halting(module.SiftExtractor.extract, "extract")


def after_snapshots(module):
    """Snapshots of small models."""
    module.SNAPSHOT_IMAGES = int(os.environ.get("FAULTS_SNAPSHOT") or module.SNAPSHOT_IMAGES)


def after_pycolmap(module):
    """A child that dies inside of COLMAP, or stands still."""
    module.geometric_verification = halting(module.geometric_verification, "database")
    module.incremental_mapping = halting(module.incremental_mapping, "map")
    target, _, fault = os.environ.get("FAULTS_CHILD", "").partition(":")
    if target and "lgsfm.child" in sys.orig_argv:
        setattr(module, target, lambda *arguments, **options: FAULTS[fault]())


def abort():
    """As a failed CHECK of COLMAP's."""
    os.write(2, b"F20260101 00:00:00 1 reconstruction.cc:1] Check failed: a == b (1 vs. 2)\n")
    os.abort()


FAULTS = {
    "abort": abort,
    "segfault": lambda: os.kill(os.getpid(), 11),
    "kill": lambda: os.kill(os.getpid(), 9),
    "hang": lambda: time.sleep(3600),
}
AFTER = {
    "lgsfm.store": after_store,
    "lgsfm.run": after_run,
    "lgsfm.extractors.sift": after_sift,
    "lgsfm.matchers.nearest": after_nearest,
    "lgsfm.mapping.snapshots": after_snapshots,
    "pycolmap": after_pycolmap,
}


class _After(MetaPathFinder):
    """Calls the functions above when their modules have been loaded."""

    def find_spec(self, name, path, target=None):
        spec = PathFinder.find_spec(name, path) if name in AFTER else None
        if spec and spec.loader:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                AFTER[name](module)

            spec.loader.exec_module = exec_module
        return spec


if LEDGER:
    sys.meta_path.insert(0, _After())
    os.replace, os.rename, os.rmdir = slowly(os.replace), slowly(os.rename), slowly(os.rmdir)
