"""Procedural textures for the rendered scene: masonry, wood, posters, graffiti, leaves; nothing is read from disk.

Every function takes the random generator first, so a seed fixes every pixel. A texture is (h, w, 3) float32, sRGB
in 0..1, while it is being painted; `finish` turns it into the (h, w, 4) uint8 RGBA that the renderer samples.
"""

import cv2
import numpy as np

Rng = np.random.Generator
Image = np.ndarray

WORDS = (
    "MARKET", "CIRCUS", "Jazz", "OPEN", "Concert", "Bakery", "HARVEST", "No. 47", "Friday", "THEATRE", "18:30",
    "Museum", "LOST CAT", "Books", "FRAGILE", "Old", "Summer", "Exhibition", "GARAGE", "Orchestra", "KEEP DRY",
)  # fmt: skip
FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def noise(rng: Rng, h: int, w: int, cell: float, octaves: int = 4, stretch: float = 1.0) -> Image:
    """(h, w) smooth noise, mean 0 and deviation about 1; cell = largest wave [px], stretch = its height/width."""
    out = np.zeros((h, w), np.float32)
    for k in range(octaves):
        c = max(cell / 2**k, 1.0)
        grid = (max(int(h / (c * stretch)) + 2, 3), int(w / c) + 3)
        coarse = rng.standard_normal(grid, dtype=np.float32)
        out += 0.6**k * cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC if c > 1.5 else cv2.INTER_NEAREST)
    return out / max(float(out.std()), 1e-6)


def smoothstep(lo: float, hi: float, x: Image) -> Image:
    t = np.clip((x - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def muted(rng: Rng, lo: float, hi: float) -> tuple[float, float, float]:
    """A random colour of paint or print that has seen some weather: half the saturation."""
    c = rng.uniform(lo, hi, 3)
    r, g, b = c.mean() + 0.5 * (c - c.mean())
    return float(r), float(g), float(b)


def blend(a: Image, b: Image, weight: Image) -> Image:
    """a where weight is 0, b where it is 1."""
    return a + (b - a) * weight[..., None]


def finish(img: Image, alpha: Image | None = None) -> Image:
    opaque = np.ones(img.shape[:2], np.float32) if alpha is None else alpha
    return np.rint(np.clip(np.dstack([img, opaque]), 0, 1) * 255).astype(np.uint8)


def emboss(img: Image, height: Image, strength: float) -> Image:
    """Shades `img` by the slope of a height map, as if lit from the upper left."""
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.25) + cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.25)
    return img * np.clip(1 + strength * slope, 0.45, 1.6)[..., None]


def course_labels(rng: Rng, h: int, w: int, length: float, height: float, wobble: float = 1.5) -> Image:
    """(h, w) int32 stone index of a running bond: courses of `height` px, stones of about `length` px."""
    y = np.arange(h, dtype=np.float32)[:, None] + wobble * noise(rng, h, w, 90, 3)
    x = np.arange(w, dtype=np.float32)[None] + wobble * noise(rng, h, w, 60, 3)
    row = np.clip(y / height, 0, None).astype(np.int32)
    shift = (0.5 * (np.arange(row.max() + 1) % 2) + rng.uniform(-0.12, 0.12, row.max() + 1)).astype(np.float32)
    col = np.clip(x / length + 1 + shift[row], 0, None).astype(np.int32)
    return row * (int(col.max()) + 1) + col


def cell_labels(rng: Rng, h: int, w: int, cell: float, jitter: float = 0.32) -> Image:
    """(h, w) int32 stone index of irregular setts: Voronoi cells of a jittered grid."""
    gy, gx = np.mgrid[0 : h / cell, 0 : w / cell]
    centres = np.stack([gx + 0.5 * (gy % 2), gy], -1).reshape(-1, 2) + rng.uniform(-jitter, jitter, (gx.size, 2))
    x, y = np.clip(np.rint(centres * cell), 0, (w - 1, h - 1)).astype(int).T
    seeds = np.ones((h, w), np.uint8)
    seeds[y, x] = 0
    return cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]


