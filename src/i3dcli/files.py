"""Files that appear whole or not at all, and the inputs that a command line names."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .errors import DatasetError, I3DError, shown

VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
}

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # RFC 3986, section 3.1
MAX_WRITERS = 8  # processes at once that write a file of the same name; the last one wins
FLOW_SIDECAR = "flow.json"  # marks a folder of extracted flow


def foreign(head: bytes) -> str | None:
    """What a file plainly is in place of weights, by its first bytes; None where these do not tell."""
    head = head.lstrip()
    kinds = (
        (not head, "an empty file"),
        (head.startswith(b"<"), "a web page"),
        (head.startswith(b"version https://git-lfs"), "a Git LFS pointer; run git lfs pull"),
        (head.startswith(b"\x89HDF"), "an HDF5 file (Keras)"),
    )
    return next((what for found, what in kinds if found), None)


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is synced and renamed on success, removed on any failure.

    What a killed process left of the same is cleared away. A link stays one, and what it leads to is replaced; a file that
    is replaced leaves its permissions. Without `overwrite`, a file that came there meanwhile stays, and what was written is
    kept beside it under another name. Raises I3DError.
    """
    target = Path(os.path.realpath(path))
    check_regular(path)
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(temporary_beside(target))
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            if overwrite:
                with suppress(FileNotFoundError):
                    os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
                os.replace(temporary, target)
                return
            place = move_to_free_name(temporary, target)
        except OSError as error:
            raise I3DError(f"cannot write: {shown(path)}: {error.strerror or error}") from error
        if place != target:
            raise I3DError(f"a file came there meanwhile: {shown(path)}: what was to be written is in {shown(place)}")


@contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """An empty file beside `target` that this process holds a lock on, removed at the end if it is still there.

    Of those that killed processes left, which nobody holds, one is taken again and the others are removed.
    """
    name = f".{shortened(target.name, 200)}.i3d"
    paths = [target.with_name(f"{name}{number or ''}.tmp") for number in range(MAX_WRITERS)]
    own = None
    with ExitStack() as stack:
        for path in paths:
            if own is not None and not os.path.lexists(path):
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            stack.callback(os.close, descriptor)
            if not lock_descriptor(descriptor) or not is_at(descriptor, path):
                continue
            stack.callback(remove_if_at, descriptor, path)
            if own is None:
                os.ftruncate(descriptor, 0)
                own = path
        if own is None:
            raise OSError(errno.EBUSY, f"{MAX_WRITERS} processes are writing it")
        yield own


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of a file that they were writing."""
    with suppress(OSError), temporary_beside(target):
        pass


def move_to_free_name(temporary: Path, target: Path) -> Path:
    """Give a file the name `target`, or where there is a file of that name, it with a number; returns the name."""
    for number in itertools.count(1):
        place = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.link(temporary, place)
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            if os.path.lexists(place):
                continue
            os.rename(temporary, place)
        return place
    raise AssertionError("numbers do not end")


def shortened(name: str, length: int) -> str:
    """A name of at most so many bytes, cut between two characters."""
    data = os.fsencode(name)
    return name if len(data) <= length else data[:length].decode("utf-8", "ignore")


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on a folder or file that is there until the end of the block.

    False if another process has it, or has just moved or removed what it is on.
    """
    with ExitStack() as stack:
        ours = os.name == "nt"  # folders cannot be locked there; processes should be given shards instead
        with suppress(FileNotFoundError):
            if not ours:
                descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks what can be written
                stack.callback(os.close, descriptor)
                ours = lock_descriptor(descriptor, wait=wait) and is_at(descriptor, path)
        yield ours


