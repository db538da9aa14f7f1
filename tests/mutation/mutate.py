"""Mutation testing: small faults put into a module one by one, to see whether its own tests notice.

    python tests/mutation/mutate.py                        # a sample of 30 faults of each module of `TESTS`
    python tests/mutation/mutate.py store ranking --sample 0     # all faults of two modules
    python tests/mutation/mutate.py layers --line 118 --sample 0    # those of one line

It prints a table (see RESULTS.md for the last one) and each fault that no test has noticed: the line, what was there
and what took its place. Nothing in the working tree changes: the faults are put into a copy. It needs Linux (fork).

Faults: comparisons and arithmetic of the other kind, and/or, conditions negated, numbers one up, True/False, min/max,
any/all, a sign dropped, break/continue, a call or ``raise`` left out, None returned. Left as they are: texts, messages,
annotations, the numbers that a module sets at its top and those of its options, since a test of them would only repeat
them.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROPERTIES = "properties/test_properties_"
TESTS: dict[str, list[str]] = {  # module -> what tests it, without what takes long
    "batches": ["test_matching.py", f"{PROPERTIES}collections.py"],
    "camera_rules": ["test_camera_groups.py", f"{PROPERTIES}choices.py"],
    "codebook": ["test_codebook.py", f"{PROPERTIES}collections.py", "test_pairing_methods.py"],
    "database_record": ["test_database_record.py", f"{PROPERTIES}choices.py"],
    "epipolar": ["test_epipolar.py", "test_two_view.py", f"{PROPERTIES}geometry.py"],
    "evaluation": ["test_evaluation.py", f"{PROPERTIES}geometry.py"],
    "exif": ["test_exif.py", f"{PROPERTIES}geometry.py"],
    "files": ["test_files.py", f"{PROPERTIES}choices.py"],
    "hdf5": ["test_store.py", "test_integrity.py", f"{PROPERTIES}stores.py"],
    "healing": ["test_healing.py", f"{PROPERTIES}collections.py"],
    "image_files": ["test_image_files.py", "test_images.py"],
    "integrity/actions": ["test_integrity.py", "test_cli_cache.py"],
    "integrity/findings": ["test_integrity.py", "test_cli_cache.py"],
    "layers": ["test_layers.py", f"{PROPERTIES}collections.py"],
    "manifest": ["test_manifest.py"],
    "mapping/folder": ["test_models_folder.py"],
    "mask_pixels": ["test_masks.py", f"{PROPERTIES}geometry.py"],
    "matching": ["test_matching.py", f"{PROPERTIES}pairing.py"],
    "options": ["test_options.py", f"{PROPERTIES}choices.py"],
    "pairing/files": ["test_pairing.py", f"{PROPERTIES}pairing.py"],
    "pairing/ranking": ["test_pairing.py", f"{PROPERTIES}pairing.py", "test_pairing_methods.py"],
    "pairing/sequence": ["test_pairing.py", "test_pairing_methods.py", f"{PROPERTIES}pairing.py"],
    "poses": ["test_evaluation.py", "test_pairing_methods.py", f"{PROPERTIES}geometry.py"],
    "retrievers/asmk": [f"{PROPERTIES}collections.py", "test_pairing_methods.py"],
    "store": ["test_store.py", f"{PROPERTIES}stores.py"],
    "types": ["test_types.py", "test_store.py", "test_layers.py", "test_exif.py", f"{PROPERTIES}stores.py"],
    "upright": ["test_upright.py", f"{PROPERTIES}collections.py"],
    "view_graph/__init__": ["test_view_graph.py", f"{PROPERTIES}collections.py"],
}
OTHER_OPERATOR: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
}  # fmt: skip
OTHER_NAME = {"min": "max", "max": "min", "any": "all", "all": "any"}
SILENT = {"_log", "logger", "log", "warnings"}  # what they are told is for people


class Mutant(NamedTuple):
    """One fault."""

    line: int
    before: str
    after: str
    source: str  # of the whole module


def mutants(source: str) -> list[Mutant]:
    """All faults of a module, in the order of its lines."""
    tree = ast.parse(source)
    found = []
    for parent, field, index, node in _places(tree):
        for other in _others(node):
            _put(parent, field, index, other)
            text = ast.unparse(ast.fix_missing_locations(tree))
            found.append(Mutant(node.lineno, _one_line(node), _one_line(other), text))
            _put(parent, field, index, node)
    return sorted(found, key=lambda mutant: mutant[:3])


def _one_line(node: ast.AST) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())[:100]


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _places(parent: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Where faults may be: (parent, field, place in a list, node)."""
    for field, value in list(ast.iter_fields(parent)):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        nodes = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, node in nodes:
            if isinstance(node, ast.AST) and not _is_left(parent, node):
                yield parent, field, index, node
                if not isinstance(node, ast.Raise):
                    yield from _places(node)


