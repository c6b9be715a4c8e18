"""Atomic writes, locks, and checks of paths to read or write."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import DatasetError, I3DError
from .text import csv_text, option, shown

LOCK = ".i3d.lock"
LAST_MOMENTS = 0.2  # seconds for a process that is just ending to release a lock
MAX_WRITERS = 8  # processes that may write one file at once; the last one wins


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is synced and renamed on success, removed on any failure.

    Leftovers of a killed process are removed. A link stays a link, and its target is replaced; the new file gets the
    permissions of the old one. Without `overwrite`, a file that was created meanwhile stays, and the new one is kept beside
    it under another name. Raises I3DError.
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

    Of the unlocked files that killed processes left, one is used again and the others are removed.
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
    """Remove the temporary files that killed processes left beside `target`."""
    with suppress(OSError), temporary_beside(target):
        pass


def move_to_free_name(temporary: Path, target: Path) -> Path:
    """Rename a file to `target`, or to `target` with a number if that exists; returns the new path."""
    for number in itertools.count(1):
        place = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            os.link(temporary, place)
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if os.path.lexists(place):
                continue
            os.rename(temporary, place)
        return place
    raise AssertionError("numbers do not end")


def shortened(name: str, length: int) -> str:
    """A name of at most `length` bytes, cut between two characters."""
    data = os.fsencode(name)
    return name if len(data) <= length else data[:length].decode("utf-8", "ignore")


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on an existing folder or file until the end of the block.

    False if another process holds it, or has just moved or removed the folder or file.
    """
    with ExitStack() as stack:
        ours = os.name == "nt"  # Windows cannot lock folders; processes should be given shards
        with suppress(FileNotFoundError):
            if not ours:
                descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks only files open for writing
                stack.callback(os.close, descriptor)
                ours = lock_descriptor(descriptor, wait=wait) and is_at(descriptor, path)
        yield ours


def lock_descriptor(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock. Always True on Windows."""
    if os.name == "nt":
        return True
    import fcntl

    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    return False


def is_at(descriptor: int, path: Path) -> bool:
    """True if a path still leads to an open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def remove_if_at(descriptor: int, path: Path) -> None:
    """Remove the file at a path, if the path still leads to this open file."""
    if is_at(descriptor, path):
        path.unlink()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder until the end of the block. Raises I3DError if one does already.

    The lock is a file LOCK in the folder, which is removed at the end; that of a killed process is taken over.
    """
    with ExitStack() as stack:
        try:
            ours = stack.enter_context(locked_by_file(folder / LOCK))
        except OSError as error:
            reason = error.strerror or error
            raise I3DError(f"cannot write: {shown(folder / LOCK)}: {reason}; choose another {option('out')}") from error
        if not ours:
            raise I3DError(
                f"in use: {shown(folder)}: another process is writing to it; wait for its end, or choose another "
                f"{option('out')}"
            )
        yield


@contextmanager
def locked_by_file(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on an empty file, which is created, and removed at the end; False if another process holds it.

    Processes forked meanwhile do not hold it. Raises OSError, also if a file at `path` is not empty; that file is kept.
    """
    with suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            raise FileExistsError(errno.EEXIST, "a file is there that is no lock")
    lock = FileLock(path, thread_local=False)
    ours = True
    try:
        lock.acquire(timeout=-1 if wait else LAST_MOMENTS)
    except Timeout:
        ours = False
    try:
        yield ours
    finally:
        if ours:
            lock.release()
            remove_lock_file(path)


def remove_lock_file(path: Path) -> None:
    """Remove the file of a lock that no process holds; filelock does so only on Windows, or before version 4."""
    with suppress(OSError), locked(path) as ours:
        if ours and os.name != "nt" and not path.stat().st_size:
            path.unlink()  # a process that waits for it makes a new one


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; characters that UTF-8 lacks become question marks. Raises I3DError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV, whole or not at all. Raises I3DError."""
    write_text(path, csv_text(rows))


def check_regular(path: str | Path) -> None:
    """Raise I3DError if a path leads to a folder, a device or the like."""
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
    """Raise `error` unless `path` is a regular file or a link to one; reading a pipe or a device may never end.

    `what` names what was to be read, such as "weights"; `advice` says what to give instead.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as cause:  # ValueError: a name with a zero byte
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"cannot read {what}: {shown(path)}: {reason}; {advice}") from cause
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        found = next((name for holds, name in kinds if holds(mode)), "a device")
        raise error(f"cannot read {what}: {shown(path)}: got {found}, expected a regular file; {advice}")


def check_writable(path: str | Path, *, others: Iterable[str | Path] = (), overwrite: bool = True) -> None:
    """Raise I3DError unless `path` can be written and is none of `others` nor, without `overwrite`, an existing file."""
    folder = Path(os.path.realpath(path)).parent
    check_regular(path)
    if any(os.path.realpath(path) == os.path.realpath(other) for other in others):
        raise I3DError(f"cannot write: {shown(path)}: it is what is read or written besides; give another name")
    if not overwrite and os.path.lexists(path):
        raise I3DError(
            f"cannot write: {shown(path)}: a file is there; give another name, or {option('overwrite', True)} to replace it"
        )
    if folder.exists() and not folder.is_dir():
        raise I3DError(f"cannot write: {shown(path)}: {shown(folder)} is a file; give another name")
    if not folder.is_dir():
        raise I3DError(f"cannot write: {shown(path)}: there is no folder {shown(folder)}; create it first")
    if not os.access(folder, os.W_OK):
        raise I3DError(f"cannot write: {shown(path)}: the folder {shown(folder)} is not writable; choose another")


def make_folder(path: Path) -> None:
    """Create an output folder and its parents, or raise I3DError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise I3DError(f"cannot write: {shown(path)}: {reason}; give another {option('out')}") from error
    if not os.access(path, os.W_OK):
        raise I3DError(f"cannot write: {shown(path)}: the folder is not writable; give another {option('out')}")
