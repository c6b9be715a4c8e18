"""TrainOptions: every option that decides the weights of a run, with its default; recipes; learning rates."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from ..defaults import ARCHITECTURE, DROPOUT, STREAMS, TEST_PART
from ..text import command, option

SCHEDULES = ("cosine", "step", "plateau")
PRECISIONS = ("fp32", "bf16", "fp16")
PLATEAU_FACTOR = 0.1  # "lr ÷10 when the validation loss saturates"; paper, section 2.5


@dataclass(frozen=True)
class TrainOptions:
    """All options that decide the weights of a run; a resumed run must have the same ones.

    If `fps`, `short_side`, `crop`, `clip_len` or `bound` is None, it is that of `init`, or without `init` the protocol's.
    """

    # data
    train: str = ""
    val: str | None = None
    val_fraction: float | str | None = None  # for None and TEST_PART see holdout.for_training
    format: str = "auto"
    split: int = 1
    root: str | None = None
    classes: str | None = None
    first_label: int | None = None
    flow_dir: str | None = None
    any_flow: bool = False
    strict: bool = False
    # network and input
    architecture: str = ARCHITECTURE  # one of list_architectures()
    stream: str = "rgb"
    init: str | None = None
    width: float = 1.0
    dropout: float = DROPOUT
    clip_len: int | None = None
    crop: int | None = None
    short_side: int | None = None
    fps: float | None = None
    bound: float | None = None
    flip: bool = True
    # optimisation
    epochs: float = 40.0
    steps: int | None = None  # in place of epochs
    batch_size: int = 6  # clips per process; 6 per replica, kinetics-i3d issue 23
    accumulate: int = 1
    lr: float = 0.02
    schedule: str = "cosine"
    lr_steps: tuple[tuple[int, float], ...] = ()  # for schedule "step": (first step, learning rate)
    patience: int = 5  # for schedule "plateau": validations without a lower loss
    warmup: int = 0  # steps
    momentum: float = 0.9  # paper, section 2.5
    weight_decay: float = 1e-7  # kinetics-i3d README
    clip_grad: float | None = None
    freeze_bn: bool = False
    freeze_until: str | None = None
    sync_bn: bool = False
    precision: str = "fp32"
    seed: int = 0


BEFORE: dict[str, Any] = {"val_fraction": TEST_PART}  # values in runs older than an option, if not its default
EARLIER = {field.name: BEFORE.get(field.name, field.default) for field in fields(TrainOptions)}


# Numbers of the Kinetics runs are those of the released models, in kinetics-i3d's README; 384 clips per step are 64
# replicas of 6 (its issue 23). The paper gives UCF-101 and HMDB-51 "up to 5k steps" on 16 replicas and names no initial
# learning rate: 0.01 is ours. Charades: piergiaj/pytorch-i3d issue 14, which does not say where it ends; 70k is ours.
KINETICS = {"lr": 0.1, "schedule": "step", "batch_size": 6, "weight_decay": 1e-7}
FINE_TUNING = {"steps": 5_000, "lr": 0.01, "schedule": "plateau", "batch_size": 6, "weight_decay": 1e-7}
CHARADES = {**KINETICS, "weight_decay": 1e-6, "steps": 70_000, "lr_steps": ((45_000, 0.01), (65_000, 0.001))}
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "kinetics": {
        "rgb": {**KINETICS, "steps": 115_000, "lr_steps": ((97_000, 0.01), (108_000, 0.001))},
        "flow": {
            **KINETICS,
            "steps": 155_000,
            "lr_steps": ((97_000, 0.01), (104_500, 0.001), (115_000, 0.1), (140_000, 0.01), (150_000, 0.001)),
        },
    },
    "ucf101": {"rgb": FINE_TUNING, "flow": FINE_TUNING},
    "hmdb51": {"rgb": FINE_TUNING, "flow": FINE_TUNING},
    "charades": {"rgb": CHARADES, "flow": CHARADES},
}
RECIPE_FIELDS = ("steps", "batch_size", "accumulate", "lr", "schedule", "lr_steps", "momentum", "weight_decay", "dropout")
CLIPS_PER_STEP = {"kinetics": 384, "ucf101": 96, "hmdb51": 96, "charades": 384}


def with_recipe(recipe: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a recipe, overridden by the `given` ones.

    Unless given, `accumulate` is chosen so that a step of all processes has as many clips as the recipe's.
    """
    chosen = {**RECIPES[recipe][given.get("stream", TrainOptions.stream)], **given}
    if "epochs" in given:
        chosen["steps"] = given.get("steps")
    clips = chosen["batch_size"] * int(os.environ.get("WORLD_SIZE", "1"))
    chosen.setdefault("accumulate", math.ceil(CLIPS_PER_STEP[recipe] / clips))
    return chosen


