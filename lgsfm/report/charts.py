"""Figures of a run as shapes: bars of histograms, lines and dots of the view graph, the cells of the match matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..database_reading import VerifiedPair
from ..types import Pair
from ..view_graph import ViewGraph
from ..view_graph.layout import layout
from .collect import PhotoRow

__all__ = ["Bar", "Edge", "GraphDrawing", "Histogram", "Node", "draw_graph", "error_histogram", "match_matrix"]

MOST_EDGES = 4000  # lines that a page draws quickly; the bridges are always among them
MOST_CELLS = 1000  # along each side of the match matrix; beyond, a cell stands for several photos
EASY_EDGES = 150  # that can be told apart
TAIL = 0.98  # of the values that a histogram shows one by one; the rest is in its last bar


@dataclass(frozen=True)
class Bar:
    """One bar: of values from start to end, and its height as a share of the highest."""

    start: float
    end: float
    count: int
    height: float


@dataclass(frozen=True)
class Histogram:
    """Bars from left to right; the last one holds all that is greater, if it is open.

    ticks: share of the width and label of each
    median, p90: of the values
    """

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    median: float
    p90: float
    count: int
    is_open: bool


def error_histogram(values: np.ndarray, *, whole: bool = False, most: int = 24) -> Histogram | None:
    """The histogram of some values >= 0; None if there are none.

    Args:
        values: (N,).
        whole: they are whole numbers, so are the bounds of the bars.
        most: bars at most.
    """
    if not len(values):
        return None
    last, lowest = float(np.quantile(values, TAIL)), float(values.min()) if whole else 0.0
    if whole:
        step = max(1.0, np.ceil((last - lowest + 1) / most))
        edges = lowest + step * np.arange(int(np.ceil((last - lowest + 1) / step)) + 1)
    else:
        edges = np.linspace(0.0, _rounded_up(last) or 1.0, most + 1)
    counts = np.histogram(np.minimum(values, np.nextafter(edges[-1], 0)), edges)[0]
    bars = [
        Bar(float(start), float(end), int(count), float(count / counts.max()))
        for start, end, count in zip(edges, edges[1:], counts, strict=False)
    ]
    ticks = _ticks_between(edges) if whole else _ticks(float(edges[-1]))
    median, p90 = np.quantile(values, (0.5, 0.9))
    return Histogram(bars, ticks, float(median), float(p90), len(values), bool(values.max() >= edges[-1]))


def _ticks(last: float) -> list[tuple[float, str]]:
    """Four to six round numbers from 0 to a number of `_rounded_up`."""
    lead = round(last / 10.0 ** np.floor(np.log10(last)) * (1 + 1e-9), 1)
    parts = 3 if lead in (1.5, 3, 6) else 5 if lead in (1, 5) else 4
    return [(i / parts, f"{last * i / parts:.4g}") for i in range(parts + 1)]


def _ticks_between(edges: np.ndarray) -> list[tuple[float, str]]:
    """At the middles of some of the bars between bounds that are whole numbers: what each begins with."""
    count = len(edges) - 1
    return [((i + 0.5) / count, f"{edges[i]:.0f}") for i in range(0, count, -(-count // 8))]


def _rounded_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9)))


@dataclass(frozen=True)
class Node:
    """A photo of the drawn view graph: its number among all photos, its place, its state."""

    photo: int
    x: float
    y: float
    state: str
    name: str


@dataclass(frozen=True)
class Edge:
    """A verified pair as a line, the more opaque the surer it is."""

    x0: float
    y0: float
    x1: float
    y1: float
    opacity: float
    is_bridge: bool


@dataclass(frozen=True)
class GraphDrawing:
    """The view graph as dots and lines in a box.

    num_hidden: of the verified pairs, how many of the weakest are not drawn
    """

    width: int
    height: int
    radius: float
    nodes: list[Node]
    edges: list[Edge]
    num_hidden: int


def draw_graph(graph: ViewGraph, photos: Sequence[PhotoRow], width: int = 560, height: int = 420) -> GraphDrawing:
    """The view graph in a box of this size; bridges come last, on top."""
    places = layout(graph, width, height)
    bridges = set(graph.bridges)
    pairs = sorted(graph.pairs, key=lambda pair: (pair in bridges, graph.pairs[pair].num_inliers))
    drawn = pairs[-MOST_EDGES:] if len(bridges) < MOST_EDGES else pairs
    most = max((found.num_inliers for found in graph.pairs.values()), default=1)
    crowd = min(1.0, EASY_EDGES / max(1, len(drawn)))  # of many lines each is fainter

    def opacity(pair: Pair) -> float:
        share = graph.pairs[pair].num_inliers / most
        return 1.0 if pair in bridges else 0.04 + 0.2 * crowd + (0.35 + 0.35 * crowd) * share

    edges = [Edge(*places[a], *places[b], opacity((a, b)), (a, b) in bridges) for a, b in drawn]
    nodes = [
        Node(number, *places[photo.name], photo.state, photo.name)
        for number, photo in enumerate(photos)
        if photo.name in places
    ]
    return GraphDrawing(
        width, height, float(np.clip(60 / np.sqrt(len(nodes) or 1), 3, 7)), nodes, edges, len(pairs) - len(drawn)
    )


def match_matrix(names: Sequence[str], pairs: dict[Pair, VerifiedPair]) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) float64 in [0, 1]: inliers on a logarithmic scale; (n, n) bool: matched, but not verified.

    Both are symmetric. Of more than `MOST_CELLS` photos a cell is the best pair of several.
    """
    cell = {name: i * min(len(names), MOST_CELLS) // len(names) for i, name in enumerate(names)}
    n = min(len(names), MOST_CELLS)
    inliers, failed = np.zeros((n, n)), np.zeros((n, n), bool)
    for (first, second), found in pairs.items():
        row, column = cell[first], cell[second]
        if found.is_verified:
            inliers[row, column] = max(inliers[row, column], found.num_inliers)
        else:
            failed[row, column] = True
    inliers, failed = np.maximum(inliers, inliers.T), failed | failed.T
    strength = np.log1p(inliers) / np.log1p(max(inliers.max(initial=0.0), 1.0))
    return strength, failed & (inliers == 0)
