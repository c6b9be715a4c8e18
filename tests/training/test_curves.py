import math

import cv2
import pytest

from i3dcli import I3DError
from i3dcli.chart import FEW
from i3dcli.training.curves import GRAPHS, HEIGHT, TOP, TRAIN, VAL, WIDTH, curves, write_curves

HISTORY = [
    {"step": 0, "loss": 4.0, "top1": 0.0},
    {"step": 100, "loss": 2.0, "val_loss": 3.0, "top1": 0.5, "val_top1": 0.25},
    {"step": 200, "loss": 1.0, "val_loss": 2.0, "top1": 1.0, "val_top1": None},
]


def colour_at(picture, left, x, y):
    """The colour at a fraction of a graph's axes, from its lower left corner."""
    return tuple(picture[round(TOP + (1 - y) * HEIGHT), round(left + x * WIDTH)].tolist())


def test_each_curve_goes_through_its_points(tmp_path):
    write_curves(tmp_path / "curves.png", HISTORY, metric="top1")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    loss, top1 = GRAPHS  # axes 0-4 and 0-1, both over steps 0-200
    assert colour_at(picture, loss, 0.5, 2 / 4) == colour_at(picture, top1, 0.5, 1 / 2) == TRAIN
    assert colour_at(picture, loss, 0.5, 3 / 4) == colour_at(picture, top1, 0.5, 1 / 4) == VAL
    assert colour_at(picture, loss, 1, 2 / 4) == VAL
    assert not {TRAIN, VAL} & {colour_at(picture, top1, 1, y) for y in (0, 1 / 4, 1 / 2)}


def test_what_is_absent_none_or_not_finite_is_passed_over():
    rows = [
        {"step": 2, "loss": None},
        {"step": 3, "loss": math.nan},
        {"step": 4},
        {"step": 9, "loss": 1},
        {"step": 5, "loss": 2},
    ]
    (curve,) = curves(rows, "loss")
    assert curve.steps == (5, 9) and curve.values == (2, 1)


def test_a_multi_label_history_shows_its_mean_average_precision(tmp_path):
    rows = [{"step": 10, "map": 0.2, "top1": 0.9}, {"step": 20, "map": 0.2, "top1": 0.9}]
    write_curves(tmp_path / "curves.png", rows, metric="map")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert colour_at(picture, GRAPHS[1], 0.75, 1) == TRAIN  # the axis ends at 20%


@pytest.mark.parametrize("rows", [[], [{"step": 0, "loss": 0.0}], [{"step": i, "loss": 1e30 * i} for i in range(FEW + 1)]])
def test_any_history_gives_a_picture(tmp_path, rows):
    write_curves(tmp_path / "curves.png", rows, metric="top1")
    assert cv2.imread(str(tmp_path / "curves.png")).shape == (640, 1600, 3)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="metric = 'top5'"):
        write_curves(tmp_path / "curves.png", [], metric="top5")
    with pytest.raises(I3DError, match="cannot write"):
        write_curves(tmp_path / "absent" / "curves.png", [], metric="map")
