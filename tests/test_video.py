"""Frames of videos that are rendered here: which are taken, how they are written, and what becomes of bad videos."""

import json
import os
import struct
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_helpers import SIFT, run
from conftest import textured
from walks import FPS, SIZE, Walk, turn, write_video

import lgsfm
from lgsfm import video as video_module
from lgsfm.errors import InputError
from lgsfm.images import list_images, read_photo
from lgsfm.video import FrameOptions, extract_frames, is_video
from lgsfm.video.choice import Look, by_motion, choose, displacement
from lgsfm.video.reading import Clip, hdr_transfer

NUM_FRAMES = 60
BLURRED = 3  # each third frame, the second of three


@pytest.fixture(scope="module")
def walk():
    return Walk()


@pytest.fixture(scope="module")
def clip(walk, tmp_path_factory) -> Path:
    """A walk of two seconds with motion blur in each third frame."""
    frames = [walk.frame(i) for i in range(NUM_FRAMES)]
    frames = [cv2.blur(frame, (11, 1)) if i % BLURRED == 1 else frame for i, frame in enumerate(frames)]
    return write_video(tmp_path_factory.mktemp("video") / "my walk.mp4", frames)


def short(path: Path, count: int = 8, size: tuple[int, int] = (96, 64), **choices) -> Path:
    """A small video whose picture moves by a twelfth of its width each frame."""
    wide = textured(size[0] * 3, size[1])
    step = size[0] // 12
    return write_video(path, [wide[:, i * step : i * step + size[0]] for i in range(count)], **choices)


def record_of(folder: Path) -> dict:
    (path,) = folder.glob("*.frames.json")
    return json.loads(path.read_text())


# --- which frames -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [{}, {"frames": 12}, {"fps": 6.0}, {"frame_motion": 0.03}])
def test_sharp_frames_are_taken(clip, tmp_path, flags):
    taken = extract_frames(clip, tmp_path, FrameOptions(**flags))
    numbers = [row["index"] for row in record_of(tmp_path)["frames"]]
    assert len(taken.names) >= 5
    assert [i for i in numbers if i % BLURRED == 1] == []
    assert list_images(tmp_path) == taken.names == sorted(taken.names)


def test_frames_are_apart_by_the_motion_that_is_asked_for(clip, walk, tmp_path):
    extract_frames(clip, tmp_path, FrameOptions(frame_motion=0.06))
    numbers = [row["index"] for row in record_of(tmp_path)["frames"]]
    assert numbers[0] < 10
    for first, second in pairwise(numbers):
        flow = cv2.calcOpticalFlowFarneback(
            *(cv2.cvtColor(walk.frame(i), cv2.COLOR_BGR2GRAY) for i in (first, second)), None, 0.5, 5, 31, 5, 7, 1.5, 0
        )
        moved = np.median(np.linalg.norm(flow, axis=2)) / max(SIZE)
        assert 0.035 < moved < 0.1


def looks(positions, sharp=None, fps=10.0, lost=()) -> list[Look]:
    """Looks at a picture that moves sideways to given positions, in long edges."""
    found = []
    for i, position in enumerate(positions):
        step = np.eye(2, 3)
        step[0, 2] = position - positions[i - 1] if i else 0
        found.append(Look(i, i / fps, 1.0 if sharp is None else sharp[i], None if i in lost else step))
    return found


def numbers_of(found) -> list[int]:
    return [look.index for look in found]


def test_a_shaking_camera_that_stays_gives_one_frame():
    shaking = 0.012 * np.sin(np.arange(300))
    assert len(by_motion(looks(shaking), 0.06)) == 1


def test_a_camera_that_creeps_still_gives_frames():
    found = by_motion(looks(np.linspace(0, 0.2, 300)), 0.06)
    assert np.diff([look.time_s for look in found]).max() < 5.5  # of 30 s; by the motion alone every 6 to 11 s


