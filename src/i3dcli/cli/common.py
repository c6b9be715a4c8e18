"""The options of the commands that have many: tables of them, what their texts mean, and which contradict each other."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .. import defaults
from ..data import FORMATS
from ..training import options as recipes

if TYPE_CHECKING:
    from ..flow import FlowOptions


class Name(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has none
    """A path, or another name; the empty one is of a variable that is not set."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail("it is empty.", param, ctx)
        return value


NAME = Name()

Span = tuple[float, str]  # a number, and its unit: frames or seconds


def span_from_text(ctx: click.Context, param: click.Parameter, text: str | None) -> Span | None:
    """N or Ns as frames or seconds."""
    number = (text or "").removesuffix("s")
    with contextlib.suppress(ValueError):
        if text == number and int(number) > 0:
            return int(number), "frames"
        if text != number and 0 < float(number) < float("inf"):
            return float(number), "seconds"
    if text is None:
        return None
    raise click.BadParameter(f"{text!r} is neither frames such as 64 nor seconds such as 2.5s.")


TIMELINE_OPTIONS = ("timeline", "window", "stride", "plot", "annotate", "show_flow")


def check_timeline_options(videos: tuple[str, ...], options: dict[str, Any]) -> None:
    """Raise UsageError for options of predict that contradict each other, or make no timeline."""
    plot, annotate = options["plot"], options["annotate"]
    timeline = options["timeline"] or plot or annotate
    complaints = (
        (
            not timeline and (options["window"] or options["stride"]),
            "--window and --stride are for --timeline, --plot and --annotate.",
        ),
        (options["show_flow"] and not annotate, "--show-flow needs --annotate FILE.mp4."),
        (
            timeline and (options["scores"] or options["features"]),
            "--scores and --features are of whole videos; leave out --timeline, --plot and --annotate.",
        ),
        ((plot or annotate) and len(videos) > 1, f"--plot and --annotate draw one video; got {len(videos)}."),
        (plot and not plot.lower().endswith((".png", ".svg")), f"--plot {plot!r} is neither .png nor .svg."),
        (annotate and not annotate.lower().endswith(".mp4"), f"--annotate {annotate!r} is not .mp4."),
        *(
            (options[name] and not options[name].lower().endswith(".npz"), f"--{name} {options[name]!r} is not .npz.")
            for name in ("scores", "features")
        ),
    )
    for wrong, text in complaints:
        if wrong:
            raise click.UsageError(text)


