"""The place of a video in an output folder: a folder that no other video uses, and that is found again later.

A video's place is its path below the input that named it, without the suffix. If two videos would have the same place, or
one place would lie in the other, both keep their suffix. If that does not help, the place is at the top of the output
folder, and its name ends in a hash of the video's path. The places of a video depend only on which videos are named, not
on their order or the number of processes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..file_names import is_video_name
from ..files import shortened
from ..video import FLOW_SIDECAR, Found, picture_paths, source_bytes

FAILURES = re.compile(r"failures(-\d+)?\.jsonl")  # names of the record of failures, at the top of an output folder
HASHED = re.compile(r"~[0-9a-f]{16}$")  # how the name of a place with a hash ends
RESERVED = re.compile(rf"\.*|{re.escape(FLOW_SIDECAR)}|\..*\.(partial|old|tmp)", re.IGNORECASE)  # names for our own use
LONGEST_NAME = 255 - len("..partial")  # bytes: file systems allow 255, and the working folder has a longer name
KEPT_OF_NAME = 100  # bytes of a name that are kept before its hash
CACHED_NAMES = 100_000  # names that are remembered, as those of folders repeat
DIGEST_BYTES = 16384  # of the start, the middle and the end of a video, to tell it from others of its size

Place = Path  # relative to the output folder


def candidates(key: Path, video: Path) -> tuple[Place, ...]:
    """Every place that a video may have, the most usual first; `key` is its path below its input, without suffix."""
    plain = [key, *([key.with_name(video.name)] if is_video_name(video.name) and key.name else [])]
    hashed = Path(f"{shortened(key.name, KEPT_OF_NAME)}~{path_hash(video)}")
    return (*dict.fromkeys(place for place in plain if is_usable(place)), hashed)


def places(videos: Iterable[Found]) -> dict[Found, tuple[Place, ...]]:
    """The places that each video may take, best first; no two videos may take the same place, or one inside the other."""
    options = {found: candidates(found.key, found.path) for found in videos}
    usual = {found: folded(places[0]) for found, places in options.items() if len(places) > 1}
    blocked = in_each_others_way(usual)
    usual = {found: place for found, place in usual.items() if found not in blocked}
    with_suffix = {found: folded(places[1]) for found, places in options.items() if len(places) > 2}
    blocked = in_each_others_way(with_suffix) | in_the_way(with_suffix, usual)
    return {
        found: tuple(
            place
            for number, place in enumerate(places)
            if number == len(places) - 1 or (found in usual if number == 0 else found not in blocked)
        )
        for found, places in options.items()
    }


Parts = tuple[str, ...]


def in_each_others_way(places: Mapping[Found, Parts]) -> set[Found]:
    """The videos whose place equals that of another video, or lies above or below it."""
    counts = Counter(places.values())
    return {found for found, place in places.items() if counts[place] > 1} | above_or_below(places, counts)


def in_the_way(places: Mapping[Found, Parts], others: Mapping[Found, Parts]) -> set[Found]:
    """The videos whose place equals one of the `others`, or lies above or below it."""
    taken = set(others.values())
    return {found for found, place in places.items() if place in taken} | above_or_below(places, taken)


def above_or_below(places: Mapping[Found, Parts], others: Collection[Parts]) -> set[Found]:
    """The videos whose place is above or below one of the `others`."""
    above = {parent for place in others for parent in parents(place)}
    return {found for found, place in places.items() if place in above or any(parent in others for parent in parents(place))}


def parents(place: Parts) -> Iterator[Parts]:
    return (place[:length] for length in range(1, len(place)))


def folded(place: Place) -> Parts:
    """The names of a place, as file systems compare them that ignore case and Unicode forms."""
    return tuple(map(folded_name, place.parts))


@functools.lru_cache(maxsize=CACHED_NAMES)
def folded_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold()).rstrip(" .") or name


def is_usable(place: Place) -> bool:
    """True if a place lies in the output folder, and its names are valid and not reserved."""
    names = place.parts
    return (
        bool(names)
        and not place.is_absolute()
        and all(map(is_usable_name, names))
        and not FAILURES.fullmatch(folded_name(names[0]))
        and not HASHED.search(names[0])
    )


@functools.lru_cache(maxsize=CACHED_NAMES)
def is_usable_name(name: str) -> bool:
    return not RESERVED.fullmatch(name) and len(os.fsencode(name)) <= LONGEST_NAME


def path_hash(video: Path) -> str:
    """16 hexadecimal digits of a hash of a video's real path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(video))).hexdigest()[:16]


def source_record(video: Path) -> dict[str, Any]:
    """What a sidecar records of its video: name, size in bytes, and hashes of its path and of its content."""
    return {
        "source": video.name,
        "source_bytes": source_bytes(video),
        "source_path_hash": path_hash(video),
        "source_digest": source_digest(video),
    }


def source_digest(video: Path) -> str:
    """16 hexadecimal digits of a hash of the start, the middle and the end of a file.

    For a folder, the hash is of its pictures' names and sizes, and of these parts of the first, middle and last picture.
    """
    digest = hashlib.sha256()
    pictures = picture_paths(video)
    for picture in pictures:
        digest.update(os.fsencode(f"{picture.name}\0{picture.stat().st_size}\0"))
    for path in (pictures[0], pictures[len(pictures) // 2], pictures[-1]) if pictures else (video,):
        with open(path, "rb") as file:
            rest = max(0, os.fstat(file.fileno()).st_size - DIGEST_BYTES)
            for place in (0, rest // 2, rest):
                file.seek(place)
                digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()[:16]


def made_from(sidecar: Mapping[str, Any], video: Path, *, count_pictures: bool = True) -> bool:
    """True if flow was made from this video, judged by the size and digest of its source.

    A video that is gone counts as the same. Older sidecars hold only the source's name and size. Counting the pictures of
    a folder takes a moment; without `count_pictures`, a folder with the same path counts as the same.
    """
    if not video.exists() or (not count_pictures and video.is_dir() and lies_where(sidecar, video)):
        return True
    if sidecar.get("source_bytes") != source_bytes(video):
        return False
    if "source_digest" not in sidecar:
        return str(sidecar.get("source", video.name)) == video.name
    with contextlib.suppress(OSError):  # a file that cannot be read is judged by its size
        return str(sidecar["source_digest"]) == source_digest(video)
    return True


def lies_where(sidecar: Mapping[str, Any], video: Path) -> bool:
    """True if the source of a flow had the path of this video, even if it has changed since."""
    return sidecar.get("source_path_hash") == path_hash(video)