def test_each_part_of_a_cut_video_is_seen():
    found = numbers_of(by_motion(looks([0.0] * 20 + [5.0] * 20 + [9.0] * 20, lost=(20, 40)), 0.06))
    assert [i // 20 for i in found] == [0, 1, 2]


def test_a_swing_faster_than_the_motion_loses_nothing():
    assert numbers_of(by_motion(looks([0.0, 0.5, 1.0, 1.5]), 0.06)) == [0, 1, 2, 3]


def test_of_frames_nearby_the_sharpest_is_taken():
    sharp = [5, 1, 9, 1, 1, 1, 1, 1, 1, 1, 2, 7, 2, 1]
    assert numbers_of(by_motion(looks(np.arange(14) * 0.01, sharp), 0.09)) == [2, 11]


@pytest.mark.parametrize("count", [2, 5, 17, 40])
def test_a_number_of_frames_is_had_evenly(count):
    found = choose(looks(np.arange(400) * 0.013), FrameOptions(frames=count)).looks
    gaps = np.diff(numbers_of(found))
    assert 0.8 * count <= len(found) <= count
    assert gaps.max() <= 2 * gaps.min()


def test_a_number_of_frames_that_motion_does_not_give_is_said():
    choice = choose(looks([0.0, 0.1, 0.2] + [0.2] * 50), FrameOptions(frames=20))
    assert len(choice.looks) == 3
    assert "3 differ enough" in choice.notes[0]


def test_too_many_frames_are_thinned_by_motion_and_it_is_said():
    choice = choose(looks(np.arange(400) * 0.05), FrameOptions(max_frames=50))
    assert 40 <= len(choice.looks) <= 50
    assert "--max-frames 50" in choice.notes[0]
    cuts = choose(looks(np.zeros(60), lost=range(60)), FrameOptions(max_frames=7))
    assert len(cuts.looks) == 7
    with pytest.raises(InputError, match=r"--fps 10 makes 400 frames .*--max-frames 50"):
        choose(looks(np.arange(400)), FrameOptions(fps=10.0, max_frames=50))


def test_displacement_counts_turns_and_forward_motion():
    zoom = np.diag([1.2, 1.2, 1.0])
    assert displacement(zoom) == pytest.approx(0.2 * 0.4, rel=0.5)
    assert displacement(np.eye(3)) == 0
    assert displacement(zoom, aspect=0.5) == displacement(zoom, aspect=2.0)
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert displacement(turned) > 0.5


def test_choices_that_exclude_each_other():
    with pytest.raises(InputError, match="exclude each other"):
        FrameOptions(frames=10, fps=2)
    with pytest.raises(InputError, match="at least 2"):
        FrameOptions(frames=1)


# --- what is written ----------------------------------------------------------------------------------


def test_frames_are_those_of_the_video_at_full_size(clip, walk, tmp_path):
    taken = extract_frames(clip, tmp_path)
    for row in record_of(tmp_path)["frames"]:
        rgb = read_photo(tmp_path / row["name"]).rgb
        assert rgb.shape == (SIZE[1], SIZE[0], 3)
        assert np.abs(rgb[..., ::-1].astype(int) - walk.frame(row["index"])).mean() < 12
        assert np.abs(rgb[..., ::-1].astype(int) - walk.frame(row["index"] + 6)).mean() > 25
        assert row["time_s"] == pytest.approx(row["index"] / FPS, abs=1e-3)
    assert taken.written == len(taken.names)


def test_the_same_again_decodes_nothing(clip, tmp_path, monkeypatch):
    first = extract_frames(clip, tmp_path)
    monkeypatch.setattr(video_module, "Clip", lambda _: pytest.fail("it was decoded"))
    again = extract_frames(clip, tmp_path)
    assert (again.written, again.names, again.times_s) == (0, first.names, first.times_s)


def test_an_interrupted_run_goes_on_with_the_frames_that_are_missing(clip, tmp_path, monkeypatch):
    whole = extract_frames(clip, tmp_path / "whole")
    folder = tmp_path / "cut"

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_frames(clip, folder, progress=lambda stage: stop if stage == "frames" else None)
    assert list_images(folder) == whole.names[:3]
    (folder / f".{whole.names[3]}.1.partial").write_bytes(b"half")
    kept = {name: os.stat(folder / name).st_mtime_ns for name in whole.names[:3]}
    monkeypatch.setattr(video_module, "choose", lambda *_: pytest.fail("it was looked at again"))
    again = extract_frames(clip, folder)
    assert again.written == len(whole.names) - 3
    assert {name: os.stat(folder / name).st_mtime_ns for name in kept} == kept
    for name in whole.names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert list_images(folder) == whole.names


def test_other_choices_replace_the_frames_and_nothing_else(clip, tmp_path):
    first = extract_frames(clip, tmp_path)
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    second = extract_frames(clip, tmp_path, FrameOptions(frames=3))
    assert len(second.names) == 3 < len(first.names)
    assert list_images(tmp_path) == ["mine.jpg", *second.names]


def test_a_video_that_was_changed_is_taken_anew_under_the_same_names(tmp_path):
    path = short(tmp_path / "a.mp4")
    extract_frames(path, tmp_path / "frames", FrameOptions(fps=30))
    before = {name: (tmp_path / "frames" / name).read_bytes() for name in list_images(tmp_path / "frames")}
    write_video(path, [255 - textured(96, 64, seed=i) for i in range(8)])
    extract_frames(path, tmp_path / "frames", FrameOptions(fps=30))
    after = {name: (tmp_path / "frames" / name).read_bytes() for name in list_images(tmp_path / "frames")}
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)


