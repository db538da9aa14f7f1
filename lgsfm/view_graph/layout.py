"""Places for the images of a view graph in a drawing: components apart, the largest first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import ViewGraph

__all__ = ["layout"]

MOST_SPRINGS = 400  # images of a component up to which springs are solved; beyond, they stand in a ring
Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, width, height


def layout(graph: ViewGraph, width: float, height: float) -> dict[str, Place]:
    """Image name -> (x, y) in a box of this size, x right and y down; the same graph gives the same places.

    Components of several images get discs whose areas go with their numbers of images; single ones stand in rows below.
    """
    several = [component for component in graph.components if len(component) > 1]
    single = [component[0] for component in graph.components if len(component) == 1]
    rows = _rows(single, width)
    taken = 26.0 * (1 + max((int(y) for _, y in rows.values()), default=-1))
    places = {name: (x, height - taken + 26 * y + 13) for name, (x, y) in rows.items()}
    for component, (left, top, wide, high) in _boxes(several, width, height - taken):
        for name, (x, y) in _spring(graph, component).items():
            places[name] = (left + wide * (0.5 + 0.44 * x), top + high * (0.5 + 0.44 * y))
    return places


def _rows(names: Sequence[str], width: float) -> dict[str, Place]:
    """Image name -> (x, number of its row) of images side by side."""
    fitting = max(1, int(width // 26))
    return {name: (26 * (i % fitting) + 13, float(i // fitting)) for i, name in enumerate(names)}


def _boxes(components: Sequence[list[str]], width: float, height: float) -> list[tuple[list[str], Box]]:
    """Each component with left, top, width, height: shelves of boxes whose areas go with the numbers of images."""
    if not components:
        return []
    options = [_shelves(components, count, width, height) for count in range(1, len(components) + 1)]
    return min(options, key=lambda boxes: sum(len(names) * abs(math.log(w / h)) for names, (_, _, w, h) in boxes))


def _shelves(components: Sequence[list[str]], count: int, width: float, height: float) -> list[tuple[list[str], Box]]:
    """The boxes on so many shelves, of about equally many images each."""
    total, done = sum(map(len, components)), 0
    shelves: list[list[list[str]]] = [[] for _ in range(count)]
    for component in components:
        shelves[min(count - 1, done * count // total)].append(component)
        done += len(component)
    found, top = [], 0.0
    for shelf in filter(None, shelves):
        on_it, left = sum(map(len, shelf)), 0.0
        high = height * on_it / total
        for component in shelf:
            wide = width * len(component) / on_it
            found.append((component, (left, top, wide, high)))
            left += wide
        top += high
    return found


def _spring(graph: ViewGraph, names: list[str]) -> dict[str, Place]:
    """Places in [-1, 1]: images that are tied to each other are near each other."""
    import networkx

    if len(names) > MOST_SPRINGS:
        turn = 2 * math.pi / len(names)
        return {name: (math.sin(i * turn), -math.cos(i * turn)) for i, name in enumerate(names)}
    part = networkx.Graph()
    part.add_nodes_from(names)
    known = set(names)
    most = max(graph.pairs[pair].num_inliers for pair in graph.pairs if pair[0] in known)
    for pair in graph.pairs:
        if pair[0] in known:
            part.add_edge(*pair, weight=(graph.pairs[pair].num_inliers / most) ** 2)
    found = networkx.spring_layout(part, seed=0, iterations=100)
    reach = [max((abs(place[axis]) for place in found.values()), default=0.0) or 1.0 for axis in (0, 1)]
    return {name: (float(x) / reach[0], float(y) / reach[1]) for name, (x, y) in found.items()}
