"""A model in the browser, by the package viser: its server, bound to this computer alone, and its panel."""

from __future__ import annotations

import io
import math
import threading
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import InputError
from ..report.scene import Frame, SceneCamera
from .contents import THUMBNAIL_PX, Contents

__all__ = ["HOST", "Viewer"]

HOST = "127.0.0.1"  # nobody on the network can connect
MOST_THUMBNAILS = 400  # cameras that hold their photo; more are frames
POINT_SIZE = 0.006
LINE_PX = 2.0
REGISTERED, CHOSEN = (15, 125, 116), (230, 120, 20)  # RGB
NO_PHOTO = np.full((2, 3, 3), 200, np.uint8)


class Viewer:
    """Shows an output folder until `stop`.

    Args:
        contents: what is shown.
        port: where; the next free one if it is taken.

    Raises:
        InputError: the package viser is missing, or no port is free.
    """

    def __init__(self, contents: Contents, port: int = 8080) -> None:
        self.contents = contents
        self.viser = _viser()
        try:
            with redirect_stdout(io.StringIO()):  # its banner
                self.server: Any = self.viser.ViserServer(host=HOST, port=port, label="lgsfm", verbose=False)
        except OSError as exc:
            raise InputError(f"No server can be opened at port {port}: {exc.strerror or exc}. Say --port N.") from exc
        self.server.request_share_url = lambda *arguments, **more: None  # which would show it to the internet
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.scene.set_up_direction("+y")
        self.number = 0  # of the model
        self.frusta: dict[str, Any] = {}
        self.points: Any = None
        self._lock = threading.RLock()  # several browsers, or clicks, at once
        self._is_changing = False
        self._make_panel()
        self.show_model(0)

    @property
    def url(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server.get_port()}"

    def stop(self) -> None:
        """Ends the server."""
        self.server.stop()

    # ---------------------------------------------------------------------------- the panel
    def _make_panel(self) -> None:
        gui = self.server.gui
        scenes = self.contents.scenes
        self.words = gui.add_markdown("")
        if len(scenes) > 1:
            names = [f"{number}: {len(scene.cameras)} photos" for number, scene in enumerate(scenes)]
            choice = gui.add_dropdown("Model", options=names)
            choice.on_update(lambda event: self.show_model(names.index(choice.value)))
        self.size = gui.add_slider("Point size", min=0.001, max=0.03, step=0.001, initial_value=POINT_SIZE)
        self.size.on_update(lambda event: setattr(self.points, "point_size", self.size.value))
        self.least = gui.add_slider("Seen by, at least", min=2, max=10, step=1, initial_value=2)
        self.least.on_update(lambda event: self._show_points())
        self.cameras = gui.add_checkbox("Cameras", initial_value=True)
        self.cameras.on_update(lambda event: self._show_cameras(self.cameras.value))
        with gui.add_folder("Photo"):
            self.photo = gui.add_dropdown("Name", options=list(self.contents.photos))
            self.picture = gui.add_image(NO_PHOTO, format="jpeg")
            self.about = gui.add_markdown("")
            look = gui.add_button("Look from there")
        with gui.add_folder("Matched with"):
            self.partner = gui.add_dropdown("Photo", options=("-",))
            self.shared = gui.add_markdown("")
            self.sheet = gui.add_image(NO_PHOTO, format="jpeg")
        self.photo.on_update(lambda event: None if self._is_changing else self.choose(self.photo.value))
        self.partner.on_update(lambda event: None if self._is_changing else self._show_pair())
        look.on_click(lambda event: self._look_from(event.client))

    def show_model(self, number: int) -> None:
        """Shows a model instead of the one that is shown."""
        with self._lock, self.server.atomic():
            self.number = number
            scene = self.contents.scenes[number]
            error = float(np.mean(scene.errors_px)) if len(scene.errors_px) else 0.0
            self.words.content = (
                f"**{len(scene.cameras)} of {len(self.contents.photos)} photos**, {len(scene.positions):,} points, "
                f"{error:.2f} px. Click a camera for its photo."
            )
            self.server.initial_camera.look_at = (0.0, 0.0, 0.0)
            self.server.initial_camera.position = eye_for(self.contents, number)
            self._show_points()
            for frustum in self.frusta.values():
                frustum.remove()
            self.frusta = {name: self._frustum(camera) for name, camera in scene.cameras.items()}
            self._show_cameras(self.cameras.value)
        self.choose(next(iter(scene.cameras)))

    def _show_points(self) -> None:
        scene, frame = self.contents.scenes[self.number], self.contents.frames[self.number]
        is_shown = scene.track_lengths >= self.least.value
        self.points = self.server.scene.add_point_cloud(
            "/points",
            frame(scene.positions[is_shown]).astype(np.float32),
            scene.colours[is_shown],
            point_size=self.size.value,
            point_shape="circle",
            point_shading="flat",
        )

    def _frustum(self, camera: SceneCamera) -> Any:
        scene, frame = self.contents.scenes[self.number], self.contents.frames[self.number]
        has_picture = len(scene.cameras) <= MOST_THUMBNAILS
        rotation, position = pose_in(frame, camera)
        frustum = self.server.scene.add_camera_frustum(
            f"/cameras/{list(scene.cameras).index(camera.name)}",  # its name may hold anything
            fov=field_of_view(camera),
            aspect=camera.size[0] / camera.size[1],
            scale=self.contents.depth(self.number),
            thickness=LINE_PX,
            thickness_units="screen",
            color=REGISTERED,
            image=self.contents.picture(camera.name, THUMBNAIL_PX, is_upright=False) if has_picture else None,
            format="jpeg",
            wxyz=self.viser.transforms.SO3.from_matrix(rotation).wxyz,
            position=position,
        )
        frustum.on_click(partial(self._clicked, camera.name))
        return frustum

    def _clicked(self, name: str, event: Any) -> None:
        self.choose(name)

    def _show_cameras(self, is_visible: bool) -> None:
        for frustum in self.frusta.values():
            frustum.visible = is_visible

    # ---------------------------------------------------------------------------- one photo
    def choose(self, name: str) -> None:
        """Shows a photo in the panel, and the surest of those that it was matched with."""
        with self._lock:
            for each, frustum in self.frusta.items():
                frustum.color = CHOSEN if each == name else REGISTERED
            found = self.contents.picture(name)
            self.picture.image = NO_PHOTO if found is None else found
            self.about.content = about(self.contents, self.number, name)
            neighbours = {label(each.name, each.found.num_inliers): each for each in self.contents.neighbours(name)}
            self.neighbours = neighbours
            with self._changing():
                self.photo.value = name
                self.partner.options = tuple(neighbours) or ("-",)
                self.partner.value = next(iter(neighbours), "-")
            self._show_pair()

    @contextmanager
    def _changing(self) -> Any:
        """While the program chooses, and nobody else."""
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    def _show_pair(self) -> None:
        with self._lock:
            neighbour = self.neighbours.get(self.partner.value)
            if neighbour is None:
                words, sheet = "It was matched with no other photo.", None
            else:
                words, sheet = self.contents.matches(self.photo.value, neighbour.name)
            self.shared.content, self.sheet.image = escaped(words), NO_PHOTO if sheet is None else sheet

    def _look_from(self, client: Any) -> None:
        """Puts the eye of a browser where a photo was taken."""
        camera = self.contents.scenes[self.number].cameras.get(self.photo.value)
        if camera is None or client is None:
            return
        rotation, position = pose_in(self.contents.frames[self.number], camera)
        with client.atomic():
            client.camera.position = position
            client.camera.look_at = position + rotation[:, 2]
            client.camera.fov = field_of_view(camera)


