"""The official annotations of UCF-101, HMDB-51, Kinetics and Charades, each read as it is published."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..class_names import read_class_names
from ..errors import DatasetError
from ..file_names import VIDEO_SUFFIXES, is_debris, is_passed_over
from ..lines import decoded, read_lines, read_text
from ..text import option, shown
from ..video import FLOW_SIDECAR, as_on_disk
from .folders_and_lists import PARTS, ClassIds, LabelledPath, Request, Source, check_ids, lists_of, part_files, same_name

PLACES = {  # where the videos of official annotations usually lie, from the folder of the annotations
    "ucf101": (".", "UCF-101", "videos", "../UCF-101", "../UCF101", "../videos"),
    "hmdb51": (".", "videos", "hmdb51_org", "../videos", "../hmdb51_org", "../hmdb51", "../HMDB51"),
    "charades": (".", *(f"{up}{name}" for up in ("", "../") for name in ("Charades_v1_480", "Charades_v1", "Charades_v1_rgb"))),
}
CHARADES_CLASSES = 157
SECONDS = re.compile(r"([0-9]{1,9}(\.[0-9]*)?)?")
JSON_BYTES = 64 << 20  # of annotations; those of Charades have 2 MB

Action = tuple[int, float, float]  # class id from 0, start and end in seconds


def is_ucf101(path: Path) -> bool:
    """Whether a folder holds UCF-101's ucfTrainTestlist, or a file is a list of it."""
    name = r"(train|test)list0\d\.txt"
    if not path.is_dir():
        return re.fullmatch(name, path.name) is not None and (path.parent / "classInd.txt").is_file()
    return (path / "classInd.txt").is_file() and any(re.fullmatch(name, file) for file in os.listdir(path))


def is_hmdb51(path: Path) -> bool:
    """Whether a folder holds HMDB-51's test_train_splits, or mmaction2's lists of them in UCF-101's layout."""
    names = os.listdir(path) if path.is_dir() else [path.name]
    if any(re.fullmatch(r".+_test_split\d\.txt", name) and not is_debris(name) for name in names):
        return True
    folder = path if path.is_dir() else path.parent
    return is_ucf101(path) and len(read_class_names(folder / "classInd.txt")) == 51


def split_number(request: Request) -> int:
    """The official split, 1 to 3: that of a list's name where a list is given. Raises DatasetError."""
    match = re.search(r"(\d)\.txt$", request.path.name)
    split = int(match[1]) if match and request.path.is_file() else request.split
    if split not in (1, 2, 3):
        raise DatasetError(f"unknown split: {shown(request.path)}: got {split}, expected 1, 2 or 3; give {option('split', 1)}")
    return split


def video_root(request: Request, format: str, names: list[str]) -> Path:
    """The folder that `names` lie in: the one given, or the first usual place where one of them is found."""
    if request.root is not None:
        return request.root
    places = [Path(os.path.normpath(request.folder / place)) for place in PLACES[format]]
    return next((place for place in places if any(is_in(place, name) for name in names)), request.folder)


def is_in(folder: Path, name: str) -> bool:
    """Whether there is anything at a listed name below a folder."""
    return os.path.exists(os.path.join(folder, as_on_disk(folder, name)))


def listed_row(root: Path, name: str, label: int) -> LabelledPath:
    """The row of a listed name below `root`."""
    path = root / as_on_disk(root, name)
    return LabelledPath(path, (label,), os.path.exists(path))


def read_ucf101(request: Request, format: str = "ucf101") -> Source:
    """UCF-101's ucfTrainTestlist: `<class>/<video>.avi [id]`, ids from 1; the class is the folder's, found in classInd.txt."""
    split = split_number(request)
    folder = request.folder
    files = {part: folder / f"{part}list0{split}.txt" for part in ("train", "test")}
    files = {part: file for part, file in files.items() if file.is_file()}
    if not files:
        raise DatasetError(
            f"no such split: {shown(folder)}: expected trainlist0{split}.txt and testlist0{split}.txt; "
            f"give {option('split')} with one there"
        )
    names = request.classes or read_class_names(folder / "classInd.txt")
    ids = ClassIds(names, folder)
    listed = {part: [without_number(line) for line in read_lines(file)] for part, file in files.items()}
    root = video_root(request, format, [name for part in listed.values() for name in part])
    rows = {
        part: [listed_row(root, name, ids[Path(name.replace("\\", "/")).parent.name]) for name in names]
        for part, names in listed.items()
    }
    return Source(rows, names, root, split=split, notes=("ids 1-based → 0-based",))


def without_number(line: str) -> str:
    """A line without the number that ends it, if one does."""
    name, *number = line.rsplit(maxsplit=1)
    return name if number and re.fullmatch("[0-9]+", number[0]) else line