def masonry(rng: Rng, labels: Image, palette: list, joint: tuple, joint_px: float, variation: float = 0.13) -> Image:
    """Stones with a colour each, rough faces, worn rounded edges and recessed joints."""
    h, w = labels.shape
    stones = np.array(palette, np.float32)[rng.integers(len(palette), size=labels.max() + 1)]
    stones = stones * (1 + variation * rng.standard_normal((len(stones), 1), dtype=np.float32))
    inner = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) == 0
    depth = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5) + 0.7 * noise(rng, h, w, 14, 3)
    face = smoothstep(0.6 * joint_px, 1.8 * joint_px, depth)
    grain = noise(rng, h, w, 40, 6)
    img = blend(np.array(joint, np.float32) * (1 + 0.1 * grain[..., None]), stones[labels], face)
    img = emboss(img * (1 + 0.07 * grain[..., None]), 1.6 * face + 0.22 * grain, 0.35)
    pits = smoothstep(1.7, 2.3, noise(rng, h, w, 9, 3))
    return img * (1 - 0.35 * pits)[..., None]


def weather(rng: Rng, img: Image, amount: float = 1.0) -> Image:
    """Dirt blotches, rain streaks that run down, and pale bleached areas."""
    h, w = img.shape[:2]
    blotch = smoothstep(0.3, 2.2, noise(rng, h, w, 260, 6))
    streak = smoothstep(0.4, 2.4, noise(rng, h, w, 26, 3, stretch=14))
    pale = smoothstep(0.5, 2.5, noise(rng, h, w, 330, 5))
    img = img * (1 - amount * (0.45 * blotch + 0.28 * streak))[..., None]
    return blend(img, np.array([0.82, 0.79, 0.72], np.float32), 0.25 * amount * pale)


def plaster(rng: Rng, h: int, w: int, colour: tuple) -> Image:
    """Painted plaster with trowel marks and cracks, fallen off in places so that the bricks show."""
    grain = noise(rng, h, w, 120, 7)
    img = emboss(np.array(colour, np.float32) * (1 + 0.05 * grain[..., None]), grain, 0.16)
    cracks = np.abs(noise(rng, h, w, 420, 6)) + 0.35 * np.abs(noise(rng, h, w, 700, 2))
    img = img * (1 - 0.5 * smoothstep(0.05, 0.012, cracks))[..., None]
    bricks = masonry(
        rng, course_labels(rng, h, w, 46, 15), [(0.55, 0.27, 0.2), (0.62, 0.34, 0.24), (0.44, 0.22, 0.19)],
        (0.62, 0.58, 0.52), 1.6,
    )  # fmt: skip
    lost = noise(rng, h, w, 380, 7) + 1.1 * np.linspace(-0.6, 0.9, h, dtype=np.float32)[:, None] ** 3
    img = blend(img, bricks * 0.9, smoothstep(1.22, 1.27, lost))
    return weather(rng, emboss(img, smoothstep(1.3, 1.2, lost), 0.9))


def wood(rng: Rng, h: int, w: int, colour: tuple, plank: float) -> Image:
    """Horizontal planks of `plank` px with grain, knots, gaps and nails."""
    labels = np.broadcast_to((np.arange(h) / plank).astype(np.int32)[:, None], (h, w)).copy()
    tone = 1 + 0.16 * rng.standard_normal((labels.max() + 1, 1), dtype=np.float32)
    warp = noise(rng, h, w, 90, 3, 0.4)
    grain = np.sin(np.arange(h, dtype=np.float32)[:, None] * 0.9 + 3 * warp + 4 * tone[labels[..., 0:], 0])
    fibre = noise(rng, w, h, 5, 2, stretch=18).T
    img = np.array(colour, np.float32) * tone[labels] * (1 + 0.07 * grain + 0.1 * fibre)[..., None]
    gap = (np.arange(h) % plank < max(plank * 0.05, 1.5)).astype(np.float32)[:, None]
    img = img * (1 - 0.75 * gap)[..., None]
    for y in np.arange(plank / 2, h, plank):
        for x in (0.06 * w, 0.94 * w):
            cv2.circle(img, (int(x), int(y)), max(int(plank / 16), 1), (0.16, 0.13, 0.12), -1, cv2.LINE_AA)
    return weather(rng, img, 0.6)


