"""`i3d train`: fine-tune one stream."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import click

from .. import defaults
from ..text import shown
from ..training import options as recipes
from .common import (
    BOUND,
    CLASSES_HELP,
    COUNT,
    FILE_OR_NAME,
    FRACTION,
    FRAMES,
    NAME,
    PIXELS,
    POSITIVE,
    PROCESSES,
    RATE,
    FloatRange,
    option_type,
)
from .gate import say, told_if_interrupted

TRAIN_OPTIONS = (  # a field of TrainOptions, its type, help; the defaults are there
    ("val", NAME, "Validation videos, if TRAIN does not name them itself."),
    (
        "val-fraction",
        FloatRange(0, 1, max_open=True),
        "Share of TRAIN's videos to validate on, in whole recordings.  "
        "[default: TRAIN's own validation part, or 0.1 if it has only a test part]",
    ),
    ("format", click.Choice(["auto", *defaults.DATASET_FORMATS]), "Format in which TRAIN and --val name videos and labels."),
    ("split", click.IntRange(1, 3), "Number of the split of UCF-101 or HMDB-51."),
    ("root", NAME, "Folder that the videos lie in.  [default: that of the list]"),
    ("classes", FILE_OR_NAME, f"Names of the classes of a list of numbers: {CLASSES_HELP}"),
    ("first-label", click.IntRange(0, 1), "Number of the first class in a list.  [default: 0]"),
    ("flow-dir", NAME, "With --stream flow: read the flow that extract-flow wrote to this folder."),
    ("any-flow", bool, "Use flow of --flow-dir even if it was made otherwise than the weights of --init need, and print how."),
    ("strict", bool, "Stop at a video that cannot be read, instead of taking another."),
    ("architecture", str, "Architecture of the network to train, such as i3d."),
    ("stream", click.Choice(defaults.STREAMS), "Stream that is trained."),
    ("init", NAME, "Weights to start from: a name or a checkpoint.  [default: random weights]"),
    ("width", option_type(defaults.WIDTHS), "Number of channels of each layer, as a fraction of the paper's."),
    ("dropout", FloatRange(0, 1, max_open=True), "Dropout before the classifier: the share of features that is left out."),
    ("clip-len", FRAMES, f"Number of frames in a clip.  [default: those of --init, or {defaults.CLIP_LEN}]"),
    ("crop", PIXELS, f"Pixels of a side of the square crop.  [default: those of --init, or {defaults.CROP}]"),
    (
        "short-side",
        PIXELS,
        "Pixels of the shorter side, to which frames are resized before the crop.  "
        f"[default: those of --init, or {defaults.SHORT_SIDE}]",
    ),
    ("fps", RATE, f"Frames per second to resample to.  [default: those of --init, or {defaults.FPS:g}]"),
    (
        "bound",
        BOUND,
        f"Largest flow in pixels per frame; a larger one is clamped.  [default: those of --init, or {defaults.FLOW_BOUND:g}]",
    ),
    ("flip", bool, "Mirror half of the clips; use --no-flip if left and right are classes."),
    ("epochs", POSITIVE, "Number of passes over the training videos."),
    ("steps", COUNT, "Number of steps of the optimizer, in place of --epochs."),
    ("batch-size", click.IntRange(1, 100_000), "Number of clips in a batch of one process."),
    (
        "accumulate",
        COUNT,
        "Number of batches per step of the optimizer.  [default: 1, or such that a step has as many clips as the recipe's]",
    ),
    ("lr", FRACTION, "Learning rate of SGD, before --schedule lowers it."),
    (
        "schedule",
        click.Choice(recipes.SCHEDULES),
        "How the learning rate falls: to zero, at --lr-steps, or when validation stops improving.",
    ),
    ("lr-steps", str, "With --schedule step: learning rates from given steps on, as STEP:LR,STEP:LR,..."),
    (
        "patience",
        COUNT,
        "With --schedule plateau: validations without a lower loss until the learning rate is divided by 10.",
    ),
    ("warmup", click.IntRange(0), "Number of steps in which the learning rate rises to --lr."),
    ("momentum", FloatRange(0, 1, max_open=True), "Momentum of SGD."),
    ("weight-decay", FRACTION, "Weight decay of filters; biases and batch norm have none."),
    ("clip-grad", POSITIVE, "Largest norm of the gradient; a larger one is scaled down.  [default: any]"),
    ("freeze-bn", bool, "Keep statistics and parameters of batch norm fixed."),
    ("freeze-until", str, "Keep all layers up to and including this one fixed, such as Mixed_4f."),
    ("sync-bn", bool, "Compute batch statistics over the clips of all processes; CUDA only."),
    (
        "precision",
        click.Choice(recipes.PRECISIONS),
        "Precision of the network's arithmetic; weights are fp32. On CUDA, convolutions in fp32 use TF32.",
    ),
    ("seed", click.IntRange(0, 2**63 - 1), "Seed of all random numbers."),
)


def train_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every field of TrainOptions as an option; one that is not given is left to the recipe or the default."""
    for name, kind, text in reversed(TRAIN_OPTIONS):
        default = getattr(recipes.TrainOptions, name.replace("-", "_"))
        if kind is bool:
            flag = f"--{name}/--no-{name}" if default else f"--{name}"
            command = click.option(flag, is_flag=True, default=None, help=text)(command)
        else:
            told = default in (None, ()) or "[default" in text
            command = click.option(
                f"--{name}", type=kind, default=None, help=text if told else f"{text}  [default: {default}]"
            )(command)
    return command


