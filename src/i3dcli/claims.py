"""An output folder of extract-flow that several processes write to: who is at work on a video, and what failed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import I3DError, shown
from .files import FLOW_SIDECAR, atomic_write, locked

FAILURES = "failures.jsonl"


def beside(folder: Path) -> tuple[Path, Path]:
    """The folder to work in that becomes `folder`, and the place of the one that it replaces."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


def clean(folder: Path) -> bool:
    """Whether nobody is at work on `folder`, nor was killed at it, as while redoing one that is finished."""
    return not any(path.exists() for path in beside(folder))


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path | None]:
    """An empty folder to work in that becomes `folder` in one step on success and is removed on failure.

    None if another process is at work on the same. What a killed process left behind is cleared away.
    """
    work, old = beside(folder)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with locked(work) as ours:
            if not ours:
                yield None
                return
            shutil.rmtree(old, ignore_errors=True)
            for rest in work.iterdir():
                shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
            moved = False  # from then on, a folder of that name is another process's
            try:
                yield work
                if (work / FLOW_SIDECAR).exists():  # else nothing was done
                    sync(work)
                    if folder.exists():
                        folder.rename(old)
                    work.rename(folder)
                    moved = True
            finally:
                shutil.rmtree(old if moved else work, ignore_errors=True)
    except OSError as error:
        raise I3DError(
            f"cannot write flow: {shown(folder)}: {error.strerror or error}; what was finished before is kept"
        ) from error


def sync(folder: Path) -> None:
    """Have the system write the files of a folder to the disk, so that a finished one survives a power cut whole."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Failures:
    """`failures.jsonl` in the output folder: {"file", "reason"} of each video whose last try failed, from all processes."""

    def __init__(self, out: Path, videos: Sequence[Path]):
        """Forget what is recorded of `videos`, as they are tried again."""
        self.path = out / FAILURES
        again = {shown(video) for video in videos}
        with locked(out, wait=True):
            for rest in out.glob(f".{FAILURES}.*.tmp"):  # of killed processes
                rest.unlink()
            before = self._lines()
            self._replace(before, [line for line in before if failed_file(line) not in again])

    def add(self, video: Path, error: Exception) -> None:
        with locked(self.path.parent, wait=True):
            before = self._lines()
            line = json.dumps({"file": shown(video), "reason": str(error)}, ensure_ascii=False)
            self._replace(before, [*before, line])

    def _lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines() if self.path.exists() else []

    def _replace(self, before: list[str], lines: list[str]) -> None:
        """Raises I3DError, as on a full disk, and the file is then as before."""
        if lines and lines != before:
            with atomic_write(self.path) as temporary:
                temporary.write_text("\n".join(lines) + "\n", "utf-8")
        elif before and not lines:
            self.path.unlink()


def failed_file(line: str) -> str | None:
    """The video that a line of failures.jsonl is about; None where it is no such line."""
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        return str(record["file"]) if isinstance(record, dict) and "file" in record else None
    return None