def rusty(rng: Rng, h: int, w: int, colour: tuple) -> Image:
    """Painted metal, flaking into rust."""
    flake = noise(rng, h, w, 90, 6)
    rust = np.array([0.4, 0.22, 0.12], np.float32) * (1 + 0.25 * noise(rng, h, w, 14, 4))[..., None]
    img = np.array(colour, np.float32) * (1 + 0.05 * noise(rng, h, w, 60, 4))[..., None]
    return weather(rng, emboss(blend(img, rust, smoothstep(0.55, 0.75, flake)), smoothstep(0.7, 0.6, flake), 0.5), 0.5)


def put_words(rng: Rng, img: Image, colour: tuple, box: tuple[int, int, int, int], words: int = 1) -> None:
    """Writes random words, as large as fit, into box = (x0, y0, x1, y1) [px]."""
    text = " ".join(rng.choice(WORDS, words))
    font = int(rng.choice(FONTS))
    (tw, th), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min((box[2] - box[0]) / tw, (box[3] - box[1]) / (1.5 * th))
    at = (box[0], int(box[3] - 0.25 * th * scale))
    mask = np.zeros(img.shape[:2], np.uint8)  # putText draws on 8-bit pictures only
    cv2.putText(mask, text, at, font, scale, 255, max(int(2 * scale), 1), cv2.LINE_AA)
    img[:] = blend(img, np.array(colour, np.float32), mask.astype(np.float32) / 255)


