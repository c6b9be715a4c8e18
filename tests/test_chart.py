from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from i3dcli import I3DError
from i3dcli.chart import Axes, Box, Line, Text, key, tick_labels, ticks, write_chart
from i3dcli.drawing import GREY

RED, BLUE, WHITE = (0, 0, 255), (255, 0, 0), (255, 255, 255)  # BGR
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 0.7, ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]),
        (0, 6.2, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        (0, 24000, ["0", "5k", "10k", "15k", "20k", "25k"]),
        (-0.5, 1, ["-0.5", "0", "0.5", "1"]),
        (0, 0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_ticks_are_round_and_span_the_values(low, high, labels):
    assert tick_labels(ticks(low, high)) == labels


def test_steps_have_whole_numbers_for_ticks():
    assert ticks(0, 2, least=1) == [0, 1, 2]
    assert tick_labels([0, 0.125, 0.25], percent=True) == ["0%", "12.5%", "25%"]


def test_numbers_lie_between_the_sides_of_their_axes():
    axes = Axes(90, 20, 490, 220, (0, 10), (-1, 1))
    assert (axes.x(0), axes.x(10), axes.y(-1), axes.y(0), axes.y(1)) == (90, 490, 220, 120, 20)
    assert axes.points([5, 10], [0, 1]) == [(290, 120), (490, 20)]
    lines = [shape for shape in axes.levels([-1, 0, 1], percent=False) if isinstance(shape, Line)]
    assert [(line.points[0], line.colour == GREY) for line in lines] == [
        ((90, 220), True),
        ((90, 120), False),
        ((90, 20), False),
    ]


def test_one_list_of_shapes_gives_the_same_picture_in_both_formats(tmp_path):
    shapes = [
        Box(10, 10, 50, 30, RED),
        Line([(60, 20), (100, 20)], BLUE, 3, dotted=True),
        *key("a <b>", 10, 80, BLUE),
        Text("right", 190, 60, align=1.0),
    ]
    for name in ("chart.png", "chart.svg"):
        write_chart(tmp_path / name, shapes, size=(200, 100), title="a & b")
    picture = cv2.imread(str(tmp_path / "chart.png"))
    colours = [tuple(picture[y, x].tolist()) for x, y in ((12, 12), (48, 28), (80, 20), (100, 24), (195, 95))]
    assert picture.shape == (100, 200, 3) and colours == [RED, RED, BLUE, BLUE, WHITE]
    tree = ElementTree.parse(tmp_path / "chart.svg")
    assert [element.text for element in tree.iter(f"{SVG}text")] == ["a <b>", "right"]
    assert tree.find(f"{SVG}title").text == "a & b" and len([*tree.iter(f"{SVG}circle")]) == 2
    ends = [np.argwhere((picture[45:65, :] < 128).all(-1))[:, 1].max(), tree.findall(f"{SVG}text")[1].get("text-anchor")]
    assert 185 <= ends[0] <= 190 and ends[1] == "end"


def test_a_chart_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(I3DError, match="cannot write"):
        write_chart(tmp_path / "absent" / "chart.png", [], size=(20, 10), title="")