def _is_left(parent: ast.AST, node: ast.AST) -> bool:
    """Whether no fault is wanted in a part of the tree."""
    if isinstance(parent, ast.Module) and isinstance(node, ast.Assign | ast.AnnAssign | ast.If):
        return True  # constants and TYPE_CHECKING
    if isinstance(parent, ast.ClassDef) and isinstance(node, ast.AnnAssign):
        return True  # fields, with the numbers of options
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        return called.split(".")[0] in SILENT or called.startswith("super().")
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """What may take the place of a node."""
    changed = copy.copy(node)
    match node:
        case ast.Compare(ops=ops):
            for i, operator in enumerate(ops):
                other = copy.copy(node)
                other.ops = [*ops[:i], OTHER_OPERATOR[type(operator)](), *ops[i + 1 :]]
                yield other
        case ast.BinOp(op=operator) | ast.BoolOp(op=operator) | ast.AugAssign(op=operator):
            if type(operator) in OTHER_OPERATOR:
                changed.op = OTHER_OPERATOR[type(operator)]()
                yield changed
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Name(id=name, ctx=ast.Load()) if name in OTHER_NAME:
            yield ast.Name(OTHER_NAME[name], ast.Load())
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Compare):  # which has a fault of its own
                changed.test = ast.UnaryOp(ast.Not(), test)
                yield changed
        case ast.Return(value=value) if value is not None and not _is_falsy(value):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Expr(value=ast.Call() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _is_falsy(value: ast.expr) -> bool:
    """Whether None in its place makes no difference to who asks for true or false."""
    return isinstance(value, ast.Constant) and not value.value


# --------------------------------------------------------------------------------- running
def run_tests(package: Path, tests: list[str], limit_s: float) -> tuple[str, float]:
    """What the tests say of the package in a folder: passed, failed or hanging; and how long it took."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()  # so that what it starts ends with it
        _in_child(package, tests)
    while time.monotonic() - begun < limit_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return ("passed" if code == 0 else "failed"), time.monotonic() - begun
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hanging", time.monotonic() - begun


def _in_child(package: Path, tests: list[str]) -> None:
    """Runs pytest on the copy of the package, and ends the process."""
    import pytest

    code = 1
    try:
        sys.path.insert(0, str(package))
        os.environ["PYTHONPATH"] = str(package)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        files = [str(ROOT / "tests" / test) for test in tests]
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *files])
    finally:
        os._exit(int(code))


def tested(module: str, chosen: list[Mutant], total: int) -> str:
    """Puts the faults into a copy of the package, tells of those that no test has noticed, and gives a table's row."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(ROOT / "lgsfm", package / "lgsfm", ignore=shutil.ignore_patterns("__pycache__"))
        target = package / "lgsfm" / f"{module}.py"
        state, seconds = run_tests(package, TESTS[module], 600)
        if state != "passed":
            raise SystemExit(f"{module}: the tests {TESTS[module]} do not pass without a fault.")
        counts = dict.fromkeys(("passed", "failed", "hanging"), 0)
        for mutant in chosen:
            target.write_text(mutant.source, encoding="utf-8")
            state, _ = run_tests(package, TESTS[module], 20 + 8 * seconds)
            counts[state] += 1
            if state == "passed":
                print(f"{module}.py:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
    noticed = len(chosen) - counts["passed"]
    share = f"{100 * noticed / len(chosen):.0f} %" if chosen else "-"
    return f"| `{module}` | {total} | {len(chosen)} | {noticed} | {counts['hanging']} | {share} | {seconds:.1f} |"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of: {' '.join(TESTS)}")
    parser.add_argument("--sample", type=int, default=30, help="faults of each module, drawn by chance; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--line", type=int, action="append", help="only faults of this line; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the faults and test nothing")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["LGSFM_NO_SHRINKING"] = "1"  # a fault is noticed by the first example that fails
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two faults may be written within the same second
    sys.dont_write_bytecode = True
    if not arguments.list:
        import cv2  # noqa: F401 - once for all
    rows = []
    for module in arguments.modules or TESTS:
        found = mutants((ROOT / "lgsfm" / f"{module}.py").read_text(encoding="utf-8"))
        chosen = [mutant for mutant in found if arguments.line is None or mutant.line in arguments.line]
        if arguments.sample and len(chosen) > arguments.sample:
            chosen = sorted(random.Random(arguments.seed).sample(chosen, arguments.sample))
        if arguments.list:
            print(*(f"{module}.py:{m.line}: {m.before}  ->  {m.after}" for m in chosen), sep="\n")
            continue
        rows.append(tested(module, chosen, len(found)))
        print(rows[-1], flush=True)
    print("\n| module | faults | tried | noticed | of them hanging | share | seconds of the tests |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
