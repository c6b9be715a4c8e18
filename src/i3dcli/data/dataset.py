"""READERS, the formats of labelled videos, with how each is recognised and read; load_dataset: a source → samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..class_names import distinct, read_classes
from ..defaults import DATASET_FORMATS
from ..errors import DatasetError
from ..file_names import is_debris
from ..files import check_is_file
from ..text import counted, option, shown, shown_class
from ..video import video_key
from .folders_and_lists import ClassIds, LabelledPath, Request, Source, is_list, read_folder, read_list, subfolders
from .official_splits import (
    is_charades,
    is_hmdb51,
    is_kinetics,
    is_ucf101,
    read_charades,
    read_hmdb51,
    read_kinetics,
    read_ucf101,
)

NAMED = 10  # missing videos, or classes without videos, that a message names


@dataclass(frozen=True)
class Sample:
    """One labelled video."""

    path: Path  # a video file, or a folder of pictures
    key: Path  # its path below the dataset's root without suffix, where extract-flow puts its flow
    labels: tuple[int, ...]  # class ids from 0: one, or any number in multi-label data
    spans: tuple[tuple[float, float], ...] = ()  # seconds of each label, where known (Charades); empty: the whole video


@dataclass(frozen=True)
class Dataset:
    """The samples of a source by part, and the names of their classes."""

    format: str  # one of DATASET_FORMATS
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    eval: tuple[Sample, ...]  # the validation or the test part, as `eval_part` says; may be empty
    multi_label: bool
    title: str  # its format, and the split if it has several
    missing_train: tuple[Path, ...] = ()  # named by the source but not on disk; left out of train
    missing_eval: tuple[Path, ...] = ()
    eval_part: str = "test"  # the name of that part: val or test, or "" if the source names no parts
    notes: tuple[str, ...] = ()  # how it was read
    has_names: bool = True  # False for a list of ids without names

    @property
    def missing(self) -> tuple[Path, ...]:
        """All videos that are not on disk."""
        return tuple(dict.fromkeys(self.missing_train + self.missing_eval))

    @property
    def summary(self) -> str:
        """One line, such as "ucf101 split 1: 9537 train, 3783 test, 101 classes, ids 1-based → 0-based"."""
        counts = [f"{len(self.train)} train"] + [f"{len(self.eval)} {self.eval_part}"] * bool(self.eval)
        if not self.train:
            counts = [counted(len(self.eval), f"{self.eval_part} video".strip())]
        multi_label = ["multi-label"] * self.multi_label
        missing = [f"{len(self.missing)} missing"] * bool(self.missing)
        return f"{self.title}: {', '.join([*counts, counted(len(self.classes), 'class'), *multi_label, *self.notes, *missing])}"


class Format(NamedTuple):
    """How one kind of source is recognised and read."""

    detects: Callable[[Path], bool]
    read: Callable[[Request], Source]


READERS = {  # from general to specific; detection starts from the end
    "folder": Format(lambda path: bool(subfolders(path)), read_folder),
    "list": Format(is_list, read_list),
    "ucf101": Format(is_ucf101, read_ucf101),
    "hmdb51": Format(is_hmdb51, read_hmdb51),
    "kinetics": Format(is_kinetics, read_kinetics),
    "charades": Format(is_charades, read_charades),
}


def load_dataset(
    path: str | Path,
    *,
    format: str = "auto",
    split: int = 1,
    root: str | Path | None = None,
    classes: str | Path | Iterable[str] | None = None,
    first_label: int | None = None,
) -> Dataset:
    """The labelled videos that a folder or file names.

    `split` is for UCF-101 and HMDB-51. Relative paths start at `root`, by default the folder of the list, or where the
    videos of official annotations usually lie. `classes` names the classes in the order of their ids, instead of the
    source. `first_label` is the id of a list's first class, by default 0. If a source has a validation and a test part,
    `eval` is the validation part. A video named twice is one sample. Raises DatasetError.
    """
    path = Path(path)
    for place in (path, Path(root or path)):
        if not os.path.exists(place):
            raise DatasetError(f"no such path: {shown(place)}: expected a folder of classes, a list, or annotations; give one")
        if not os.access(place, os.R_OK | os.X_OK if place.is_dir() else os.R_OK):
            raise DatasetError(f"cannot read: {shown(place)}: permission denied; check its permissions")
    if not path.is_dir():
        check_is_file(path)
    classes = read_classes(classes) if isinstance(classes, (str, Path)) else classes
    names = distinct(classes, "the names of classes") if classes is not None else None
    detected = format == "auto"
    format = detect(path) if detected else format
    if format not in READERS:
        raise DatasetError(
            f"unknown format: {shown(path)}: got {shown(format)!r}, expected auto or one of {', '.join(DATASET_FORMATS)}"
        )
    unused = {
        option("first_label"): first_label is not None and format != "list",
        option("root"): root is not None and format == "folder",
        option("split"): split != 1 and format not in ("ucf101", "hmdb51"),
    }
    for name in (name for name, is_unused in unused.items() if is_unused):
        raise DatasetError(f"option without use: {shown(path)}: got {name}, but this is read as {format}; leave it out")
    source = READERS[format].read(Request(path, split, Path(root) if root else None, names, first_label, detected))
    rows = {part: rows for part, rows in source.parts.items() if part != "test" or "val" not in source.parts}
    rows = rows or {"train": []}
    left_out = ("test part left out for the validation part",) if len(rows) < len(source.parts) else ()
    parts = {part: samples(part, rows[part], source, path) for part in rows}
    missing = {part: tuple(dict.fromkeys(row.path for row in rows[part] if not row.found)) for part in rows}
    eval_part = "val" if "val" in parts else "test"
    dataset = Dataset(
        format,
        source.classes,
        parts.get("train", ()),
        parts.get(eval_part, ()),
        source.multi_label,
        title=f"{format} split {source.split}" if source.split else format,
        missing_train=missing.get("train", ()),
        missing_eval=missing.get(eval_part, ()),
        eval_part=eval_part,
        notes=(*source.notes, *left_out),
        has_names=source.has_names,
    )
    check_overlap(dataset)
    return dataset


def detect(path: Path) -> str:
    """The format of a folder or file; raises DatasetError if it has none of them."""
    format = next((format for format, reader in reversed(READERS.items()) if reader.detects(path)), None)
    if format is not None:
        return format
    files = sorted(name for name in os.listdir(path) if not is_debris(name)) if path.is_dir() else []
    held = (
        f"a folder of {counted(len(files), 'file')}{f', first {shown(files[0])!r}' if files else ''}"
        if path.is_dir()
        else "a video"
    )
    raise DatasetError(
        f"no dataset: {shown(path)}: got {held}, expected one of {', '.join(DATASET_FORMATS)}; "
        "give a folder with a folder of videos for each class, or a list of paths and labels"
    )


def samples(part: str, rows: list[LabelledPath], source: Source, path: Path) -> tuple[Sample, ...]:
    """The videos of a part that are on disk, each once; raises DatasetError if there are none, or if labels contradict."""
    found = [row for row in rows if row.found]
    if not rows:
        raise DatasetError(f"empty split: {shown(path)}: nothing is marked {part}; give another split")
    if not found:
        windows = os.sep == "/" and "\\" in str(rows[0].path)
        cause = "a backslash is no separator here, write / and " if windows else ""
        raise DatasetError(
            f"no video on disk: {shown(path)}: none of the {len(rows)} {part} videos is there, the first would be "
            f"{shown(rows[0].path)}; {cause}give the folder that the videos lie in, not {shown(source.root)}, with "
            f"{option('root')}"
        )
    kept: dict[str, Sample] = {}
    root = os.path.abspath(source.root)
    for row, file in zip(found, resolved(row.path for row in found), strict=True):
        if not row.labels and not source.multi_label:
            raise DatasetError(
                f"no label: {shown(path)}: {shown(row.path)} has none and can neither be trained nor scored on; "
                "give the file of a labelled part"
            )
        sample = Sample(row.path, video_key(row.path, root, parts_elsewhere=2), row.labels, row.spans)
        other = kept.setdefault(file, sample)
        if other.labels == row.labels:
            continue
        if not source.multi_label:
            names = " and ".join(repr(shown(source.classes[labels[0]])) for labels in (other.labels, row.labels))
            raise DatasetError(f"two labels for one video: {shown(path)}: {shown(row.path)} is {names}; keep one")
        new = tuple(label for label in row.labels if row.spans or label not in other.labels)
        kept[file] = replace(other, labels=other.labels + new, spans=other.spans + row.spans)
    return tuple(kept.values())


def resolved(paths: Iterable[Path]) -> Iterator[str]:
    """The real path of each path; each folder is resolved once, as datasets hold hundreds of thousands of files."""
    folders: dict[str, str] = {}
    for path in map(str, paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], name)


def check_overlap(dataset: Dataset) -> None:
    """Raise DatasetError if a video is in both parts."""
    if not dataset.eval:
        return
    trained, others = set(resolved(sample.path for sample in dataset.train)), dataset.eval
    files = resolved(sample.path for sample in others)
    both = [sample for sample, file in zip(others, files, strict=True) if file in trained]
    if both:
        raise DatasetError(
            f"one video in both parts: {shown(both[0].path)}: got {len(both)} of {len(others)} {dataset.eval_part} videos in "
            "train as well; take them out of one part"
        )


def scored_part(dataset: Dataset) -> Dataset:
    """A dataset without its training part, to be scored; if the source has one part only, all of it."""
    if dataset.eval:
        return replace(dataset, train=(), missing_train=())
    missing = dataset.missing_train
    return replace(dataset, train=(), eval=dataset.train, eval_part="", missing_train=(), missing_eval=missing)


def with_validation(train: Dataset, val: Dataset) -> Dataset:
    """`train`, evaluated on all of `val`'s samples: those of its `eval` or, if that is empty, of its `train`.

    Classes are matched by name and `val`'s ids become `train`'s; if a list names no classes, its ids stay as they are.
    Raises DatasetError for a class that `train` lacks and for a video in both.
    """
    part = scored_part(val)
    both = replace(
        train,
        eval=renumbered(part.eval, val, train.classes, where="training data"),
        multi_label=train.multi_label or val.multi_label,
        missing_eval=part.missing_eval,
        eval_part="val",
        notes=(f"val from {val.format}",),
    )
    check_overlap(both)
    return both


def renumbered(samples: Iterable[Sample], source: Dataset, classes: tuple[str, ...], *, where: str) -> tuple[Sample, ...]:
    """`samples` of `source` with ids of `classes`, matched by name; ids of classes without names stay as they are.

    Raises DatasetError for a class that is not in `classes`, which its message calls `where`.
    """
    ids = ClassIds(classes, where)
    names = source.classes if source.has_names else classes[: len(source.classes)] + source.classes[len(classes) :]
    to_ids = [ids[name] for name in names]
    return tuple(replace(sample, labels=tuple(to_ids[i] for i in sample.labels)) for sample in samples)


def report_missing(dataset: Dataset, note: Callable[[str], None], *, strict: bool = False) -> None:
    """Note which videos are not on disk, and name the first of them; with `strict`, raise DatasetError."""
    if not dataset.missing:
        return
    text = f"{counted(len(dataset.missing), 'video')} missing: {first_of(dataset.missing)}"
    if strict:
        raise DatasetError(f"{text}: expected all that are listed; leave {option('strict', True)} out to go on without them")
    note(f"Note: {text}; left out")


def report_absent(samples: Iterable[Sample], classes: Sequence[str], note: Callable[[str], None]) -> None:
    """Note how many classes have no sample, and name the first of them."""
    seen = labels_of(samples)
    absent = [name for i, name in enumerate(classes) if i not in seen]
    if absent:
        note(f"Note: no video of {len(absent)} of {counted(len(classes), 'class')}: {first_of(absent)}")


def labels_of(samples: Iterable[Sample]) -> set[int]:
    """The ids of the classes that occur."""
    return {label for sample in samples for label in sample.labels}


def first_of(names: Sequence[str | Path]) -> str:
    """The first of many paths or classes, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown_class(name) if isinstance(name, str) else shown(name) for name in names[:NAMED]) + more
