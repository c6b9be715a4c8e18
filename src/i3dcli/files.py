"""Files that appear whole or not at all, and the inputs that a command line names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DatasetError, I3DError, shown

VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
}


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is synced and renamed on success, removed on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise I3DError(f"cannot write: {shown(path)}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise I3DError unless a file can be made at `path`."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise I3DError(f"cannot write: {shown(path)}: it is a folder; give the name of a file")
    if not folder.is_dir():
        raise I3DError(f"cannot write: {shown(path)}: there is no folder {shown(folder)}; create it first")
    if not os.access(folder, os.W_OK):
        raise I3DError(f"cannot write: {shown(path)}: the folder {shown(folder)} is not writable; choose another")


def find_videos(name: str) -> list[Path]:
    """The videos that one input names: a file as it is, a folder searched to any depth, `@list.txt` line by line.

    A file given by name is passed on whatever it is called and whether it exists or not, so that the reader can say
    what is wrong with it. In folders only names with a video's suffix count. Raises DatasetError.
    """
    if name.startswith("@") and not os.path.lexists(name):
        return [video for line in read_list(Path(name[1:])) for video in find_videos(line)]
    if not os.path.isdir(name):
        return [Path(name)]
    found = sorted(videos_below(name))
    if not found:
        raise DatasetError(
            f"no video: {shown(name)}: the folder holds no file with a video's suffix; name files or another folder"
        )
    return found


def read_list(path: Path) -> list[str]:
    """The inputs that a text file names, one per line; relative ones count from its folder, and `#` starts a comment line."""
    return [str(path.parent / line) for line in read_lines(path) if not line.startswith("#")]


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The names of classes in a text file, one per line, in the order of the logits. Raises DatasetError."""
    return tuple(read_lines(Path(path)))


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped; raises DatasetError where there are none."""
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except OSError as error:
        raise DatasetError(f"cannot read the list: {shown(path)}: {error.strerror}; give the path of a text file") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or "\0" in text:
        raise DatasetError(
            f"not a list: {shown(path)}: it is {'empty' if not lines else 'not text'}; expected one entry per line"
        )
    return lines


def videos_below(folder: str) -> Iterator[Path]:
    """Files with a video's suffix at any depth; linked folders are followed, each real folder once."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        yield from (Path(parent, file) for file in files if Path(file).suffix.lower() in VIDEO_SUFFIXES)
