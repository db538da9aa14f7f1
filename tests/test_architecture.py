"""The shape of the package: imports point down, each dependency has one home, the public names are what they say."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lgsfm

ROOT = Path(lgsfm.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

# From top to bottom. A module imports from rows below its own; a package counts as one unit.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"importing"},
    {"citing", "exporting", "localization", "viewing"},
    {"finished"},
    {"pipeline", "pair", "speed"},
    {"report", "run", "sources"},
    {"integrity", "manifest_comparison"},
    {"database_update", "destination", "doctor", "finer", "healer", "manifest"},
    {"workspace", "forecast"},
    {"summary", "rates", "room", "texture"},
    {"settings", "estimate"},
    {"diagnosis"},
    {"database_record", "healing", "remedies"},
    {"extraction", "upright", "pairing", "matching", "database", "mapping"},  # the stages
    {"evaluation", "two_view"},
    {"rigs"},
    {"batches", "focal", "camera_groups", "layers", "view_graph"},  # what serves them
    {"camera_rules", "records"},
    {"cameras", "drawing", "epipolar", "panoramas", "video"},
    {"salvage"},
    {"registry", "store", "child", "poses", "files", "background", "machine", "masks", "rendering"},
    {"database_reading", "hdf5", "model_files", "silence"},
    {"estimators", "matchers", "retrievers", "hf"},
    {"extractors"},
    {"codebook", "images", "models"},
    {"bars", "weights"},
    {"observer"},
    {"types"},
    {"decoding"},
    {"image_checks"},
    {"image_headers"},
    {"heif", "raw_photos"},
    {"exif", "image_files", "mask_pixels", "options"},
    {"input_kinds", "photo_formats"},
    {"tiff_tags"},
    {"citations", "disk", "errors", "printable", "replaced", "signals", "threads"},
]
COMPONENTS = ("estimators", "extractors", "matchers", "retrievers")
SHARED = {"extractors.network"}  # what components of a kind may import beside the `__init__` of their package

HOMES = {  # dependency -> the modules (or packages) that may import it
    "PIL": {"image_headers", "decoding", "exif", "drawing", "heif", "hf", "raw_photos"},
    "cv2": {
        "images",
        "image_headers",
        "decoding",
        "extractors.sift",
        "estimators.opencv",
        "drawing",
        "panoramas",
        "rendering",
        "report.pictures",
        "video",
    },
    "h5py": {"hdf5", "store", "exporting.hloc", "importing.hloc"},
    "jinja2": {"report.page"},
    "networkx": {"view_graph"},
    "pillow_heif": {"heif"},
    "poselib": {"estimators.poselib"},
    "pycolmap": {
        "database",
        "model_files",
        "camera_groups",
        "cameras",
        "estimators.colmap",
        "exporting",
        "importing",
        "localization",
        "mapping",
        "poses",
    },
    "rawpy": {"raw_photos"},
    "safetensors": {"weights"},
    "shtab": {"cli.completion"},
    "torch": {"machine", "models", "weights", "hf", *COMPONENTS},
    "tqdm": {"bars", "cli"},
    "transformers": {"retrievers.dinov2"},
    "numpy": None,  # anywhere
}
MAX_LINES = 480


def unit(module: str) -> str:
    """The row entry of a module: its package, or itself; the helpers of ``weights`` count as ``weights``."""
    first = module.split(".")[0]
    return "weights" if first.startswith("weights_") else first


def imports(module: str) -> set[str]:
    """What a module imports anywhere in it, in functions too: own modules as ``.name``, others by their top name."""
    package = module.split(".")[:-1]  # of `a.b` and of `a.__init__`: a
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            targets = [".".join([*base, alias.name]) for alias in node.names]  # `from .. import weights`
            found |= {"." + (target if target in MODULES else ".".join(base)) for target in targets}
    return found


def own_imports(module: str) -> set[str]:
    return {name[1:] for name in imports(module) if name.startswith(".")} - {""}  # "": `from . import __version__`


def is_package_root(module: str) -> bool:
    return module == "__init__"  # re-exports everything on demand


def row(module: str) -> int:
    rows = [i for i, names in enumerate(LAYERS) if unit(module) in names]
    assert rows, f"lgsfm.{module} is in no row of LAYERS: say where it belongs"
    return rows[0]


@pytest.mark.parametrize("module", [name for name in MODULES if not is_package_root(name)])
def test_imports_point_down(module):
    own = row(module)
    wrong = {other for other in own_imports(module) if unit(other) != unit(module) and row(other) <= own}
    assert not wrong, f"lgsfm.{module} imports {wrong} from its own row or from above"


def test_components_do_not_import_each_other():
    for module in MODULES:
        package, _, name = module.partition(".")
        if package in COMPONENTS and name != "__init__":
            siblings = {other for other in own_imports(module) if other.startswith(f"{package}.")}
            assert siblings <= {f"{package}.__init__", *SHARED}, f"{module} imports {siblings}"


@pytest.mark.parametrize("module", MODULES)
def test_each_dependency_has_its_home(module):
    outside = {name for name in imports(module) if not name.startswith(".")} - set(sys.stdlib_module_names)
    for name in outside - {"lgsfm"}:
        assert name in HOMES, f"lgsfm.{module} imports {name}, which is no dependency"
        homes = HOMES[name]
        assert homes is None or {module, unit(module)} & homes, f"lgsfm.{module} imports {name}; its homes: {homes}"
    assert "lgsfm" not in outside, "imports inside the package are relative"


def test_dependencies_are_declared():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    declared = " ".join(
        [
            *project["dependencies"],
            *project["optional-dependencies"]["completion"],
            *project["optional-dependencies"]["heic"],
            *project["optional-dependencies"]["poselib"],
            *project["optional-dependencies"]["raw"],
            *project["optional-dependencies"]["retrieval"],
        ]
    )
    names = {"PIL": "pillow>=10", "pillow_heif": "pillow-heif", "cv2": "opencv-python-headless"}
    assert [name for name in HOMES if names.get(name, name) not in declared] == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import lgsfm", ["torch", "pycolmap", "cv2", "h5py", "numpy"]),
        ("import lgsfm.cli, lgsfm.settings; list(lgsfm.settings.flag_fields())", ["torch", "transformers"]),
    ],
)
def test_heavy_libraries_wait_until_they_are_needed(statement, absent):
    code = f"import sys; {statement}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_resolve():
    assert lgsfm.__all__ == sorted(lgsfm.__all__)
    for name in lgsfm.__all__:
        assert getattr(lgsfm, name).__module__ == f"lgsfm.{lgsfm._HOMES[name]}"
    with pytest.raises(AttributeError, match="has no attribute 'reconstrukt'"):
        lgsfm.reconstrukt  # noqa: B018


def test_type_checkers_see_the_same_public_names():
    (block,) = (node for node in TREES["__init__"].body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == lgsfm._HOMES
    assert sorted(seen) == lgsfm.__all__


@pytest.mark.parametrize("module", MODULES)
def test_modules_say_what_they_are(module):
    assert ast.get_docstring(TREES[module])
    if module.split(".")[-1] != "__main__":  # importing that runs it
        imported = import_module(f"lgsfm.{module}".removesuffix(".__init__"))
        assert [name for name in getattr(imported, "__all__", []) if not hasattr(imported, name)] == []


def test_modules_stay_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}