@click.command(short_help="Train one stream on labelled videos.")
@click.argument("train", type=NAME, required=False, metavar="[TRAIN]")
@click.option("--out", required=True, type=NAME, metavar="RUN", help="Folder of the run: checkpoints, log, curves.")
@click.option(
    "--recipe",
    type=click.Choice(list(recipes.RECIPES)),
    help="Use and print the hyperparameters of a paper; other options override them.",
)
@click.option("--resume", is_flag=True, help="Resume the run in RUN; its options need not be given again.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Device to train on.")
@click.option("--workers", type=PROCESSES, help="Number of processes that read videos.  [default: cores - 1, up to 8]")
@click.option("--compile", is_flag=True, help="Compile the network with torch.compile.")
@click.option(
    "--log-every", type=COUNT, metavar="STEPS", help="Add a row to log.csv every STEPS steps, not only at the end of an epoch."
)
@train_options
@click.pass_context
def train(ctx: click.Context, /, out: str, recipe: str | None, resume: bool, **options: Any) -> None:
    """Train one stream on TRAIN: a folder of classes, a list of videos and labels, or a dataset's own split files.

    Prints the result of the best validation, or the last loss if there is no validation. A part that is called test is
    not used. Under torchrun, processes share the work; after Ctrl-C or SIGTERM the run can be resumed and ends with the
    same weights as if it had not been stopped.

    \b
    Examples:
      i3d train videos/ --out runs/rgb --init kinetics400
      i3d train train.txt --val val.txt --stream flow --flow-dir flow/ --out runs/flow
      i3d train ucfTrainTestlist/ --split 1 --root UCF-101/ --recipe ucf101 --init kinetics400 --out runs/ucf
      torchrun --nproc-per-node=8 -m i3dcli train kinetics.csv --recipe kinetics --out runs/k400
    """
    how = {name: options.pop(name) for name in ("device", "workers", "compile", "log_every")}
    given = {name: value for name, value in options.items() if value is not None}
    if "lr_steps" in given:
        given["lr_steps"] = rate_steps(given["lr_steps"])
    given = given if recipe is None else recipes.with_recipe(recipe, given)
    from ..training import train as verb

    chosen = verb.resumed_options(out, given) if resume else recipes.TrainOptions(**given)
    if complaint := recipes.complaint(chosen):
        raise click.UsageError(complaint)
    if recipe is not None:
        say(f"Recipe {recipe}: {recipes.recipe_line(chosen)}", err=True)
    with told_if_interrupted(lambda: verb.what_is_kept(out)):
        result = verb.train_from(chosen, out, **how, resume=resume, note=lambda text: say(text, err=True), progress=True)
    if result.stopped_by is not None:
        if result.is_main_process:
            say(f"Stopped after step {result.step}: {shown(out)}: go on with --resume", err=True)
        ctx.exit(128 + result.stopped_by)
    if result.is_main_process:
        say(verb.result_line(result, out))


def rate_steps(text: str) -> tuple[tuple[int, float], ...]:
    """STEP:LR,... as pairs; raises UsageError."""
    with contextlib.suppress(ValueError):
        pairs = [part.split(":") for part in text.split(",")]
        steps = tuple((int(step), float(lr)) for step, lr in pairs)
        if all(step >= 0 and 0 <= lr < math.inf for step, lr in steps):
            return steps
    raise click.UsageError(f"--lr-steps {text!r} is not STEP:LR,STEP:LR,... such as 1000:0.01,2000:0.001.")
