"""Files that appear whole or not at all, and the inputs that a command line names."""

from __future__ import annotations

import codecs
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
from .file_names import frame_names, is_passed_over, is_video_name

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # RFC 3986, section 3.1
MAX_WRITERS = 8  # processes at once that write a file of the same name; the last one wins
FLOW_SIDECAR = "flow.json"  # marks a folder of extracted flow
LIST_BYTES = 256 << 20  # of a list or of annotations; those of Kinetics-700 have 40 MB
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # the longest first
MOST_LINES = 4_000_000  # of a list; some 4 GB in memory as samples
LONGEST_LINE = 65_536  # characters of an entry; a path has 4,096 bytes at most


PROTOBUF_MAKERS = (b"pytorch", b"onnx", b"tf2onnx", b"keras2onnx", b"skl2onnx")
FOREIGN = (  # how a file starts, leading space aside, and what it is then
    (b"<", "a web page"),
    (b"{", "JSON text"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x93NUMPY", "an array of NumPy (.npy)"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "an xz file; unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it, and name the file in it"),
    (b"Rar!", "a RAR archive; unpack it, and name the file in it"),
    (b"GGUF", "a GGUF file, of language models"),
    (b"\x08\x01\x12", "a TensorFlow SavedModel; name variables/variables.index beside it"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "a video"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89PNG", "a picture"),
)


def foreign(head: bytes) -> str | None:
    """What a file plainly is in place of weights, by its first bytes, 512 of them; None where these do not tell."""
    text = head.lstrip()
    kinds = (
        (not text, "an empty file"),
        (head[257:262] == b"ustar", "a tar archive; unpack it, and name the file in it"),
        (head[4:8] == b"TFL3", "a TensorFlow Lite model"),
        (head[4:8] == b"ftyp", "a video"),
        (head[:1] == b"\x08" and any(maker in head[:64] for maker in PROTOBUF_MAKERS), "an ONNX model"),
        *((text.startswith(start), what) for start, what in FOREIGN),
    )
    return next((what for found, what in kinds if found), None)


def split_key(name: str | Path) -> tuple[Path, str | None]:
    """Path and key in `path#key`, which names one of several networks in a file; no key where a file itself is called so."""
    path, sign, key = str(name).rpartition("#")
    if not sign or not path or os.path.lexists(name):
        return Path(name), None
    return Path(path), key


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


def check_is_file(
    path: str | Path,
    error: type[I3DError] = DatasetError,
    *,
    what: str = "the list",
    advice: str = "give the path of a text file",
) -> None:
    """Raise `error` unless a regular file is at `path`, or a link to one: from a pipe or a device one reads for ever.

    `what` is what was to be read, as in "weights"; `advice` says what to give in its place.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as cause:  # a ValueError is a name with a zero byte
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"cannot read {what}: {shown(path)}: {reason}; {advice}") from cause
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        found = next((name for holds, name in kinds if holds(mode)), "a device")
        raise error(f"cannot read {what}: {shown(path)}: got {found}, expected a regular file; {advice}")


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
    if os.path.isdir(path):
        found = sorted(videos_below(path), key=lambda video: video.path.parts)  # as paths compare, which takes far longer
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


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped; surrogates stand for what is not UTF-8, as in paths; or DatasetError."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Likewise, each with its number in the file, from 1."""
    text = read_text(path)
    if text.count("\n") > MOST_LINES:
        raise DatasetError(f"too large: {shown(path)}: got more than {MOST_LINES} lines, expected fewer; give parts of it")
    lines = text.split("\n" if "\n" in text else "\r")  # no more, as names may hold what else Unicode calls a line's end
    entries = [(number, line.strip(" \t\r")) for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise DatasetError(f"not a list: {shown(path)}: it is empty; expected one entry per line")
    for number, line in entries:
        if len(line) > LONGEST_LINE:
            raise DatasetError(
                f"line too long: {shown(path)}: line {number}: got {len(line)} characters, expected {LONGEST_LINE} at most; "
                "put each entry on a line of its own"
            )
    return entries


def read_text(path: str | Path, *, limit: int = LIST_BYTES) -> str:
    """What a text file of at most `limit` bytes holds: UTF-8, or UTF-16 as PowerShell writes it, with its mark.

    Surrogates stand for bytes that are not UTF-8, as in paths. Raises DatasetError.
    """
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            large = os.fstat(file.fileno()).st_size > limit
            data = b"" if large else file.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"cannot read the list: {shown(path)}: {error.strerror}; give the path of a text file") from error
    if large or len(data) > limit:
        raise DatasetError(f"too large: {shown(path)}: got more than {limit >> 20} MB, expected a text file; give another")
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise DatasetError(f"not a list: {shown(path)}: got damaged {error.encoding}; save it as UTF-8") from error
    if "\0" in text:
        wide = len(data) > 7 and not (any(data[:64:2]) and any(data[1:64:2]))
        what = "UTF-16 without its mark; save it as UTF-8" if wide else "not text; expected one entry per line"
        raise DatasetError(f"not a list: {shown(path)}: it is {what}")
    return text


def decoded(data: bytes, *, errors: str = "strict") -> str:
    """Text in UTF-16 or UTF-32 with a mark, or else UTF-8 with surrogates for what is none. Raises UnicodeDecodeError."""
    codec = next((codec for mark, codec in MARKS.items() if data.startswith(mark)), None)
    return data.decode("utf-8-sig", "surrogateescape") if codec is None else data.decode(codec, errors)


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
