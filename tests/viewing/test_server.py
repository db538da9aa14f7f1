"""The viewer as a browser meets it: it answers, to this computer alone, and clicks change the panel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import command, run

from lgsfm.viewing import Contents

pytest.importorskip("viser", reason="the viewer needs the package viser")
from lgsfm.viewing.server import Viewer


@pytest.fixture(scope="module")
def viewer(finished_run: Path):
    contents = Contents(finished_run)
    found = Viewer(contents, 8571)
    yield found
    found.stop()
    contents.close()


def test_it_answers_to_this_computer_alone(viewer: Viewer) -> None:
    assert viewer.url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(viewer.url) as page:
        assert b"<html" in page.read()[:2000].lower()
    port = viewer.server.get_port()
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {*others} - {"127.0.0.1"}:
        if not address.startswith("127."):
            with pytest.raises(OSError, match=r"."), socket.create_connection((address, port), timeout=2):
                pass
    listening = Path("/proc/net/tcp")
    if listening.exists():
        rows = [line.split()[1] for line in listening.read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert {row.split(":")[0] for row in rows if int(row.split(":")[1], 16) == port} == {"0100007F"}


def test_nobody_can_open_it_to_the_internet(viewer: Viewer) -> None:
    assert viewer.server.request_share_url() is None
    assert viewer.server.get_host() == "127.0.0.1"


def test_all_cameras_and_points_are_there(viewer: Viewer) -> None:
    scene = viewer.contents.scenes[0]
    assert set(viewer.frusta) == set(scene.cameras)
    assert len(viewer.points.points) == len(scene.positions)
    for name, frustum in viewer.frusta.items():
        np.testing.assert_allclose(
            frustum.position, viewer.contents.frames[0](scene.cameras[name].centre[None])[0], atol=1e-6
        )


def test_points_that_few_photos_see_can_be_left_out(viewer: Viewer) -> None:
    viewer.least.value = 4
    expected = int((viewer.contents.scenes[0].track_lengths >= 4).sum())
    deadline = time.monotonic() + 10
    while len(viewer.points.points) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(viewer.points.points) == expected < len(viewer.contents.scenes[0].positions)


def test_a_click_on_a_camera_shows_its_photo_and_its_matches(viewer: Viewer) -> None:
    first, second, *_ = viewer.contents.photos
    viewer.choose(first)
    before = viewer.sheet.image.copy()
    viewer._clicked(second, SimpleNamespace())
    assert viewer.photo.value == second
    assert tuple(viewer.frusta[second].color) != tuple(viewer.frusta[first].color)
    assert viewer.partner.value in viewer.partner.options
    name = viewer.neighbours[viewer.partner.value].name
    assert name == viewer.contents.neighbours(second)[0].name
    assert viewer.sheet.image.shape != before.shape or (viewer.sheet.image != before).any()
    assert "agree with one geometry" in viewer.shared.content


def test_the_command_says_the_address_and_ends_by_ctrl_c(finished_run: Path) -> None:
    process = subprocess.Popen(
        command("view", finished_run, "--no-browser", "--port", "8610"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which shells ignore for what runs behind
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as page:
        assert page.status == 200
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Only this computer can connect" in said
    assert "Traceback" not in said


def test_the_help_begins_with_an_example() -> None:
    assert "Example: lgsfm view" in run("view", "--help").out
