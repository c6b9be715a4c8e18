"""From a video to its place in an output folder: a folder of its own, in nobody's way, and found again later.

A video's place is its path below the input that named it, without the suffix. Where another input's place is the same, or
one lies in the other, both keep their suffix; where that does not help either, the place is at the top of the output folder
under a name that ends in a hash of the video's path. Which places a video may take depends on nothing but the videos that
are named, so that neither their order nor the number of processes changes it.
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
HASHED = re.compile(r"~[0-9a-f]{16}$")  # ends the names of places that are at the top of the folder
RESERVED = re.compile(rf"\.*|{re.escape(FLOW_SIDECAR)}|\..*\.(partial|old|tmp)", re.IGNORECASE)  # names that we use besides
LONGEST_NAME = 255 - len("..partial")  # bytes, as file systems allow 255, and the folder to work in has a longer name
KEPT_OF_NAME = 100  # bytes of a name that are kept before its hash
CACHED_NAMES = 100_000  # as the names of folders come again and again
DIGEST_BYTES = 16384  # of the start, the middle and the end of a video, which tell it from another of the same size

Place = Path  # relative to the output folder


def candidates(key: Path, video: Path) -> tuple[Place, ...]:
    """Every place that a video may have, the most usual first; `key` is its path below its input, without suffix."""
    plain = [key, *([key.with_name(video.name)] if is_video_name(video.name) and key.name else [])]
    hashed = Path(f"{shortened(key.name, KEPT_OF_NAME)}~{path_hash(video)}")
    return (*dict.fromkeys(place for place in plain if is_usable(place)), hashed)


def places(videos: Iterable[Found]) -> dict[Found, tuple[Place, ...]]:
    """The places that each of these videos may take, best first: no two of them are the same, or one in the other."""
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
    """The videos whose place is another's, or above or below it."""
    counts = Counter(places.values())
    return {found for found, place in places.items() if counts[place] > 1} | above_or_below(places, counts)


def in_the_way(places: Mapping[Found, Parts], others: Mapping[Found, Parts]) -> set[Found]:
    """Those of `places` that are one of the `others`, or above or below it."""
    taken = set(others.values())
    return {found for found, place in places.items() if place in taken} | above_or_below(places, taken)


def above_or_below(places: Mapping[Found, Parts], others: Collection[Parts]) -> set[Found]:
    """The videos whose place is above or below one of the `others`."""
    above = {parent for place in others for parent in parents(place)}
    return {found for found, place in places.items() if place in above or any(parent in others for parent in parents(place))}


def parents(place: Parts) -> Iterator[Parts]:
    return (place[:length] for length in range(1, len(place)))


def folded(place: Place) -> Parts:
    """The names of a place as file systems compare them that tell neither case nor Unicode forms apart."""
    return tuple(map(folded_name, place.parts))


@functools.lru_cache(maxsize=CACHED_NAMES)
def folded_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold()).rstrip(" .") or name


def is_usable(place: Place) -> bool:
    """Whether a place lies in the output folder, under names that can be made there and that are not ours."""
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
    """16 hexadecimal digits that tell where a video lies."""
    return hashlib.sha256(os.fsencode(os.path.realpath(video))).hexdigest()[:16]


def source_record(video: Path) -> dict[str, Any]:
    """What a sidecar says of the video that its folder is of: name, bytes, where it lies and what it starts and ends with."""
    return {
        "source": video.name,
        "source_bytes": source_bytes(video),
        "source_path_hash": path_hash(video),
        "source_digest": source_digest(video),
    }


def source_digest(video: Path) -> str:
    """16 hexadecimal digits of the start, the middle and the end of a file, or of the names and sizes of a folder's pictures
    and such parts of the first, the middle and the last one."""
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
    """Whether flow is of this video, by the number of bytes of its source and parts of them.

    Of a video that is gone nobody can tell. Sidecars of before have no more than the name and number of bytes. Without
    `count_pictures`, which takes a moment, a folder of pictures that lies where it lay is taken for the same.
    """
    if not video.exists() or (not count_pictures and video.is_dir() and lies_where(sidecar, video)):
        return True
    if sidecar.get("source_bytes") != source_bytes(video):
        return False
    if "source_digest" not in sidecar:
        return str(sidecar.get("source", video.name)) == video.name
    with contextlib.suppress(OSError):  # what cannot be read is taken by its size
        return str(sidecar["source_digest"]) == source_digest(video)
    return True


def lies_where(sidecar: Mapping[str, Any], video: Path) -> bool:
    """Whether flow was made from what lay where this video lies, though it may have changed since."""
    return sidecar.get("source_path_hash") == path_hash(video)
