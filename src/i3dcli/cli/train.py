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
from .common import BOUND, COUNT, FRACTION, FRAMES, NAME, PIXELS, POSITIVE, PROCESSES, RATE, FloatRange, option_type
from .gate import say, told_if_interrupted

TRAIN_OPTIONS = (  # a field of TrainOptions, its type, help; the defaults are there
    ("val", NAME, "Validation videos, where TRAIN does not name them itself."),
    (
        "val-fraction",
        FloatRange(0, 1, max_open=True),
        "Part of TRAIN's videos to validate on, by recording.  [default: TRAIN's own part, or 0.1 if that is a test part]",
    ),
    ("format", click.Choice(["auto", *defaults.DATASET_FORMATS]), "How TRAIN and --val name videos and labels."),
    ("split", click.IntRange(1, 3), "Of UCF-101 and HMDB-51."),
    ("root", NAME, "The folder in which the videos lie.  [default: that of the list]"),
    ("classes", NAME, "Names of the classes, for lists of numbers: text, JSON or CSV."),
    ("first-label", click.IntRange(0, 1), "The number of the first class in a list.  [default: 0]"),
    ("flow-dir", NAME, "Where extract-flow put the flow; for --stream flow."),
    ("any-flow", bool, "Take flow that was made otherwise than the weights of --init want it, and say how."),
    ("strict", bool, "Stop at a video that cannot be read, in place of taking another."),
    ("architecture", str, "Network to train, one of those in table 1 of the paper."),
    ("stream", click.Choice(defaults.STREAMS), "Which stream to train."),
    ("init", NAME, "Weights to start from: a name or a checkpoint.  [default: fresh ones]"),
    ("width", option_type(defaults.WIDTHS), "Channels of each layer, as a fraction of the paper's."),
    ("dropout", FloatRange(0, 1, max_open=True), "Before the classifier."),
    ("clip-len", FRAMES, f"Frames of a clip.  [default: those of --init, or {defaults.CLIP_LEN}]"),
    ("crop", PIXELS, f"Pixels of the square that is seen.  [default: those of --init, or {defaults.CROP}]"),
    ("short-side", PIXELS, f"Pixels, resized to before the crop.  [default: those of --init, or {defaults.SHORT_SIDE}]"),
    ("fps", RATE, f"Frames per second.  [default: those of --init, or {defaults.FPS:g}]"),
    ("bound", BOUND, f"Pixels per frame at which flow is clamped.  [default: those of --init, or {defaults.FLOW_BOUND:g}]"),
    ("flip", bool, "Mirror half of the clips; leave it out where left and right are classes."),
    ("epochs", POSITIVE, "Passes over the training videos."),
    ("steps", COUNT, "Steps of the optimizer, in place of --epochs."),
    ("batch-size", click.IntRange(1, 100_000), "Clips that a process looks at at once."),
    ("accumulate", COUNT, "Batches per step.  [default: 1, or such that a step has as many clips as the recipe's]"),
    ("lr", FRACTION, "Learning rate."),
    ("schedule", click.Choice(recipes.SCHEDULES), "How it falls: to zero, at --lr-steps, or when validation stops improving."),
    ("lr-steps", str, "STEP:LR,STEP:LR,... of --schedule step."),
    ("patience", COUNT, "Validations without a lower loss until --schedule plateau divides the rate by 10."),
    ("warmup", click.IntRange(0), "Steps in which the rate rises to --lr."),
    ("momentum", FloatRange(0, 1, max_open=True), "Of SGD."),
    ("weight-decay", FRACTION, "On filters."),
    ("clip-grad", POSITIVE, "Largest norm of the gradient.  [default: any]"),
    ("freeze-bn", bool, "Leave batch norm as it is."),
    ("freeze-until", str, "Leave all layers up to this one as they are, such as Mixed_4f."),
    ("sync-bn", bool, "Batch statistics over the clips of all processes; CUDA only."),
    (
        "precision",
        click.Choice(recipes.PRECISIONS),
        "Of the network's arithmetic; weights are fp32. On CUDA, fp32 convolves in TF32.",
    ),
    ("seed", click.IntRange(0, 2**63 - 1), "Of all that is random."),
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


@click.command()
@click.argument("train", type=NAME, required=False, metavar="[TRAIN]")
@click.option("--out", required=True, type=NAME, metavar="RUN", help="The run's folder: checkpoints, log, curves.")
@click.option(
    "--recipe", type=click.Choice(list(recipes.RECIPES)), help="The numbers of a paper, printed; options override them."
)
@click.option("--resume", is_flag=True, help="Go on with the run in RUN; its options need not be given again.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Where to train.")
@click.option("--workers", type=PROCESSES, help="Processes that read videos.  [default: a core each but one, up to 8]")
@click.option("--compile", is_flag=True, help="Compile the network with torch.compile.")
@click.option("--log-every", type=COUNT, metavar="STEPS", help="Add rows to log.csv between epochs.")
@train_options
@click.pass_context
def train(ctx: click.Context, /, out: str, recipe: str | None, resume: bool, **options: Any) -> None:
    """Train one stream on TRAIN: a folder of classes, a list of videos and labels, or a dataset's own split files.

    Prints the best validation, or the last loss where there is none. A part that is called test is not looked at. Under
    torchrun, processes share the work; after Ctrl-C or SIGTERM the run can be resumed and ends with the same weights as
    if it had not been stopped.

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
