"""The videos that a command line names: files, folders searched to any depth, folders of pictures, lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DatasetError
from ..file_names import frame_names, is_passed_over, is_video_name
from ..lines import read_lines
from ..text import shown

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # RFC 3986, section 3.1
FLOW_SIDECAR = "flow.json"  # marks a folder of extracted flow


class Found(NamedTuple):
    """A video that an input names."""

    path: Path
    key: Path  # what it is called in an output folder: its path below the input that named it, without suffix


def find_videos(name: str) -> list[Found]:
    """The videos that one input names: a file as it is, a folder searched to any depth, `@list.txt` line by line.

    A folder of numbered pictures counts as one video if it holds no other; where it is the folder that is named, the
    videos below it win. A file given by name is passed on whatever it is called and
    whether it exists or not, so that the reader can say what is wrong with it; in folders only names with a video's
    suffix count. Relative names in a list count from its folder. Raises DatasetError.
    """
    if not name:
        raise DatasetError("no video: '': the name is empty; give the path of a file or folder")
    if (name == "-" or ADDRESS.match(name)) and not os.path.lexists(name):
        got = "standard input" if name == "-" else "an address"
        raise DatasetError(
            f"no video: {shown(name)}: got {got}, expected the path of a file or folder; download it to a file first"
        )
    is_list = name.startswith("@") and not os.path.lexists(name)
    return list(listed_videos(Path(name[1:]))) if is_list else videos_at(Path(name))


def videos_at(path: Path) -> list[Found]:
    """The one video at a path, or those in the folder there; raises DatasetError for a folder without."""
    if os.path.isdir(path):
        found = sorted(videos_below(path), key=lambda video: video.path.parts)  # as paths compare, which takes far longer
        below = [video for video in found if video.path != path]
        if below:
            return below
        if not found:
            raise DatasetError(
                f"no video: {shown(path)}: the folder holds no file with a video's suffix; name files or another folder"
            )
    return [Found(path, video_key(path, os.path.dirname(os.path.abspath(path))))]


def video_key(path: Path, root: str, *, parts_elsewhere: int = 1) -> Path:
    """What a video is called in an output folder: its path below the absolute `root`, without the suffix of a video.

    Of a video that lies elsewhere, it is the last parts of its path. The root itself has no name.
    """
    absolute = os.path.abspath(path)
    if absolute == root:
        return Path()
    below = os.path.join(root, "")
    parts = absolute[len(below) :] if absolute.startswith(below) else os.path.join(*Path(absolute).parts[-parts_elsewhere:])
    return without_suffix(Path(parts))


def listed_videos(path: Path) -> Iterator[Found]:
    """The videos that the lines of a text file name; what lies below the list's folder keeps its path as key."""
    lines = read_lines(path)
    entries = [line for line in lines if not line.startswith("#") or os.path.lexists(path.parent / line)]  # as HMDB-51 has
    if not entries:
        raise DatasetError(f"empty list: {shown(path)}: got comments only, expected one entry per line; name videos")
    for line in entries:
        name = Path(as_on_disk(path.parent, line))
        inside = name.name and not name.is_absolute() and ".." not in name.parts
        if inside and not os.path.isdir(path.parent / name):
            yield Found(path.parent / name, without_suffix(name))
            continue
        for video in videos_at(path.parent / name):
            yield Found(video.path, without_suffix(video.path.relative_to(path.parent)) if inside else video.key)


def as_on_disk(folder: str | Path, name: str) -> str:
    """A name that counts from `folder`, with slashes for Windows' backslashes if only so something is there."""
    if "\\" not in name or os.path.lexists(os.path.join(folder, name)):
        return name
    slashed = name.replace("\\", "/")
    return slashed if os.path.exists(os.path.join(folder, slashed)) else name


def without_suffix(path: Path) -> Path:
    """A path without the suffix of a video; other names with a dot stay whole, as do those that are dots before it."""
    stem, _ = os.path.splitext(path.name)
    return path.with_name(stem) if is_video_name(path.name) and stem.strip(".") else path


def videos_below(folder: Path) -> Iterator[Found]:
    """Videos at any depth; linked folders are followed, each real folder once; folders of extracted flow are passed over.

    Raises DatasetError for a folder that cannot be read, whose videos would be lost without a word.
    """
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=raise_unreadable):
        if os.path.realpath(parent) in seen or FLOW_SIDECAR in files:
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if not is_passed_over(name)]
        key = Path(parent).relative_to(folder)
        if is_frame_folder(files):
            yield Found(Path(parent), without_suffix(key))
        yield from (Found(Path(parent, file), key / without_suffix(Path(file))) for file in files if is_video_name(file))


def raise_unreadable(error: OSError) -> None:
    """Raise DatasetError for a folder."""
    where = shown(os.fspath(error.filename))
    raise DatasetError(f"cannot read: {where}: {error.strerror}; check its permissions, or name other folders") from error


def picture_paths(path: str | Path) -> list[Path]:
    """The numbered pictures in a folder, in order; none if `path` is no folder."""
    return [Path(path, name) for name in frame_names(os.listdir(path))] if os.path.isdir(path) else []


def source_bytes(path: Path) -> int:
    """The size of a video, or of all pictures in a folder of them."""
    return sum(part.stat().st_size for part in picture_paths(path) or [path])


def is_frame_folder(names: list[str]) -> bool:
    """Whether the files of a folder are the numbered frames of one video: at least two pictures, no flow and no video.

    Pictures beside a video are likely its thumbnails.
    """
    return FLOW_SIDECAR not in names and not any(map(is_video_name, names)) and len(frame_names(names)) > 1
