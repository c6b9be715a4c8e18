"""The scores of an evaluation that is under way, kept as they come, so that none is computed twice."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ..distributed import Group
from ..errors import I3DError
from ..files import make_folder
from ..text import option, shown

Logits = dict[str, NDArray[np.float32]]
METRICS = "metrics.json"  # which an evaluation writes when it has come to its end
LOG_NAME = re.compile(r"scores\.\d+\.jsonl")


def log_files(out: Path) -> list[Path]:
    """The logs of all processes of the evaluations that wrote to a folder."""
    return sorted(path for path in out.glob("scores.*.jsonl") if LOG_NAME.fullmatch(path.name))


def has_record(out: Path) -> bool:
    """Whether an evaluation has left a record of scores in a folder. Raises I3DError."""
    return any("fingerprint" in record for record in records(out))


def records(out: Path) -> Iterator[dict[str, Any]]:
    """Every record of every log in a folder, but for lines that were cut off. Raises I3DError."""
    for path in log_files(out):
        try:
            with open(path, "rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError):
                        record = json.loads(line)
                        if isinstance(record, dict):
                            yield record
        except OSError as error:
            raise I3DError(f"cannot read: {shown(path)}: {error.strerror}; choose another {option('out')}") from error


class ScoreLog:
    """`scores.0.jsonl`, `scores.1.jsonl` … in the output folder, one per process: the logits of a video on each line.

    The first line of a run says what they are computed with, and of which `videos`, in a word each. A context manager while
    scores are added.
    """

    def __init__(self, out: Path, fingerprint: str, group: Group, *, videos: str | None = None):
        self.out, self.fingerprint, self.group, self.videos = out, fingerprint, group, videos
        self.path = out / f"scores.{group.rank}.jsonl"
        self.file: TextIO | None = None
        make_folder(out)

    def read(self, size_of: Callable[[str], int | None] = lambda video: None) -> dict[str, Logits]:
        """The logits that any process of this or an earlier run has kept, by video; a line that was cut off is passed over.

        So is that of a video which has other bytes now, by their number, if `size_of` knows it and the line says it.
        Raises I3DError if they were computed with other weights or by another protocol, or if an evaluation of other videos
        has come to its end in the folder.
        """
        found: dict[str, Logits] = {}
        finished = (self.out / METRICS).exists()
        for record in records(self.out):
            if "fingerprint" in record and record["fingerprint"] != self.fingerprint:
                raise I3DError(
                    f"scores of another making: {shown(self.out)}: they were computed with other weights, flow or "
                    f"protocol; choose another {option('out')}, or {option('overwrite', True)} them"
                )
            if finished and record.get("videos", self.videos) != self.videos:
                raise I3DError(
                    f"results of other videos: {shown(self.out)}: they would be replaced; choose another {option('out')}, "
                    f"or {option('overwrite', True)} "
                    "them"
                )
            if "video" in record:
                logits = {stream: decoded(text) for stream, text in record["logits"].items()}
                size = size_of(record["video"])
                is_same = size is None or record.get("bytes", size) == size
                if is_same and all(np.isfinite(row).all() for row in logits.values()):
                    found[record["video"]] = logits
        return found

    def add(self, video: str, logits: Logits, *, size: int | None = None) -> None:
        """Keep the logits (K,) of the streams of a video that has so many bytes."""
        rows = {stream: encoded(row) for stream, row in logits.items()}
        self._write({"video": video, **({} if size is None else {"bytes": size}), "logits": rows})

    def _write(self, record: dict[str, Any]) -> None:
        try:
            assert self.file is not None
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        except OSError as error:
            raise I3DError(
                f"cannot write: {shown(self.path)}: {error.strerror}; what was scored before is kept, run it again to go on"
            ) from error

    def __enter__(self) -> ScoreLog:
        try:
            self.file = open(self.path, "a", encoding="utf-8")
        except OSError as error:
            raise I3DError(f"cannot write: {shown(self.path)}: {error.strerror}; choose another {option('out')}") from error
        if self.file.tell():
            self.file.write("\n")  # ends a line that was cut off
        videos = {} if self.videos is None else {"videos": self.videos}
        self._write({"fingerprint": self.fingerprint, **videos})  # again, as the first line may be that line
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()


def encoded(logits: NDArray[np.float32]) -> str:
    return base64.b64encode(logits.astype("<f4").tobytes()).decode()


def decoded(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").copy()