def checks(options: TrainOptions) -> Iterator[tuple[str, object, bool, str]]:
    """The name and value of each option that has a range, whether it is in it, and the range in words."""
    for name in ("steps", "batch_size", "accumulate", "patience"):
        value = getattr(options, name)
        holds = (value is None and name == "steps") or (type(value) is int and value >= 1)
        yield name, value, holds, "an integer from 1 on"
    for name in ("epochs", "lr", "weight_decay", "momentum", "dropout"):
        value = getattr(options, name)
        yield name, value, type(value) in (int, float) and 0 <= value < math.inf, "a number from 0 on"
    for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS), ("stream", STREAMS)):
        value = getattr(options, name)
        yield name, value, value in known, f"one of {', '.join(known)}"


def complaint(options: TrainOptions) -> str | None:
    """The first fault of options that shows without data, in words; None if there is none."""
    complaints = (
        *(
            (not holds, f"{option(name)} is {value!r}, expected {expected}.")
            for name, value, holds, expected in checks(options)
        ),
        (options.any_flow and not options.flow_dir, f"{option('any_flow', True)} is for {option('flow_dir')}."),
        (not options.train, "Missing argument 'TRAIN', the training videos."),
        (
            options.val is not None and isinstance(options.val_fraction, float),
            f"{option('val')} names the videos to validate on, and {option('val_fraction')} takes them from TRAIN; give "
            "one or the other.",
        ),
        (
            options.stream == "flow" and not options.flow_dir,
            f"{option('stream', 'flow')} needs {option('flow_dir', 'DIR')}, which {command('extract-flow')} writes.",
        ),
        (options.stream == "rgb" and options.flow_dir, f"{option('flow_dir')} is for {option('stream', 'flow')}."),
        (
            options.init and options.architecture != ARCHITECTURE,
            f"{option('architecture')} is for fresh weights; {option('init')} brings its own.",
        ),
        (
            options.init and options.width != TrainOptions.width,
            f"{option('width')} is for fresh weights; {option('init')} brings its own.",
        ),
        (
            options.schedule == "step" and not options.lr_steps,
            f"{option('schedule', 'step')} needs {option('lr_steps', 'STEP:LR,...')}",
        ),
        (options.schedule != "step" and options.lr_steps, f"{option('lr_steps')} is for {option('schedule', 'step')}."),
    )
    return next((text for wrong, text in complaints if wrong), None)


def recipe_line(options: TrainOptions) -> str:
    """The options of the optimisation as they are given on the command line."""
    names = [name for name in RECIPE_FIELDS if getattr(options, name) not in (None, ())]
    return " ".join(f"--{name.replace('_', '-')} {as_given(getattr(options, name))}" for name in names)


def changed_options(now: TrainOptions, then: dict[str, Any]) -> list[str]:
    """The differences between options and those of an earlier run, in words."""
    then = {**EARLIER, **then}
    pairs = [(field.name, then[field.name], getattr(now, field.name)) for field in fields(now)]
    return [
        f"{option(name)} {as_given(was)} then, {as_given(is_)} now"
        for name, was, is_ in pairs
        if as_given(was) != as_given(is_)
    ]


def as_given(value: Any) -> str:
    """The value of an option as it is given on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    if isinstance(value, (tuple, list)):
        return ",".join(f"{step}:{lr:g}" for step, lr in value) or "none"
    return str(value)


def learning_rate(options: TrainOptions, step: int, *, num_steps: int, reductions: int = 0) -> float:
    """The learning rate of step `step` (from 0) of `num_steps`; `reductions` counts the plateaus so far."""
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.schedule == "plateau":
        return warm * options.lr * PLATEAU_FACTOR**reductions
    if options.schedule == "step":
        return warm * next((lr for start, lr in sorted(options.lr_steps, reverse=True) if step >= start), options.lr)
    progress = max(0, step - options.warmup) / max(1, num_steps - options.warmup)
    return warm * options.lr * (1 + math.cos(math.pi * progress)) / 2
