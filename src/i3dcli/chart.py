"""Charts as lists of shapes, on axes with round numbers, and as files: PNG by OpenCV or SVG by hand."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .drawing import GREY, INK, SIZE, Colour, write
from .files import atomic_write

GRID = (236, 232, 230)  # BGR
BLUE, ORANGE = (196, 112, 32), (36, 110, 226)  # which colour-blind people can tell apart
FEW = 60  # points, up to which a line is thick
DOT = 5  # pixels, the radius


@dataclass(frozen=True)
class Line:
    points: Sequence[tuple[float, float]]
    colour: Colour
    width: int
    dotted: bool = False  # with a dot on each point


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float
    colour: Colour


@dataclass(frozen=True)
class Text:
    """On the baseline `y`, with `align` of its width left of `x`: 0, 0.5 or 1."""

    text: str
    x: float
    y: float
    align: float = 0.0
    size: int = SIZE
    colour: Colour = INK


Shape = Line | Box | Text


@dataclass(frozen=True)
class Axes:
    """Where numbers lie on a picture: the sides in pixels, and the numbers on them."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def points(self, x: Iterable[float], y: Iterable[float]) -> list[tuple[float, float]]:
        return [(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True)]

    def levels(self, values: Sequence[float], *, percent: bool) -> Iterator[Shape]:
        """A horizontal line for each value, with its number at the left; the lowest is the axis."""
        for value, label in zip(values, tick_labels(values, percent=percent), strict=True):
            y = self.y(value)
            yield Line([(self.left, y), (self.right, y)], GREY if value == values[0] else GRID, 2)
            yield Text(label, self.left - 14, y + 7, align=1.0, colour=GREY)

    def marks(self, labels: Iterable[tuple[float, str]], name: str, *, top: float) -> Iterator[Shape]:
        """A short vertical line from `top` on for each value, with its label below, and under them the axis' name."""
        for value, label in labels:
            x = self.x(value)
            yield Line([(x, top), (x, top + 8)], GREY, 2)
            yield Text(label, x, top + 34, align=0.5, colour=GREY)
        yield Text(name, (self.left + self.right) / 2, top + 67, align=0.5, colour=GREY)


KEY = 40  # pixels, from the left edge of a key's line to its text


def key(text: str, left: float, y: float, colour: Colour, *, width: int = 4, ink: Colour = INK) -> list[Shape]:
    """What a colour stands for: a short line and its text."""
    return [Line([(left, y - 6), (left + 28, y - 6)], colour, width), Text(text, left + KEY, y, colour=ink)]


def ticks(low: float, high: float, *, least: float = 0.0) -> list[float]:
    """At most eight round numbers, evenly spaced by `least` or more, that span from `low` or less to `high` or more."""
    high = high if high > low else low + 1
    exponent = math.floor(math.log10(high - low)) - 1
    for step in (digits * 10.0**power for power in range(exponent, exponent + 4) for digits in (1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= 7 and step >= least:
            break
    return [step * i for i in range(first, last + 1)]


def tick_labels(values: Sequence[float], *, percent: bool = False) -> list[str]:
    if percent:
        return [f"{round(100 * value, 8):g}%" for value in values]
    scale, unit = (1000, "k") if 10_000 <= max(values) < 10_000_000 else (1, "")
    return [f"{round(value / scale, 10):g}{unit if value else ''}" for value in values]


def write_chart(
    path: str | Path, shapes: Iterable[Shape], *, size: tuple[int, int], title: str, overwrite: bool = True
) -> None:
    """Write shapes, the lowest first, on white of `size`, width and height; .svg is SVG, all else PNG. Raises I3DError."""
    data = as_svg(shapes, size, title) if Path(path).suffix.lower() == ".svg" else as_png(shapes, size)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def as_png(shapes: Iterable[Shape], size: tuple[int, int]) -> bytes:
    picture = np.full((size[1], size[0], 3), 255, np.uint8)
    for shape in shapes:
        if isinstance(shape, Line):
            points = np.rint(np.array(shape.points) * 16).astype(np.int32)  # sixteenths of a pixel, which is shift=4
            cv2.polylines(picture, [points], False, shape.colour, shape.width, cv2.LINE_AA, shift=4)
            for x, y in points.tolist() if shape.dotted else ():
                cv2.circle(picture, (x, y), DOT * 16, shape.colour, cv2.FILLED, cv2.LINE_AA, shift=4)
        elif isinstance(shape, Box):
            left, right = round(shape.left), round(shape.right) - 1
            corners = (left, round(shape.top)), (max(left, right), round(shape.bottom))
            cv2.rectangle(picture, *corners, shape.colour, cv2.FILLED)
        else:
            write(picture, shape.text, shape.x, shape.y, align=shape.align, size=shape.size, colour=shape.colour)
    _, data = cv2.imencode(".png", picture)
    return data.tobytes()


def as_svg(shapes: Iterable[Shape], size: tuple[int, int], title: str) -> bytes:
    """One self-contained file whose text is text."""
    width, height = size
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, Liberation Sans, sans-serif" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(element for shape in shapes for element in elements(shape)),
        "</svg>\n",
    ]
    return "\n".join(parts).encode()


def elements(shape: Shape) -> Iterator[str]:
    """A shape as elements of SVG."""
    blue, green, red = shape.colour
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        stroke = f'stroke="{colour}" stroke-width="{shape.width}" stroke-linejoin="round"'
        yield f'<polyline points="{points}" fill="none" {stroke}/>'
        for x, y in shape.points if shape.dotted else ():
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{DOT}" fill="{colour}"/>'
    elif isinstance(shape, Box):
        size = f'width="{shape.right - shape.left:.2f}" height="{shape.bottom - shape.top:.1f}"'
        yield f'<rect x="{shape.left:.2f}" y="{shape.top:.1f}" {size} fill="{colour}"/>'
    else:
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[shape.align]
        place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{anchor}" font-size="{shape.size}"'
        yield f'<text {place} fill="{colour}">{html.escape(shape.text)}</text>'
