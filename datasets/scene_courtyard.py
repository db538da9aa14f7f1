"""The courtyard: an old facade with recessed windows, a stone wall at an angle, paving, and things standing about.

World: metres, X right along the facade, Y into it, Z up. All sizes are in metres unless a name says otherwise.
"""

from collections.abc import Callable

import cv2
import numpy as np
import scene_textures as tx
from scene_renderer import Array, Quad

Paint = Callable[[float, float], Array]  # (width, height) [m] -> RGBA texture


# ------------------------------------------------------------------------------------------------ building blocks


def sheet(texture: Array, px_per_m: float, rng: tx.Rng) -> Paint:
    """Cuts pieces at random from one large texture."""

    def cut(width: float, height: float) -> Array:
        w, h = (max(round(e * px_per_m), 4) for e in (width, height))
        w, h = min(w, texture.shape[1]), min(h, texture.shape[0])
        x, y = rng.integers(texture.shape[1] - w + 1), rng.integers(texture.shape[0] - h + 1)
        return texture[y : y + h, x : x + w]

    return cut


def label(texture: Array) -> Paint:
    """The same picture on every side."""
    return lambda width, height: texture


def wall(p0: tuple, p1: tuple, bottom: float, top: float, texture: Array) -> Quad:
    """Upright rectangle from p0 on the left to p1 on the right, (x, y) [m] as seen from its front."""
    u = np.array([p1[0] - p0[0], p1[1] - p0[1], 0.0])
    return Quad(origin=np.array([*p0, top], float), u=u, v=np.array([0, 0, bottom - top], float), texture=texture)


def floor(corner: tuple, u: tuple, v: tuple, z: float, texture: Array) -> Quad:
    """Horizontal rectangle that faces up; from `corner`, u goes right and v towards the viewer, (x, y) [m]."""
    return Quad(origin=np.array([*corner, z], float), u=np.array([*u, 0.0]), v=np.array([*v, 0.0]), texture=texture)


