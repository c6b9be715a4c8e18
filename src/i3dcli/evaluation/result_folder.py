"""The folder that an evaluation writes to: one process's or group's at a time, and nothing of others in it is replaced."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..distributed import Group
from ..errors import I3DError
from ..files import held, make_folder
from ..text import option, shown
from .score_log import METRICS, has_record, log_files

RESULTS = (METRICS, "scores.npz", "per_class.csv", "confusion.csv", "report.html")


@contextlib.contextmanager
def result_folders(folders: Sequence[Path], group: Group, *, resumable: bool, overwrite: bool) -> Iterator[None]:
    """Keep other processes out of these folders until the end of the block, and make sure that results may be written there.

    They may where there are none, or with `overwrite`; and where the evaluation is `resumable`, beside the record of scores
    that one before has left, which `overwrite` removes. Raises I3DError on every process of the group.
    """
    with contextlib.ExitStack() as stack:
        with group.failing_together():
            mine = folders if group.is_main_process else ()
            for folder in mine:
                make_folder(folder)
                stack.enter_context(held(folder))
            for folder in mine if not overwrite else ():
                check_results(folder, recorded=resumable and has_record(folder))
            for folder in mine if overwrite and resumable else ():
                for path in log_files(folder):
                    path.unlink()
        yield


def is_mean(path: Path) -> bool:
    """Whether a file holds the means over splits, which are all that is written to the folder above theirs."""
    with contextlib.suppress(OSError, ValueError):
        means = json.loads(path.read_text("utf-8"))
        return isinstance(means, dict) and bool(means) and all(isinstance(m, dict) and "total" in m for m in means.values())
    return False


def check_results(folder: Path, *, recorded: bool) -> None:
    """Raise I3DError where a folder holds a file that results would replace, and no record of scores tells whose they are."""
    names = [*RESULTS, *(path.name for path in log_files(folder))]
    found = [name for name in names if (folder / name).exists()]
    if found and not recorded and not (found == [METRICS] and is_mean(folder / METRICS)):
        raise I3DError(
            f"files are there: {shown(folder)}: got {', '.join(found)}, which are of no evaluation to go on with; "
            f"choose another {option('out')}, or {option('overwrite', True)} to replace them"
        )
