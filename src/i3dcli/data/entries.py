"""Lines of `path label…`: the path, the numbers that end the line, and which of these are labels."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISDIR
from typing import NamedTuple

from ..errors import DatasetError
from ..file_names import VIDEO_SUFFIXES, is_video_name, suffix
from ..lines import numbered_lines
from ..text import shown
from ..video import as_on_disk

PART = re.compile(r"[^ \t,]+")
INTEGER = re.compile(r"-?[0-9]{1,18}")


class ListEntry(NamedTuple):
    """A line of a list."""

    number: int  # of the line in its file
    name: str
    numbers: tuple[int, ...]  # what ends the line: labels, or a count of frames and labels


class Listed(NamedTuple):
    """An entry and what is on disk of it."""

    entry: ListEntry
    path: Path
    kind: str | None  # "folder" or "file"; None where nothing is there


def read_entries(file: Path, advice: str) -> list[ListEntry]:
    """The entries of a list; a header and lines of comment are passed over. A name may hold spaces.

    Raises DatasetError for any other line, with `advice` on what to do.
    """
    entries = []
    lines = numbered_lines(file)
    for number, line in lines:
        entry = parse_entry(number, line)
        if entry is not None and (not line.startswith("#") or names_a_video(line)):
            entries.append(entry)
        elif not line.startswith("#") and (number != lines[0][0] or names_a_video(line)):  # the first one may be a header
            raise DatasetError(
                f"label is not an integer: {shown(file)}: line {number}: got {shown(line[:200])!r}, expected a path and the "
                f"number of a class; {advice}"
            )
    if not entries:
        raise DatasetError(f"empty list: {shown(file)}: expected a path and a class id per line")
    return entries


def names_a_video(line: str) -> bool:
    """Whether a video's suffix is anywhere in a line."""
    return any(suffix in line.lower() for suffix in VIDEO_SUFFIXES)


def parse_entry(number: int, line: str) -> ListEntry | None:
    """A line's path and the integers that end it; None where it ends in none.

    Those after a video's suffix are unmistakable. Else a comma or a tab before the last one separates them, and what
    spaces separate is of the name; where there is none, spaces do.
    """
    text = line.replace('"', "") if line.startswith('"') else line
    parts = list(PART.finditer(text))
    first = len(parts)  # of those that are numbers
    while first > 1 and INTEGER.fullmatch(parts[first - 1][0]):
        first -= 1
    if first == len(parts):
        return None
    if suffix(parts[first - 1][0]) not in VIDEO_SUFFIXES:
        last = len(parts) - 1
        strong = is_strong(text[parts[last - 1].end() : parts[last].start()])
        while last > first and is_strong(text[parts[last - 2].end() : parts[last - 1].start()]) == strong:
            last -= 1
        first = last
    return ListEntry(number, text[: parts[first - 1].end()].strip(" \t"), tuple(int(part[0]) for part in parts[first:]))


def is_strong(gap: str) -> bool:
    """Whether more than spaces is between two parts of a line."""
    return "," in gap or "\t" in gap


def on_disk(entry: ListEntry, root: Path) -> Listed:
    """What is at the name of an entry, which counts from `root`."""
    name = as_on_disk(root, entry.name)
    path = root / name
    try:
        return Listed(entry, path, "folder" if S_ISDIR(os.stat(path).st_mode) else "file")
    except (OSError, ValueError):
        return Listed(entry, path, None)


def with_labels(listed: Sequence[Listed]) -> list[tuple[int, ...]]:
    """The labels of each entry, without the count of frames that comes before them where the video is a folder of pictures.

    That is mmaction2's and TSN's `folder count label`, and a folder may be called as the video that its pictures are of.
    What is not on disk is taken for what those are that are, and whose names have a video's suffix likewise; where these
    do not tell, a name without one is a folder's, and for another one there are no labels.
    """
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    for item in listed:
        if item.kind is not None:
            kinds[is_video_name(os.path.basename(item.entry.name))].add(item.kind)
    return [labels_of_entry(item, kinds) for item in listed]


def labels_of_entry(item: Listed, kinds: dict[bool, set[str]]) -> tuple[int, ...]:
    """The labels of one entry; `kinds` are what the others are, of names with a video's suffix and without."""
    numbers = item.entry.numbers
    if len(numbers) == 1:
        return numbers
    is_video = is_video_name(os.path.basename(item.entry.name))
    others = kinds[is_video]
    guess = next(iter(others)) if len(others) == 1 else None if is_video else "folder"
    kind = item.kind or guess
    return () if kind is None else numbers[1:] if kind == "folder" else numbers
