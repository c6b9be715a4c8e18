"""What a model says of a video over time, as a picture: PNG by OpenCV or SVG by hand, from one list of shapes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..drawing import (
    BLUE,
    FEW,
    GREY,
    GRID,
    INK,
    ORANGE,
    Colour,
    ascii_label,
    ascii_text,
    fitted,
    text_width,
    tick_labels,
    ticks,
    write,
)
from ..files import atomic_write
from ..text import shown, shown_class

if TYPE_CHECKING:
    from .prediction import Prediction

SIZE = (1600, 720)  # pixels, width and height
LEFT, RIGHT, TOP, BOTTOM = 90, 1140, 96, 536  # pixels, of the axes
BAND = (552, 596)  # pixels, top and bottom of the band of top labels
LEGEND = 1190  # pixels, its left edge
SVG_EM = 28  # pixels, like EM of drawing.py, but in SVG, whose fonts are wider

COLOURS: tuple[Colour, ...] = (  # BGR; dark enough for white letters
    *(BLUE, ORANGE, (92, 148, 32), (190, 70, 134)),  # blue, orange, green, purple
    *((70, 40, 190), (150, 138, 12), (20, 140, 190), (44, 74, 110)),  # crimson, teal, ochre, brown
)
MAX_OTHERS = 40  # classes in grey behind them
OTHER: Colour = (206, 200, 196)
WHITE: Colour = (255, 255, 255)
TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000)  # seconds


@dataclass(frozen=True)
class Line:
    points: Sequence[tuple[float, float]]
    colour: Colour
    width: int


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float
    colour: Colour


@dataclass(frozen=True)
class Text:
    """On the baseline `y`, with `align` of its width left of `x`."""

    text: str
    x: float
    y: float
    align: float = 0.0
    scale: float = 0.6
    colour: Colour = INK


Shape = Line | Box | Text


def plotted(predictions: Iterable[Prediction], path: str | Path, *, top_k: int, overwrite: bool = True) -> Iterator[Prediction]:
    """The predictions of a video's windows, passed on; after the last, their plot is written to a .png or .svg file.

    It shows the fused probability of the classes that are ever among the `top_k`. Raises I3DError.
    """
    seen = []
    for prediction in predictions:
        seen.append(prediction)
        yield prediction
    svg = Path(path).suffix.lower() == ".svg"
    shapes = plot(seen, top_k=top_k, ascii_only=not svg)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(as_svg(shapes, title=shown(Path(seen[0].video).name)) if svg else as_png(shapes))


def plot(windows: Sequence[Prediction], *, top_k: int, ascii_only: bool = False) -> list[Shape]:
    """The shapes of the whole picture, the lowest first."""
    first = windows[0]
    labels = [ascii_label(label, i) if ascii_only else shown_class(label) for i, label in enumerate(first.classes)]
    title = shown(Path(first.video).name)
    probabilities = np.stack([window.probabilities.numpy() for window in windows])  # (W,K)
    coloured, others = chosen_classes(probabilities, top_k)
    colours = dict(zip(coloured, COLOURS, strict=False))
    times = Times(windows[-1].end_seconds)
    levels = ticks(0, float(probabilities.max()))
    subtitle = f"probability over time, {' + '.join(first.streams)}, windows of {first.duration_seconds:.2f} s"
    room = RIGHT - LEFT - text_width(subtitle, 0.6) - 40
    shapes: list[Shape] = [
        Text(fitted(ascii_text(title) if ascii_only else title, room, 0.8), LEFT, 48, scale=0.8),
        Text(subtitle, RIGHT, 48, align=1.0, colour=GREY),
    ]
    shapes += axes(times, levels)
    middles = [(window.start_seconds + window.end_seconds) / 2 for window in windows]
    x = [times.x(time) for time in (windows[0].start_seconds, *middles, windows[-1].end_seconds)]
    thick = 3 if len(windows) <= FEW else 2
    for index in (*others, *reversed(coloured)):
        values = probabilities[:, index]
        y = BOTTOM - (BOTTOM - TOP) * np.concatenate([values[:1], values, values[-1:]]) / levels[-1]
        points = list(zip(x, y.tolist(), strict=True))
        shapes.append(Line(points, colours.get(index, OTHER), thick if index in colours else 1))
    shapes += band(windows, labels, colours, times)
    peaks = {i: round(100 * float(probabilities[:, i].max()), 1) for i in coloured}  # percent, as printed
    shapes += legend([(labels[i], colours[i], peaks[i]) for i in sorted(coloured, key=lambda i: (-peaks[i], i))], len(others))
    return shapes


def chosen_classes(probabilities: NDArray[np.float32], top_k: int) -> tuple[list[int], list[int]]:
    """Of (W,K) probabilities, the classes that are ever among the `top_k`: those that get a colour, and some more for grey.

    Those that are the most probable in most windows come first, then those with the highest peak.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    wins = np.bincount(ranked[:, 0], minlength=probabilities.shape[1])
    peaks = probabilities.max(0)
    order = sorted(np.unique(ranked).tolist(), key=lambda i: (-wins[i], -peaks[i]))
    return order[: len(COLOURS)], order[len(COLOURS) :][:MAX_OTHERS]


