"""Training curves as a picture: loss and accuracy over steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..chart import BLUE, FEW, KEY, ORANGE, Axes, Line, Shape, Text, key, tick_labels, ticks, write_chart
from ..drawing import GREY, Colour, text_width

METRICS = {"top1": "top-1 accuracy", "map": "mean average precision"}
SIZE = (1600, 640)  # pixels, width and height
GRAPHS = (90, 890)  # pixels, the left edge of each graph's axes
TOP, WIDTH, HEIGHT = 96, 660, 448  # pixels, of the axes
TRAIN, VAL = BLUE, ORANGE


@dataclass(frozen=True)
class Curve:
    """One line of a graph: finite `values` over `steps`, in the order of the steps."""

    name: str
    colour: Colour
    steps: Sequence[float]
    values: Sequence[float]


def write_curves(path: str | Path, history: Sequence[Mapping[str, float | int | None]], *, metric: str) -> None:
    """Write a PNG of two graphs, loss and accuracy of training and validation over the steps.

    A row of `history` holds `step` and any of `loss`, `val_loss`, and `top1`, `val_top1` or `map`, `val_map`, as `metric`
    names, in [0, 1]; what is absent, None or not finite is passed over. Raises I3DError where `path` cannot be written.
    """
    if metric not in METRICS:
        raise ValueError(f"expected one of {', '.join(METRICS)}, got {metric = }")
    loss = graph(GRAPHS[0], "loss", curves(history, "loss"), percent=False)
    accuracy = graph(GRAPHS[1], METRICS[metric], curves(history, metric), percent=True)
    write_chart(path, [*loss, *accuracy], size=SIZE, title="Training curves")


def curves(history: Sequence[Mapping[str, float | int | None]], column: str) -> list[Curve]:
    """The curves of training and validation that have values."""
    found = []
    for name, colour, part in (("train", TRAIN, column), ("validation", VAL, f"val_{column}")):
        pairs = [(row["step"], row.get(part)) for row in history]
        points = sorted((float(s), float(v)) for s, v in pairs if s is not None and v is not None and math.isfinite(v))
        if points:
            found.append(Curve(name, colour, *zip(*points, strict=True)))
    return found


def graph(left: float, title: str, lines: Sequence[Curve], *, percent: bool) -> Iterator[Shape]:
    """One pair of axes with its ticks, grid, curves and their keys; the vertical axis starts at zero."""
    steps = [step for line in lines for step in line.steps] or [0.0, 1.0]
    values = [value for line in lines for value in line.values] or [0.0, 1.0]
    x, y = ticks(min(0.0, *steps), max(steps), least=1), ticks(min(0.0, *values), max(values))
    axes = Axes(left, TOP, left + WIDTH, TOP + HEIGHT, (x[0], x[-1]), (y[0], y[-1]))
    yield from axes.levels(y, percent=percent)
    yield from axes.marks(zip(x, tick_labels(x), strict=True), "step", top=axes.bottom)
    yield Text(title, left, 48, size=24)
    if not lines:
        yield Text("no values yet", left + WIDTH / 2, TOP + HEIGHT / 2, align=0.5, colour=GREY)
    for line in lines:
        few = len(line.steps) <= FEW
        yield Line(axes.points(line.steps, line.values), line.colour, 3 if few else 2, dotted=few)
    right = axes.right
    for line in reversed(lines):  # from the right
        last = f"{100 * line.values[-1]:.1f}%" if percent else f"{line.values[-1]:.3g}"
        text = f"{line.name} {last}"
        yield from key(text, right - text_width(text) - KEY, 48, line.colour)
        right -= text_width(text) + KEY + 28
