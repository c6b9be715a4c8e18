"""Text on pictures, in the letters of OpenCV's built-in font: measured, cut to fit, and written."""

from __future__ import annotations

import bisect
import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import shown, shown_class

Colour = tuple[int, int, int]
INK, GREY = (48, 40, 36), (128, 118, 112)  # BGR, as are all colours of OpenCV
FONT, WEIGHT = "uni", 400  # of the built-in fonts, the one whose scripts go well together; regular
SIZE = 18  # pixels, of letters with all that is above and below them
BOX = "□"  # stands for what the font lacks


def write(
    picture: NDArray[np.uint8],
    text: str,
    x: float,
    y: float,
    *,
    align: float = 0.0,
    size: int = SIZE,
    colour: Colour = INK,
) -> float:
    """Write `text` on the baseline `y`, with `align` of its width left of `x`; returns its width in pixels."""
    width = text_width(text, size)
    cv2.putText(picture, drawable(text), (round(x - align * width), round(y)), colour, font(), size, WEIGHT)
    return width


def text_width(text: str, size: int = SIZE) -> float:
    """As many pixels as `text` takes."""
    return float(cv2.getTextSize((0, 0), drawable(text), (0, 0), font(), size, WEIGHT)[2])


def fitted(text: str, width: float, size: int = SIZE) -> str:
    """`text`, cut off with dots where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    length = bisect.bisect_right(range(1, len(text)), width, key=lambda length: text_width(text[:length] + "...", size))
    return text[:length].rstrip() + "..." if length else ""


def drawable(text: str) -> str:
    """`text` in characters that the font has: without accents that it lacks, and with a box for each other one."""
    return "".join(map(likeness, unicodedata.normalize("NFC", shown(text))))


def drawable_label(label: str, index: int) -> str:
    """A class's label as `drawable`, or its number where a letter would be lost, or there is none."""
    text = unicodedata.normalize("NFC", shown_class(label))
    if any(c.isalnum() and likeness(c) == BOX for c in text) or not any(map(str.isalnum, text)):
        return f"class {index}"
    return drawable(text)


@lru_cache(10_000)
def likeness(character: str) -> str:
    """What the font has for a character: itself, the letters it is made of without accents, nothing for an accent, or a box."""
    if has_glyph(character):
        return character
    parts = [c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)]
    return "".join(parts) if all(map(has_glyph, parts)) else BOX


def has_glyph(character: str) -> bool:
    """Whether the font can write a character: others come out as question marks, without ink, or from the wrong side."""
    if character in " ?" or unicodedata.bidirectional(character) in ("R", "AL"):
        return character in " ?"
    ink = picture_of(character)
    return bool(ink.any()) and not np.array_equal(ink, picture_of("?"))


def picture_of(character: str) -> NDArray[np.uint8]:
    picture = np.zeros((2 * SIZE, 3 * SIZE, 3), np.uint8)
    cv2.putText(picture, character, (SIZE, SIZE), (255, 255, 255), font(), SIZE, WEIGHT)
    return picture


def font() -> cv2.FontFace:
    """The font; each call makes its own, in microseconds, as threads that share one get letters wrong."""
    return cv2.FontFace(FONT)