def box(x: float, y: float, z: float, size: tuple[float, float, float], paint: Paint, yaw: float = 0) -> list[Quad]:
    """The six sides of a box that stands at height z, centred on (x, y); yaw [deg]."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    right, back = np.array([c, s]) * size[0] / 2, np.array([-s, c]) * size[1] / 2
    ring = [np.array([x, y]) + a * right + b * back for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    sides = [
        wall(tuple(ring[i]), tuple(ring[(i + 1) % 4]), z, z + size[2], paint(size[i % 2], size[2])) for i in range(4)
    ]
    top = floor(tuple(ring[3]), tuple(2 * right), tuple(-2 * back), z + size[2], paint(size[0], size[1]))
    bottom = floor(tuple(ring[0]), tuple(2 * right), tuple(2 * back), z, paint(size[0], size[1]))
    return [*sides, top, bottom]


def prism(x: float, y: float, z: float, radius: float, height: float, faces: int, texture: Array) -> list[Quad]:
    """An upright column of flat faces with one texture wrapped around it."""
    angles = np.linspace(0, 2 * np.pi, faces + 1)
    ring = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
    cuts = np.linspace(0, texture.shape[1], faces + 1).astype(int)
    return [wall(ring[i], ring[i + 1], z, z + height, texture[:, cuts[i] : cuts[i + 1]]) for i in range(faces)]


def foliage(rng: tx.Rng, centre: Array, spread: Array, count: int, size: float, colour: tuple) -> list[Quad]:
    """Cards of leaves at random places within `spread` [m] of the centre, facing anywhere."""
    cards = []
    for _ in range(count):
        basis = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        u, v = basis[:, :2].T * size * rng.uniform(0.7, 1.2)
        at = centre + spread * rng.uniform(-1, 1, 3)
        texture = tx.finish(*tx.leaves(rng, 96, 15, colour))
        cards.append(Quad(origin=at - (u + v) / 2, u=u, v=v, texture=texture, two_sided=True))
    return cards


# ------------------------------------------------------------------------------------------------------ the place

LEFT, RIGHT, EAVES, PPM = -5.2, 5.0, 6.3, 200  # facade [m], its texture's pixels per metre
OPENINGS = [  # x0, x1, z0, z1 [m], kind
    (-4.5, -3.4, 1.0, 2.5, "shutters"),
    (-2.2, -1.0, 0.9, 2.5, "window"),
    (-0.1, 1.1, 0.3, 2.6, "door"),
    (2.2, 3.9, 0.9, 2.4, "shop"),
    (-4.4, -3.5, 3.7, 5.3, "shutters"),
    (-2.1, -1.2, 3.7, 5.3, "shutters"),
    (0.1, 1.0, 3.7, 5.3, "window"),
    (2.5, 3.5, 3.7, 5.3, "shutters"),
]
CRATES = [  # x, y, z, edge [m], yaw [deg]
    (1.75, -1.7, 0, 0.85, 18),
    (2.75, -1.35, 0, 0.75, -12),
    (1.85, -1.62, 0.85, 0.62, 41),
    (2.2, -2.6, 0, 0.5, 63),
]
HOUSES = [  # left and right end (x, y), height [m], colour
    ((-19, -6), (-9, 7), 8.5, (0.7, 0.5, 0.4)),
    ((-10, 7), (-4, 7.5), 7.5, (0.6, 0.62, 0.6)),
    ((6, 3), (14, -8), 9.0, (0.66, 0.6, 0.5)),
]
STONE = [(0.62, 0.58, 0.5), (0.52, 0.5, 0.46), (0.68, 0.62, 0.5), (0.45, 0.43, 0.41), (0.58, 0.5, 0.42)]
PAINTS = [(0.85, 0.83, 0.77), (0.2, 0.33, 0.27), (0.44, 0.2, 0.16), (0.25, 0.36, 0.45), (0.52, 0.47, 0.36)]


def materials(rng: tx.Rng) -> dict[str, Paint]:
    n = 700
    plain = np.ones((n, n, 3), np.float32) * 0.66 * (1 + 0.05 * tx.noise(rng, n, n, 50, 6))[..., None]
    stone = tx.masonry(rng, tx.cell_labels(rng, n, n, 400), STONE, (0.4, 0.4, 0.4), 2)
    named = {
        "trim": tx.weather(rng, plain),
        "stone": tx.weather(rng, stone),
        "plank": tx.wood(rng, n, n, (0.56, 0.4, 0.25), 42),
        "metal": tx.rusty(rng, n, n, (0.16, 0.36, 0.4)),
    }
    return {name: sheet(tx.finish(img), PPM, rng) for name, img in named.items()}


def opening(rng: tx.Rng, paint: dict[str, Paint], x0: float, x1: float, z0: float, z1: float, kind: str) -> list[Quad]:
    """A window or door set back behind the facade: pane, four reveals, sill, shutters."""
    w, h, depth = x1 - x0, z1 - z0, 0.5 if kind == "shop" else 0.3
    w_px, h_px = round(w * PPM), round(h * PPM)
    if kind == "door":
        pane = np.ascontiguousarray(tx.wood(rng, w_px, h_px, (0.2, 0.33, 0.25), 30).transpose(1, 0, 2))
        tx.put_words(rng, pane, (0.9, 0.85, 0.6), (30, 60, w_px - 30, 130))
    else:
        pane = tx.pane(rng, h_px, w_px, tuple(rng.choice(PAINTS).tolist()))
    quads = [
        wall((x0, depth), (x1, depth), z0, z1, tx.finish(pane)),
        wall((x0, 0), (x0, depth), z0, z1, paint["trim"](depth, h)),
        wall((x1, depth), (x1, 0), z0, z1, paint["trim"](depth, h)),
        floor((x0, depth), (w, 0), (0, -depth), z0, paint["trim"](w, depth)),
        floor((x0, 0), (w, 0), (0, depth), z1, paint["trim"](w, depth)),  # the lintel: its v turns it face down
    ]
    if kind != "door":
        quads += box((x0 + x1) / 2, -0.07, z0 - 0.1, (w + 0.24, 0.16, 0.09), paint["stone"])
    if kind == "shutters":
        slats = sheet(tx.finish(tx.wood(rng, 340, 120, tuple(rng.choice(PAINTS)), 17)), PPM, rng)
        for x in (x0 - 0.3, x1 + 0.3):
            quads += box(x, -0.035, z0 + rng.uniform(-0.03, 0.03), (0.5, 0.05, h), slats)
    return quads


def facade(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    h, w = round(EAVES * PPM), round((RIGHT - LEFT) * PPM)
    img, holes = tx.plaster(rng, h, w, (0.76, 0.62, 0.42)), np.ones((h, w), np.float32)
    base = tx.masonry(rng, tx.course_labels(rng, 80, w, 90, 40), STONE, (0.3, 0.29, 0.27), 2)
    img[-80:] = tx.weather(rng, base)
    tx.graffiti(rng, img, (int(6.45 * PPM), h - 340, int(7.3 * PPM), h - 110))
    quads = []
    for x0, x1, z0, z1, kind in OPENINGS:
        c0, c1, r0, r1 = (round(e * PPM) for e in (x0 - LEFT, x1 - LEFT, EAVES - z1, EAVES - z0))
        grey = rng.uniform(0.5, 0.75)
        cv2.rectangle(img, (c0 - 16, r0 - 16), (c1 + 15, r1 + 15), (grey, grey, grey), -1)
        holes[r0:r1, c0:c1] = 0
        quads += opening(rng, paint, x0, x1, z0, z1, kind)
    quads.append(wall((LEFT, 0), (RIGHT, 0), 0, EAVES, tx.finish(img, holes)))
    for z, depth, height in ((3.1, 0.14, 0.16), (EAVES - 0.25, 0.4, 0.25)):  # string course and cornice
        quads += box((LEFT + RIGHT) / 2, -depth / 2, z, (RIGHT - LEFT, depth, height), paint["trim"])
    return quads


def posters(rng: tx.Rng, p0: Array, p1: Array, count: int, heights: tuple, lift: float = 0.012) -> list[Quad]:
    """Pasted sheets side by side on the wall from p0 to p1, (x, y) [m]."""
    along = (p1 - p0) / np.linalg.norm(p1 - p0)
    out = lift * np.array([along[1], -along[0]])
    quads = []
    for s in np.linspace(0.05, 0.95, count):
        w, h = rng.uniform(0.42, 0.62), rng.uniform(0.6, 0.9)
        a = p0 + s * (p1 - p0) + out - along * w / 2
        z = rng.uniform(*heights)
        sheet_ = tx.finish(tx.poster(rng, int(h * 300), int(w * 300)))
        quads.append(wall(tuple(a), tuple(a + along * w), z, z + h, sheet_))
    return quads


def side_wall(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    """The stone wall on the right, at 70 degrees to the facade, with posters, graffiti and two buttresses."""
    p0, p1 = np.array([RIGHT, 0.0]), np.array([6.9, -5.3])
    length, top = float(np.linalg.norm(p1 - p0)), 4.3
    h, w = round(top * PPM), round(length * PPM)
    img = tx.masonry(rng, tx.course_labels(rng, h, w, 96, 46, 4), STONE, (0.42, 0.4, 0.37), 2.4)
    img = tx.weather(rng, img)
    tx.graffiti(rng, img, (int(0.42 * w), int(0.4 * h), int(0.72 * w), int(0.75 * h)), 7)
    yaw = float(np.degrees(np.arctan2(*(p1 - p0)[::-1])))
    quads = [wall(tuple(p0), tuple(p1), 0, top, tx.finish(img))]
    quads += posters(rng, p0 + 0.1 * (p1 - p0), p0 + 0.38 * (p1 - p0), 3, (0.9, 1.3))
    quads += posters(rng, p0 + 0.75 * (p1 - p0), p0 + 0.95 * (p1 - p0), 2, (1.0, 1.4))
    for s in (0.42, 0.7):
        x, y = p0 + s * (p1 - p0)
        quads += box(x, y, 0, (0.35, 0.5, 2.9), paint["stone"], yaw)
        quads += box(x, y, 2.9, (0.45, 0.6, 0.12), paint["trim"], yaw)
    x, y = (p0 + p1) / 2
    return [*quads, *box(x, y, top, (length + 0.1, 0.3, 0.14), paint["trim"], yaw)]


def garden_wall(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    """The low rubble wall on the left: every stone stands out by its own amount, a true height field."""
    p0, p1 = np.array([-7.0, -4.6]), np.array([LEFT, 0.0])
    length = float(np.linalg.norm(p1 - p0))
    along = (p1 - p0) / length
    yaw = float(np.degrees(np.arctan2(along[1], along[0])))
    quads: list[Quad] = []
    for course, z in enumerate(np.arange(0, 1.6, 0.27)):
        s = -0.2 * (course % 2)
        while s < length:
            width = rng.uniform(0.3, 0.62)
            at = p0 + along * (s + width / 2)
            size = (width - 0.015, 0.45 + rng.uniform(0, 0.2), 0.26 - rng.uniform(0, 0.02))
            quads += box(at[0], at[1], z, size, paint["stone"], yaw)
            s += width
    return quads


def crates(rng: tx.Rng) -> list[Quad]:
    quads: list[Quad] = []
    for x, y, z, edge, yaw in CRATES:
        n = int(edge * 260)
        boards = tx.wood(rng, n, n, tuple(np.array([0.6, 0.43, 0.26]) * rng.uniform(0.7, 1.15)), n / 5)
        tx.put_words(rng, boards, (0.12, 0.1, 0.1), (n // 8, n // 3, n - n // 8, 2 * n // 3))
        cv2.rectangle(boards, (0, 0), (n - 1, n - 1), (0.36, 0.27, 0.17), n // 10)
        quads += box(x, y, z, (edge, edge, edge), label(tx.finish(boards)), yaw)
    return quads


def advertising_column(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    x, y, radius, w, h = -2.75, -2.3, 0.55, 691, 500
    skin = tx.weather(rng, tx.plaster(rng, h, w, (0.6, 0.57, 0.5)))
    for _ in range(46):  # layer upon layer; many bills hang over older ones
        bill = tx.poster(rng, int(rng.integers(110, 200)), int(rng.integers(80, 135)))
        c, r = rng.integers(w - bill.shape[1]), rng.integers(8, h - bill.shape[0] - 8)
        skin[r : r + bill.shape[0], c : c + bill.shape[1]] = bill
    quads = prism(x, y, 0.12, radius, 2.5, 20, tx.finish(tx.weather(rng, skin, 0.5)))
    for z, edge, height in ((0, 1.3, 0.12), (2.62, 1.2, 0.1), (2.72, 0.9, 0.12)):
        quads += box(x, y, z, (edge, edge, height), paint["stone"], 20)
    return quads


def barrel(rng: tx.Rng, x: float, y: float) -> list[Quad]:
    skin, lid = (tx.rusty(rng, h, w, (0.15, 0.3, 0.55)) for h, w in ((190, 440), (140, 140)))
    for hoop in (8, 62, 126, 182):
        cv2.line(skin, (0, hoop), (440, hoop), (0.1, 0.15, 0.25), 4)
    tx.put_words(rng, skin, (0.9, 0.9, 0.85), (150, 70, 330, 120))
    disc = np.zeros((140, 140), np.float32)
    cv2.circle(disc, (70, 70), 69, 1.0, -1)
    top = floor((x - 0.35, y + 0.35), (0.7, 0), (0, -0.7), 0.95, tx.finish(lid, disc))
    return [*prism(x, y, 0, 0.35, 0.95, 14, tx.finish(skin)), top]


def bench(paint: dict[str, Paint], x: float, y: float) -> list[Quad]:
    quads = box(x, y, 0.42, (1.7, 0.42, 0.06), paint["plank"], -70)
    quads += box(x + 0.23, y + 0.08, 0.62, (1.7, 0.05, 0.3), paint["plank"], -70)
    for s in (-0.65, 0.65):
        quads += box(x + 0.34 * s, y - 0.94 * s, 0, (0.1, 0.4, 0.42), paint["metal"], -70)
    return quads


def folding_sign(rng: tx.Rng) -> list[Quad]:
    """Two boards that lean against each other."""
    ridge, u, texture = np.array([-0.75, -2.3, 0.95]), np.array([0.62, -0.14, 0]), tx.finish(tx.poster(rng, 300, 200))
    legs = [side * np.array([0.055, 0.245, 0]) - [0, 0, 0.93] for side in (-1, 1)]
    return [Quad(origin=ridge, u=u, v=leg, texture=texture, two_sided=True) for leg in legs]


def goods(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    """What stands about: crates, column, barrel, bench, sign, steps, planters, loose stones."""
    quads = crates(rng) + advertising_column(rng, paint) + barrel(rng, 4.05, -1.3)
    quads += bench(paint, 4.75, -3.0) + folding_sign(rng)
    quads += box(0.5, -0.35, 0, (1.7, 0.7, 0.15), paint["stone"])
    quads += box(0.5, -0.2, 0.15, (1.5, 0.4, 0.14), paint["stone"])
    for x, y, w, d, h in ((-3.9, -0.55, 1.2, 0.5, 0.5), (1.6, -0.4, 0.5, 0.5, 0.45), (-5.6, -2.9, 0.6, 0.6, 0.55)):
        quads += box(x, y, 0, (w, d, h), paint["trim"], 4 * x)
        at, spread = np.array([x, y, h + 0.25]), np.array([w / 2.4, 0.2, 0.25])
        quads += foliage(rng, at, spread, int(26 * w), 0.42, (0.22, 0.36, 0.13))
    for _ in range(34):
        x, y, e = rng.uniform(-5.5, -3.2), rng.uniform(-4.6, -1.0), rng.uniform(0.07, 0.24)
        size = (e, e * rng.uniform(0.6, 1.4), e * rng.uniform(0.4, 0.9))
        quads += box(x, y, 0, size, paint["stone"], rng.uniform(0, 90))
    return quads


def fittings(rng: tx.Rng, paint: dict[str, Paint]) -> list[Quad]:
    """What hangs on the facade: posters, shop sign, awning, drainpipe, lantern, ivy."""
    quads = posters(rng, np.array([-3.05, 0.0]), np.array([-2.6, 0.0]), 1, (1.2, 1.3))
    quads += posters(rng, np.array([1.35, 0.0]), np.array([1.95, 0.0]), 1, (1.3, 1.4))
    quads += posters(rng, np.array([4.2, 0.0]), np.array([4.8, 0.0]), 2, (1.3, 1.9))
    board = tx.wood(rng, 110, 420, (0.18, 0.3, 0.28), 55)
    tx.put_words(rng, board, (0.95, 0.85, 0.5), (25, 12, 395, 98), 2)
    quads += box(3.05, -0.06, 2.6, (2.1, 0.12, 0.45), label(tx.finish(board)))
    stripes = np.ones((240, 440, 3), np.float32) * np.array([0.85, 0.82, 0.74], np.float32)
    stripes[:, (np.arange(440) // 40) % 2 == 0] = (0.55, 0.14, 0.12)
    cloth = tx.finish(tx.weather(rng, stripes, 1.2))
    edge, width, fall = np.array([-0.45, -0.02, 3.05]), np.array([1.9, 0, 0]), np.array([0, -0.95, -0.4])
    quads.append(Quad(origin=edge, u=width, v=fall, texture=cloth, two_sided=True))
    quads.append(wall((-0.45, -0.97), (1.45, -0.97), 2.45, 2.65, cloth[:60]))
    quads += prism(1.7, -0.1, 0, 0.06, EAVES - 0.3, 8, tx.finish(tx.rusty(rng, 900, 80, (0.35, 0.38, 0.36))))
    quads += box(-2.75, -0.2, 2.65, (0.06, 0.4, 0.05), paint["metal"])
    quads += box(-2.75, -0.4, 2.35, (0.2, 0.2, 0.3), paint["metal"])
    for x, z, sx, sz in ((-4.95, 2.0, 0.25, 2.0), (-4.6, 3.15, 0.6, 0.35), (4.7, 3.6, 0.3, 1.1)):
        at = np.array([x, -0.1, z])
        quads += foliage(rng, at, np.array([sx, 0.09, sz]), int(75 * sx * sz) + 12, 0.36, (0.2, 0.33, 0.12))
    return quads


def paving(rng: tx.Rng) -> Quad:
    """Setts between two strips of slabs, with moss, fallen leaves and a manhole."""
    w, d, ppm = 17.0, 12.5, 170
    h_px, w_px = round(d * ppm), round(w * ppm)
    setts = tx.masonry(rng, tx.cell_labels(rng, h_px, w_px, 32), STONE, (0.27, 0.25, 0.22), 2.2, 0.17)
    slabs = tx.masonry(rng, tx.course_labels(rng, h_px, w_px, 130, 95, 5), STONE, (0.3, 0.29, 0.26), 2.2)
    y = np.linspace(0, d, h_px, dtype=np.float32)[:, None] + 0.03 * tx.noise(rng, h_px, w_px, 40, 3)
    img = tx.weather(rng, np.where(((y < 1.5) | ((y > 4.6) & (y < 5.8)))[..., None], slabs, setts))
    moss = tx.smoothstep(1.0, 2.2, tx.noise(rng, h_px, w_px, 300, 7))
    img = tx.blend(img, np.array([0.22, 0.28, 0.12], np.float32), 0.7 * moss)
    tx.litter(rng, img, 900)
    manhole = (round(7.9 * ppm), round(3.4 * ppm))
    cv2.circle(img, manhole, 52, (0.17, 0.16, 0.16), -1, cv2.LINE_AA)
    for r in (48, 34, 20):
        cv2.circle(img, manhole, r, (0.33, 0.31, 0.29), 4, cv2.LINE_AA)
    return floor((-8.4, 0), (w, 0), (0, -d), 0, tx.finish(img))


def roof(rng: tx.Rng) -> Quad:
    labels = tx.course_labels(rng, 260, 1100, 24, 17)
    tiles = tx.masonry(rng, labels, [(0.5, 0.25, 0.17), (0.58, 0.32, 0.22)], (0.2, 0.2, 0.2), 1.5)
    ridge, u, fall = (LEFT - 0.2, 1.9, EAVES + 1.5), (RIGHT - LEFT + 0.4, 0, 0), (0, -2.4, -1.5)
    return Quad(origin=np.array(ridge), u=np.array(u), v=np.array(fall), texture=tx.finish(tx.weather(rng, tiles)))


def neighbours(rng: tx.Rng) -> list[Quad]:
    """The fronts of three houses further away."""
    quads, ppm = [], 70
    for p0, p1, top, colour in HOUSES:
        length = float(np.hypot(p1[0] - p0[0], p1[1] - p0[1]))
        front = tx.plaster(rng, round(top * ppm), round(length * ppm), colour)
        for x in np.arange(0.8, length - 1.3, 2.1):
            for z in np.arange(1.2, top - 1.4, 2.6):
                c, r = int(x * ppm), int((top - z - 1.5) * ppm)
                front[r : r + 105, c : c + 70] = tx.pane(rng, 105, 70, (0.8, 0.8, 0.75))
        quads.append(wall(p0, p1, 0, top, tx.finish(front)))
    return quads


def courtyard(seed: int = 7) -> list[Quad]:
    """All rectangles of the scene."""
    rng = np.random.default_rng(seed)
    paint = materials(rng)
    quads = [paving(rng), roof(rng), *neighbours(rng), *facade(rng, paint), *side_wall(rng, paint)]
    return [*quads, *garden_wall(rng, paint), *fittings(rng, paint), *goods(rng, paint)]