def poster(rng: Rng, h: int, w: int) -> Image:
    """A printed sheet: ground colour, a picture of random shapes, a headline, small print, torn and faded paper."""
    ground, ink, fade = muted(rng, 0.35, 1.0), muted(rng, 0.0, 0.4), np.linspace(0, 0.6, h, dtype=np.float32)
    img = np.ones((h, w, 3), np.float32) * np.array(ground, np.float32)
    img = blend(img, np.array(muted(rng, 0, 1), np.float32), fade[:, None] ** 2)
    for _ in range(12):
        centre = (int(rng.uniform(0, w)), int(rng.uniform(0.25, 0.7) * h))
        size = (int(rng.uniform(0.03, 0.25) * w), int(rng.uniform(0.03, 0.16) * h))
        colour = muted(rng, 0, 1)
        if rng.random() < 0.5:
            cv2.ellipse(img, centre, size, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = np.array(centre) + rng.uniform(-1.4, 1.4, (4, 2)) * size
            cv2.fillPoly(img, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    put_words(rng, img, ink, (int(0.07 * w), int(0.04 * h), int(0.93 * w), int(0.2 * h)))
    for y in np.linspace(0.74, 0.95, 5):
        line = (int(0.08 * w), int((y - 0.03) * h), int(rng.uniform(0.6, 0.92) * w), int(y * h))
        put_words(rng, img, ink, line, 3)
    cv2.rectangle(img, (2, 2), (w - 3, h - 3), muted(rng, 0.1, 1), max(w // 60, 1))
    paper = smoothstep(1.75, 1.8, noise(rng, h, w, 0.4 * w, 5))
    return blend(img * (1 + 0.05 * noise(rng, h, w, 0.3 * w, 5))[..., None], np.array(0.8, np.float32), 0.85 * paper)


def graffiti(rng: Rng, img: Image, box: tuple[int, int, int, int], strokes: int = 5) -> None:
    """Sprays looping outlined strokes and a word over box = (x0, y0, x1, y1) [px]."""
    lo, span = np.array(box[:2]), np.array(box[2:]) - box[:2]
    thick = max(int(span.min() / 16), 2)
    for _ in range(strokes):
        phase = np.linspace(0, rng.uniform(4, 9), 80)[:, None] * rng.uniform(0.6, 1.4, 2) + rng.uniform(0, 6, 2)
        line = lo + span * (0.5 + 0.42 * np.sin(phase) * np.linspace(0.4, 1, 80)[:, None])
        fill = muted(rng, 0.0, 1.1)
        for colour, width in (((0.05, 0.05, 0.08), thick + max(thick // 2, 2)), (fill, thick)):
            cv2.polylines(img, [np.rint(line).astype(np.int32)], False, colour, width, cv2.LINE_AA)
    put_words(rng, img, (0.93, 0.92, 0.9), (box[0], int(box[1] + 0.5 * span[1]), box[2], box[3]))


def pane(rng: Rng, h: int, w: int, frame: tuple) -> Image:
    """A window: dark glass with a painted reflection, curtains, glazing bars."""
    sky = np.linspace(0.42, 0.1, h, dtype=np.float32)[:, None] + 0.05 * noise(rng, h, w, 0.5 * w, 4)
    img = sky[..., None] * np.array([0.85, 0.95, 1.05], np.float32)
    folds = 0.62 + 0.12 * np.sin(np.arange(w, dtype=np.float32) / w * rng.uniform(50, 90) + noise(rng, h, w, 60, 2))
    left, right = rng.uniform(0.12, 0.45), rng.uniform(0.12, 0.45)
    x = np.arange(w, dtype=np.float32)[None] / w + 0.02 * noise(rng, h, w, 120, 2)
    curtain = folds[..., None] * np.array(muted(rng, 0.5, 1.2), np.float32)
    img = blend(img, curtain, ((x < left) | (x > 1 - right)) * np.float32(0.8))
    bar = max(w // 22, 3)
    for a, b in (((0, 0), (w - 1, h - 1)), ((0, 0), (w // 2, h - 1)), ((0, h // 3), (w - 1, h - 1))):
        cv2.rectangle(img, a, b, frame, bar)
    return img * (1 + 0.06 * noise(rng, h, w, 20, 4))[..., None]


def leaves(rng: Rng, size: int, count: int, colour: tuple) -> tuple[Image, Image]:
    """(size, size) colour and 0/1 alpha of a spray of leaves."""
    img = np.ones((size, size, 3), np.float32) * np.array(colour, np.float32)
    alpha = np.zeros((size, size), np.float32)
    for _ in range(count):
        centre = tuple(int(c) for c in rng.uniform(0.15, 0.85, 2) * size)
        axes = (int(rng.uniform(0.07, 0.13) * size), int(rng.uniform(0.03, 0.06) * size))
        angle = rng.uniform(0, 180)
        tone = np.array(colour) * rng.uniform(0.5, 1.6) * rng.uniform(0.8, 1.2, 3)
        cv2.ellipse(img, centre, axes, angle, 0, 360, tuple(float(c) for c in tone), -1, cv2.LINE_AA)
        tip = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * axes[0]
        stalk, end = (np.rint(np.array(centre) + k * tip).astype(int).tolist() for k in (-1, 1))
        cv2.line(img, stalk, end, tuple(float(c) for c in tone * 1.35), 1, cv2.LINE_AA)
        cv2.ellipse(alpha, centre, axes, angle, 0, 360, 1.0, -1)
    return img, alpha


def litter(rng: Rng, img: Image, count: int) -> None:
    """Scatters fallen leaves over a ground texture."""
    h, w = img.shape[:2]
    for _ in range(count):
        centre = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        axes = (int(rng.uniform(3, 12)), int(rng.uniform(2, 5)))
        tone = np.array([0.55, 0.36, 0.12]) * rng.uniform(0.5, 1.5) * rng.uniform(0.7, 1.3, 3)
        cv2.ellipse(img, centre, axes, rng.uniform(0, 180), 0, 360, tuple(float(c) for c in tone), -1, cv2.LINE_AA)
