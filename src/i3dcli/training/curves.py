"""Training curves as a picture: loss and accuracy over steps, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..drawing import BLUE, FEW, GREY, GRID, ORANGE, Colour, tick_labels, ticks, write
from ..files import atomic_write

METRICS = {"top1": "top-1 accuracy", "map": "mean average precision"}
SIZE = (1600, 640)  # pixels, width and height
PANELS = (90, 890)  # pixels, the left edge of each panel's axes
TOP, WIDTH, HEIGHT = 96, 660, 448  # pixels, of the axes
TRAIN, VAL = BLUE, ORANGE


@dataclass(frozen=True)
class Curve:
    """One line of a panel: finite `values` over `steps`, in the order of the steps."""

    name: str
    colour: Colour
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Axes:
    """Where numbers lie on the picture: the panel's left edge in pixels, and the ticks, which end at its corners."""

    left: int
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def x(self, step: float) -> float:
        return self.left + WIDTH * (step - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])

    def y(self, value: float) -> float:
        return TOP + HEIGHT * (self.y_ticks[-1] - value) / (self.y_ticks[-1] - self.y_ticks[0])


def write_curves(path: str | Path, history: Sequence[Mapping[str, float | int | None]], *, metric: str) -> None:
    """Write a PNG of two panels, loss and accuracy of training and validation over the steps.

    A row of `history` holds `step` and any of `loss`, `val_loss`, and `top1`, `val_top1` or `map`, `val_map`, as `metric`
    names, in [0, 1]; what is absent, None or not finite is passed over. Raises I3DError where `path` cannot be written.
    """
    if metric not in METRICS:
        raise ValueError(f"expected one of {', '.join(METRICS)}, got {metric = }")
    picture = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    draw_panel(picture, PANELS[0], "loss", curves(history, "loss"), percent=False)
    draw_panel(picture, PANELS[1], METRICS[metric], curves(history, metric), percent=True)
    _, data = cv2.imencode(".png", picture)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


def curves(history: Sequence[Mapping[str, float | int | None]], key: str) -> list[Curve]:
    """The curves of training and validation that have values."""
    found = []
    for name, colour, column in (("train", TRAIN, key), ("validation", VAL, f"val_{key}")):
        pairs = [(row["step"], row.get(column)) for row in history]
        points = sorted((float(s), float(v)) for s, v in pairs if s is not None and v is not None and math.isfinite(v))
        if points:
            found.append(Curve(name, colour, *zip(*points, strict=True)))
    return found


def draw_panel(picture: NDArray[np.uint8], left: int, title: str, lines: Sequence[Curve], *, percent: bool) -> None:
    """One pair of axes with its ticks, grid, curves and legend; the vertical axis starts at zero."""
    steps = [step for line in lines for step in line.steps] or [0.0, 1.0]
    values = [value for line in lines for value in line.values] or [0.0, 1.0]
    axes = Axes(left, ticks(min(0.0, *steps), max(steps), least=1), ticks(min(0.0, *values), max(values)))
    draw_axes(picture, axes, percent=percent)
    write(picture, title, left, 48, scale=0.8)
    write(picture, "step", left + WIDTH / 2, TOP + HEIGHT + 66, align=0.5, colour=GREY)
    if not lines:
        write(picture, "no values yet", left + WIDTH / 2, TOP + HEIGHT / 2, align=0.5, colour=GREY)
    for line in lines:
        draw_curve(picture, axes, line)
    right: float = left + WIDTH
    for line in reversed(lines):  # the legend, from the right
        last = f"{100 * line.values[-1]:.1f}%" if percent else f"{line.values[-1]:.3g}"
        right -= write(picture, f"{line.name} {last}", right, 48, align=1.0)
        cv2.line(picture, (round(right) - 38, 42), (round(right) - 10, 42), line.colour, 4, cv2.LINE_AA)
        right -= 66


def draw_axes(picture: NDArray[np.uint8], axes: Axes, *, percent: bool) -> None:
    bottom, right = TOP + HEIGHT, axes.left + WIDTH
    for value, label in zip(axes.y_ticks, tick_labels(axes.y_ticks, percent=percent), strict=True):
        y = round(axes.y(value))
        cv2.line(picture, (axes.left, y), (right, y), GRID, 2)
        write(picture, label, axes.left - 14, y + 7, align=1.0, colour=GREY)
    for step, label in zip(axes.x_ticks, tick_labels(axes.x_ticks), strict=True):
        x = round(axes.x(step))
        cv2.line(picture, (x, bottom), (x, bottom + 8), GREY, 2)
        write(picture, label, x, bottom + 34, align=0.5, colour=GREY)
    cv2.line(picture, (axes.left, bottom), (right, bottom), GREY, 2)


def draw_curve(picture: NDArray[np.uint8], axes: Axes, line: Curve) -> None:
    points = np.array([(axes.x(s), axes.y(v)) for s, v in zip(line.steps, line.values, strict=True)])
    fixed = np.rint(points * 16).astype(np.int32)  # sixteenths of a pixel, which is shift=4
    cv2.polylines(picture, [fixed], False, line.colour, 3 if len(fixed) <= FEW else 2, cv2.LINE_AA, shift=4)
    for x, y in fixed if len(fixed) <= FEW else ():
        cv2.circle(picture, (int(x), int(y)), 5 * 16, line.colour, cv2.FILLED, cv2.LINE_AA, shift=4)
