"""Folders of classes and lists of `path label`, and what all readers of splits share: rows by part, names of classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import DatasetError, counted, shown
from .files import VIDEO_SUFFIXES, distinct, numbered_lines, read_labels, videos_below

PARTS = {  # what people call the parts of a dataset → train, val, test
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LIST_SUFFIXES = {".csv", ".list", ".tsv", ".txt"}
MAX_UNNAMED = 10_000  # classes that a list may make by their numbers alone; a larger one is no class, but a year or a count
NAMES_FILES = ("classes.txt", "classInd.txt", "label_map.txt")  # where lists keep the names of their classes
ENTRIES = [  # `path label…`: ids end the line; those after a video's suffix are unmistakable, then a comma or tab separates
    re.compile(rf"(.+?(?:{'|'.join(map(re.escape, sorted(VIDEO_SUFFIXES, reverse=True)))}))((?:[\s,]+-?\d+)+)", re.IGNORECASE),
    re.compile(r"(.+?)((?:\s*[,\t]\s*-?\d+)+)"),
    re.compile(r"(.+?)((?:\s+-?\d+)+)"),
]


@dataclass(frozen=True)
class Request:
    """What the user asked for; a reader takes of it what its format needs."""

    path: Path
    split: int = 1
    root: Path | None = None
    classes: tuple[str, ...] | None = None
    first_label: int | None = None
    detected: bool = False  # how the path is read was not asked for

    @property
    def folder(self) -> Path:
        """The folder that holds the split files."""
        return self.path if self.path.is_dir() else self.path.parent


class Row(NamedTuple):
    """One video that a source names."""

    path: Path  # where it is, or would be
    labels: tuple[int, ...]  # from 0
    found: bool
    spans: tuple[tuple[float, float], ...] = ()  # seconds of each label


@dataclass(frozen=True)
class Source:
    """What a source says."""

    parts: Mapping[str, list[Row]]  # by train, val, test
    classes: tuple[str, ...]
    root: Path  # the folder the videos lie in
    split: int | None = None
    multi_label: bool = False
    has_names: bool = True  # False where classes are known by their ids only
    notes: tuple[str, ...] = ()  # how ids were read, for the summary


def read_class_names(path: Path) -> tuple[str, ...]:
    """The classes that a text file names, one per line in the order of their ids.

    Lines may start with the id, from 0 or 1, as in UCF-101's classInd.txt and Charades_v1_classes.txt.
    """
    lines: Sequence[str] = read_labels(path)
    numbered = [match for line in lines if (match := re.fullmatch(r"c?(\d+)[\s,]+(.+)", line))]
    by_id = {int(match[1]): match[2] for match in numbered}
    if len(by_id) == len(lines) and sorted(by_id) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        lines = [by_id[i] for i in sorted(by_id)]
    return distinct(lines, path)


class ClassIds:
    """Ids of classes by name; case, spaces and underscores make no difference, as folders of Kinetics differ in them."""

    def __init__(self, names: Iterable[str], where: Path | str) -> None:
        self.names = tuple(names)
        self.where = where
        self.ids = {same_name(name): i for i, name in enumerate(self.names)} | {name: i for i, name in enumerate(self.names)}

    def __contains__(self, name: str) -> bool:
        return same_name(name) in self.ids

    def __getitem__(self, name: str) -> int:
        found = self.ids.get(name, self.ids.get(same_name(name)))
        if found is None:
            some = ", ".join([*map(shown, self.names[:3]), *["…"] * (len(self.names) > 3)])
            raise DatasetError(
                f"unknown class: {shown(self.where)}: got {shown(name)!r}, expected one of {len(self.names)}: {some}; "
                "mend the name, or give all classes with --classes"
            )
        return found


def same_name(name: str) -> str:
    """A class's name as it is compared."""
    return " ".join(name.casefold().replace("_", " ").split())


def numbered_classes(count: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f"class {i}" for i in range(count))