def test_frames_of_another_video_are_never_taken_for_those_of_this_one(tmp_path, monkeypatch):
    """Killed at any step between the two."""
    path, folder = tmp_path / "a.mp4", tmp_path / "frames"
    write_video(path, [textured(96, 64, seed=i) for i in range(8)])
    extract_frames(path, folder, FrameOptions(fps=30))
    write_video(path, [255 - textured(96, 64, seed=i) for i in range(8)])

    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(video_module, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_frames(path, folder, FrameOptions(fps=30))
        assert not list(folder.glob("*.jpg"))
        patched.setattr(video_module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_frames(path, folder, FrameOptions(fps=10))
    taken = extract_frames(path, folder, FrameOptions(fps=30))
    assert taken.written == len(taken.names) == 8


def test_a_video_of_the_same_stem_is_refused(tmp_path):
    extract_frames(short(tmp_path / "a.mp4"), tmp_path / "frames")
    (tmp_path / "a.mp4").rename(tmp_path / "a.mov")
    with pytest.raises(InputError, match=r"frames of a\.mp4, whose names would be those of a\.mov"):
        extract_frames(tmp_path / "a.mov", tmp_path / "frames")


def test_two_videos_share_a_folder_but_files_of_others_are_not_replaced(tmp_path):
    folder = tmp_path / "images"
    first = extract_frames(short(tmp_path / "a.mp4"), folder)
    second = extract_frames(short(tmp_path / "b.mp4"), folder)
    assert list_images(folder) == [*first.names, *second.names]
    (folder / "a.frames.json").unlink()
    with pytest.raises(InputError, match=r"a_000000\.jpg is there already"):
        extract_frames(tmp_path / "a.mp4", folder)


def test_a_record_of_somebody_else_removes_no_file(tmp_path):
    """Names in it that no frame has are not believed."""
    (tmp_path / "precious.txt").write_text("mine")
    rows = [{"name": "../precious.txt", "index": 0, "time_s": 0.0}]
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.frames.json").write_text(json.dumps({"frames": rows, "notes": [], "sha256": "0"}))
    extract_frames(short(tmp_path / "a.mp4"), tmp_path / "frames")
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phone_that_was_held_upright(tmp_path, degrees):
    size = (96, 64)
    flat = short(tmp_path / "flat.mp4", size=size)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(flat.read_bytes())
    turn(turned, degrees)
    as_stored, as_seen = (extract_frames(path, path.with_suffix(""), FrameOptions(fps=30)) for path in (flat, turned))
    for first, second in zip(as_stored.names, as_seen.names, strict=True):
        expected = np.rot90(read_photo(as_stored.folder / first).rgb, -degrees // 90)
        found = read_photo(as_seen.folder / second).rgb
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(("name", "fourcc"), [("a.avi", "MJPG"), ("a.mkv", "FFV1"), ("a.webm", "VP80"), ("a", "MP4")])
def test_containers_by_their_content(tmp_path, name, fourcc):
    if fourcc == "MP4":  # without a suffix
        path = short(tmp_path / "b.mp4").rename(tmp_path / name)
    else:
        path = short(tmp_path / name, fourcc=fourcc)
    assert is_video(path)
    assert len(extract_frames(path, tmp_path / "frames", FrameOptions(fps=30)).names) == 8


def test_names_that_readers_would_take_for_something_else(tmp_path, monkeypatch):
    """A percent sign makes a series of pictures of it, a colon a protocol."""
    monkeypatch.chdir(tmp_path)
    for name in ("a%03d.mp4", "file:b.mp4", "é 中.mp4"):
        path = short(tmp_path / "x.mp4").rename(tmp_path / name)
        taken = extract_frames(Path(path.name), tmp_path / "frames", FrameOptions(frames=2))
        assert len(taken.names) == 2
        assert set(taken.names) <= set(list_images(tmp_path / "frames"))


# --- what cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "no video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nhttp://127.0.0.1:9/a.ts\n", "no video"),  # FFmpeg would fetch it
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no video"),
        (b"\xff\xd8\xff\xe0", "no video"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(4000), "cannot be opened"),
        (b"\x1a\x45\xdf\xa3" + bytes(4000), "cannot be opened"),
    ],
)
def test_what_is_no_video_is_refused_in_silence(tmp_path, capfd, head, reason):
    (tmp_path / "a.mp4").write_bytes(head)
    with pytest.raises(InputError, match=reason):
        extract_frames(tmp_path / "a.mp4", tmp_path / "frames")
    assert not (tmp_path / "frames").exists()
    assert capfd.readouterr().err == ""


def test_a_recording_without_its_end(tmp_path):
    path = short(tmp_path / "a.mp4", 30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # its index was at the end
    with pytest.raises(InputError, match=r"a\.mp4: .*cannot be opened.*ffmpeg"):
        extract_frames(path, tmp_path / "frames")


def test_a_video_that_breaks_off_gives_the_frames_before_and_says_so(tmp_path):
    path = short(tmp_path / "a.avi", 24, fourcc="MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    taken = extract_frames(path, tmp_path / "frames", FrameOptions(fps=30))
    assert 4 < len(taken.names) < 20
    assert any("breaks off" in note for note in taken.notes)
    again = extract_frames(path, tmp_path / "frames", FrameOptions(fps=30))
    assert again.notes == taken.notes


def test_frames_larger_than_photos_may_be_are_not_decoded(tmp_path, monkeypatch):
    path = short(tmp_path / "a.mp4")
    monkeypatch.setenv("LGSFM_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(InputError, match=r"96 x 64 px are more than 0\.001 megapixels"):
        extract_frames(path, tmp_path / "frames")


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, "")])
def test_hdr_is_said(tmp_path, transfer, name):
    colr = b"colrnclx" + struct.pack(">3HB", 9, transfer, 9, 0)
    path = short(tmp_path / "a.mp4")
    data = path.read_bytes()
    box = struct.pack(">I", 4 + len(colr)) + colr
    moov = data.index(b"moov") - 4
    size = int.from_bytes(data[moov : moov + 4], "big")
    end = moov + size
    grown = struct.pack(">I", size + len(box)) + data[moov + 4 : end] + box + data[end:]
    assert data.index(b"mdat") < moov  # so no offset changes
    path.write_bytes(data[:moov] + grown)
    assert hdr_transfer(path) == name
    with Clip(path) as opened:
        assert [name in note for note in opened.notes()] == ([True] if name else [])


# --- from the command line ----------------------------------------------------------------------------


def test_the_command_makes_a_folder_beside_the_video(tmp_path):
    path = short(tmp_path / "a.mp4")
    ran = run("frames", path, "--fps", "15")
    assert ran.code == 0
    assert ran.out.strip() == f"4 frames in {tmp_path / 'a-frames'}"
    assert len(list_images(tmp_path / "a-frames")) == 4
    told = json.loads(run("frames", path, "--fps", "15", "--json").out)
    assert (told["folder"], told["written"]) == (str(tmp_path / "a-frames"), 0)
    assert told["names"] == list_images(tmp_path / "a-frames")


def test_a_video_is_reconstructed_as_exactly_as_its_cameras_are_known(clip, walk, tmp_path):
    output = tmp_path / "out"
    ran = run("reconstruct", clip, "-o", output, *SIFT, "--frame-motion", "0.04", "--json")
    assert ran.code == 0, ran.err
    summary = json.loads(ran.out)
    assert summary["num_reg_images"] == summary["num_images"] >= 8
    assert len(summary["cameras"]) == 1
    assert "sequential + retrieval" in ran.err
    frames = {row["name"]: row["index"] for row in record_of(output / "frames")["frames"]}
    (tmp_path / "truth.txt").write_text(walk.truth(frames))
    found = json.loads(run("evaluate", output, tmp_path / "truth.txt", "--json").out)
    assert found["median_rotation_error_deg"] < 0.3
    assert found["auc"]["5"] > 90
    again = run("reconstruct", clip, "-o", output, *SIFT, "--frame-motion", "0.04")
    assert again.out.count("all reused") == 3
    # the commands that `lgsfm doctor` suggests: over the frames, with all flags that were given
    over = run("reconstruct", output / "frames", "-o", output, *SIFT, "--frame-motion", "0.04", "--pairs", "exhaustive")
    assert over.code == 0, over.err
    staged = run("map", clip, "-o", output)
    assert staged.code == 0, staged.err
    other = run("reconstruct", clip.with_name("other.mp4"), "-o", output)
    assert other.code == 1  # there is none
    other = run("reconstruct", short(tmp_path / "other.mp4"), "-o", output)
    assert other.code == 1
    assert "holds frames of another video, my walk" in other.err


def test_in_python_too(clip, tmp_path):
    with pytest.raises(InputError, match="--frames is for videos"):
        lgsfm.reconstruct(tmp_path, tmp_path / "out", frames=5)
    summary = lgsfm.reconstruct(clip, tmp_path / "out", features="sift", frames=5)
    assert summary.num_reg_images == summary.num_images == len(list_images(tmp_path / "out" / "frames"))
    assert summary.num_images in (4, 5)