@dataclass(frozen=True)
class Times:
    """The horizontal axis, from 0 to `end` seconds."""

    end: float

    def x(self, seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * seconds / self.end

    def ticks(self) -> list[tuple[float, str]]:
        """At most eleven round times with their names, in seconds, or in minutes and hours where it is long."""
        step = next((step for step in TIME_STEPS if self.end / step <= 10), TIME_STEPS[-1])
        times = [step * i for i in range(int(self.end / step + 1e-9) + 1)]
        return [(time, clock(time) if self.end >= 120 else f"{time:g}") for time in times]

    def unit(self) -> str:
        return "seconds" if self.end < 120 else "minutes:seconds" if self.end < 3600 else "hours:minutes:seconds"


def clock(seconds: float) -> str:
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    return f"{hours}:{minutes % 60:02d}:{int(seconds) % 60:02d}" if hours else f"{minutes}:{int(seconds) % 60:02d}"


def axes(times: Times, levels: Sequence[float]) -> Iterator[Shape]:
    for level, label in zip(levels, tick_labels([round(level, 10) for level in levels], percent=True), strict=True):
        y = BOTTOM - (BOTTOM - TOP) * level / levels[-1]
        yield Line([(LEFT, y), (RIGHT, y)], GRID if level else GREY, 2)
        yield Text(label, LEFT - 14, y + 7, align=1.0, colour=GREY)
    for time, label in times.ticks():
        x = times.x(time)
        yield Line([(x, BAND[1] + 6), (x, BAND[1] + 14)], GREY, 2)
        yield Text(label, x, BAND[1] + 40, align=0.5, colour=GREY)
    yield Text(times.unit(), (LEFT + RIGHT) / 2, BAND[1] + 74, align=0.5, colour=GREY)


def band(
    windows: Sequence[Prediction], labels: Sequence[str], colours: dict[int, Colour], times: Times
) -> Iterator[Box | Text]:
    """The top label over time, with its name where there is room; bare where no window looked."""
    runs: list[tuple[int, float, float]] = []
    for window, (start, end) in zip(windows, spans(windows), strict=True):
        (index,) = window.top_indices(1)
        if runs and runs[-1][0] == index and runs[-1][2] == start:
            start = runs.pop()[1]
        runs.append((index, start, end))
    for index, start, end in runs:
        left, right = times.x(start), times.x(end)
        yield Box(left, BAND[0], right - min(1, (right - left) / 4), BAND[1], colours.get(index, OTHER))
        name = fitted(labels[index], right - left - 16, 0.55)
        if len(name.rstrip(".")) >= min(4, len(labels[index])):
            ink = WHITE if index in colours else INK
            yield Text(name, (left + right) / 2, BAND[1] - 15, align=0.5, scale=0.55, colour=ink)


def spans(windows: Sequence[Prediction]) -> list[tuple[float, float]]:
    """The seconds that each window stands for: where two overlap, each up to the middle."""
    starts, ends = [window.start_seconds for window in windows], [window.end_seconds for window in windows]
    middles = [(end + start) / 2 for end, start in zip(ends, starts[1:], strict=False)]
    lefts, rights = [starts[0], *map(max, starts[1:], middles)], [*map(min, ends, middles), ends[-1]]
    return list(zip(lefts, rights, strict=True))


def legend(classes: Sequence[tuple[str, Colour, float]], num_others: int) -> Iterator[Shape]:
    """Label and peak in percent of each class, and how many more are drawn in grey."""
    right = SIZE[0] - 24
    yield Text("peak", right, 48, align=1.0, colour=GREY)
    y = float(TOP + 6)
    for label, colour, peak in classes:
        number = f"{peak:.1f}%"
        yield Line([(LEGEND, y - 6), (LEGEND + 28, y - 6)], colour, 4)
        yield Text(fitted(label, right - LEGEND - 54 - text_width(number, 0.6), 0.6), LEGEND + 40, y)
        yield Text(number, right, y, align=1.0, colour=GREY)
        y += 44
    if num_others:
        yield Line([(LEGEND, y - 6), (LEGEND + 28, y - 6)], OTHER, 2)
        yield Text(f"{num_others} other{'s' * (num_others > 1)}", LEGEND + 40, y, colour=GREY)


def as_png(shapes: Iterable[Shape]) -> bytes:
    picture = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    for shape in shapes:
        if isinstance(shape, Line):
            points = np.rint(np.array(shape.points) * 16).astype(np.int32)  # sixteenths of a pixel, which is shift=4
            cv2.polylines(picture, [points], False, shape.colour, shape.width, cv2.LINE_AA, shift=4)
        elif isinstance(shape, Box):
            corners = (
                (round(shape.left), round(shape.top)),
                (max(round(shape.left), round(shape.right) - 1), round(shape.bottom)),
            )
            cv2.rectangle(picture, *corners, shape.colour, cv2.FILLED)
        else:
            write(picture, shape.text, shape.x, shape.y, align=shape.align, scale=shape.scale, colour=shape.colour)
    _, data = cv2.imencode(".png", picture)
    return data.tobytes()


def as_svg(shapes: Iterable[Shape], *, title: str) -> bytes:
    """One self-contained file whose text is text."""
    width, height = SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, Liberation Sans, sans-serif" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *map(element, shapes),
        "</svg>\n",
    ]
    return "\n".join(parts).encode()


def element(shape: Shape) -> str:
    blue, green, red = shape.colour
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{shape.width}" stroke-linejoin="round"/>'
        )
    if isinstance(shape, Box):
        size = f'width="{shape.right - shape.left:.2f}" height="{shape.bottom - shape.top:.1f}"'
        return f'<rect x="{shape.left:.2f}" y="{shape.top:.1f}" {size} fill="{colour}"/>'
    anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[shape.align]
    place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{anchor}" font-size="{SVG_EM * shape.scale:g}"'
    return f'<text {place} fill="{colour}">{html.escape(shape.text)}</text>'
