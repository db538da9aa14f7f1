"""A small exact renderer: textured rectangles, a z-buffer, and light maps with sun shadows and ambient occlusion.

Pixel coordinates are continuous, as in COLMAP: the centre of the top-left pixel is (0.5, 0.5), in images, in
supersampled images and in textures alike, so that scaling a picture scales its coordinates and nothing else.
"""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Quad:
    """A textured rectangle, seen from the side where `u` points right and `v` points down."""

    origin: Array  # (3,) [m] the texture's top-left corner
    u: Array  # (3,) [m] from the left edge to the right one
    v: Array  # (3,) [m] from the top edge to the bottom one
    texture: Array  # (h, w, 4) uint8 RGBA, sRGB; alpha below 128 is a hole
    two_sided: bool = False
    light_map: list[Array] = field(default_factory=list)  # [(h, w, 3) float32]: ambient, first sun, second sun

    @cached_property
    def normal(self) -> Array:
        n = np.cross(self.v, self.u)
        return n / np.linalg.norm(n)

    @cached_property
    def pierced(self) -> bool:
        return bool(self.texture[..., 3].min() < 128)

    @cached_property
    def corners(self) -> Array:
        return self.origin + np.array([0 * self.u, self.u, self.u + self.v, self.v])


@dataclass(frozen=True, eq=False)
class Pose:
    """cam_from_world: x right, y down, z forward."""

    R: Array  # (3, 3)
    centre: Array  # (3,) [m] in the world

    def project(self, K: Array, points: Array) -> tuple[Array, Array]:
        """(N, 3) world [m] -> (N, 2) pixels and (N,) depths [m]."""
        p = (points - self.centre) @ self.R.T
        return (p @ K.T)[:, :2] / p[:, 2:], p[:, 2]


@dataclass(eq=False)
class Buffers:
    """What a camera sees, before any light is chosen."""

    inverse_depth: Array  # (h, w) float32 [1/m], 0 where there is only sky
    albedo: Array  # (h, w, 3) float32 sRGB 0..255
    light: Array  # (h, w, 3) float32, see Quad.light_map


