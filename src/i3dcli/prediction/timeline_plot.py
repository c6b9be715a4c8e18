"""What a model says of a video over time, as a picture: class probabilities, and the top label as a band."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..chart import BLUE, FEW, KEY, ORANGE, Axes, Box, Line, Shape, Text, key, ticks, write_chart
from ..drawing import GREY, INK, Colour, drawable_label, fitted, text_width
from ..text import shown, shown_class

if TYPE_CHECKING:
    from .prediction import Prediction

SIZE = (1600, 720)  # pixels, width and height
LEFT, RIGHT, TOP, BOTTOM = 90, 1140, 96, 536  # pixels, of the axes
BAND = (552, 596)  # pixels, top and bottom of the band of top labels
LEGEND = 1190  # pixels, its left edge
TITLE, NAME = 24, 16  # pixels, the sizes of the title and of names in the band
ENOUGH = 40  # pixels, of a name that is cut off

COLOURS: tuple[Colour, ...] = (  # BGR; dark enough for white letters
    *(BLUE, ORANGE, (92, 148, 32), (190, 70, 134)),  # blue, orange, green, purple
    *((70, 40, 190), (150, 138, 12), (20, 140, 190), (44, 74, 110)),  # crimson, teal, ochre, brown
)
MAX_OTHERS = 40  # classes in grey behind them
OTHER: Colour = (206, 200, 196)
WHITE: Colour = (255, 255, 255)
TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000)  # seconds


def plotted(predictions: Iterable[Prediction], path: str | Path, *, top_k: int, overwrite: bool = True) -> Iterator[Prediction]:
    """The predictions of a video's windows, passed on; after the last, their plot is written to a .png or .svg file.

    It shows the fused probability of the classes that are ever among the `top_k`. Raises I3DError.
    """
    seen = []
    for prediction in predictions:
        seen.append(prediction)
        yield prediction
    if Path(path).suffix.lower() == ".svg":  # whose fonts are those of whoever looks at it
        labels = list(map(shown_class, seen[0].classes))
    else:
        labels = [drawable_label(label, i) for i, label in enumerate(seen[0].classes)]
    title = shown(Path(seen[0].video).name)
    write_chart(path, plot(seen, title, labels, top_k=top_k), size=SIZE, title=title, overwrite=overwrite)


def plot(windows: Sequence[Prediction], title: str, labels: Sequence[str], *, top_k: int) -> Iterator[Shape]:
    """The shapes of the whole picture, the lowest first."""
    probabilities = np.stack([window.probabilities.numpy() for window in windows])  # (W,K)
    coloured, others = chosen_classes(probabilities, top_k)
    colours = dict(zip(coloured, COLOURS, strict=False))
    levels = ticks(0, float(probabilities.max()))
    axes = Axes(LEFT, TOP, RIGHT, BOTTOM, (0, windows[-1].end_seconds), (0, levels[-1]))
    yield from heading(title, windows[0])
    yield from axes.levels(levels, percent=True)
    yield from axes.marks(time_ticks(windows[-1].end_seconds), time_unit(windows[-1].end_seconds), top=BAND[1] + 6)
    middles = [(window.start_seconds + window.end_seconds) / 2 for window in windows]
    times = [windows[0].start_seconds, *middles, windows[-1].end_seconds]
    thick = 3 if len(windows) <= FEW else 2
    for index in (*others, *reversed(coloured)):
        values = probabilities[:, index]
        points = axes.points(times, np.concatenate([values[:1], values, values[-1:]]).tolist())
        yield Line(points, colours.get(index, OTHER), thick if index in colours else 1)
    yield from band(windows, labels, colours, axes)
    peaks = {i: round(100 * float(probabilities[:, i].max()), 1) for i in coloured}  # percent, as printed
    yield from legend([(labels[i], colours[i], peaks[i]) for i in sorted(coloured, key=lambda i: (-peaks[i], i))], len(others))


def heading(title: str, first: Prediction) -> Iterator[Shape]:
    """The video's name, and at the right, what is shown of it."""
    subtitle = f"probability over time, {' + '.join(first.streams)}, windows of {first.duration_seconds:.2f} s"
    yield Text(fitted(title, RIGHT - LEFT - text_width(subtitle) - 40, TITLE), LEFT, 48, size=TITLE)
    yield Text(subtitle, RIGHT, 48, align=1.0, colour=GREY)


def chosen_classes(probabilities: NDArray[np.float32], top_k: int) -> tuple[list[int], list[int]]:
    """Of (W,K) probabilities, the classes that are ever among the `top_k`: those that get a colour, and some more for grey.

    Those that are the most probable in most windows come first, then those with the highest peak.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    wins = np.bincount(ranked[:, 0], minlength=probabilities.shape[1])
    peaks = probabilities.max(0)
    order = sorted(np.unique(ranked).tolist(), key=lambda i: (-wins[i], -peaks[i]))
    return order[: len(COLOURS)], order[len(COLOURS) :][:MAX_OTHERS]


def time_ticks(end: float) -> list[tuple[float, str]]:
    """At most eleven round times up to `end`, with their names, in seconds, or in minutes and hours where it is long."""
    step = next((step for step in TIME_STEPS if end / step <= 10), TIME_STEPS[-1])
    times = [step * i for i in range(int(end / step + 1e-9) + 1)]
    return [(time, clock(time) if end >= 120 else f"{time:g}") for time in times]


def time_unit(end: float) -> str:
    return "seconds" if end < 120 else "minutes:seconds" if end < 3600 else "hours:minutes:seconds"


def clock(seconds: float) -> str:
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    return f"{hours}:{minutes % 60:02d}:{int(seconds) % 60:02d}" if hours else f"{minutes}:{int(seconds) % 60:02d}"


def band(windows: Sequence[Prediction], labels: Sequence[str], colours: dict[int, Colour], axes: Axes) -> Iterator[Box | Text]:
    """The top label over time, with its name where there is room; bare where no window looked."""
    runs: list[tuple[int, float, float]] = []
    for window, (start, end) in zip(windows, spans(windows), strict=True):
        (index,) = window.top_indices(1)
        if runs and runs[-1][0] == index and runs[-1][2] == start:
            start = runs.pop()[1]
        runs.append((index, start, end))
    for index, start, end in runs:
        left, right = axes.x(start), axes.x(end)
        yield Box(left, BAND[0], right - min(1, (right - left) / 4), BAND[1], colours.get(index, OTHER))
        name = fitted(labels[index], right - left - 16, NAME)
        if name == labels[index] or text_width(name, NAME) >= ENOUGH:
            ink = WHITE if index in colours else INK
            yield Text(name, (left + right) / 2, BAND[1] - 15, align=0.5, size=NAME, colour=ink)


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
        yield from key(fitted(label, right - LEGEND - KEY - 14 - text_width(number)), LEGEND, y, colour)
        yield Text(number, right, y, align=1.0, colour=GREY)
        y += 44
    if num_others:
        yield from key(f"{num_others} other{'s' * (num_others > 1)}", LEGEND, y, OTHER, width=2, ink=GREY)
