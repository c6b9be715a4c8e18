"""The videos that a best.pt was chosen on, by number, so that it can be said where it is scored on them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from ..video import picture_paths

MIDDLE = 4096  # bytes


def video_number(path: Path) -> int | None:
    """A number that tells a video, wherever it lies and whatever it is called: of its size and of bytes from its middle.

    It has 63 bits. Of a folder of pictures it is that of the middle one, and how many there are. None for what is empty, or
    cannot be read.
    """
    pictures = picture_paths(path)
    file = pictures[len(pictures) // 2] if pictures else path
    if not os.path.isfile(file):
        return None
    try:
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            opened.seek(max(0, size - MIDDLE) // 2)
            data = opened.read(MIDDLE)
    except OSError:
        return None
    digest = hashlib.sha256(f"{size} {len(pictures)} ".encode() + data).digest()
    return int.from_bytes(digest[:8], "big") >> 1 if data else None


def video_numbers(paths: Iterable[Path]) -> frozenset[int]:
    """The numbers of videos, without those that have none."""
    return frozenset(number for path in paths if (number := video_number(path)) is not None)


def count_chosen(chosen_on: Collection[int], paths: Iterable[Path]) -> int:
    """How many of the videos at `paths` are among those that weights were chosen on."""
    return sum(video_number(path) in chosen_on for path in paths) if chosen_on else 0