def read_hmdb51(request: Request) -> Source:
    """HMDB-51's `<class>_test_split<n>.txt` with `<video>.avi 0|1|2` for unused, train, test; classes are sorted names."""
    split = split_number(request)
    pattern = re.compile(rf"(.+)_test_split{split}\.txt")
    found = [name for name in os.listdir(request.folder) if not is_debris(name)]
    files = {match[1]: request.folder / name for name in found if (match := pattern.fullmatch(name))}
    if not files:
        return read_ucf101(request, "hmdb51")
    names = request.classes or tuple(sorted(files))
    ids = ClassIds(names, request.folder)
    listed: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for name, file in sorted(files.items()):
        for line in read_lines(file):  # names hold # & ( [ ; and are taken as they are
            video, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not video:
                raise DatasetError(
                    f"no split line: {shown(file)}: got {shown(line[:200])!r}, expected a video and 0, 1 or 2; mend it"
                )
            if use != "0":
                listed["train" if use == "1" else "test"].append((name, f"{name}/{video.strip()}"))
    root = video_root(request, "hmdb51", [video for part in listed.values() for _, video in part])
    rows = {part: [listed_row(root, video, ids[name]) for name, video in videos] for part, videos in listed.items()}
    return Source(rows, names, root, split=split)


def first_line(path: Path) -> str:
    """The first line of a text file, or nothing."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return decoded(file.read(10_000), errors="ignore").partition("\n")[0].strip("\r")
    except (OSError, UnicodeDecodeError):
        return ""


def columns(path: Path) -> set[str]:
    """The columns that the header of a CSV names, or of the first list of a folder."""
    files = list(part_files(path).values())
    return {name.strip().strip('"').lower() for name in first_line(files[0]).split(",")} if files else set()


def is_kinetics(path: Path) -> bool:
    """Whether the header is that of DeepMind's Kinetics or of MediaPipe's lists in its manner."""
    return columns(path) >= {"youtube_id"} or columns(path) >= {"video", "start", "end"}


def is_charades(path: Path) -> bool:
    """Whether the header is that of Charades_v1_train.csv, or the file the JSON of pytorch-i3d."""
    return columns(path) >= {"id", "actions"} or path.suffix.lower() == ".json"


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV with a header, by column; raises DatasetError."""
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
        header = [name.strip().lower() for name in next(reader, [])]
        rows = [dict(zip(header, (cell.strip() for cell in row), strict=False)) for row in reader if row]
    except csv.Error as error:
        raise DatasetError(f"cannot read the CSV: {shown(path)}: {error}; give the path of a CSV with a header") from error
    if not rows:
        raise DatasetError(f"empty list: {shown(path)}: expected a header and one video per line")
    return rows


def find_by_stem(root: Path, stems: set[str], *, depth: int) -> dict[str, list[Path]]:
    """Videos, and folders of their pictures, called `stems`, up to `depth` folders below `root`, in one scan."""
    found: dict[str, list[Path]] = {}
    for parent, folders, files in os.walk(root, followlinks=True):
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if stem in stems and suffix.lower() in VIDEO_SUFFIXES and not is_debris(name):
                found.setdefault(stem, []).append(Path(parent, name))
        for name in sorted(set(folders) & stems):
            if not os.path.exists(os.path.join(parent, name, FLOW_SIDECAR)):
                found.setdefault(name, []).append(Path(parent, name))
        deepest = len(Path(parent).relative_to(root).parts) >= depth
        folders[:] = [] if deepest else sorted(name for name in folders if name not in stems and not is_passed_over(name))
    return found


def read_kinetics(request: Request) -> Source:
    """Kinetics CSV `label,youtube_id,time_start,time_end,split`; classes are sorted names, as in DeepMind's label_map.txt.

    Videos are `[<class>/]<id>_<start:06d>_<end:06d>.mp4` (mmaction2) or `<id>.mp4`, with any video's suffix. MediaPipe's
    `[label_name,]video,start,end,split` is read as well. Rows without a label have none.
    """
    clips = [clip for part, file in lists_of(request.path).items() for clip in kinetics_clips(file, part)]
    names = request.classes or tuple(sorted({clip.label for clip in clips if clip.label}))
    ids = ClassIds(names, request.path)
    root = request.root or request.folder
    found = find_by_stem(root, {stem for clip in clips for stem in clip.stems}, depth=2)
    parts: dict[str, list[LabelledPath]] = {}
    for clip in clips:
        exact = [root / as_on_disk(root, clip.path)] if clip.path and is_in(root, clip.path) else []
        matches = [path for stem in clip.stems for path in found.get(stem, [])]
        mine = [path for path in matches if same_name(path.parent.name) == same_name(clip.label)]
        flat = [path for path in matches if path.parent.name not in ids]  # not in the folder of another class
        path = next(iter(exact + mine + flat), None)
        labels = (ids[clip.label],) if clip.label else ()
        expected = clip.path or Path(clip.label, f"{clip.stems[0]}.mp4")
        parts.setdefault(clip.part, []).append(LabelledPath(path or root / expected, labels, path is not None))
    return Source(parts, names, root)


