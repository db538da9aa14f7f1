"""The report of a real run: it says what summary.json says, shows all photos, and stays one file that trusts nobody."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from cli_helpers import SIFT, copy_photos, run, summary_of, views
from report_helpers import HOSTILE, Page, make_run, read_page

from lgsfm import FeatureStore, MatchStore, evaluate, reconstruct
from lgsfm.errors import InputError, ReconstructionError
from lgsfm.observer import Observer
from lgsfm.report import write_report
from lgsfm.report.collect import collect
from lgsfm.report.pairs import ShownPair, choose_pairs, draw_pairs


@pytest.fixture(scope="module")
def finished(courtyard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run with failures."""
    return make_run(courtyard, tmp_path_factory.mktemp("report é"))


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    """The page that the run left behind."""
    return read_page(finished / "report.html")


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """The output folder, for a test to damage."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


# ---------------------------------------------------------------------------- what it says
def test_figures_are_those_of_the_summary(page: Page, finished: Path) -> None:
    summary = summary_of(finished)
    assert int(page.figure("num_reg_images")) == summary["num_reg_images"] == 6
    assert f"of {summary['num_images']}" in page.all("dd", **{"data-figure": "num_reg_images"})[0].all_text
    assert int(page.figure("models")) == len(summary["models"])
    assert int(page.figure("num_points3D")) == summary["num_points3D"]
    for name in ("mean_track_length", "mean_reprojection_error_px"):
        assert float(page.figure(name)) == pytest.approx(summary[name], abs=0.0051)
    assert page.all("h1")[0].text == "6 of 9 photos are in the model"
    assert page.all("time")[0].attributes["datetime"] == summary["finished"]
    for stage, seconds in summary["seconds"].items():
        text = f"{seconds:.1f} s" if seconds < 10 else f"{round(seconds)} s"
        assert any(text in row.all_text for row in page.all("tr")), stage
    for version in summary["versions"].values():
        assert version in [row.text for row in page.all("dd")]


def test_all_photos_are_there_once_with_state_and_reason(page: Page, finished: Path) -> None:
    summary = summary_of(finished)
    shown = {item.attributes["data-name"]: item.attributes for item in page.all("li") if "photo" in item.classes}
    assert len([item for item in page.all("li") if "photo" in item.classes]) == len(shown) == summary["num_images"]
    reasons = {row["image"]: row["reason"] for row in summary["diagnoses"]}
    assert reasons == {"blank.jpg": "no features", "broken.jpg": "unreadable", "other.png": "few matches"}
    assert {name: found["data-reason"] for name, found in shown.items() if "data-reason" in found} == reasons
    for name, found in shown.items():
        assert found["data-state"] == ("failed" if name in reasons else "registered")
    text = page.root.all_text
    for row in summary["diagnoses"]:
        assert row["evidence"] in text
        assert row["advice"] in text
        assert row["command"] in text


def test_photos_have_pictures_that_can_be_decoded_and_a_text_instead(page: Page) -> None:
    pictures = page.all("img")
    assert all("alt" in picture.attributes for picture in pictures)
    enlarged = [picture for picture in pictures if picture.attributes.get("id", "").startswith("photo-")]
    assert {picture.attributes["alt"] for picture in enlarged} == {photo["name"] for photo in page.data["photos"]} - {
        "broken.jpg"
    }
    for picture in enlarged:
        kind, data = picture.attributes["src"].split(";base64,")
        assert kind == "data:image/jpeg"
        assert base64.b64decode(data).startswith(b"\xff\xd8")


def test_it_tells_of_pairs_cameras_and_choices(page: Page, finished: Path) -> None:
    summary = summary_of(finished)
    text = " ".join(page.root.all_text.split())
    assert f"{summary['num_pairs_verified']} of {summary['num_pairs']} matched pairs passed" in text
    told = page.data["pairs"]
    assert len(told) == summary["num_pairs"]
    assert sum(row[3] > 0 for row in told) == summary["num_pairs_verified"]
    assert "Most inliers" in text
    assert text.count("SIMPLE_RADIAL:") == sum(
        any(name not in summary["unregistered"] for name in camera["images"]) for camera in summary["cameras"]
    )
    assert "--max-keypoints 1500" in text


def test_a_reference_adds_its_figures(finished: Path, courtyard: Path, tmp_path: Path) -> None:
    truth = courtyard / "ground_truth.txt"
    ended = run("report", finished, "--reference", truth, "-o", tmp_path / "with.html")
    assert (ended.code, ended.out.strip()) == (0, str(tmp_path / "with.html"))
    page, result = read_page(tmp_path / "with.html"), evaluate(finished, truth)
    assert float(page.figure("auc5")) == pytest.approx(result.auc[5], abs=0.051)
    rows = {row.children[0].text: row.children[1].text for row in page.all("tr") if len(row.children) == 2}
    assert rows["Reference images with a pose"] == f"{result.num_registered} of {result.num_images}"
    assert rows["Pose AUC@20°"] == f"{result.auc[20]:.1f} %"


# ---------------------------------------------------------------------------- one file that trusts nobody
def test_names_cannot_break_out_of_their_places(page: Page) -> None:
    assert HOSTILE in {item.attributes.get("data-name") for item in page.all("li")}
    assert HOSTILE in {photo["name"] for photo in page.data["photos"]}
    assert any(HOSTILE in title.text for title in page.all("title"))  # of its dot in the view graph
    scripts = page.all("script")
    assert [script.attributes.get("type") for script in scripts] == ["application/json", None]
    assert not any(name.startswith("on") for element in page.all() for name in element.attributes)
    assert "<script>hacked" not in page.html


def test_the_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else(page: Page) -> None:
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.strip().split(" ", 1) for part in meta.attributes["content"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        text = page.all(tag)[-1].text
        assert policy[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert not any("style" in element.attributes for element in page.all())  # which the policy would not let through


def test_nothing_is_asked_of_the_network(page: Page) -> None:
    for element in page.all():
        for name in ("src", "href", "srcset", "poster", "action", "data", "xlink:href"):
            if name in element.attributes:
                assert re.match(r"data:|#", element.attributes[name]), element.attributes[name][:80]
    style = page.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"fetch\(|XMLHttp|import\(|WebSocket|https?:", page.all("script")[-1].text)


def test_ids_are_unique_and_links_and_labels_lead_somewhere(page: Page) -> None:
    ids = Counter(element.attributes["id"] for element in page.all() if "id" in element.attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(name, next(iter(ids))) in ids
        if element.attributes.get("href", "").startswith("#"):
            assert element.attributes["href"][1:] in ids
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch(r"h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


# ---------------------------------------------------------------------------- what is missing
def test_photos_that_were_moved_are_missed_and_found(own: Path, finished: Path, tmp_path: Path) -> None:
    summary = {name: value for name, value in summary_of(own).items() if name != "checksum"}
    (own / "summary.json").write_text(json.dumps({**summary, "image_dir": "/nowhere"}))
    page = read_page(write_report(own))
    assert "/nowhere" in page.root.all_text
    assert int(page.figure("num_reg_images")) == 6
    assert len([item for item in page.all("li") if "photo" in item.classes]) == 9
    assert [picture for picture in page.all("img") if picture.attributes.get("id", "").startswith("photo-")] == []
    moved = finished.parent / "my images"
    ended = run("report", own, "--images", moved, "-o", tmp_path / "found.html")
    assert ended.code == 0, ended.err
    page = read_page(tmp_path / "found.html")
    assert len([one for one in page.all("img") if one.attributes.get("id", "").startswith("photo-")]) == 8


@pytest.mark.parametrize("missing", ["sparse", "database.db", "features", "matches", "summary.json", "database.json"])
def test_what_is_missing_is_left_out(own: Path, missing: str) -> None:
    for path in own.iterdir():
        if path.name.startswith(missing):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = read_page(write_report(own))
    shown = [item for item in page.all("li") if "photo" in item.classes]
    assert len({item.attributes["data-name"] for item in shown}) == len(shown) >= 6
    assert (page.figure("models") == "0") == (missing == "sparse")
    assert bool(page.all("section", id="pairs")) == (missing != "database.db")
    assert bool(page.all("canvas", id="cloud")) == (missing != "sparse")


def test_damaged_files_are_named_and_the_rest_is_told(own: Path) -> None:
    (own / "database.db").write_bytes(b"no database at all")
    model = shutil.copytree(own / "sparse" / "0", own / "sparse" / "1") / "points3D.bin"
    model.write_bytes(model.read_bytes()[:-20])
    text = read_page(write_report(own)).root.all_text
    assert "points3D.bin is cut off" in text
    assert "database.db cannot be read" in text
    assert "blank.jpg" in text


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin"])
def test_a_damaged_best_model_is_an_error_and_the_report_of_before_stays(own: Path, name: str) -> None:
    model, before = own / "sparse" / "0" / name, (own / "report.html").read_bytes()
    model.write_bytes(model.read_bytes()[:-20])
    ended = run("report", own)
    assert (ended.code, ended.out) == (1, "")
    assert f"{name} is cut off" in ended.err
    assert f"`lgsfm cache repair {own}` sets it aside" in ended.err
    assert (own / "report.html").read_bytes() == before


def test_matches_with_a_photo_from_outside_of_the_folder_are_not_drawn(own: Path, tmp_path: Path) -> None:
    """An output folder of a stranger could ask for them."""
    photos = Path(str(summary_of(own)["image_dir"]))
    found = collect(own, image_dir=shutil.copytree(photos, tmp_path / "in" / "photos"))
    best = choose_pairs(found)[0]
    first, second = best.pair
    shutil.copy(photos / first, tmp_path / "in" / "secret.png")
    hostile = ("../secret.png", second)
    with FeatureStore(found.features_path) as features:
        known = features[first], features.identity
    with FeatureStore(found.features_path, known[1]) as features:
        features[hostile[0]] = known[0]
    with MatchStore(found.matches_path) as matches:
        pair, identity = matches[best.pair], matches.identity
    with MatchStore(found.matches_path, identity) as matches:
        matches[hostile] = pair
    drawn = draw_pairs(found, [best, ShownPair("hostile", hostile, best.found)])
    assert [shown.picture is not None for shown in drawn] == [True, False]


def test_a_run_that_was_stopped_early_says_so(own: Path) -> None:
    for path in own.iterdir():
        if path.name.split("-")[0] not in ("features", "options.json", "upright.json", "summary.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    summary = {key: summary_of(own)[key] for key in ("image_dir", "output", "num_images", "failed_images")}
    (own / "summary.json").write_text(json.dumps({**summary, "seconds": {"extract": 1.0, "total": 1.0}}))
    page = read_page(write_report(own))
    assert page.all("h1")[0].text == "Not finished: the stage “database” has not been run"
    states = Counter(item.attributes["data-state"] for item in page.all("li") if "photo" in item.classes)
    assert states == {"open": 7, "failed": 2}


def test_a_run_without_a_model_has_its_report(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    with pytest.raises(ReconstructionError):
        reconstruct(images, tmp_path / "out", features="sift", max_edge_px=800, max_keypoints=500, min_inliers=100_000)
    page = read_page(tmp_path / "out" / "report.html")
    assert page.all("h1")[0].text == "No model of 3 photos"
    assert {item.attributes.get("data-reason") for item in page.all("li") if "photo" in item.classes} == {"few matches"}


# ---------------------------------------------------------------------------- what goes wrong
def test_a_run_does_not_fail_for_its_report(courtyard: Path, tmp_path: Path) -> None:
    class Listener(Observer):
        heard: list[str] = []  # noqa: RUF012

        def say(self, text: str) -> None:
            self.heard.append(text)

    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    summary = reconstruct(
        images, tmp_path / "out", observer=Listener(), features="sift", max_edge_px=800, max_keypoints=1500
    )
    assert summary.num_reg_images == 3
    assert any(line.startswith("Warning: no report.html") for line in Listener.heard)


def test_a_folder_without_a_run_and_a_foreign_reference_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no output folder of lgsfm"):
        write_report(tmp_path)
    (tmp_path / "other.txt").write_text("x.jpg 1 0 0 0 0 0 0\ny.jpg 1 0 0 0 1 0 0\n")
    ended = run("report", finished, "--reference", tmp_path / "other.txt", "-o", tmp_path / "page.html")
    assert (ended.code, (tmp_path / "page.html").exists()) == (1, False)
    assert "no image in common" in ended.err


def test_the_end_of_a_run_says_where_the_report_is(courtyard: Path, tmp_path: Path) -> None:
    images = copy_photos(courtyard / "images", tmp_path / "images", views(0, 1, 2))
    ended = run("reconstruct", images, "-o", tmp_path / "out", *SIFT)
    assert ended.code == 0
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in ended.err
