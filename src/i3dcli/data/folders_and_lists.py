"""Request → Source, which the reader of each format takes and gives; and the readers of folders and of lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..class_names import read_class_names
from ..errors import DatasetError
from ..file_names import VIDEO_SUFFIXES, is_passed_over
from ..text import counted, option, shown
from ..video import raise_unreadable, videos_below
from .entries import Listed, on_disk, read_entries, with_labels

PARTS = {  # what people call the parts of a dataset → train, val, test
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LIST_SUFFIXES = {".csv", ".list", ".tsv", ".txt"}
MAX_UNNAMED = 10_000  # classes that a list may make by their numbers alone; a larger one is no class, but a year or a count
NAMES_FILES = ("classes.txt", "classInd.txt", "label_map.txt")  # where lists keep the names of their classes


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


class LabelledPath(NamedTuple):
    """One video that a source names."""

    path: Path  # where it is, or would be
    labels: tuple[int, ...]  # from 0
    found: bool
    spans: tuple[tuple[float, float], ...] = ()  # seconds of each label


@dataclass(frozen=True)
class Source:
    """What a source says."""

    parts: Mapping[str, list[LabelledPath]]  # by train, val, test
    classes: tuple[str, ...]
    root: Path  # the folder the videos lie in
    split: int | None = None
    multi_label: bool = False
    has_names: bool = True  # False where classes are known by their ids only
    notes: tuple[str, ...] = ()  # how ids were read, for the summary


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
                f"unknown class: {shown(self.where)}: got {shown(name[:200])!r}, expected one of {len(self.names)}: {some}; "
                f"mend the name, or give all classes with {option('classes')}"
            )
        return found


def same_name(name: str) -> str:
    """A class's name as it is compared."""
    return " ".join(name.casefold().replace("_", " ").split())


def numbered_classes(count: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f"class {i}" for i in range(count))


def subfolders(path: Path) -> dict[str, Path]:
    """The folders in a folder by name, sorted; hidden ones and what systems leave behind are passed over."""
    if not path.is_dir():
        return {}
    try:
        with os.scandir(path) as found:
            names = sorted(entry.name for entry in found if not is_passed_over(entry.name) and entry.is_dir())
    except OSError as error:
        raise_unreadable(error)
    return {name: path / name for name in names}


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
        part: [LabelledPath(video, (ids[name],), True) for name, path in classes.items() for video in videos_of_class(path)]
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
    advice = f"mend the line, or name what the file is with {option('format')}" if request.detected else "mend the line"
    root = request.root or request.folder
    listed = [(part, on_disk(entry, root)) for part, file in files.items() for entry in read_entries(file, advice)]
    labels = with_labels([item for _, item in listed])
    ids = [label for some in labels for label in some]
    if not ids:
        raise untold(request, listed[0][1], root)
    first = request.first_label
    if first is None and min(ids) == 1 and max(ids) == (len(names) or max(ids)):
        known = f" for {counted(len(names), 'class')}" if names else ""
        raise DatasetError(
            f"labels start at 1: {shown(request.path)}: got 1 to {max(ids)}{known}, "
            f"expected ids from 0; give {option('first_label', 1)}, or {option('first_label', 0)} where class 0 just has "
            "no video"
        )
    first = first or 0
    has_names = bool(names)
    names = names or numbered_classes(min(max(ids) - first + 1, MAX_UNNAMED))
    rows: dict[str, list[LabelledPath]] = {part: [] for part in files}
    for (part, item), found in zip(listed, labels, strict=True):
        check_ids(found, first, len(names), files[part], f"line {item.entry.number}")
        rows[part].append(LabelledPath(item.path, tuple(i - first for i in found), item.kind is not None))
    multi_label = any(len(found) > 1 for found in labels)
    notes = ("ids 1-based → 0-based",) if first else ()
    return Source(rows, names, root, multi_label=multi_label, has_names=has_names, notes=notes)


def untold(request: Request, item: Listed, root: Path) -> DatasetError:
    """The error of a list whose numbers may be labels, or counts of frames, as nothing that it names is there."""
    numbers = " ".join(map(str, item.entry.numbers))
    return DatasetError(
        f"no video on disk: {shown(request.path)}: line {item.entry.number}: in {shown(item.entry.name)!r} {shown(numbers)!r} "
        f"the first number is a label of a video, or the count of frames of a folder, and nothing is at {shown(item.path)}; "
        f"give the folder that the videos lie in, not {shown(root)}, with {option('root')}"
    )


def check_ids(labels: Iterable[int], first: int, count: int, file: Path, where: str) -> None:
    """Raise DatasetError unless all labels are ids of `count` classes that start at `first`; `where` they are in the file."""
    for label in labels:
        if label < first:
            advice = "take unlabelled videos out" if label < 0 else f"leave {option('first_label')} out"
            raise DatasetError(
                f"label too small: {shown(file)}: {shown(where)}: got {label}, expected {first} or more; {advice}"
            )
        if label >= first + count:
            raise DatasetError(
                f"label too large: {shown(file)}: {shown(where)}: got {label}, "
                f"expected {first} to {first + count - 1} for {counted(count, 'class')}; mend the label, or name all "
                f"classes with {option('classes')}"
            )
