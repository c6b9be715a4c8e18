"""An output folder of extract-flow that several processes write to: who is at work on a video, and where it goes.

A video's flow appears in its place in one step, under a lock on the output folder; until then it is in a folder beside it,
`.NAME.partial`, which the process at work holds a lock on. What is replaced, `.NAME.old` for a moment, is only ever flow
that was made from this very video. Whatever else lies in the output folder is left alone, and in its place nothing is put.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import I3DError, VideoError
from ..files import locked
from ..text import option, shown
from ..video import FLOW_SIDECAR, Found
from .formats import flow_names, frame_name
from .places import Place, candidates, lies_where, made_from
from .stored import read_sidecar

MARK = ".i3d"  # in a folder to work in, which tells that it is ours
FLOW_FILES = re.compile(r"flow_[xy]_\d{5,}\.jpg|flow_\d{5,}\.flo|flow\.(zip|npy|json)")
NUMBERED = re.compile(r"(?:flow_[xy]|flow|img)_([0-9]{5,})\.[a-z]+")
IN_FILES = ("jpg", "flo")  # formats of a file for each flow
OUR_FILES = re.compile(rf"{FLOW_FILES.pattern}|img_\d{{5,}}\.jpg|flow\.mp4")


def beside(folder: Path) -> tuple[Path, Path]:
    """The folder to work in that becomes `folder`, and the place of the one that it replaces."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


@dataclass(frozen=True)
class Claims:
    """The places in an output folder, of which each video has one.

    `videos` are the path hashes of all videos that are named: two of the same content do not share a place.
    """

    out: Path
    videos: frozenset[str] = frozenset()

    def find(self, found: Found) -> Path | None:
        """The folder that holds a video's flow, also that of the video before it changed; None if there is none."""
        changed = None
        for folder in (self.out / place for place in candidates(found.key, found.path)):
            with contextlib.suppress(VideoError):  # none here, or damaged
                sidecar = read_sidecar(folder)
                same = lies_where(sidecar, found.path)
                if (same or sidecar.get("source_path_hash") not in self.videos) and made_from(sidecar, found.path):
                    return folder
                if same:
                    changed = changed or folder
        return changed

    def choose(self, found: Found, places: Sequence[Place]) -> Path:
        """Where a video's flow is, or the first of these places where nothing is in its way. Raises VideoError for none."""
        folder = self.find(found) or next((self.out / place for place in places if self._is_free(place)), None)
        if folder is None:
            raise VideoError(
                f"no place for flow: {shown(found.path)}: {shown(self.out / places[-1])} is there and no flow of it; "
                f"move it away, or choose another {option('out')}"
            )
        return Path(os.path.realpath(folder)) if folder.is_symlink() else folder  # a link stays one

    def _is_free(self, place: Place) -> bool:
        """Whether nothing is at a place but what was left of our own work on it, and no file or flow is above it."""
        folder = self.out / place
        above = [self.out / parent for parent in place.parents if parent.name]
        return (
            (not os.path.lexists(folder) or is_damaged_flow(folder))
            and all(not os.path.lexists(path) or is_ours(path) for path in beside(folder))
            and not any(os.path.lexists(path) and not path.is_dir() for path in above)
            and not any(os.path.lexists(path / FLOW_SIDECAR) for path in above)
        )

    def _clear_other_leftovers(self, found: Found, claim: Claim) -> None:
        """Remove what a killed process left where it worked on a video whose place was another then."""
        for folder in (self.out / place for place in candidates(found.key, found.path)):
            for path in beside(folder):
                if path.parent.is_dir() and path not in beside(claim.folder) and os.path.lexists(path) and is_ours(path):
                    with locked(path) as ours:
                        if ours:
                            remove(path)

    def is_clean(self, folder: Path) -> bool:
        """Whether nobody is at work on a folder, nor was killed at it, as while redoing one that is finished."""
        return not any(os.path.lexists(path) and is_ours(path) for path in beside(folder))

    @contextlib.contextmanager
    def claimed(self, found: Found, places: Sequence[Place]) -> Iterator[Claim | None]:
        """An empty folder to work in, which becomes that of the video in one step on success and is removed on failure.

        None if another process is at work on the same. What a killed process left behind is cleared away. Raises VideoError
        where there is no place for it, and I3DError where it cannot be written.
        """
        try:
            with contextlib.ExitStack() as lock:
                claim = None
                try:
                    with locked(self.out, wait=True):
                        claim = Claim(self, self.choose(found, places))
                        ours = claim.begin(lock)
                        self._clear_other_leftovers(found, claim)
                    if not ours:
                        yield None
                        return
                    claim.clear()
                    yield claim
                    if (claim.work / FLOW_SIDECAR).exists():  # else nothing was done
                        sync(claim.work)
                        with locked(self.out, wait=True):
                            claim.publish(self.choose(found, places))
                finally:
                    lock.close()
                    if claim is not None:
                        claim.end()
        except OSError as error:
            kind = VideoError if error.errno == errno.ENAMETOOLONG else I3DError
            raise kind(
                f"cannot write flow: {shown(self.out / places[0])}: {error.strerror or error}; what was finished before is kept"
            ) from error