def shard_from_text(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """I/N as (I, N)."""
    if text is None:
        return None
    if "RANK" in os.environ:
        raise click.UsageError("--shard is for processes that are started one by one; torchrun shares the videos by itself.")
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise click.BadParameter(f"{text!r} is not I/N with 0 <= I < N, such as 0/4.")
    return int(index), int(count)


class FloatRange(click.FloatRange):
    """A range of numbers without NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def option_type(allowed: defaults.Range) -> click.ParamType:  # type: ignore[type-arg]  # click 8.1 has none
    """The type of an option whose values are those of a range."""
    return click.IntRange(int(allowed.least), int(allowed.most)) if allowed.whole else FloatRange(allowed.least, allowed.most)


POSITIVE = FloatRange(0, min_open=True)
BOUND = option_type(defaults.RANGES["flow_bound"])
RATE = option_type(defaults.RANGES["fps"])
FRAMES = option_type(defaults.RANGES["clip_len"])
PIXELS = option_type(defaults.PIXELS)
CLASSES = option_type(defaults.CLASSES)
PROCESSES = click.IntRange(0, 256)

TVL1_OPTIONS = {  # a field of TVL1 and its help; the ranges are those of its own
    "tau": "Time step of the dual variable.",
    "lambda_": "Weight of the data term: smaller is smoother.",
    "theta": "Tightness of the coupling.",
    "scales": "Levels of the pyramid.",
    "warps": "Warps per level.",
    "epsilon": "Mean squared change, in pixels, below which iterations stop; squared.",
    "inner_iterations": "Iterations between two median filters, at most.",
    "outer_iterations": "Rounds of iterations per warp.",
    "scale_step": "Size of a level to the one below it.",
    "median": "Median filter: 5 as OpenCV's CPU class, 0 as its CUDA class and denseflow.",
}


def tvl1_option(field: str) -> str:
    """As it is on the command line."""
    return f"--{field.rstrip('_').replace('_', '-')}"


def tvl1_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every parameter of TV-L1 as an option."""
    for field, text in reversed(TVL1_OPTIONS.items()):
        allowed = defaults.TVL1_RANGES.get(field)
        kind = click.Choice(["0", "3", "5"]) if allowed is None else option_type(allowed)
        default = getattr(defaults.TVL1(), field)
        command = click.option(tvl1_option(field), field, type=kind, default=default, help=f"TV-L1: {text}")(command)
    return command


def flow_options(ctx: click.Context, /, algorithm: str, fps: str, **options: Any) -> FlowOptions:
    """What the options of extract-flow ask for; raises UsageError for options that contradict each other."""
    from ..flow import FlowOptions

    chosen = {field: options.pop(field) for field in TVL1_OPTIONS}
    parameters = None
    if algorithm == defaults.FLOW_ALGORITHM:
        parameters = defaults.TVL1(**{**chosen, "median": int(chosen["median"])})
    elif given := [field for field in chosen if ctx.get_parameter_source(field) is not ParameterSource.DEFAULT]:
        raise click.UsageError(f"{tvl1_option(given[0])} is of TV-L1, not of --algorithm {algorithm}.")
    return FlowOptions(algorithm=algorithm, fps=frame_rate(fps), parameters=parameters, **options)


def frame_rate(text: str) -> float | None:
    """Frames per second, or None for "native"; raises UsageError."""
    allowed = defaults.RANGES["fps"]
    if text == "native":
        return None
    with contextlib.suppress(ValueError):
        if float(text) in allowed:
            return float(text)
    raise click.UsageError(
        f"--fps {text!r} is neither native nor a number of frames per second from {allowed.least:g} to {allowed.most:g}."
    )


COUNT, FRACTION = click.IntRange(1), FloatRange(0)

TRAIN_OPTIONS = (  # a field of TrainOptions, its type, help; the defaults are there
    ("val", NAME, "Validation videos, where TRAIN does not name them itself."),
    (
        "val-fraction",
        FloatRange(0, 1, max_open=True),
        "Part of TRAIN's videos to validate on, by recording.  [default: TRAIN's own part, or 0.1 if that is a test part]",
    ),
    ("format", click.Choice(["auto", *FORMATS]), "How TRAIN and --val name videos and labels."),
    ("split", click.IntRange(1, 3), "Of UCF-101 and HMDB-51."),
    ("root", NAME, "The folder in which the videos lie.  [default: that of the list]"),
    ("classes", NAME, "Names of the classes, for lists of numbers: text, JSON or CSV."),
    ("first-label", click.IntRange(0, 1), "The number of the first class in a list.  [default: 0]"),
    ("flow-dir", NAME, "Where extract-flow put the flow; for --stream flow."),
    ("strict", bool, "Stop at a video that cannot be read, in place of taking another."),
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


def rate_steps(text: str) -> tuple[tuple[int, float], ...]:
    """STEP:LR,... as pairs; raises UsageError."""
    with contextlib.suppress(ValueError):
        pairs = [part.split(":") for part in text.split(",")]
        steps = tuple((int(step), float(lr)) for step, lr in pairs)
        if all(step >= 0 and 0 <= lr < math.inf for step, lr in steps):
            return steps
    raise click.UsageError(f"--lr-steps {text!r} is not STEP:LR,STEP:LR,... such as 1000:0.01,2000:0.001.")


def numbers_from_text(kind: type[float]) -> Callable[[click.Context, click.Parameter, str], tuple[float, ...]]:
    """A callback that reads numbers with commas between them."""

    def read(ctx: click.Context, param: click.Parameter, text: str) -> tuple[float, ...]:
        with contextlib.suppress(ValueError):
            return tuple(kind(part) for part in text.split(","))
        raise click.BadParameter(f"{text!r} is not a list of numbers such as {param.default}.")

    return read


def chosen_streams(*, model: str | None, rgb: str | None, flow: str | None, stream: str | None) -> tuple[str, ...] | None:
    """The streams that options ask for, None for those that there are weights for.

    Raises UsageError for weights that are named twice, or not at all for a stream.
    """
    given = [name for name, path in (("rgb", rgb), ("flow", flow)) if path is not None]
    if given and model is not None:
        raise click.UsageError("--model and --rgb or --flow name weights twice; give one or the other.")
    wanted = defaults.STREAMS if stream == "both" else (stream,) if stream else None
    missing = [f"--{name}" for name in wanted or () if given and name not in given]
    if missing:
        raise click.UsageError(f"--stream {stream} needs {' and '.join(missing)} PATH too.")
    return wanted


def check_eval_options(options: dict[str, Any]) -> None:
    """Raise UsageError for options of eval that contradict each other."""
    weights = [name for name in ("model", "rgb", "flow") if options[name] is not None]
    both = options["streams"] in (None, defaults.STREAMS) and weights in (["model"], ["rgb", "flow"])
    complaints = (
        (options["scores"] and weights, "--scores are fused without a network; leave out --model, --rgb and --flow."),
        (
            not options["scores"] and not weights,
            "No weights: give --rgb PATH, --flow PATH, --model NAME or --scores NPZ.",
        ),
        (options["scores"] and options["source"], "--scores hold the labels of their videos; leave out SPLIT."),
        (not options["scores"] and not options["source"], "Missing argument 'SPLIT', the videos to score."),
        (
            options["protocol"] == "full" and (options["clips"] or options["crops"]),
            "--clips and --crops are for --protocol clips.",
        ),
        (len(set(options["split"])) < len(options["split"]), "--split names a split twice."),
        (options["protocol"] == "clips" and options["max_frames"], "--max-frames is for --protocol full."),
        (
            options["sweep_fusion"] and not options["scores"] and not both,
            "--sweep-fusion needs the weights of both streams.",
        ),
        (len(options["fusion_weights"]) != 2, "--fusion-weights takes two numbers, of RGB and of flow."),
        (
            min(options["fusion_weights"]) < 0 or not 0 < sum(options["fusion_weights"]) < math.inf,
            "--fusion-weights must be finite, not negative and not all zero.",
        ),
    )
    for wrong, text in complaints:
        if wrong:
            raise click.UsageError(text)
