"""The folder of a training run: its settings, its log and its checkpoints, each of which appears whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import torch

from .. import __version__
from ..checkpoints import read_all, read_tensors, read_weights, save_checkpoint, wrong
from ..distributed import Group, restarted
from ..errors import CheckpointError, I3DError, Malformed
from ..files import held, make_folder, remove_leftovers, write_text
from ..text import command, csv_text, json_text, option, shown
from .curves import write_curves
from .options import EARLIER, TrainOptions, changed_options
from .trainer import Trainer

LAST, BEST, CONFIG, LOG, CURVES, CLASSES = "last.pt", "best.pt", "config.json", "log.csv", "curves.png", "classes.txt"
WRITTEN = (LAST, BEST, CONFIG, LOG, CURVES, CLASSES)
ABOUT_RUN = {
    "preprocessing",
    "clips_per_step",
    "processes",
    "device",
    "saved",
    "tool",
    "torch",
}  # what config.json holds besides the options
PARTS_OF_STATE = {"options", "clips_per_step", "classes", "learner", "progress"}  # the state of a run in last.pt
LogRow = dict[str, Any]


@dataclass
class Progress:
    """The progress of a run; with the weights and the optimizer, it is all that resuming needs."""

    step: int = 0
    history: list[LogRow] = field(default_factory=list)  # the rows of log.csv
    best: float = -math.inf  # validation accuracy of best.pt
    lowest_loss: float = math.inf  # of all validations
    validations_since: int = 0  # since the lowest loss
    reductions: int = 0  # of the learning rate, one per plateau
    outcomes: list[tuple[float, float]] = field(default_factory=list)  # loss and accuracy of each step since the last row

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Progress:
        """The progress in a last.pt; fields that an older file lacks have their defaults.

        Raises TypeError, LookupError or AttributeError for values that no run writes.
        """
        found = cls(**record)
        counts = (found.step, found.validations_since, found.reductions)
        pairs = [(loss, accuracy) for loss, accuracy in found.outcomes]
        rows = [value for row in found.history for value in (row["step"], *row.values())]
        numbers = [found.best, found.lowest_loss, *rows, *itertools.chain(*pairs)]
        if any(type(count) is not int or not 0 <= count < 1 << 53 for count in counts):
            raise TypeError("counts")
        if any(type(n) not in (int, float) or (type(n) is int and abs(n) >= 1 << 53) for n in numbers):
            raise TypeError("numbers")
        if math.isnan(found.best) or math.isnan(found.lowest_loss):
            raise TypeError("the best")
        return found

    def follow(self, row: LogRow, metric: str, *, patience: int) -> bool:
        """Count a validation; True if its accuracy is the best so far."""
        self.validations_since = 0 if row["val_loss"] < self.lowest_loss else self.validations_since + 1
        self.lowest_loss = min(row["val_loss"], self.lowest_loss)
        if self.validations_since >= patience:
            self.reductions, self.validations_since = self.reductions + 1, 0
        before, self.best = self.best, max(row[f"val_{metric}"], self.best)
        return self.best > before


class RunFolder:
    """The folder of one run. The main process writes to it; all may read it."""

    def __init__(self, path: Path, options: TrainOptions, group: Group, *, clips_per_step: int, videos: str | None = None):
        self.path, self.options, self.group, self.clips_per_step = path, options, group, clips_per_step
        self.videos = videos  # a hash of the videos to train and validate on
        self.last, self.best = path / LAST, path / BEST
        self.in_events = 0  # rows of the history that were written to TensorBoard

    @functools.cached_property
    def events(self) -> Any:
        """TensorBoard's writer, or None where TensorBoard is not installed."""
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(str(self.path))
        return None

    @contextlib.contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Create the folder, lock it until the end of the block, and remove what a killed run left.

        Raises I3DError if it holds a run that is not to be resumed, or lacks the run to resume; if another process is
        writing to it; or if files that no run wrote have names that a run writes.
        """
        with contextlib.ExitStack() as stack:
            with self.group.failing_together():
                if self.group.is_main_process:
                    make_folder(self.path)
                    stack.enter_context(held(self.path))
                    self._check_files()
            self._check(resume=resume)
            for name in WRITTEN if self.group.is_main_process else ():
                remove_leftovers(self.path / name)
            yield

    def _check_files(self) -> None:
        """Raise I3DError if a run would replace files, but none has been in the folder."""
        found = [name for name in WRITTEN if os.path.lexists(self.path / name)]
        begun = has_saved(self.path / CONFIG) is False  # a run was killed before its first last.pt
        if found and not (self.last.exists() or begun):
            raise I3DError(
                f"files are there: {shown(self.path)}: got {', '.join(found)} and no {LAST} to go on from; choose another "
                f"{option('out')}"
            )

    def _check(self, *, resume: bool) -> None:
        """Raise I3DError if the folder holds a run that is not to be resumed, or lacks the run to resume."""
        seen = self.group.gather(self.last.exists())
        there, again = any(seen), any(self.group.gather(restarted()))  # torchrun counts restarts per machine
        if there and not all(seen):
            raise I3DError(f"not on every machine: {shown(self.last)}: processes elsewhere do not see it; share the folder")
        if there and not (resume or again):
            raise I3DError(
                f"a run is there: {shown(self.path)}: got its {LAST}; go on with {option('resume', True)}, or choose "
                f"another {option('out')}"
            )
        if resume and not there and not again:
            raise I3DError(
                f"nothing to resume: {shown(self.path)}: no {LAST} in it; leave {option('resume', True)} out to start a run"
            )

    @staticmethod
    def recorded_options(path: Path) -> TrainOptions:
        """The options of the run in a folder; an option newer than the run has the value that reproduces it.

        Raises CheckpointError if there is no run, or one with options that this version does not know.
        """
        try:
            record = json.loads((path / CONFIG).read_text("utf-8"))
            tool, options = record.get("tool"), {key: record[key] for key in record if key not in ABOUT_RUN}
            options["train"]  # every run has it
            options["lr_steps"] = tuple((int(step), float(lr)) for step, lr in options.get("lr_steps", ()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"nothing to resume: {shown(path)}: no {CONFIG} of a run in it; leave {option('resume', True)} out to "
                "start a run"
            ) from error
        check_known(options, EARLIER, path / CONFIG, tool=tool)
        return TrainOptions(**{**EARLIER, **options})

    def open(self, trainer: Trainer) -> Progress:
        """The progress of the run, with last.pt loaded into `trainer`; for a new run, config.json is written.

        Raises CheckpointError if last.pt is not from a run, and I3DError if the run had other options.
        """
        if not self.last.exists():
            if self.group.is_main_process:
                self._describe(trainer, saved=False)
            return Progress()
        content = read_weights(self.last)
        training = content.get("training")
        if not is_state(training):
            raise wrong(self.last, "a checkpoint without the state of a run", f"the last.pt of {command('train')}")
        for part, known in (("options", EARLIER), ("progress", dataclasses.asdict(Progress()))):
            check_known(training[part], known, self.last, tool=content.get("tool"))
        try:
            self.check_options(training, trainer)
            progress = Progress.of(training["progress"])
            state = trainer.net.state_dict()
            trainer.net.load_state_dict(read_tensors(content["state_dict"], state, self.last, network="the run"), strict=True)
            trainer.load_state(read_all(training["learner"]))
        except I3DError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, Malformed) as error:
            raise wrong(
                self.last, "a state that no run leaves", f"the last.pt of {command('train')}", "copy it again"
            ) from error
        self.in_events = len(progress.history)
        return progress

    def check_options(self, training: dict[str, Any], trainer: Trainer) -> None:
        """Raise I3DError if the run with this state had other options."""
        then = {**training["options"], "clips_per_step": training["clips_per_step"]}
        values = [
            part
            for value in then.values()
            for part in (itertools.chain(*value) if isinstance(value, (list, tuple)) else [value])
        ]
        if not all(isinstance(value, (str, int, float, type(None))) for value in values):
            raise TypeError("options")
        changed = changed_options(self.options, training["options"])
        if training["clips_per_step"] != self.clips_per_step:
            changed.append(f"{training['clips_per_step']} clips per step of all processes then, {self.clips_per_step} now")
        if training["classes"] != list(trainer.net.classes or ()):
            changed.append("other classes")
        if training.get("videos", self.videos) != self.videos:  # older runs do not record it
            changed.append("other videos")
        if changed:
            raise not_the_same_run(self.path, changed)

    def save(self, trainer: Trainer, progress: Progress, *, metric: str) -> None:
        """Write last.pt and the log, also to TensorBoard's events."""
        if not self.group.is_main_process:
            return
        training = {
            "options": dataclasses.asdict(self.options),
            "clips_per_step": self.clips_per_step,
            "classes": list(trainer.net.classes or ()),
            "videos": self.videos,
            "learner": trainer.state(),
            "progress": dataclasses.asdict(progress),
        }
        save_checkpoint(trainer.net, self.last, training=training)
        self.write_beside_last(trainer, progress, metric=metric)
        if self.events is not None:
            for row in progress.history[self.in_events :]:
                for name, value in row.items():
                    self.events.add_scalar(name, value, row["step"])
            self.in_events = len(progress.history)
            self.events.flush()

    def write_beside_last(self, trainer: Trainer, progress: Progress, *, metric: str) -> None:
        """Write the files that go with last.pt, also for a resumed run that was killed before it wrote them."""
        if not self.group.is_main_process:
            return
        if not has_saved(self.path / CONFIG):
            self._describe(trainer, saved=True)
        self.log(progress)
        if progress.history:
            write_curves(self.path / CURVES, progress.history, metric=metric)

    def log(self, progress: Progress) -> None:
        """Write log.csv, which may be ahead of last.pt."""
        if self.group.is_main_process:
            write_text(self.path / LOG, log_csv(progress.history))

    def keep_best(self, trainer: Trainer, *, chosen_on: Iterable[int]) -> None:
        """Write best.pt, with the numbers of the videos that it was chosen on."""
        if self.group.is_main_process:
            save_checkpoint(trainer.net, self.best, chosen_on=chosen_on)

    def _describe(self, trainer: Trainer, *, saved: bool) -> None:
        """Write config.json and classes.txt."""
        record = {
            **dataclasses.asdict(self.options),
            "preprocessing": dataclasses.asdict(trainer.net.preprocessing),
            "clips_per_step": self.clips_per_step,
            "processes": self.group.size,
            "device": str(trainer.device),
            "saved": saved,  # True once there has been a last.pt
            "tool": f"i3d {__version__}",
            "torch": torch.__version__,
        }
        write_text(self.path / CONFIG, json_text(record))
        write_text(self.path / CLASSES, "".join(f"{name}\n" for name in trainer.net.classes or ()))


