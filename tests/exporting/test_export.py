"""Exports as a whole: formats, places, names that lead astray, and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pycolmap
import pytest
from cli_helpers import run, run_process
from export_scenes import NAMES, World, make_world, write_model

from lgsfm import export
from lgsfm.errors import CacheError, InputError
from lgsfm.exporting import FORMATS
from lgsfm.exporting.scene import flat_names
from lgsfm.options import Options

WITHOUT_EXTRAS = sorted(set(FORMATS) - {"geo", "hloc", "rerun"})  # what any output folder with photos can become


@pytest.fixture
def world(tmp_path) -> World:
    return make_world(tmp_path)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --------------------------------------------------------------------------------- formats
def test_each_format_keeps_its_promise_to_the_registry():
    taken: set[str] = set()
    for name, each in FORMATS.items():
        assert issubclass(each.options_class(), Options), name
        assert "{path}" in each.opened_by or each.opened_by.startswith("Blender"), name
        flags = {field.name for field, _ in each.options_class().fields()}
        assert not flags & taken, "two formats share a flag: the command line cannot tell them apart"
        taken |= flags


@pytest.mark.parametrize("name", WITHOUT_EXTRAS)
def test_exports_lie_in_the_output_folder_and_change_nothing_else(world, name):
    before = {path: path.read_bytes() for path in (world.output / "sparse").rglob("*.bin")}
    done = export(world.output, name)
    assert done.path == world.output / "export" / FORMATS[name].place
    assert done.path.exists()
    assert {path.name for path in world.output.iterdir()} == {"export", "options.json", "sparse", "summary.json"}
    assert [path.name for path in done.path.parent.iterdir()] == [done.path.name]  # nothing half written beside it
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (done.num_images, done.num_points3D) == (len(NAMES), 60)


def test_text_model_is_read_by_colmap(world, tmp_path):
    for encoding in ("text", "binary"):
        done = export(world.output, "colmap", tmp_path / encoding, encoding=encoding)
        model = pycolmap.Reconstruction(done.path)
        assert model.num_reg_images() == len(NAMES)
        assert model.compute_mean_reprojection_error() < 1e-3
        assert bool(done.notes) == (encoding == "text")  # a name with a space, which COLMAP cuts there
    assert {image.name for image in pycolmap.Reconstruction(tmp_path / "binary").images.values()} == set(NAMES)


def test_unknown_formats_and_options_name_the_valid_ones(world):
    with pytest.raises(InputError, match=r"Available: bundler, .*Did you mean 'nerfstudio'"):
        export(world.output, "nerfstudoi")
    with pytest.raises(InputError, match="max_edge_px"):
        export(world.output, "gaussians", max_edge=3)


# --------------------------------------------------------------------------------- models
def test_other_models_have_places_of_their_own(world):
    write_model(world.model, world.output, 1)
    first, second = (export(world.output, "ply", model=number).path.name for number in (0, 1))
    assert (first, second) == ("points.ply", "points-model1.ply")
    with pytest.raises(InputError, match=r"no model 7 .*there are 0, 1"):
        export(world.output, "ply", model=7)


def test_folders_without_a_model_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="lgsfm reconstruct"):
        export(tmp_path, "ply")
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------- places
def test_an_export_is_replaced_and_nothing_else_is(world, tmp_path):
    target = tmp_path / "gs"
    export(world.output, "nerfstudio", target)
    (target / "transforms.json").unlink()
    export(world.output, "nerfstudio", target)
    assert (target / "transforms.json").exists()
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty, and what is there is no export"):
        export(world.output, "nerfstudio", foreign)
    assert files_below(foreign) == {"chapter1.tex"}


def test_what_was_put_into_an_export_is_not_thrown_away(world, tmp_path):
    export(world.output, "colmap", tmp_path / "scene")
    with pytest.raises(InputError, match=r"scene is an export of the format colmap\. Choose"):
        export(world.output, "nerfstudio", tmp_path / "scene")
    (tmp_path / "scene" / "splats").mkdir()
    (tmp_path / "scene" / "splats" / "trained.ply").write_text("mine")
    with pytest.raises(InputError, match=r"scene holds what no export wrote: splats/trained\.ply"):
        export(world.output, "colmap", tmp_path / "scene")
    (tmp_path / "scene" / "splats" / "trained.ply").unlink()
    export(world.output, "colmap", tmp_path / "scene")


@pytest.mark.parametrize("name", ["ply", "glb"])
def test_a_file_that_was_exported_is_replaced_and_no_other(world, tmp_path, name):
    target, mine = tmp_path / f"points.{name}", tmp_path / f"mine.{name}"
    first = export(world.output, name, target)
    whole = target.read_bytes()
    assert export(world.output, name, target) == first
    assert target.read_bytes() == whole
    for content in (b"ply\nformat ascii 1.0\nend_header\n", b"years of work"):
        mine.write_bytes(content)
        with pytest.raises(InputError, match="not replaced"):
            export(world.output, name, mine)
        assert mine.read_bytes() == content
    default = export(world.output, name).path
    default.write_bytes(b"of an older version")
    export(world.output, name)
    assert default.read_bytes() == whole


def test_a_link_is_no_place_for_an_export(world, tmp_path):
    export(world.output, "nerfstudio", tmp_path / "there")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(InputError, match="is a link"):
        export(world.output, "nerfstudio", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "place", [".", "..", "sparse", "sparse/5", "database.db", "elsewhere", "../photos", "../photos/new"]
)
def test_no_export_goes_into_the_run_or_the_photos(world, place):
    before = files_below(world.output.parent)
    with pytest.raises(InputError, match="-o"):
        export(world.output, "nerfstudio", world.output / place)
    assert files_below(world.output.parent) == before


def test_a_file_is_no_folder_and_has_its_suffix(world, tmp_path):
    (tmp_path / "there").mkdir()
    for place in ("there", "points", "points.glb"):
        with pytest.raises(InputError, match=r"ends in \.ply"):
            export(world.output, "ply", tmp_path / place)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        export(world.output, "nerfstudio", tmp_path / "file")


def test_what_fails_leaves_the_export_of_before(world, tmp_path, monkeypatch):
    target = tmp_path / "ns"
    export(world.output, "nerfstudio", target)
    before = files_below(target)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lgsfm.exporting.nerfstudio.transforms", fail)
    with pytest.raises(CacheError, match="No space left on device"):
        export(world.output, "nerfstudio", target)
    assert files_below(target) == before
    assert {path.name for path in tmp_path.iterdir()} == {"ns", "out", "photos"}


# --------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    "name", ["../../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", r"..\evil.jpg", r"C:\evil.jpg", ""]
)
@pytest.mark.parametrize("format", ["nerfstudio", "gaussians", "glb", "colmap"])
def test_names_of_a_hostile_model_lead_nowhere(world, tmp_path, name, format):
    world.image("c.jpg").name = name
    world.model.write(world.output / "sparse" / "0")
    before = files_below(tmp_path)
    with pytest.raises(InputError, match="names are relative and stay in the folder"):
        export(world.output, format, tmp_path / "target.glb")
    assert files_below(tmp_path) == before


def test_photos_without_their_folders_stay_apart():
    names = ["a/1.jpg", "b/1.jpg", "a_1.jpg", "A/1.JPG", "x.jpg"]
    flat = flat_names(names)
    assert flat["x.jpg"] == "x.jpg"
    assert flat["a_1.jpg"] == "a_1.jpg"  # which has it already
    assert len({name.lower() for name in flat.values()}) == len(names)
    assert all("/" not in name for name in flat.values())
    assert flat_names(names[::-1]) == flat


# --------------------------------------------------------------------------------- command line
def test_without_a_format_the_formats_are_listed(world):
    listed = run("export", world.output)
    assert listed.code == 0
    assert re.findall(r"^  (\w+)", listed.out, re.MULTILINE) == sorted(FORMATS)
    helped = run("export", "--help")
    assert all(f"\n{line}\n" in helped.out + "\n" for line in listed.out.splitlines()[1:])
    assert "Example: lgsfm export out gaussians" in helped.out


def test_command_says_what_it_wrote_and_who_opens_it(world, tmp_path):
    target = tmp_path / "folder with spaces" / "points.ply"
    ran = run("export", world.output, "ply", "-o", target)
    assert (ran.code, target.is_file()) == (0, True)
    assert f"Written   {target}  (ply: 6 photos, 60 points)" in ran.out
    assert "Open with meshlab" in ran.out
    ran = run("export", world.output, "gaussians", "--max-edge-px", "100", "--json")
    told = json.loads(ran.out)
    assert told["path"] == str(world.output / "export" / "gaussians")
    assert json.loads((Path(told["path"]) / "lgsfm-export.json").read_text())["options"] == {"max_edge_px": 100}


def test_command_refuses_options_of_other_formats(world):
    ran = run("export", world.output, "ply", "--max-edge-px", "100")
    assert ran.code == 1
    assert "--max-edge-px is an option of the format gaussians, not of ply" in ran.err
    assert run("export", world.output, "plx").code == 1


def test_as_a_process_of_its_own(world):
    ran = run_process("export", world.output, "glb")
    assert ran.code == 0
    assert ran.err.strip() == f"Photos: {world.photos}, as the output folder says; --images DIR names another."
    assert (world.output / "export" / "model.glb").is_file()