def about(contents: Contents, number: int, name: str) -> str:
    """What is known of a photo, in markdown."""
    row, camera = contents.photos[name], contents.scenes[number].cameras.get(name)
    lines = [] if row.keypoints is None else [f"{row.keypoints:,} keypoints"]
    if camera is not None:
        lines += [f"{len(camera.seen):,} of them are points of the model, {camera.error_px:.2f} px off"]
        lines += [f"{camera.model}, focal length {camera.focal_px:.0f} px, {camera.size[0]} x {camera.size[1]} px"]
    elif row.model is not None:
        lines += [f"It is in model {row.model}."]
    if row.diagnosis is not None:
        lines += [f"Not in the best model: {row.diagnosis.reason}. {row.diagnosis.evidence}. {row.diagnosis.advice}"]
    return "  \n".join(map(escaped, lines))


def label(name: str, num_inliers: int) -> str:
    """A neighbour in the list."""
    return f"{name} ({num_inliers})"


def escaped(text: str) -> str:
    """Text that means nothing in markdown or HTML, whatever a stranger's file name holds."""
    return "".join(f"&#{ord(char)};" if char in "<>&*_`[]()#!|\\~" else char for char in text)


def eye_for(contents: Contents, number: int) -> tuple[float, float, float]:
    """Where to look at a model from: behind its cameras, or from above where they stand all around."""
    centres = contents.frames[number](np.array([camera.centre for camera in contents.scenes[number].cameras.values()]))
    middle = np.median(centres, axis=0)
    away = float(np.linalg.norm(middle))
    eye = np.array([1.2, 1.2, 1.6]) if away < 0.3 else middle / away * max(1.6, 1.4 * away) + np.array([0, 0.4, 0])
    return float(eye[0]), float(eye[1]), float(eye[2])


def pose_in(frame: Frame, camera: SceneCamera) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) rotation of a camera (x right, y down, z forward) to the frame, and its (3,) centre there."""
    return frame.rotation @ camera.rotation.T, frame(camera.centre[None])[0]


def field_of_view(camera: SceneCamera) -> float:
    """From top to bottom [radians]."""
    return 2 * math.atan(camera.size[1] / (2 * camera.focal_px))


def _viser() -> Any:
    try:
        return import_module("viser")
    except ImportError as exc:
        raise InputError(
            f"Looking at models in the browser needs the package viser ({exc}): pip install viser"
        ) from exc
