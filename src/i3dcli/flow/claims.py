"""Claims on places in an output folder of extract-flow: which process works on a video, and where its flow goes.

A process writes the flow of a video to a working folder, `.NAME.partial`, on which it holds a lock. The finished folder
moves to its place in one step, under a lock on the output folder. It replaces nothing but earlier flow of the same video,
which is called `.NAME.old` for that moment. All other files in the output folder stay where they are.
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
from .formats import FORMATS, flow_files, frame_name
from .places import Place, candidates, lies_where, made_from
from .stored import read_sidecar

MARK = ".i3d"  # a file in a working folder, which shows that it is ours
FLOW_FILES = re.compile(rf"{flow_files().pattern}|flow\.json")
NUMBERED = re.compile(r"(?:flow_[xy]|flow|img)_([0-9]{5,})\.[a-z]+")
OUR_FILES = re.compile(rf"{FLOW_FILES.pattern}|img_\d{{5,}}\.jpg|flow\.mp4")


def beside(folder: Path) -> tuple[Path, Path]:
    """The working folder that becomes `folder`, and where an earlier `folder` is moved to."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


@dataclass(frozen=True)
class Claims:
    """The places in an output folder, one for each video.

    `videos` are the path hashes of all videos of this run: two with the same content do not share a place.
    """

    out: Path
    videos: frozenset[str] = frozenset()

    def find(self, found: Found) -> Path | None:
        """The folder with a video's flow, or with flow of the video before it changed; None if there is neither."""
        changed = None
        for folder in (self.out / place for place in candidates(found.key, found.path)):
            with contextlib.suppress(VideoError):  # no flow here, or a damaged one
                sidecar = read_sidecar(folder)
                same = lies_where(sidecar, found.path)
                if (same or sidecar.get("source_path_hash") not in self.videos) and made_from(sidecar, found.path):
                    return folder
                if same:
                    changed = changed or folder
        return changed

    def choose(self, found: Found, places: Sequence[Place]) -> Path:
        """The folder of a video's flow, or the first of `places` that is free. Raises VideoError if none is free."""
        folder = self.find(found) or next((self.out / place for place in places if self._is_free(place)), None)
        if folder is None:
            raise VideoError(
                f"no place for flow: {shown(found.path)}: {shown(self.out / places[-1])} is there and no flow of it; "
                f"move it away, or choose another {option('out')}"
            )
        return Path(os.path.realpath(folder)) if folder.is_symlink() else folder  # a link stays a link

    def _is_free(self, place: Place) -> bool:
        """True if a place holds at most leftovers of our own work, and no folder above it is a file or holds flow."""
        folder = self.out / place
        above = [self.out / parent for parent in place.parents if parent.name]
        return (
            (not os.path.lexists(folder) or is_damaged_flow(folder))
            and all(not os.path.lexists(path) or is_ours(path) for path in beside(folder))
            and not any(os.path.lexists(path) and not path.is_dir() for path in above)
            and not any(os.path.lexists(path / FLOW_SIDECAR) for path in above)
        )

    def _clear_other_leftovers(self, found: Found, claim: Claim) -> None:
        """Remove what a killed process left at other places of the same video."""
        for folder in (self.out / place for place in candidates(found.key, found.path)):
            for path in beside(folder):
                if path.parent.is_dir() and path not in beside(claim.folder) and os.path.lexists(path) and is_ours(path):
                    with locked(path) as ours:
                        if ours:
                            remove(path)

    def is_clean(self, folder: Path) -> bool:
        """True if no process works on a folder, and no killed process left its work beside it."""
        return not any(os.path.lexists(path) and is_ours(path) for path in beside(folder))

    @contextlib.contextmanager
    def claimed(self, found: Found, places: Sequence[Place]) -> Iterator[Claim | None]:
        """A claim with an empty working folder, which becomes the video's folder on success and is removed on failure.

        None if another process works on this video. Leftovers of a killed process are removed. Raises VideoError if no
        place is free, and I3DError if the folder cannot be written.
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
                    if (claim.work / FLOW_SIDECAR).exists():  # the flow is complete
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
    """The flow of one video while a process works on it."""

    def __init__(self, claims: Claims, folder: Path):
        self.out, self.folder = claims.out, folder  # `folder` is the place of the finished flow
        self.work, _ = beside(folder)
        self.made: list[Path] = []  # folders above the working folder that `begin` created
        self.published = False

    def begin(self, lock: contextlib.ExitStack) -> bool:
        """Create the working folder and those above it, and lock it; False if another process works in it.

        The output folder is locked meanwhile, so that nobody works in a working folder that is not locked.
        """
        for path in beside(self.folder):
            if os.path.lexists(path) and not is_ours(path):
                raise VideoError(f"cannot write flow: {shown(path)}: it is there and not ours; move it away")
        self.made = [path for path in self.work.parents if not path.exists()]
        self.work.mkdir(parents=True, exist_ok=True)
        return lock.enter_context(locked(self.work))

    def clear(self) -> None:
        """Mark the working folder as ours, and empty it of what a killed process left."""
        (self.work / MARK).touch()
        remove(beside(self.folder)[1])
        for rest in self.work.iterdir():
            if rest.name != MARK:
                rest.unlink()

    def publish(self, folder: Path) -> None:
        """Move the finished flow to its place, where it replaces earlier flow of this video. Raises VideoError."""
        _, old = beside(folder)
        check_replaceable(folder)
        if os.path.lexists(folder):
            folder.rename(old)
        (self.work / MARK).unlink()
        self.work.rename(folder)
        self.folder, self.published = folder, True
        remove(old)

    def end(self) -> None:
        """Unless published or taken by another process, remove the working folder, and the folders that `begin` created."""
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
    """Remove our files from a folder, sidecar and mark last, then the folder itself if it is empty."""
    last = (FLOW_SIDECAR, MARK)
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name in last):
            if is_our_file(path) or path.name == MARK:
                path.unlink()
        folder.rmdir()


def is_our_file(path: Path) -> bool:
    return OUR_FILES.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def check_replaceable(folder: Path) -> None:
    """Raise VideoError if a folder of flow holds a file that extract-flow did not write."""
    if os.path.lexists(folder) and (strangers := strangers_in(folder)):
        raise VideoError(f"files of others: {shown(folder)}: got {shown(strangers[0])}, which i3d did not write; move it away")


def strangers_in(folder: Path) -> list[str]:
    """The names in a folder of flow that extract-flow did not write, judged by the sidecar."""
    sidecar = read_sidecar(folder) if is_flow(folder) else None
    names = {path.name: is_our_file(path) for path in folder.iterdir()}
    known = {name for name in names if (FLOW_FILES.fullmatch(name) if sidecar is None else is_name_of_flow(name, sidecar))}
    return sorted(name for name, is_file in names.items() if not is_file or name not in known)


def is_name_of_flow(name: str, sidecar: Mapping[str, Any]) -> bool:
    """True if the flow that a sidecar describes has a file of this name."""
    format, count = FORMATS.get(str(sidecar.get("format"))), sidecar.get("num_flows")
    last = count if isinstance(count, int) else 0
    numbered = NUMBERED.fullmatch(name)
    if numbered is None:
        known = {FLOW_SIDECAR, *(["flow.mp4"] if sidecar.get("viz") is True else [])}
        return name in known or (format is not None and name == format.in_one_file)
    number = int(numbered[1])
    in_files = format is not None and format.in_one_file is None
    is_flow_file = format is not None and in_files and 1 <= number <= last and name in format.names(number)
    return is_flow_file or (sidecar.get("frames") is True and 1 <= number <= max(last, 0) + 1 and name == frame_name(number))


def names_of_ours(folder: Path) -> set[str] | None:
    """The names in a folder; None if it is no folder, or holds a file that extract-flow does not write."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    paths = list(folder.iterdir())
    return {path.name for path in paths} if all(is_our_file(path) or path.name == MARK for path in paths) else None


def is_ours(folder: Path) -> bool:
    """True if a folder is a working folder of ours: empty, marked, or with finished flow."""
    names = names_of_ours(folder)
    if not names or MARK in names:
        return names is not None
    if not is_flow(folder):
        return False
    sidecar = read_sidecar(folder)
    return all(is_name_of_flow(name, sidecar) for name in names)


def is_flow(folder: Path) -> bool:
    """True if a folder holds a sidecar of ours."""
    with contextlib.suppress(VideoError):
        return str(read_sidecar(folder).get("tool")).startswith("i3d ")
    return False


def is_damaged_flow(folder: Path) -> bool:
    """True if a folder holds our flow with a sidecar that is no longer JSON, so that its source is unknown."""
    names = names_of_ours(folder)
    if not names or FLOW_SIDECAR not in names or len(names) == 1 or not all(map(FLOW_FILES.fullmatch, names)):
        return False
    try:
        json.loads((folder / FLOW_SIDECAR).read_text("utf-8"))
    except ValueError:
        return True
    return False


def sync(folder: Path) -> None:
    """Flush a folder and its files to the disk, so that finished flow survives a power cut."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
