"""What pictures are drawn with: colours, round numbers for ticks, and text in the letters that OpenCV has, cut to fit."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import shown, shown_class

Colour = tuple[int, int, int]
INK, GREY, GRID = (48, 40, 36), (128, 118, 112), (236, 232, 230)  # BGR, as are all colours of OpenCV
BLUE, ORANGE = (196, 112, 32), (36, 110, 226)  # which colour-blind people can tell apart
FEW = 60  # points, up to which a line is thick
EM = 30  # pixels, the size of letters at scale 1
ASCII = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."}
)


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
        return [f"{100 * value:g}%" for value in values]
    scale, unit = (1000, "k") if 10_000 <= max(values) < 10_000_000 else (1, "")
    return [f"{round(value / scale, 10):g}{unit if value else ''}" for value in values]


def write(
    picture: NDArray[np.uint8],
    text: str,
    x: float,
    y: float,
    *,
    align: float = 0.0,
    scale: float = 0.6,
    colour: Colour = INK,
) -> float:
    """Write `text` on the baseline `y`, with `align` of its width left of `x`; returns its width in pixels."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.putText(picture, text, (round(x - align * width), round(y)), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return float(width)


def without_accents(text: str) -> str:
    """`text` in letters as plain as they can be."""
    plain = unicodedata.normalize("NFKD", shown(text).translate(ASCII))
    return "".join(c for c in plain if not unicodedata.combining(c))


def ascii_text(text: str) -> str:
    """`text` in the letters that OpenCV can write: accents go, what has no likeness becomes a question mark."""
    return without_accents(text).encode("ascii", "replace").decode()


def ascii_label(label: str, index: int) -> str:
    """A class's label in ASCII, or its number where more than accents would be lost, or no letter be left."""
    plain = without_accents(shown_class(label))
    return plain if plain.isascii() and any(map(str.isalnum, plain)) else f"class {index}"


def text_width(text: str, scale: float) -> float:
    """About as many pixels as `text` takes."""
    return float(cv2.getTextSize(ascii_text(text), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0])


def fitted(text: str, width: float, scale: float) -> str:
    """`text`, cut off with dots where it is wider than `width` pixels."""
    if text_width(text, scale) <= width:
        return text
    while text and text_width(text + "...", scale) > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""