class Clip(NamedTuple):
    """A line of a Kinetics CSV."""

    part: str
    label: str  # empty where there is none
    path: str | None  # where the line names a file
    stems: tuple[str, ...]  # what its file may be called otherwise


def kinetics_clips(file: Path, part: str) -> list[Clip]:
    """The lines of a Kinetics CSV; those that name no split are of `part`. Raises DatasetError."""
    clips = []
    for row in csv_rows(file):
        name = row.get("youtube_id") or row.get("video", "")
        split = row.get("split") or part
        times = [row.get("time_start") or row.get("start", ""), row.get("time_end") or row.get("end", "")]
        if not name or split.lower() not in PARTS or not all(SECONDS.fullmatch(time) for time in times):
            raise DatasetError(
                f"no Kinetics line: {shown(file)}: got {shown(','.join(row.values())[:200])!r}, "
                "expected label,youtube_id,time_start,time_end,split; mend it"
            )
        is_file = Path(name).suffix.lower() in VIDEO_SUFFIXES
        timed = "_".join([name, *(f"{int(float(time)):06d}" for time in times if time)])
        label = row.get("label") or row.get("label_name", "")
        clips.append(Clip(PARTS[split.lower()], label, name if is_file else None, () if is_file else (timed, name)))
    return clips


def read_charades(request: Request) -> Source:
    """Charades' official CSV, or the JSON that pytorch-i3d made of it: several labels for each video, with their seconds."""
    if request.path.suffix.lower() == ".json":
        actions = charades_json(request.path)
    else:
        actions = {part: charades_csv(file) for part, file in lists_of(request.path).items()}
    named = request.folder / "Charades_v1_classes.txt"
    numbers = tuple(f"c{i:03d}" for i in range(CHARADES_CLASSES))
    names = request.classes or (read_class_names(named) if named.is_file() else numbers)
    stems = {stem for part in actions.values() for stem in part}
    places = [request.root] if request.root else [Path(os.path.normpath(request.folder / p)) for p in PLACES["charades"]]
    scans = ((place, find_by_stem(place, stems, depth=0)) for place in places)
    root, found = next(((place, found) for place, found in scans if found), (places[0], {}))
    parts: dict[str, list[LabelledPath]] = {}
    for part, videos in actions.items():
        for stem, spans in videos.items():
            labels = tuple(label for label, *_ in spans)
            check_ids(labels, 0, len(names), request.path, stem)
            path = found.get(stem, [root / f"{stem}.mp4"])[0]
            row = LabelledPath(path, labels, stem in found, tuple((start, end) for _, start, end in spans))
            parts.setdefault(part, []).append(row)
    return Source(parts, names, root, multi_label=True)


def charades_csv(file: Path) -> dict[str, list[Action]]:
    """The actions of each video in a CSV with the columns `id` and `actions`, `c092 11.90 21.20;c147 0.00 12.60`."""
    videos: dict[str, list[Action]] = {}
    for row in csv_rows(file):
        actions = [action.split() for action in row.get("actions", "").split(";") if action]
        try:
            timed = [as_action(int(name.removeprefix("c")), float(start), float(end)) for name, start, end in actions]
            videos.setdefault(row["id"], []).extend(timed)
        except (KeyError, ValueError) as error:
            raise DatasetError(
                f"no Charades line: {shown(file)}: got {shown(','.join(row.values())[:80])!r}, "
                "expected the columns id and actions, as in 'c092 11.90 21.20;c147 0.00 12.60'; mend it"
            ) from error
    return videos


def charades_json(file: Path) -> dict[str, dict[str, list[Action]]]:
    """The actions of each video by part: `{"<id>": {"subset": "training", "actions": [[92, 11.9, 21.2]]}}` (pytorch-i3d)."""
    parts: dict[str, dict[str, list[Action]]] = {}
    text = read_text(file, limit=JSON_BYTES)
    try:
        for stem, video in json.loads(text).items():
            actions = [as_action(label, float(start), float(end)) for label, start, end in video["actions"]]
            parts.setdefault(PARTS[video["subset"]], {})[stem] = actions
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"no Charades JSON: {shown(file)}: expected "
            '{"<id>": {"subset": "training", "actions": [[92, 11.9, 21.2]]}}; give such a file, or a CSV'
        ) from error
    return parts


def as_action(label: Any, start: float, end: float) -> Action:
    """An action, of numbers as they may be; raises ValueError for a class that is no integer, and for endless times."""
    if type(label) is not int or not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"expected an integer and two finite numbers, got {label!r}, {start}, {end}")
    return label, start, end