def lock_descriptor(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process has it. Where there are no such locks, it is True."""
    if os.name == "nt":
        return True
    import fcntl

    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    return False


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still what is at a path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def remove_if_at(descriptor: int, path: Path) -> None:
    """Remove the file at a path if it is the open one, and not already another process's."""
    if is_at(descriptor, path):
        path.unlink()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder until the end of the block. Raises I3DError where one does."""
    with locked(folder) as ours:
        if not ours:
            raise I3DError(
                f"in use: {shown(folder)}: another process is writing to it; wait for its end, or choose another --out"
            )
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; what UTF-8 cannot hold becomes a question mark. Raises I3DError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def check_regular(path: str | Path) -> None:
    """Raise I3DError for a path that something else than a file is at, such as a device."""
    if Path(path).is_dir():
        raise I3DError(f"cannot write: {shown(path)}: it is a folder; give the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise I3DError(f"cannot write: {shown(path)}: it is no regular file; give another name")


def check_writable(path: str | Path, *, others: Iterable[str | Path] = (), overwrite: bool = True) -> None:
    """Raise I3DError unless a file can be made at `path` that is none of `others`, nor without `overwrite` there already."""
    folder = Path(os.path.realpath(path)).parent
    check_regular(path)
    if any(os.path.realpath(path) == os.path.realpath(other) for other in others):
        raise I3DError(f"cannot write: {shown(path)}: it is what is read or written besides; give another name")
    if not overwrite and os.path.lexists(path):
        raise I3DError(f"cannot write: {shown(path)}: a file is there; give another name, or --overwrite to replace it")
    if not folder.is_dir():
        raise I3DError(f"cannot write: {shown(path)}: there is no folder {shown(folder)}; create it first")
    if not os.access(folder, os.W_OK):
        raise I3DError(f"cannot write: {shown(path)}: the folder {shown(folder)} is not writable; choose another")


def make_folder(path: Path) -> None:
    """Create an output folder and its parents, or raise I3DError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise I3DError(f"cannot write: {shown(path)}: {error.strerror}; give another --out") from error
    if not os.access(path, os.W_OK):
        raise I3DError(f"cannot write: {shown(path)}: the folder is not writable; give another --out")


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
    if path.is_dir():
        found = sorted(videos_below(path))
        below = [video for video in found if video.path != path]
        if below:
            return below
        if not found:
            raise DatasetError(
                f"no video: {shown(path)}: the folder holds no file with a video's suffix; name files or another folder"
            )
    return [Found(path, without_suffix(Path(os.path.basename(os.path.abspath(path)))))]


def listed_videos(path: Path) -> Iterator[Found]:
    """The videos that the lines of a text file name; what lies below the list's folder keeps its path as key."""
    for line in read_lines(path):
        if line.startswith("#"):
            continue
        inside = Path(line).name and not Path(line).is_absolute() and ".." not in Path(line).parts
        for video in videos_at(path.parent / line):
            yield Found(video.path, without_suffix(video.path.relative_to(path.parent)) if inside else video.key)


def without_suffix(path: Path) -> Path:
    """A path without the suffix of a video; other names with a dot stay whole, as do those that are dots before it."""
    stem, _ = os.path.splitext(path.name)
    return path.with_name(stem) if is_video_name(path.name) and stem.strip(".") else path


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The names of classes in a text file, one per line, in the order of the logits; no name twice. Raises DatasetError."""
    lines = read_lines(Path(path))
    try:
        "".join(lines).encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"not a list of classes: {shown(path)}: got bytes that are not UTF-8; save it as UTF-8") from error
    return distinct(lines, path)


def distinct(names: Iterable[str], where: Path | str) -> tuple[str, ...]:
    """The names of classes as they are; raises DatasetError where one occurs twice."""
    names = tuple(names)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DatasetError(f"duplicate class name: {shown(where)}: got {shown(twice)!r} twice; give each class its own name")
    return names


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped; surrogates stand for what is not UTF-8, as in paths; or DatasetError."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Likewise, each with its number in the file, from 1."""
    try:
        text = path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DatasetError(f"cannot read the list: {shown(path)}: {error.strerror}; give the path of a text file") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines or "\0" in text:
        raise DatasetError(
            f"not a list: {shown(path)}: it is {'empty' if not lines else 'not text'}; expected one entry per line"
        )
    return lines


def videos_below(folder: Path) -> Iterator[Found]:
    """Videos at any depth; linked folders are followed, each real folder once; folders of extracted flow are passed over."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in seen or FLOW_SIDECAR in files:
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if not name.startswith(".")]
        key = Path(parent).relative_to(folder)
        if is_frame_folder(files):
            yield Found(Path(parent), without_suffix(key))
        yield from (Found(Path(parent, file), without_suffix(key / file)) for file in files if is_video_name(file))


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
    return len(frame_names(names)) > 1 and FLOW_SIDECAR not in names and not any(map(is_video_name, names))


def is_video_name(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def frame_names(names: list[str]) -> list[str]:
    """The pictures among `names` that have a number in their name, in the order of their numbers."""
    pictures = [name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES and re.search(r"\d", Path(name).stem)]
    return sorted(pictures, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
