"""What failed of many videos, as a record in their output folder that several processes write to."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import I3DError
from ..files import atomic_write, locked
from ..text import option, shown

SEARCHED_LINES = 1000  # of a record of failures for one that is; others may be cut off


class Failures:
    """`failures.jsonl` in the output folder: {"file", "reason"} of each video whose last try failed, from all processes.

    Where something else has that name, it is `failures-2.jsonl`, and so on.
    """

    def __init__(self, out: Path, videos: Sequence[Path]):
        """Forget what is recorded of `videos`, as they are tried again. Raises I3DError."""
        names = (f"failures{f'-{number}' * (number > 1)}.jsonl" for number in itertools.count(1))
        self.path = next(path for path in map(out.joinpath, names) if not os.path.lexists(path) or is_failures(path))
        again = {shown(video) for video in videos}
        with locked(out, wait=True):
            before = self._lines()
            self._replace(before, [line for line in before if failed_file(line) not in again])

    def add(self, *failed: tuple[Path, Exception]) -> None:
        """Record videos and what is wrong with them; many at once, as each time all that is there is written again."""
        lines = [json.dumps({"file": shown(video), "reason": str(error)}, ensure_ascii=False) for video, error in failed]
        with locked(self.path.parent, wait=True):
            before = self._lines()
            self._replace(before, [*before, *lines])

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_text("utf-8", errors="surrogateescape")
            return text.removesuffix("\n").split("\n") if text else []
        except FileNotFoundError:
            return []
        except OSError as error:
            raise I3DError(
                f"cannot read: {shown(self.path)}: {error.strerror}; move it away, or choose another {option('out')}"
            ) from error

    def _replace(self, before: list[str], lines: list[str]) -> None:
        if lines and lines != before:
            with atomic_write(self.path) as temporary:
                temporary.write_text("\n".join(lines) + "\n", "utf-8", errors="surrogateescape")
        elif before and not lines:
            self.path.unlink()


def is_failures(path: Path) -> bool:
    """Whether a file is a record of failures: a line of it is, or there is none."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        lines = [line.decode("utf-8", "surrogateescape") for line in itertools.islice(file, SEARCHED_LINES)]
    return not lines or any(failed_file(line) is not None for line in lines)


def failed_file(line: str) -> str | None:
    """The video that a line of failures.jsonl is about; None where it is no such line."""
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        return str(record["file"]) if isinstance(record, dict) and "file" in record else None
    return None
