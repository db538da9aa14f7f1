"""Pictures of matches: what is drawn where."""

import numpy as np
import pytest

from lgsfm.drawing import BAR_PX, GAP_PX, OUTLIER, confidence_color, draw_matches, save_picture, spread
from lgsfm.errors import InputError
from lgsfm.images import read_photo
from lgsfm.types import Features


def features(points, size, orientation=1):
    points = np.array(points, np.float32).reshape(-1, 2)
    return Features(
        points, np.zeros((len(points), 4), np.float32), np.ones(len(points), np.float32), size, "toy", orientation
    )


def near(picture, x, y, color, radius=2):
    """Whether a colour is in the picture around (x, y) of the photos."""
    patch = picture[BAR_PX + y - radius : BAR_PX + y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3)
    return bool((np.abs(patch.astype(int) - color).sum(1) < 12).any())


BLACK = np.zeros((100, 200, 3), np.uint8)


def test_matches_and_outliers_are_where_they_belong_in_their_colours():
    found = features([[20, 30], [100, 80]], (200, 100)), features([[60, 50], [150, 20]], (200, 100))
    picture = draw_matches(
        (BLACK, BLACK), found, np.array([[0, 0], [1, 1]]), np.array([0.9, 0.3]), np.array([True, False])
    )
    assert picture.shape == (100 + BAR_PX, 400 + GAP_PX, 3)
    right = 200 + GAP_PX
    for x, y, color in (
        (20, 30, confidence_color(0.9)),
        (right + 60, 50, confidence_color(0.9)),
        (100, 80, OUTLIER),
        (right + 150, 20, OUTLIER),
    ):
        assert near(picture, x, y, color)
    middle = picture[BAR_PX + 40, (20 + right + 60) // 2 - 3 : (20 + right + 60) // 2 + 4]
    assert middle.any()  # the line


def test_photos_of_any_size_are_reduced_alike_and_shown_upright():
    photo = np.zeros((50, 100, 3), np.uint8)  # already reduced from 400x200, stored on its side
    found = features([[40, 20]], (400, 200), 6), features([[100, 50]], (400, 200))
    picture = draw_matches((photo, photo), found, np.array([[0, 0]]), np.array([1.0]), edge_px=100)
    assert picture.shape == (100 + BAR_PX, 50 + GAP_PX + 100, 3)
    assert near(picture, 45, 10, confidence_color(1.0))  # (40, 20) of 400x200 turned clockwise: (179, 40) of 200x400
    assert near(picture, 50 + GAP_PX + 25, 12, confidence_color(1.0))


def test_a_pair_without_matches_has_a_picture_too():
    found = features([[20, 30]], (200, 100)), features([], (200, 100))
    picture = draw_matches((BLACK, BLACK), found, np.zeros((0, 2), int), np.zeros(0), np.zeros(0, bool), title="none")
    assert picture[:BAR_PX].min() < 100  # the text


def test_confidence_has_an_order_that_any_eye_sees():
    brightness = [float(np.dot(confidence_color(s), (0.299, 0.587, 0.114))) for s in np.linspace(0, 1, 11)]
    assert brightness == sorted(brightness)
    assert confidence_color(-1) == confidence_color(0)
    assert confidence_color(2) == confidence_color(1)


def test_lines_are_spread_and_the_best_of_a_place_comes_first():
    rng = np.random.default_rng(0)
    crowd, loner = rng.uniform(0, 10, (500, 2)), np.array([[1000.0, 800.0]])
    points = np.vstack((crowd, loner))
    scores = rng.uniform(0, 1, 501)
    chosen = spread(points, scores, 2)
    assert 500 in chosen
    assert set(chosen) - {500} == {int(np.argmax(scores[:500]))}
    assert len(spread(points, scores, 0)) == 501
    assert len(set(spread(points, scores, 100))) == 100


def test_pictures_are_written_or_refused(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    save_picture(tmp_path / "new" / "é a.png", picture)
    assert np.array_equal(read_photo(tmp_path / "new" / "é a.png").rgb, picture)
    with pytest.raises(InputError, match=r"must end in \.png"):
        save_picture(tmp_path / "a.gif", picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_picture(tmp_path / "file" / "a.png", picture)