class Claim:
    """One video's flow under work."""

    def __init__(self, claims: Claims, folder: Path):
        self.out, self.folder = claims.out, folder  # where it is to be, and once it is published, where it is
        self.work, _ = beside(folder)
        self.made: list[Path] = []  # folders above it that were not there before
        self.published = False

    def begin(self, lock: contextlib.ExitStack) -> bool:
        """Make the folder to work in, with those above it, and lock it; False if another process is at work in it.

        The output folder is locked meanwhile, so that a folder to work in which is not locked is nobody's.
        """
        for path in beside(self.folder):
            if os.path.lexists(path) and not is_ours(path):
                raise VideoError(f"cannot write flow: {shown(path)}: it is there and not ours; move it away")
        self.made = [path for path in self.work.parents if not path.exists()]
        self.work.mkdir(parents=True, exist_ok=True)
        return lock.enter_context(locked(self.work))

    def clear(self) -> None:
        """Empty it of what a killed process left, and mark it as ours."""
        (self.work / MARK).touch()
        remove(beside(self.folder)[1])
        for rest in self.work.iterdir():
            if rest.name != MARK:
                rest.unlink()

    def publish(self, folder: Path) -> None:
        """Put the finished flow in its place, in place of that which is there of the same video. Raises VideoError."""
        _, old = beside(folder)
        check_replaceable(folder)
        if os.path.lexists(folder):
            folder.rename(old)
        (self.work / MARK).unlink()
        self.work.rename(folder)
        self.folder, self.published = folder, True
        remove(old)

    def end(self) -> None:
        """Remove what is not published, unless another process is at work on it by now, and the folders made for it."""
        if self.published:
            return
        with contextlib.suppress(OSError), locked(self.out, wait=True):
            with locked(self.work) as ours:
                if ours:
                    remove(self.work)
            for path in self.made:
                with contextlib.suppress(OSError):  # not empty, or not made after all
                    path.rmdir()


def remove(folder: Path) -> None:
    """Remove a folder of our files, last what tells that it is ours; whatever else is in it stays, and it with it."""
    last = (FLOW_SIDECAR, MARK)
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name in last):
            if is_our_file(path) or path.name == MARK:
                path.unlink()
        folder.rmdir()


def is_our_file(path: Path) -> bool:
    return OUR_FILES.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def check_replaceable(folder: Path) -> None:
    """Raise VideoError where a folder of flow holds anything that extract-flow has not written there."""
    if os.path.lexists(folder) and (strangers := strangers_in(folder)):
        raise VideoError(f"files of others: {shown(folder)}: got {shown(strangers[0])}, which i3d did not write; move it away")


def strangers_in(folder: Path) -> list[str]:
    """The names in a folder of flow that extract-flow has not written there, by what its sidecar says."""
    sidecar = read_sidecar(folder) if is_flow(folder) else None
    names = {path.name: is_our_file(path) for path in folder.iterdir()}
    known = {name for name in names if (FLOW_FILES.fullmatch(name) if sidecar is None else is_name_of_flow(name, sidecar))}
    return sorted(name for name, is_file in names.items() if not is_file or name not in known)


def is_name_of_flow(name: str, sidecar: Mapping[str, Any]) -> bool:
    """Whether flow of this making has a file of this name."""
    format, count = sidecar.get("format"), sidecar.get("num_flows")
    last = count if isinstance(count, int) else 0
    numbered = NUMBERED.fullmatch(name)
    if numbered is None:
        whole = "flow.mp4" if sidecar.get("viz") is True else FLOW_SIDECAR
        return name in (FLOW_SIDECAR, whole) or (format not in IN_FILES and name == f"flow.{format}")
    number = int(numbered[1])
    is_flow_file = format in IN_FILES and 1 <= number <= last and name in flow_names(str(format), number)
    return is_flow_file or (sidecar.get("frames") is True and 1 <= number <= max(last, 0) + 1 and name == frame_name(number))


def names_of_ours(folder: Path) -> set[str] | None:
    """The names in a folder; None where it is no folder, or holds anything that extract-flow does not write."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    paths = list(folder.iterdir())
    return {path.name for path in paths} if all(is_our_file(path) or path.name == MARK for path in paths) else None


def is_ours(folder: Path) -> bool:
    """Whether a folder is one that we work or worked in: empty, marked, or finished."""
    names = names_of_ours(folder)
    if not names or MARK in names:
        return names is not None
    if not is_flow(folder):
        return False
    sidecar = read_sidecar(folder)
    return all(is_name_of_flow(name, sidecar) for name in names)


def is_flow(folder: Path) -> bool:
    """Whether a folder holds a sidecar of ours."""
    with contextlib.suppress(VideoError):
        return str(read_sidecar(folder).get("tool")).startswith("i3d ")
    return False


def is_damaged_flow(folder: Path) -> bool:
    """Whether a folder holds flow of ours whose sidecar is no JSON any more, so that nobody can tell what it was made from."""
    names = names_of_ours(folder)
    if not names or FLOW_SIDECAR not in names or len(names) == 1 or not all(map(FLOW_FILES.fullmatch, names)):
        return False
    try:
        json.loads((folder / FLOW_SIDECAR).read_text("utf-8"))
    except ValueError:
        return True
    return False


def sync(folder: Path) -> None:
    """Have the system write the files of a folder to the disk, so that a finished one survives a power cut whole."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
