"""One GLB file for Blender, web viewers and the like: points, cameras as cameras, and cameras as lines.

glTF 2.0, y up (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html). Vertices have the coordinates of the model;
the root node turns them so that up is up. Cameras of glTF look along -z with y up; they know neither distortion nor a
principal point off the centre.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..observer import Observer
from ..options import Options, option
from .directions import frusta_size, mean_up, mean_view
from .scene import Scene

__all__ = ["GlbOptions", "frusta", "write_glb"]

UNSIGNED_BYTE, FLOAT = 5121, 5126
ARRAY_BUFFER = 34962
POINTS, LINES = 0, 1
OPENGL_FROM_OPENCV = np.diag([1.0, -1, -1, 1])
UP = {"-y": (0.0, -1.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
LINE_COLOUR = (230, 90, 30)


@dataclass(frozen=True, kw_only=True)
class GlbOptions(Options):
    """Options of the format."""

    up: str = option(
        "photos", "glb: what is up: as the photos have it, or an axis; z for a model of `geo`", choices=("photos", *UP)
    )


def write_glb(scene: Scene, path: Path, options: GlbOptions, observer: Observer) -> list[str]:
    """Writes the file."""
    up = mean_up(scene) if options.up == "photos" else np.array(UP[options.up])
    builder = _Builder()
    points = list(scene.model.points3D.values())
    nodes = []
    if points:
        positions = np.array([point.xyz for point in points], np.float32)
        colours = np.array([point.color for point in points], np.uint8)
        nodes.append({"name": "points", "mesh": builder.mesh("points", POINTS, positions, colours)})
    size = frusta_size(scene)
    lines = np.concatenate([frusta(image, scene.model.camera(image.camera_id), size) for image in scene.images])
    colours = np.tile(np.array(LINE_COLOUR, np.uint8), (len(lines), 1))
    nodes.append({"name": "cameras", "mesh": builder.mesh("cameras", LINES, lines.astype(np.float32), colours)})
    for image in scene.images:
        matrix = _square(image.cam_from_world().inverse().matrix()) @ OPENGL_FROM_OPENCV
        number = builder.camera(image.name, scene.model.camera(image.camera_id), near=size / 100)
        nodes.append({"name": image.name, "camera": number, "matrix": matrix.T.ravel().tolist()})
    path.write_bytes(builder.file(nodes, gltf_from_model(up, mean_view(scene.images))))
    return []


def gltf_from_model(up: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(4, 4) rotation that makes ``up`` the y axis, and what is looked at lie towards -z."""
    forward = view - up * (up @ view)
    if np.linalg.norm(forward) < 1e-3:  # straight up or down
        forward = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    back = -forward / np.linalg.norm(forward)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([np.cross(up, back), up, back])
    return matrix


def frusta(image: pycolmap.Image, camera: pycolmap.Camera, size: float) -> np.ndarray:
    """(16, 3) world: the ends of the eight edges of a pyramid of this depth from the camera over its picture."""
    corners = np.array([[0, 0], [camera.width, 0], [camera.width, camera.height], [0, camera.height]], float)
    rays = (corners - [camera.principal_point_x, camera.principal_point_y]) / [
        camera.focal_length_x,
        camera.focal_length_y,
    ]
    local = size * np.vstack([np.zeros(3), np.column_stack([rays, np.ones(4)])])
    matrix = image.cam_from_world().inverse().matrix()
    world = local @ matrix[:, :3].T + matrix[:, 3]
    edges = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)]
    return world[np.array(edges).ravel()]


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.vstack([matrix, [0, 0, 0, 1]])


class _Builder:
    """The parts of a glTF file, and the bytes that they refer to."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.meshes: list[dict[str, Any]] = []
        self.cameras: list[dict[str, Any]] = []

    def mesh(self, name: str, mode: int, positions: np.ndarray, colours: np.ndarray) -> int:
        """Adds vertices (N, 3) float32 with colours (N, 3) uint8; gives the number of the mesh."""
        opaque = np.column_stack([colours, np.full(len(colours), 255, np.uint8)])
        bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
        attributes = {
            "POSITION": self._accessor(positions, FLOAT, "VEC3", **bounds),
            "COLOR_0": self._accessor(opaque, UNSIGNED_BYTE, "VEC4", normalized=True),
        }
        self.meshes.append({"name": name, "primitives": [{"attributes": attributes, "mode": mode}]})
        return len(self.meshes) - 1

    def camera(self, name: str, camera: pycolmap.Camera, near: float) -> int:
        """Adds a camera; gives its number."""
        angle = 2 * math.atan2(camera.height / 2, camera.focal_length_y)
        lens = {"yfov": angle, "aspectRatio": camera.width / camera.height, "znear": near}
        self.cameras.append({"name": name, "type": "perspective", "perspective": lens})
        return len(self.cameras) - 1

    def _accessor(self, values: np.ndarray, component: int, kind: str, **more: Any) -> int:
        content = np.ascontiguousarray(values).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content), "target": ARRAY_BUFFER}
        self.views.append(view)
        self.binary += content + bytes(-len(content) % 4)
        place = {"bufferView": len(self.views) - 1, "componentType": component, "count": len(values), "type": kind}
        self.accessors.append({**place, **more})
        return len(self.accessors) - 1

    def file(self, nodes: list[dict[str, Any]], root: np.ndarray) -> bytes:
        """The GLB file of nodes below a root with this (4, 4) transformation."""
        children = list(range(1, len(nodes) + 1))
        content = {
            "asset": {"version": "2.0", "generator": "lgsfm"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "model", "matrix": root.T.ravel().tolist(), "children": children}, *nodes],
            "meshes": self.meshes,
            "cameras": self.cameras,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.binary)}],
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text
        body += struct.pack("<I4s", len(self.binary), b"BIN\0") + bytes(self.binary)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
