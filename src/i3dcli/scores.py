"""Logits of many videos, as one .npz file keeps them, and joined from several."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .defaults import STREAMS
from .errors import DatasetError
from .files import atomic_write, check_is_file
from .text import command, counted, shown

UNREADABLE = (  # what numpy raises for files that are no .npz, or claim more than is in them
    *(ValueError, TypeError, AttributeError, EOFError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Scores:
    """Logits (V,K) float32 of each stream that ran, and where they are known the labels: (V,) ids or (V,K) of 0 and 1."""

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    logits: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64] | None = None


def write_scores(path: str | Path, scores: Scores, *, overwrite: bool = True) -> None:
    """An .npz of `paths` (V,), `classes` (K,), the logits (V,K) of each stream under its name, and `labels` if known."""
    labels = {} if scores.labels is None else {"labels": scores.labels}
    names = {"paths": list(scores.paths), "classes": list(scores.classes)}
    write_npz(path, {**names, **labels, **scores.logits}, overwrite=overwrite)


def read_scores(path: str | Path) -> Scores:
    """What `write_scores` wrote. Raises DatasetError for any other file."""
    check_is_file(path, what="scores", advice=f"give a file of {command('eval')}")
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise DatasetError(f"cannot read scores: {shown(path)}: {error.strerror}; give a file of {command('eval')}") from error
    except UNREADABLE as error:
        raise DatasetError(
            f"no scores: {shown(path)}: it is no .npz of numbers, or damaged; give a file of {command('eval')}"
        ) from error
    logits = {stream: arrays[stream] for stream in STREAMS if stream in arrays}
    if "paths" not in arrays or "classes" not in arrays or not logits:
        raise DatasetError(
            f"no scores: {shown(path)}: got {', '.join(sorted(arrays)) or 'nothing'}, expected paths, classes, and rgb or flow"
        )
    paths, classes = (tuple(map(str, arrays[name].ravel())) for name in ("paths", "classes"))
    shape = (len(paths), len(classes))
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        logits = {stream: rows.astype(np.float32) if rows.dtype.kind == "f" else rows for stream, rows in logits.items()}
    if not shape[0] or any(
        row.shape != shape or row.dtype.kind != "f" or not np.isfinite(row).all() for row in logits.values()
    ):
        raise DatasetError(f"damaged scores: {shown(path)}: expected finite logits of shape {shape}, at least one video")
    labels = arrays.get("labels")
    if labels is not None and not are_labels(labels, shape):
        raise DatasetError(
            f"damaged scores: {shown(path)}: expected a class index or a row of 0 and 1 for each of {shape[0]} videos"
        )
    numbers = None if labels is None else labels.astype(np.int64)
    return Scores(paths, classes, logits, numbers)


def are_labels(labels: NDArray[Any], shape: tuple[int, int]) -> bool:
    """Whether labels are class indices (V,), or zeros and ones (V,K), for logits of a shape (V,K)."""
    if labels.dtype.kind not in "iu" or labels.shape not in ((shape[0],), shape):
        return False
    return bool(labels.min() >= 0 and labels.max() < (shape[1] if labels.ndim == 1 else 2))


def join(parts: Sequence[Scores], names: Sequence[str]) -> Scores:
    """The streams of several files as one, videos matched by path. Raises DatasetError where they do not belong together."""
    first, *others = parts
    logits, labels = dict(first.logits), first.labels
    for part, name in zip(others, names[1:], strict=True):
        pair = f"{shown(name)} and {shown(names[0])}"
        if set(part.paths) != set(first.paths):
            odd = sorted(set(part.paths) ^ set(first.paths))
            raise DatasetError(
                f"scores of different videos: {pair}: got {counted(len(odd), 'video')} in only one of them, "
                f"the first {shown(odd[0])}; score the same videos with both streams"
            )
        if sorted(part.classes) != sorted(first.classes):
            raise DatasetError(f"scores of different classes: {pair}: expected the same names")
        part = with_classes(part, first.classes)
        if twice := sorted(set(part.logits) & set(logits)):
            raise DatasetError(f"scores of one stream twice: {pair}: both hold {twice[0]}; give one file for each stream")
        place = {path: i for i, path in enumerate(part.paths)}
        order = [place[path] for path in first.paths]
        logits |= {stream: rows[order] for stream, rows in part.logits.items()}
        if part.labels is not None:
            if labels is not None and not np.array_equal(labels, part.labels[order]):
                raise DatasetError(f"scores with different labels: {pair}: expected the same label of each video")
            labels = part.labels[order]
    return Scores(first.paths, first.classes, {s: logits[s] for s in STREAMS if s in logits}, labels)


def with_classes(scores: Scores, classes: tuple[str, ...]) -> Scores:
    """Scores whose classes are in another order."""
    if scores.classes == classes:
        return scores
    place = {name: i for i, name in enumerate(scores.classes)}
    order = [place[name] for name in classes]
    labels = scores.labels
    if labels is not None:
        labels = labels[:, order] if labels.ndim == 2 else np.argsort(order)[labels]
    return Scores(scores.paths, classes, {stream: rows[:, order] for stream, rows in scores.logits.items()}, labels)


def write_npz(path: str | Path, arrays: Mapping[str, Any], *, overwrite: bool = True) -> None:
    """Write arrays under their names, whole or not at all. Raises I3DError."""
    with atomic_write(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:  # np.savez adds .npz to names
        np.savez(file, **arrays)