def has_saved(path: Path) -> bool | None:
    """True if the run of a config.json has ever written last.pt; None if the file is not from a run.

    Older runs do not record this; for them it is True.
    """
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text("utf-8"))
        if isinstance(record, dict) and str(record.get("tool")).startswith("i3d "):
            return bool(record.get("saved", True))
    return None


def is_state(training: Any) -> TypeGuard[dict[str, Any]]:
    """True if this is the state of a run, with the parts that every version of i3d writes."""
    return (
        isinstance(training, dict)
        and training.keys() >= PARTS_OF_STATE
        and isinstance(training["options"], dict)
        and isinstance(training["progress"], dict)
        and "step" in training["progress"]
    )


def check_known(record: Mapping[str, Any], known: Collection[str], path: Path, *, tool: object) -> None:
    """Raise CheckpointError for a field that is not `known`, such as an option of a newer i3d."""
    if unknown := sorted(map(str, record.keys() - known)):
        raise CheckpointError(
            f"run of another i3d: {shown(path)}: got {shown(unknown[0])!r}, which this i3d {__version__} does not know; "
            f"resume it with {shown(str(tool or 'the version'))}, which wrote it"
        )


def not_the_same_run(path: Path, changed: list[str]) -> I3DError:
    return I3DError(
        f"not the same run: {shown(path)}: {'; '.join(changed)}; resume it with its own options, or start another with "
        f"{option('init')}"
    )


def log_csv(history: list[LogRow]) -> str:
    """Rows as CSV with the union of their columns, in order of first appearance."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    return csv_text([columns, *([row.get(column, "") for column in columns] for row in history)])