def subfolders(path: Path) -> dict[str, Path]:
    """The folders in a folder by name, sorted; hidden ones are passed over."""
    return {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")} if path.is_dir() else {}


def read_folder(request: Request) -> Source:
    """`root/<class>/<video>` or `root/<part>/<class>/<video>`; classes are the sorted names of the folders (torchvision)."""
    folders = subfolders(request.path)
    if not folders:
        raise DatasetError(
            f"no folder of classes: {shown(request.path)}: expected <class>/<video> or train/<class>/<video> in a folder"
        )
    named = {name: PARTS[name.lower()] for name in folders if name.lower() in PARTS}
    if len(named) == 1 and len(folders) > 1:
        named = {}  # a class of trains, or of tests, among other classes
    if len(set(named.values())) < len(named):
        raise DatasetError(f"two folders for one part: {shown(request.path)}: got {', '.join(named)}; give one by its name")
    parts = {part: subfolders(folders[name]) for name, part in named.items()} or {"train": folders}
    names = request.classes or tuple(sorted(parts.get("train") or {name for part in parts.values() for name in part}))
    ids = ClassIds(names, request.path)
    rows = {
        part: [Row(video, (ids[name],), True) for name, path in classes.items() for video in videos_of_class(path)]
        for part, classes in parts.items()
    }
    return Source(rows, names, request.path)


def videos_of_class(folder: Path) -> list[Path]:
    """The videos in the folder of a class, at any depth; raises DatasetError where there are none."""
    found = sorted(video.path for video in videos_below(folder) if video.path != folder)  # pictures of its own are no video
    if not found:
        raise DatasetError(f"no video in the folder of a class: {shown(folder)}: add videos, or take the folder away")
    return found


def part_files(path: Path) -> dict[str, Path]:
    """The lists by part: of a folder those called train, val and test (SlowFast); a list by itself is one part."""
    if not path.is_dir():
        return {"train": path}
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        part = PARTS.get(file.stem.lower().removeprefix("charades_v1_"))
        if part is None or file.suffix.lower() not in LIST_SUFFIXES:
            continue
        if part in found:
            raise DatasetError(
                f"two lists for one part: {shown(path)}: {shown(found[part].name)} and {shown(file.name)}; give one by its name"
            )
        found[part] = file
    return found


def lists_of(path: Path) -> dict[str, Path]:
    """The lists by part; raises DatasetError where a folder has none."""
    files = part_files(path)
    if not files:
        raise DatasetError(f"no list: {shown(path)}: expected train.txt or train.csv in the folder; give a list by its name")
    return files


def is_list(path: Path) -> bool:
    """Whether a path can be a list, or a folder of them; what is wrong with its lines is for the reader to say."""
    return "train" in part_files(path) if path.is_dir() else path.suffix.lower() not in VIDEO_SUFFIXES


def read_list(request: Request) -> Source:
    """Lists of `path label`, the label a class id from 0: mmaction2 (several labels, rawframes), SlowFast, pytorchvideo."""
    files = lists_of(request.path)
    named = [request.folder / name for name in NAMES_FILES if (request.folder / name).is_file()]
    names = request.classes or (read_class_names(named[0]) if named else ())
    advice = "mend the line, or name what the file is with --format" if request.detected else "mend the line"
    entries = {part: read_entries(file, advice) for part, file in files.items()}
    ids = [label for part in entries.values() for entry in part for label in entry.labels]
    first = request.first_label
    if first is None and min(ids) == 1 and max(ids) == (len(names) or max(ids)):
        known = f" for {counted(len(names), 'class')}" if names else ""
        raise DatasetError(
            f"labels start at 1: {shown(request.path)}: got 1 to {max(ids)}{known}, "
            "expected ids from 0; give --first-label 1, or --first-label 0 where class 0 just has no video"
        )
    first = first or 0
    has_names = bool(names)
    names = names or numbered_classes(min(max(ids) - first + 1, MAX_UNNAMED))
    root = request.root or request.folder
    rows: dict[str, list[Row]] = {part: [] for part in files}
    for part, file in files.items():
        for entry in entries[part]:
            check_ids(entry.labels, first, len(names), file, f"line {entry.number}")
            path = root / entry.name
            rows[part].append(Row(path, tuple(i - first for i in entry.labels), path.exists()))
    multi_label = any(len(entry.labels) > 1 for part in entries.values() for entry in part)
    notes = ("ids 1-based → 0-based",) if first else ()
    return Source(rows, names, root, multi_label=multi_label, has_names=has_names, notes=notes)


class Entry(NamedTuple):
    """A line of a list."""

    number: int  # of the line in its file
    name: str
    labels: tuple[int, ...]


def read_entries(file: Path, advice: str) -> list[Entry]:
    """The entries of a list; a header and lines of comment are passed over. A name may hold spaces.

    Raises DatasetError for any other line, with `advice` on what to do.
    """
    entries = []
    lines = numbered_lines(file)
    for number, line in lines:
        entry = parse_entry(number, line)
        is_video = any(suffix in line.lower() for suffix in VIDEO_SUFFIXES)
        if entry is not None and (is_video or not line.startswith("#")):
            entries.append(entry)
        elif not line.startswith("#") and (number != lines[0][0] or is_video):  # a first line that names no video is a header
            raise DatasetError(
                f"label is not an integer: {shown(file)}: line {number}: got {shown(line)!r}, expected a path and the number "
                f"of a class; {advice}"
            )
    if not entries:
        raise DatasetError(f"empty list: {shown(file)}: expected a path and a class id per line")
    return entries


def parse_entry(number: int, line: str) -> Entry | None:
    """A line's path and the integers that end it; None where it ends in none."""
    text = line.replace('"', "") if line.startswith('"') else line
    match = next((match for pattern in ENTRIES if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    name = match[1].strip()
    labels = [int(label) for label in re.findall(r"-?\d+", match[2])]
    if len(labels) > 1 and Path(name).suffix.lower() not in VIDEO_SUFFIXES:
        del labels[0]  # mmaction2's rawframes: `folder total_frames label`
    return Entry(number, name, tuple(labels))


def check_ids(labels: Iterable[int], first: int, count: int, file: Path, where: str) -> None:
    """Raise DatasetError unless all labels are ids of `count` classes that start at `first`; `where` they are in the file."""
    for label in labels:
        if label < first:
            advice = "take unlabelled videos out" if label < 0 else "leave --first-label out"
            raise DatasetError(
                f"label too small: {shown(file)}: {shown(where)}: got {label}, expected {first} or more; {advice}"
            )
        if label >= first + count:
            raise DatasetError(
                f"label too large: {shown(file)}: {shown(where)}: got {label}, "
                f"expected {first} to {first + count - 1} for {counted(count, 'class')}; mend the label, or name all "
                "classes with --classes"
            )
