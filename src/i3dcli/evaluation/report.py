"""What an evaluation found: one self-contained page for people, and tables for programs."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_csv, write_text
from ..metrics import Metrics, MultiLabelMetrics, Paired
from ..text import shown, shown_class

NAMES = {"rgb": "RGB", "flow": "Flow", "two_stream": "Two-stream"}  # of what is measured, in the order it is listed
SIGNIFICANCE = 0.05  # of McNemar's p-value, in words


@dataclass(frozen=True)
class Mistake:
    """A video whose best class is not its label; class indices, probabilities in [0, 1]."""

    video: str
    truth: int
    predicted: int
    probability: float  # of `predicted`
    streams: Mapping[str, tuple[int, float]]  # the best class of each stream alone, and its probability
    rgb_jpeg: bytes | None = None  # thumbnails
    flow_jpeg: bytes | None = None


@dataclass(frozen=True)
class Report:
    """All that the page shows. Mappings are by `rgb`, `flow` and `two_stream`, of which the last there is counts most.

    `total` counts the videos that were asked for, read or not. `class_accuracies` holds each class's accuracy, or average
    precision for multi-label data, (K,), NaN for classes that do not occur; `class_counts` (K,) counts their videos.
    `confusion` (K,K) has the truth in rows. Paths are shown as they are given. ValueError where shapes differ.
    """

    title: str
    command: str
    protocol: str
    total: int
    measured: Mapping[str, Metrics | MultiLabelMetrics]
    classes: Sequence[str]
    class_counts: NDArray[np.int64]
    class_accuracies: Mapping[str, NDArray[np.float64]]
    confusion: NDArray[np.int64] | None = None  # None for multi-label data
    comparisons: Sequence[str] = ()  # sentences; `mcnemar_sentence` makes them
    agreement: Paired | None = None  # of RGB, a, and flow, b
    mistakes: Sequence[Mistake] = ()  # the most confident first
    unreadable: Sequence[tuple[str, str]] = ()  # a video and what is wrong with it
    missing: int = 0  # videos that are not on disk

    def __post_init__(self) -> None:
        expected = (len(self.classes),)
        for array in (self.class_counts, *self.class_accuracies.values()):
            if array.shape != expected:
                raise ValueError(f"expected one number for each of {expected[0]} classes, got {array.shape = }")
        if self.confusion is not None and self.confusion.shape != expected * 2:
            raise ValueError(f"expected {expected * 2}, got {self.confusion.shape = }")
        if not self.measured or not set(self.class_accuracies) <= set(self.measured) <= set(NAMES):
            raise ValueError(f"expected some of {', '.join(NAMES)}, got {[*self.measured]}, {[*self.class_accuracies]}")


def write_report(path: str | Path, content: Report) -> None:
    """Write one HTML page that needs nothing else, neither network nor other files. Raises I3DError."""
    parts = {"title": html.escape(shown(content.title)), "data": as_script(as_data(content))}
    parts |= {"style": asset("report.css"), "script": asset("report.js")}
    write_text(path, re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], asset("report.html")))


def asset(name: str) -> str:
    """The text of a file that comes with the package."""
    return (resources.files("i3dcli") / "assets" / name).read_text("utf-8")


def write_per_class(path: str | Path, content: Report) -> None:
    """Write a CSV of one line per class: its name, its videos, and its score in each stream, empty where it is absent."""
    header = ["class", "count", *content.class_accuracies]
    scores = zip(*content.class_accuracies.values(), strict=True)
    rows = zip(content.classes, content.class_counts.tolist(), scores, strict=True)
    cells = ([name, count, *("" if math.isnan(x) else float(x) for x in row)] for name, count, row in rows)
    write_csv(path, [header, *cells])


def write_confusion(path: str | Path, classes: Sequence[str], confusion: NDArray[np.int64]) -> None:
    """Write a CSV of how often each class (row) was predicted as each class (column)."""
    rows = zip(classes, confusion.tolist(), strict=True)
    write_csv(path, [["truth \\ predicted", *classes], *([name, *counts] for name, counts in rows)])


def mcnemar_sentence(a: str, b: str, paired: Paired) -> str:
    """McNemar's test in words; `a` and `b` are keys of NAMES."""
    p = "p < 0.0001" if paired.p_value < 0.0001 else f"p = {paired.p_value:.2g}"
    verdict = "differ significantly" if paired.p_value < SIGNIFICANCE else "do not differ significantly"
    return (
        f"{NAMES[a]} and {NAMES[b]} {verdict} (McNemar’s exact test, {p}): "
        f"only {NAMES[a]} is right on {paired.only_a:,}, only {NAMES[b]} on {paired.only_b:,}."
    )


def as_data(content: Report) -> dict[str, Any]:
    """The report as plain data, as the page holds it, names as people see them.

    The confusion matrix is [row, column, count] where not zero.
    """
    matrix = content.confusion
    return {
        "title": shown(content.title),
        "command": shown(content.command),
        "protocol": content.protocol,
        "total": content.total,
        "rows": [{"key": key, "name": NAMES[key], **asdict(content.measured[key])} for key in NAMES if key in content.measured],
        "classes": list(map(shown_class, content.classes)),
        "counts": content.class_counts.tolist(),
        "scores": {k: [None if math.isnan(x) else x for x in row.tolist()] for k, row in content.class_accuracies.items()},
        "confusion": None if matrix is None else [[int(i), int(j), int(matrix[i, j])] for i, j in np.argwhere(matrix)],
        "comparisons": list(content.comparisons),
        "agreement": None if content.agreement is None else asdict(content.agreement),
        "mistakes": [mistake_data(mistake) for mistake in content.mistakes],
        "unreadable": [list(map(shown, pair)) for pair in content.unreadable],
        "missing": content.missing,
    }


def mistake_data(mistake: Mistake) -> dict[str, Any]:
    return {
        "video": shown(mistake.video),
        "truth": int(mistake.truth),  # NumPy's numbers are welcome, but not to JSON
        "predicted": int(mistake.predicted),
        "probability": float(mistake.probability),
        "streams": [
            {"name": NAMES[k], "label": int(label), "probability": float(p)} for k, (label, p) in mistake.streams.items()
        ],
        "rgb": data_uri(mistake.rgb_jpeg),
        "flow": data_uri(mistake.flow_jpeg),
    }


def data_uri(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def as_script(data: dict[str, Any]) -> str:
    """JSON in ASCII that no text in it can end the script element which holds it."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
