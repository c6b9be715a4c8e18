"""The verb behind `i3d train`: one stream, from random, inflated or published weights, in one process or many."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tqdm import tqdm

from ..class_names import read_classes
from ..data import Dataset, for_training, load_dataset, report_absent, report_missing, with_validation
from ..distributed import choose_device, process_group
from ..errors import DatasetError, I3DError, memory_errors
from ..metrics import measure, measure_multi_label
from ..stopping import SIGNALS
from ..text import counted, option, shown
from .initial import build_network
from .options import RECIPES, TrainOptions, changed_options, complaint, learning_rate, with_recipe
from .run_data import Note, RunData
from .run_folder import BEST, LAST, LogRow, Progress, RunFolder, not_the_same_run
from .trainer import Trainer, diverged

SAVE_EVERY = 500  # steps between two last.pt, where an epoch is longer


def memory_advice() -> str:
    """What to do where memory runs out."""
    same_step = f"{option('batch_size')} (with {option('accumulate')} for the same step)"
    others = ", ".join(option(name) for name in ("clip_len", "crop", "width"))
    return f"lower {same_step}, {others} or {option('workers')}"


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    step: int
    history: list[LogRow]  # of log.csv
    metric: str
    is_main_process: bool  # whether this process is the one that speaks
    stopped_by: int | None = None  # the signal that came before the end


def train(
    source: str | Path,
    out: str | Path,
    *,
    recipe: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    compile: bool = False,
    resume: bool = False,
    log_every: int | None = None,
    note: Note = lambda text: None,
    progress: bool = False,
    **options: Any,
) -> TrainResult:
    """Train one stream on the labelled videos that `source` names, into the run folder `out`; what `i3d train` does.

    `options` are the fields of `TrainOptions`, called as the options of the command: `init="kinetics400"`,
    `stream="flow"`, `batch_size=8` … `recipe` takes the numbers of a paper for those that are not given. With `resume` the run
    in `out` goes on, and nothing else need be given but `source`. `note` gets lines for people, `progress` shows a bar on
    stderr. Raises ValueError for options that contradict each other, DatasetError, CheckpointError and I3DError; see
    `train_on`.
    """
    given: dict[str, Any] = {
        "train": str(source),
        **{name: str(v) if isinstance(v, Path) else v for name, v in options.items()},
    }
    if recipe is not None:
        if recipe not in RECIPES:
            raise ValueError(f"expected a recipe of {', '.join(RECIPES)}, got {recipe = }")
        given = with_recipe(recipe, given)
    chosen = resumed_options(out, given) if resume else TrainOptions(**given)
    if (text := complaint(chosen)) is not None:
        raise ValueError(text)
    how: dict[str, Any] = {"device": device, "workers": workers, "compile": compile, "log_every": log_every}
    return train_from(chosen, out, **how, resume=resume, note=note, progress=progress)


def train_from(options: TrainOptions, out: str | Path, *, note: Note, **how: Any) -> TrainResult:
    """Train on the dataset that the options name; see
    `train_on`. Raises what `load_dataset` does, too."""
    names = None if options.classes is None else read_classes(options.classes)
    where: dict[str, Any] = {
        "format": options.format,
        "split": options.split,
        "root": options.root,
        "first_label": options.first_label,
    }
    dataset = load_dataset(options.train, classes=names, **where)
    if options.val is not None:
        dataset = with_validation(dataset, load_dataset(options.val, classes=names, **where))
    return train_on(dataset, out, options, note=note, **how)


def resumed_options(out: str | Path, given: dict[str, Any]) -> TrainOptions:
    """The options of the run in `out`; raises I3DError if what is given now is not what it had."""
    then = RunFolder.recorded_options(Path(out))
    if changed := changed_options(dataclasses.replace(then, **given), dataclasses.asdict(then)):
        raise not_the_same_run(Path(out), changed)
    return then


def what_is_kept(out: str | Path) -> str:
    """What an interrupted run leaves behind, and how to go on."""
    last = Path(out) / LAST
    return f"{shown(last)} is there; go on with {option('resume', True)}" if last.exists() else "no checkpoint was written yet"


def result_line(result: TrainResult, out: str | Path) -> str:
    """The best validation and its weights, or the last loss where there was none to validate on."""
    rows = [row for row in result.history if f"val_{result.metric}" in row]
    if not rows or not (Path(out) / BEST).exists():
        return f"{shown(Path(out) / LAST)}  loss {result.history[-1]['loss']:.4f}"
    best = max(rows, key=lambda row: row[f"val_{result.metric}"])
    return (
        f"{shown(Path(out) / BEST)}  {result.metric} {best[f'val_{result.metric}']:.4f} of {counted(best['val_n'], 'video')}, "
        f"one clip each, at step {best['step']} of {result.step}"
    )


def train_on(
    dataset: Dataset,
    out: str | Path,
    options: TrainOptions,
    *,
    device: str = "auto",
    workers: int | None = None,
    compile: bool = False,
    resume: bool = False,
    log_every: int | None = None,
    note: Note = lambda text: None,
    progress: bool = False,
) -> TrainResult:
    """Train one stream on `dataset` into the run folder `out`: last.pt, best.pt, log.csv, curves.png, config.json, classes.txt.

    A part of the dataset that is called test is not looked at; see `for_training` for what is validated on instead.
    With `resume`, or when torchrun starts it again, it goes on from last.pt to the very weights it would have reached
    undisturbed. `note` gets lines for people. Raises DatasetError, CheckpointError, and I3DError for a loss that is
    not finite, for memory that runs out and for files that cannot be written.
    """
    with process_group(choose_device(device)) as (group, chosen), memory_errors(memory_advice()), stop_signals() as stop:
        say = note if group.is_main_process else lambda text: None
        dataset = for_training(dataset, options.val_fraction, seed=options.seed, note=say)
        net = build_network(dataset, options, note=say)
        data = RunData(dataset, options, net.preprocessing, group, device=chosen, workers=workers, note=say)
        folder = RunFolder(Path(out), options, group, clips_per_step=data.clips_per_step, videos=data.fingerprint())
        with folder.opened(resume=resume), contextlib.closing(data):
            trainer = Trainer(
                net, options, group=group, device=chosen, multi_label=dataset.multi_label, report=data.report, compile=compile
            )
            state = folder.open(trainer)
            if state.step:
                folder.write_beside_last(trainer, state, metric=data.metric)
            report_missing(dataset, say, strict=options.strict)
            report_absent(data.train, dataset.classes, say)
            if (small := net.preprocessing.small_pictures()) is not None:
                say(f"Note: {small}")
            begun = "" if not state.step else f"; going on after step {state.step}"
            begun = f"; it was at its end, step {state.step}" if state.step >= data.num_steps else begun
            say(f"{data.dataset.summary}; {options.stream}, {data.describe()}, on {chosen}{begun}")
            return loop(trainer, data, folder, state, stop, log_every=log_every, show=progress and group.is_main_process)


def loop(
    trainer: Trainer, data: RunData, folder: RunFolder, state: Progress, stop: Stop, *, log_every: int | None, show: bool
) -> TrainResult:
    """Step after step to the end; at the end of each epoch validate, log and save."""
    options, group = trainer.options, trainer.group
    batches = iter(data.training_batches(state.step))
    tally = StepAverages(state.outcomes)
    with tqdm(
        total=data.num_steps * data.clips_per_step,
        initial=state.step * data.clips_per_step,
        unit="clip",
        disable=None if show else True,
    ) as bar:
        while state.step < data.num_steps:
            lr = learning_rate(options, state.step, num_steps=data.num_steps, reductions=state.reductions)
            outcome = trainer.step(itertools.islice(batches, options.accumulate), number=state.step, lr=lr)
            answers = group.gather((*outcome, stop.signal))
            tally.add(answers, clips=data.clips_per_step)
            stopped_by = next((answer[2] for answer in answers if answer[2] is not None), None)
            state.step += 1
            bar.update(data.clips_per_step)
            epoch_done = state.step % data.steps_per_epoch == 0 or state.step == data.num_steps
            if epoch_done or (log_every is not None and state.step % log_every == 0):
                row = {"step": state.step, "epoch": state.step / data.steps_per_epoch, "lr": lr, **tally.row(data.metric)}
                if epoch_done and data.val:
                    row |= validate(trainer, data)
                    if state.follow(row, data.metric, patience=options.patience):
                        folder.keep_best(trainer, chosen_on=data.chosen_on)
                state.history.append(row)
                if not epoch_done:  # else it is saved with the weights
                    folder.log(state)
                bar.set_postfix({k: f"{row[k]:.3f}" for k in ("loss", f"val_{data.metric}") if k in row})
            if epoch_done or stopped_by is not None or state.step % SAVE_EVERY == 0:
                trainer.check_weights(state.step)
                folder.save(trainer, state, metric=data.metric)
            if stopped_by is not None and state.step < data.num_steps:
                return TrainResult(state.step, state.history, data.metric, group.is_main_process, stopped_by)
    return TrainResult(state.step, state.history, data.metric, group.is_main_process)


class StepAverages:
    """The mean loss and accuracy of the steps since the last row, and the clips per second of those that are new."""

    def __init__(self, outcomes: list[tuple[float, float]]):
        self.outcomes = outcomes  # of each step, all processes; those of a resumed run are there already
        self.clips, self.since = 0, time.perf_counter()

    def add(self, answers: list[tuple[float, float, int | None]], *, clips: int) -> None:
        self.clips += clips
        loss, accuracy, _ = zip(*answers, strict=True)
        self.outcomes.append((sum(loss) / len(loss), sum(accuracy) / len(accuracy)))

    def row(self, metric: str) -> LogRow:
        """For log.csv, and begin anew; of multi-label data there is no accuracy in training."""
        loss, accuracy = np.mean(self.outcomes, axis=0).tolist()
        rate = self.clips / (time.perf_counter() - self.since)
        self.outcomes.clear()
        self.clips, self.since = 0, time.perf_counter()
        return {"loss": loss, **({metric: accuracy} if math.isfinite(accuracy) else {}), "clips_per_second": rate}


def validate(trainer: Trainer, data: RunData) -> LogRow:
    """Loss and accuracy on one clip from the middle of each validation video. Raises DatasetError if none can be read."""
    logits, targets = trainer.evaluate(data.validation)
    if not len(logits):
        raise DatasetError(f"no readable video: {len(data.val)} for validation: see the lines above; give others")
    if trainer.multi_label and not targets.any():
        raise DatasetError(
            f"nothing to validate on: {counted(len(logits), 'clip')}, from the middle of as many videos: got no labelled "
            f"action in any; give more videos, or a longer {option('clip_len')}"
        )
    if not logits.isfinite().all():
        raise I3DError(f"predictions are not finite: validation: got NaN or infinity; {diverged()}")
    measured = (measure_multi_label if trainer.multi_label else measure)(logits.numpy(), targets.numpy())
    return {
        "val_loss": trainer.loss(logits, targets).item(),
        f"val_{data.metric}": getattr(measured, data.metric),
        "val_n": measured.n,
    }


class Stop:
    """The signal that asks a run to end after its current step, if one came."""

    signal: int | None = None


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C, SIGTERM and SIGHUP are noted; the same signal a second time has its usual effect."""
    stop = Stop()
    before: dict[int, Any] = {}

    def note_signal(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, before[number])

    try:
        for number in SIGNALS:
            if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                before[number] = signal.signal(number, note_signal)
        yield stop
    finally:
        for noted, handler in before.items():
            signal.signal(noted, handler)
