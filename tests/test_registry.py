import logging
import sys

import pytest

from lgsfm import registry
from lgsfm.errors import InputError
from lgsfm.registry import BUILT_IN, available, component_class, component_classes
from lgsfm.settings import Settings

PLUGIN = """
from lgsfm.options import Options
from lgsfm.extractors import ExtractorOptions
class Corners:
    kind, matcher, options_class = "corners", "nearest", ExtractorOptions
    def extract(self, photo): ...
class NoOptions:
    kind, matcher, extract = "corners", "nearest", None
class NoPresets(NoOptions):
    options_class = Options
class NoMethods:
    options_class = ExtractorOptions
NUMBER = 7
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with entry points, as pip leaves it behind: ``install(group, {name: "module:Class"})``."""

    def add(group, points):
        info = tmp_path / "somebody-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[lgsfm.{group}]", *lines]))
        (tmp_path / "somebody.py").write_text(PLUGIN)
        forget()

    def forget():
        available.cache_clear()
        component_classes.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield add
    sys.modules.pop("somebody", None)
    forget()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILT_IN.items() for name in names])
def test_built_in_components_exist(kind, name):
    component = component_class(kind, name)
    assert f"{component.__module__}:{component.__qualname__}" == BUILT_IN[kind][name]
    assert component.__module__.startswith(f"lgsfm.{kind}s.")


@pytest.mark.parametrize(
    ("kind", "typo", "near"), [("extractor", "supperpoint", "superpoint"), ("matcher", "lightglu", "lightglue")]
)
def test_unknown_name_lists_what_there_is(kind, typo, near):
    with pytest.raises(InputError) as caught:
        component_class(kind, typo)
    assert f"Unknown {kind} '{typo}'. Available: {', '.join(sorted(BUILT_IN[kind]))}" in str(caught.value)
    assert f"Did you mean '{near}'?" in str(caught.value)


def test_another_package_adds_an_extractor(install):
    install("extractors", {"corners": "somebody:Corners"})
    assert list(available("extractor")) == sorted([*BUILT_IN["extractor"], "corners"])
    assert component_class("extractor", "corners").__module__ == "somebody"
    assert Settings.from_flags({"features": "corners"}).run.features == "corners"
    assert "corners" not in available("matcher")


def test_a_built_in_name_cannot_be_taken(install):
    install("extractors", {"sift": "somebody:Corners"})
    assert component_class("extractor", "sift").__module__ == "lgsfm.extractors.sift"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_module_of_anybody:Corners", "cannot be loaded: No module named"),
        ("somebody:Edges", "cannot be loaded: module 'somebody' has no attribute"),
        ("raises:Corners", "cannot be loaded: made for another version"),
        ("ends:Corners", "cannot be loaded: 3"),
        ("somebody", "cannot be loaded: module 'somebody' has no attribute"),
        ("somebody:NUMBER", "lacks kind, matcher, extract"),
        ("somebody:NoOptions", "lacks options_class"),
        ("somebody:NoPresets", "has an options_class that is no subclass of"),
        ("somebody:NoMethods", "lacks kind, matcher, extract"),
    ],
)
def test_a_broken_package_does_not_stop_the_others(install, target, problem, caplog, tmp_path):
    (tmp_path / "raises.py").write_text("raise RuntimeError('made for another version')")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)")
    install("extractors", {"broken": target})
    with caplog.at_level(logging.WARNING, logger=registry.__name__):
        for _ in range(2):
            assert Settings.from_flags({"features": "sift", "contrast_threshold": 0.02}).run.features == "sift"
    assert caplog.text.count("'broken'") == 1
    assert f"'broken' ({target}) {problem}" in caplog.text
    with pytest.raises(InputError, match="Repair or remove its package 'somebody'"):
        component_class("extractor", "broken")
    with pytest.raises(InputError, match="Repair or remove its package 'somebody'"):
        Settings.from_flags({"features": "broken"}).make_extractor("broken")