def mip_levels(texture: Array) -> list[Array]:
    levels = [texture]
    while min(levels[-1].shape[:2]) > 4:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], ((w + 1) // 2, (h + 1) // 2), interpolation=cv2.INTER_AREA))
    return levels


def sample(img: Array, s: Array, t: Array) -> Array:
    """Bilinear lookup at (s, t) in 0..1 across the whole picture."""
    h, w = img.shape[:2]
    x, y = (s * w - 0.5).astype(np.float32), (t * h - 0.5).astype(np.float32)
    return cv2.remap(img, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sample_mips(levels: list[Array], s: Array, t: Array, lod: Array) -> Array:
    """Trilinear lookup: blends the two mip levels around `lod` (0 = full resolution)."""
    lod = np.clip(lod, 0, len(levels) - 1)
    out = np.zeros((*s.shape, 4), np.float32)
    for k in range(int(lod.min()), int(np.ceil(lod.max())) + 1):
        weight = np.clip(1 - np.abs(lod - k), 0, 1)
        out += weight[..., None] * sample(levels[k], s, t)
    return out


class Renderer:
    """Renders quads through a pinhole camera; mip levels are made once and shared by all views."""

    def __init__(self, quads: list[Quad]) -> None:
        self.quads = quads
        self.mips = [mip_levels(q.texture) for q in quads]
        self.middles = np.array([q.corners.mean(0) for q in quads])

    def render(self, K: Array, pose: Pose, width: int, height: int, depth_only: bool = False) -> Buffers:
        channels = ((), (0,), (0,)) if depth_only else ((), (3,), (3,))
        out = Buffers(*(np.zeros((height, width, *c), np.float32) for c in channels))
        near_first = np.argsort(np.linalg.norm(self.middles - pose.centre, axis=1), kind="stable")
        for i in near_first:
            self._draw(out, self.quads[i], self.mips[i], K, pose)
        return out

    def _draw(self, out: Buffers, quad: Quad, levels: list[Array], K: Array, pose: Pose) -> None:
        if not quad.two_sided and quad.normal @ (pose.centre - quad.origin) <= 0:
            return
        window = self._window(out, quad, K, pose)
        if window is None:
            return
        # (s, t, 1) on the rectangle -> depth * (x, y, 1); the inverse gives (s, t, 1) / depth, linear in the pixel
        inverse = np.linalg.inv(K @ pose.R @ np.stack([quad.u, quad.v, quad.origin - pose.centre], 1))
        x0, y0, x1, y1 = window
        step = max(100_000 // (x1 - x0), 1)  # rows at a time: the temporaries stay in the processor's cache
        for y in range(y0, y1, step):
            self._fill(out, quad, levels, inverse, np.s_[y : min(y + step, y1), x0:x1])

    def _fill(self, out: Buffers, quad: Quad, levels: list[Array], inverse: Array, block: tuple[slice, slice]) -> None:
        """Draws the part of a quad that lies in a block of pixels."""
        y, x = (np.arange(axis.start, axis.stop) + 0.5 for axis in block)
        a, b, q = (row[0] * x[None] + (row[1] * y + row[2])[:, None] for row in inverse)
        shown = (q > out.inverse_depth[block]) & (a >= 0) & (a <= q) & (b >= 0) & (b <= q)
        rows, cols = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        q, shown = q[part], shown[part]
        coloured = out.albedo.shape[2] > 0
        if coloured or quad.pierced:
            depth = 1 / np.maximum(q, 1e-9)
            s, t = (a[part] * depth).astype(np.float32), (b[part] * depth).astype(np.float32)
            h, w = quad.texture.shape[:2]
            texels = abs(np.linalg.det(inverse)) * w * h * depth**3  # a pixel's area in the texture
            lod = np.where(shown, 0.5 * np.log2(np.maximum(texels, 1.0)), 0).astype(np.float32)
            rgba = sample_mips(levels, s, t, lod)
            shown &= rgba[..., 3] >= 128
            if coloured:
                out.albedo[block][part][shown] = rgba[..., :3][shown]
                if quad.light_map:
                    out.light[block][part][shown] = sample(quad.light_map[0], s, t)[shown]
        out.inverse_depth[block][part][shown] = q[shown]

    @staticmethod
    def _window(out: Buffers, quad: Quad, K: Array, pose: Pose) -> tuple[int, int, int, int] | None:
        """Pixels x0, y0, x1, y1 that can show the quad; the whole image if the quad reaches behind the camera."""
        h, w = out.inverse_depth.shape
        px, depth = pose.project(K, quad.corners)
        if (depth <= 0).all():
            return None
        lo, hi = (np.zeros(2), np.array([w, h])) if (depth < 0.05).any() else (px.min(0), px.max(0))
        x0, y0 = np.clip(np.floor(lo), 0, (w, h)).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(hi), 0, (w, h)).astype(int).tolist()
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def surface_grid(quad: Quad, step: float) -> tuple[Array, tuple[int, int]]:
    """Points (h * w, 3) at the centres of about step x step [m] cells, and (h, w)."""
    w, h = (max(int(np.ceil(np.linalg.norm(e) / step)), 2) for e in (quad.u, quad.v))
    s, t = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    return quad.origin + s.reshape(-1, 1) * quad.u + t.reshape(-1, 1) * quad.v, (h, w)


def facing(direction: Array, middle: Array, distance: float) -> Pose:
    """A camera far away in `direction` that looks back at `middle`."""
    z = -direction / np.linalg.norm(direction)
    x = np.cross(z, [0.3, 0.1, 1.0])
    x /= np.linalg.norm(x)
    return Pose(np.array([x, np.cross(z, x), z]), middle - distance * z)


def light_term(
    renderer: Renderer, directions: Array, step: float, size: int, middle: Array, radius: float
) -> list[Array]:
    """For each quad the mean over directions of visibility x max(0, cosine), as an (h, w) map.

    A direction's light comes from a far camera whose depth buffer (size x size, covering `radius` [m] around
    `middle`) says what it reaches first; what that camera does not see counts as lit.
    """
    grids = [surface_grid(q, step) for q in renderer.quads]
    lengths = [len(g[0]) for g in grids]
    normals = np.repeat(np.array([q.normal for q in renderer.quads]), lengths, axis=0)
    leafy = np.repeat([q.two_sided for q in renderer.quads], lengths)
    texel, far = 2 * radius / size, 400.0
    points = np.concatenate([g[0] for g in grids]) + 1.2 * texel * normals
    K = np.array([[far / texel, 0, size / 2], [0, far / texel, size / 2], [0, 0, 1]])
    total = np.zeros(len(points), np.float32)
    for d in directions:
        pose = facing(d, middle, far)
        reached = 1 / np.maximum(renderer.render(K, pose, size, size, depth_only=True).inverse_depth, 1e-6)
        cosine = np.where(leafy, 0.5, normals @ d)
        lit = np.flatnonzero(cosine > 0)
        px, depth = pose.project(K, points[lit])
        x, y = np.clip(px, 0, size - 1).astype(int).T
        outside = ((px < 0) | (px > size)).any(1)
        total[lit] += cosine[lit] * (outside | (depth < reached[y, x] + 0.5 * texel + 0.01))
    pieces = np.split(total / len(directions), np.cumsum(lengths)[:-1])
    return [cv2.blur(p.reshape(g[1]), (3, 3)) for p, g in zip(pieces, grids, strict=True)]


def sphere(count: int) -> Array:
    """(count, 3) directions, evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], 1)


def cone(axis: Array, count: int, radius: float) -> Array:
    """(count, 3) unit directions around `axis`, within about `radius` [rad]: a sun with a soft edge."""
    jitter = sphere(count) * radius
    d = axis / np.linalg.norm(axis) + jitter
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def bake_light(renderer: Renderer, suns: list[Array], middle: Array, radius: float) -> None:
    """Fills every quad's light map: ambient from the upper half space, then one channel for each sun."""
    up = sphere(56)
    ambient = light_term(renderer, up[up[:, 2] > -0.1], 0.12, 640, middle, radius)
    sunny = [light_term(renderer, cone(sun, 6, 0.02), 0.035, 1400, middle, radius) for sun in suns]
    for quad, sky, *terms in zip(renderer.quads, ambient, *sunny, strict=True):
        h, w = terms[0].shape
        quad.light_map[:] = [np.dstack([cv2.resize(sky, (w, h), interpolation=cv2.INTER_LINEAR), *terms])]
