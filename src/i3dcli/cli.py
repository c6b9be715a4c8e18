"""The command `i3d`: parse → one call → print. Heavy imports wait inside the commands, so that help comes at once."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from . import __version__, defaults, recipes
from .datasets import FORMATS
from .errors import I3DError, shown

if TYPE_CHECKING:
    from .extract import FlowOptions
    from .predict import Timeline
    from .two_stream import TwoStream


class OneLineUsageError(click.ClickException):
    """A wrong command line, told in one line as every other error, exit code 2."""

    exit_code = click.UsageError.exit_code


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """This package's errors become one line on stderr and exit code 1; wrong usage, one line and exit code 2."""
    try:
        yield
    except I3DError as error:
        raise click.ClickException(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "i3d"
        raise OneLineUsageError(f"{error.format_message()} See {path} -h.") from error


class ErrorGate(click.Group):
    """The one place where errors become lines and exit codes."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)


@click.group(cls=ErrorGate, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="i3d")
def main() -> None:
    """Classify what happens in a video with two-stream I3D: RGB and TV-L1 optical flow."""


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


@main.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--model", metavar="NAME", help=f"Weights by name.  [default: {defaults.MODEL}]")
@click.option("--rgb", type=click.Path(), metavar="PATH", help="Checkpoint of the RGB stream, in place of --model.")
@click.option("--flow", type=click.Path(), metavar="PATH", help="Checkpoint of the flow stream, in place of --model.")
@click.option("--flow-dir", type=click.Path(), metavar="DIR", help="Use the flow that extract-flow wrote to DIR.")
@click.option(
    "--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to run.  [default: both, or those given]"
)
@click.option("--top-k", type=click.IntRange(1), default=defaults.TOP_K, metavar="K", help="Labels to print.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Names of the classes, one per line.")
@click.option("--json", is_flag=True, help="Print one JSON object per line and video.")
@click.option("--csv", is_flag=True, help="Print CSV, one line per label.")
@click.option("--scores", type=click.Path(), metavar="FILE.npz", help="Write the logits of each stream.")
@click.option("--features", type=click.Path(), metavar="FILE.npz", help="Write the 1024-d features, with their seconds.")
@click.option("--timeline", is_flag=True, help="Print the labels of each window of a video, not of the whole.")
@click.option(
    "--window", callback=span_from_text, metavar="N|Ns", help="Frames or seconds.  [default: a clip of the model's training]"
)
@click.option("--stride", callback=span_from_text, metavar="N|Ns", help="From window to window.  [default: the window]")
@click.option("--plot", type=click.Path(), metavar="FILE.png|.svg", help="Draw the timeline of one video.")
@click.option("--annotate", type=click.Path(), metavar="FILE.mp4", help="Write one video with each window's labels on it.")
@click.option("--show-flow", is_flag=True, help="Show the flow too in the video of --annotate.")
@click.pass_context
def predict(ctx: click.Context, /, videos: tuple[str, ...], json: bool, csv: bool, top_k: int, **options: Any) -> None:
    """Print the most probable labels of each VIDEO: files, folders, or @list.txt.

    \b
    Examples:
      i3d predict video.mp4
      i3d predict --rgb rgb.pt --flow flow.pt --json clips/ > labels.jsonl
      i3d predict film.mp4 --timeline --window 2s --plot scores.svg
    """
    if json and csv:
        raise click.UsageError("--json and --csv are two forms of the output; give one or the other.")
    check_timeline_options(videos, options)
    over_time = {name: options.pop(name) for name in TIMELINE_OPTIONS}
    scores, features, flow_dir = (options.pop(name) for name in ("scores", "features", "flow_dir"))
    check_outputs(scores, features, over_time["plot"], over_time["annotate"])
    model = model_from_options(**options)
    timeline = timeline_from_options(model, top_k=top_k, **over_time)
    from . import predict as verb

    show = partial(verb.as_json if json else verb.as_csv if csv else verb.as_table, timeline=timeline is not None)
    if csv:
        click.echo(",".join(verb.csv_fields(timeline=timeline is not None)))
    done, failed = [], False
    try:
        wanted = {"flow_dir": flow_dir, "features": features is not None, "timeline": timeline}
        for outcome in verb.predict_videos(model, videos, **wanted, progress=True):
            failed |= isinstance(outcome, I3DError)
            if isinstance(outcome, I3DError | str):
                say(f"{'Note' if isinstance(outcome, str) else 'Error'}: {outcome}", err=True)
            else:
                say(show(outcome, top_k))
                done.append(outcome)
    finally:  # what is done is kept, also when the next video is interrupted
        verb.write_outputs(done, scores=scores, features=features)
    ctx.exit(1 if failed else 0)


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
    )
    for wrong, text in complaints:
        if wrong:
            raise click.UsageError(text)


def timeline_from_options(
    model: TwoStream, *, timeline: bool, window: Span | None, stride: Span | None, show_flow: bool, **more: Any
) -> Timeline | None:
    """What the options ask of this model, or None for whole videos; raises UsageError for what it cannot do."""
    if not (timeline or more["plot"] or more["annotate"]):
        return None
    from .predict import Timeline

    if show_flow and "flow" not in model.nets:
        raise click.UsageError("--show-flow needs the flow stream; give its weights too, or leave it out.")
    fps = model.preprocessing.fps
    length = model.preprocessing.clip_len if window is None else frames_in(window, fps)
    step = length if stride is None else frames_in(stride, fps)
    if length < 2:
        raise click.UsageError(f"--window is {length} frame{'s' * (length != 1)} at {fps:g} fps, expected at least 2.")
    if step < 1:
        raise click.UsageError(f"--stride is less than a frame at {fps:g} fps.")
    return Timeline(length, step, show_flow=show_flow, **more)


def frames_in(span: Span, fps: float) -> int:
    number, unit = span
    return round(number if unit == "frames" else number * fps)


def shard_from_text(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, int]:
    """I/N as (I, N); without it, this process's share under torchrun, or everything."""
    if text is None:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
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


POSITIVE = FloatRange(0, min_open=True)
TVL1_OPTIONS = (  # field of TVL1, type, help
    ("tau", POSITIVE, "Time step of the dual variable."),
    ("lambda_", POSITIVE, "Weight of the data term: smaller is smoother."),
    ("theta", POSITIVE, "Tightness of the coupling."),
    ("scales", click.IntRange(1), "Levels of the pyramid."),
    ("warps", click.IntRange(1), "Warps per level."),
    ("epsilon", FloatRange(0), "Mean squared change, in pixels, below which iterations stop; squared."),
    ("inner_iterations", click.IntRange(1), "Iterations between two median filters, at most."),
    ("outer_iterations", click.IntRange(1), "Rounds of iterations per warp."),
    ("scale_step", click.FloatRange(0, 1, min_open=True, max_open=True), "Size of a level to the one below it."),
    ("median", click.Choice(["0", "3", "5"]), "Median filter: 5 as OpenCV's CPU class, 0 as its CUDA class and denseflow."),
)


def tvl1_option(field: str) -> str:
    """As it is on the command line."""
    return f"--{field.rstrip('_').replace('_', '-')}"


def tvl1_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every parameter of TV-L1 as an option."""
    for field, kind, text in reversed(TVL1_OPTIONS):
        default = getattr(defaults.TVL1(), field)
        command = click.option(tvl1_option(field), field, type=kind, default=default, help=f"TV-L1: {text}")(command)
    return command


@main.command("extract-flow")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=click.Path(), metavar="DIR", help="Where each video gets a folder of its own.")
@click.option(
    "--format", type=click.Choice(defaults.FLOW_FORMATS), default=defaults.FLOW_FORMATS[0], help="How flow is stored."
)
@click.option("--bound", type=POSITIVE, default=defaults.FLOW_BOUND, help="Pixels per frame at which jpg and zip are clamped.")
@click.option("--fps", default=f"{defaults.FPS:g}", metavar="FPS|native", help="Frames per second to resample to.")
@click.option("--short-side", type=click.IntRange(1), default=defaults.SHORT_SIDE, help="Pixels, resized to before the flow.")
@click.option("--frames", is_flag=True, help="Write the RGB frames too, as img_00001.jpg ...")
@click.option("--viz", is_flag=True, help="Write flow.mp4 too: hue is direction, strength is speed, white is still.")
@click.option("--quality", type=click.IntRange(1, 100), default=defaults.JPEG_QUALITY, help="Of JPEG pictures.")
@click.option("--algorithm", type=click.Choice(defaults.FLOW_ALGORITHMS), default=defaults.FLOW_ALGORITHM, help="Of flow.")
@click.option("--overwrite", is_flag=True, help="Do again what is there.")
@click.option(
    "--shard", callback=shard_from_text, metavar="I/N", help="Take every N-th video from the I-th on, counted from 0."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where TV-L1 runs; cuda is new and untried.")
@click.option("--threads", type=click.IntRange(1), help="Pairs computed at once.  [default: every core]")
@tvl1_options
@click.pass_context
def extract_flow(ctx: click.Context, /, inputs: tuple[str, ...], out: str, **options: Any) -> None:
    """Compute the flow of each INPUT (videos, folders, folders of pictures, @list.txt) and store it below DIR.

    Running it again goes on where it stopped; several processes may share the work with --shard or torchrun. Prints
    the folder of each video that is done, and on stderr how many were extracted, kept as they were, or failed.

    \b
    Examples:
      i3d extract-flow videos/ --out flow/
      i3d extract-flow @list.txt --out flow/ --format zip --shard 3/8
    """
    run = {name: options.pop(name) for name in ("overwrite", "shard", "device", "threads")}
    from . import extract as verb

    check_cuda(run["device"])
    counts = Counter[str]()
    chosen = flow_options(ctx, **options)
    for outcome in verb.extract_videos(inputs, out, chosen, **run, progress=run["shard"][0] == 0):
        counts[outcome.status] += 1
        if outcome.error is not None:
            say(f"Error: {outcome.error}", err=True)
        elif outcome.status == "elsewhere":
            say(f"Note: left to another process: {shown(outcome.video)}", err=True)
        else:
            say(shown(outcome.folder))
    say(", ".join(f"{counts[status]} {status}" for status in verb.STATUSES if counts[status]) or "0 extracted", err=True)
    ctx.exit(1 if counts["failed"] else 0)


@main.command()
@click.argument("source", type=click.Path())
@click.option("--out", required=True, type=click.Path(), metavar="FILE", help="Where the checkpoint is written.")
@click.option("--stream", type=click.Choice(defaults.STREAMS), default=defaults.STREAMS[0], help="Input of the I3D.")
@click.option("--num-classes", type=click.IntRange(1), metavar="N", help="Of the new head.  [default: Kinetics' 400, named]")
@click.option("--classes", type=click.Path(), metavar="FILE", help="Names of the new head's classes, one per line.")
@click.option("--no-rescale", is_flag=True, help="Repeat filters along time without dividing them by their size.")
def inflate(source: str, out: str, stream: str, num_classes: int | None, classes: str | None, no_rescale: bool) -> None:
    """Turn the 2D ImageNet weights at SOURCE (torchvision's GoogLeNet) into an I3D to train, with a new random head.

    Prints which filter became which, and how far activations on a still video are from the 2D network's.

    \b
    Examples:
      i3d inflate googlenet.pth --out rgb.pt
      i3d inflate googlenet.pth --out flow.pt --stream flow --classes labels.txt
    """
    if classes is not None and num_classes is not None:
        raise click.UsageError("--classes and --num-classes name the classes twice; give one or the other.")
    check_outputs(out)
    from . import inflate as verb
    from .checkpoints import save_checkpoint
    from .files import read_labels
    from .zoo import find_model

    names = None
    if classes is not None:
        names = read_labels(classes)
    elif num_classes is None:
        names = find_model(defaults.MODEL).classes()
    count = num_classes or len(names or ())
    result = verb.inflate_checkpoint(source, stream=stream, num_classes=count, classes=names, rescale=not no_rescale)
    save_checkpoint(result.net, out)
    click.echo(result.as_table())


def check_cuda(device: str) -> None:
    """Raise I3DError for "cuda" where it, or Triton, is not there."""
    if device == "cuda":
        from importlib.util import find_spec

        from .two_stream import choose_device

        choose_device(device)
        if find_spec("triton") is None:
            raise I3DError("no Triton: --device cuda: TV-L1's CUDA kernels need it; pip install triton, or use --device cpu")


def flow_options(ctx: click.Context, /, algorithm: str, fps: str, **options: Any) -> FlowOptions:
    """What the options of extract-flow ask for; raises UsageError for options that contradict each other."""
    from .extract import FlowOptions

    chosen = {field: options.pop(field) for field, *_ in TVL1_OPTIONS}
    parameters = None
    if algorithm == defaults.FLOW_ALGORITHM:
        parameters = defaults.TVL1(**{**chosen, "median": int(chosen["median"])})
    elif given := [field for field in chosen if ctx.get_parameter_source(field) is not ParameterSource.DEFAULT]:
        raise click.UsageError(f"{tvl1_option(given[0])} is of TV-L1, not of --algorithm {algorithm}.")
    return FlowOptions(algorithm=algorithm, fps=frame_rate(fps), parameters=parameters, **options)


def frame_rate(text: str) -> float | None:
    """Frames per second, or None for "native"; raises UsageError."""
    if text == "native":
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1000:
            return float(text)
    raise click.UsageError(f"--fps {text!r} is neither native nor a number of frames per second up to 1000.")


def say(text: str, *, err: bool = False) -> None:
    """Print a line without spoiling a progress bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(text, err=err)


def model_from_options(
    model: str | None, rgb: str | None, flow: str | None, stream: str | None, device: str, labels: str | None
) -> TwoStream:
    """The model that the options of a command name; raises UsageError for options that contradict each other."""
    given = {name: path for name, path in (("rgb", rgb), ("flow", flow)) if path is not None}
    if given and model is not None:
        raise click.UsageError("--model and --rgb or --flow name weights twice; give one or the other.")
    wanted = (stream,) if stream in defaults.STREAMS else defaults.STREAMS if stream or not given else tuple(given)
    missing = [f"--{name}" for name in wanted if given and name not in given]
    if missing:
        raise click.UsageError(f"--stream {stream} needs {' and '.join(missing)} PATH too.")
    from .files import read_labels
    from .two_stream import load_model

    names = None if labels is None else read_labels(labels)
    paths = {name: path for name, path in given.items() if name in wanted}
    return load_model(model, **paths, streams=wanted, device=device, labels=names)


def check_outputs(*paths: str | None) -> None:
    """Refuse output files that could not be written, before hours of work go by."""
    from .files import check_writable

    for path in paths:
        if path is not None:
            check_writable(path)


COUNT, FRACTION = click.IntRange(1), FloatRange(0)
TRAIN_OPTIONS = (  # a field of TrainOptions, its type, help; the defaults are there
    ("val", click.Path(), "Validation videos, where TRAIN does not name them itself."),
    ("format", click.Choice(["auto", *FORMATS]), "How TRAIN and --val name videos and labels."),
    ("split", click.IntRange(1, 3), "Of UCF-101 and HMDB-51."),
    ("root", click.Path(), "The folder in which the videos lie.  [default: that of the list]"),
    ("classes", click.Path(), "Names of the classes, one per line, for lists of numbers."),
    ("first-label", click.IntRange(0, 1), "The number of the first class in a list.  [default: 0]"),
    ("flow-dir", click.Path(), "Where extract-flow put the flow; for --stream flow."),
    ("strict", bool, "Stop at a video that cannot be read, in place of taking another."),
    ("stream", click.Choice(defaults.STREAMS), "Which stream to train."),
    ("init", str, "Weights to start from: a name or a checkpoint.  [default: fresh ones]"),
    ("width", POSITIVE, "Channels of each layer, as a fraction of the paper's."),
    ("dropout", FloatRange(0, 1, max_open=True), "Before the classifier."),
    ("clip-len", COUNT, f"Frames of a clip.  [default: those of --init, or {defaults.CLIP_LEN}]"),
    ("crop", COUNT, f"Pixels of the square that is seen.  [default: those of --init, or {defaults.CROP}]"),
    ("short-side", COUNT, f"Pixels, resized to before the crop.  [default: those of --init, or {defaults.SHORT_SIDE}]"),
    ("fps", POSITIVE, f"Frames per second.  [default: those of --init, or {defaults.FPS:g}]"),
    ("bound", POSITIVE, f"Pixels per frame at which flow is clamped.  [default: those of --init, or {defaults.FLOW_BOUND:g}]"),
    ("flip", bool, "Mirror half of the clips; leave it out where left and right are classes."),
    ("epochs", POSITIVE, "Passes over the training videos."),
    ("steps", COUNT, "Steps of the optimizer, in place of --epochs."),
    ("batch-size", COUNT, "Clips that a process looks at at once."),
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
    ("precision", click.Choice(recipes.PRECISIONS), "Of the network's arithmetic; weights are fp32."),
    ("seed", click.IntRange(0), "Of all that is random."),
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


@main.command()
@click.argument("train", required=False, metavar="[TRAIN]")
@click.option("--out", required=True, type=click.Path(), metavar="RUN", help="The run's folder: checkpoints, log, curves.")
@click.option(
    "--recipe", type=click.Choice(list(recipes.RECIPES)), help="The numbers of a paper, printed; options override them."
)
@click.option("--resume", is_flag=True, help="Go on with the run in RUN; its options need not be given again.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where to train.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read videos.  [default: a core each but one, up to 8]")
@click.option("--compile", is_flag=True, help="Compile the network with torch.compile.")
@click.option("--log-every", type=COUNT, metavar="STEPS", help="Add rows to log.csv between epochs.")
@train_options
@click.pass_context
def train(ctx: click.Context, /, out: str, recipe: str | None, resume: bool, **options: Any) -> None:
    """Train one stream on TRAIN: a folder of classes, a list of videos and labels, or a dataset's own split files.

    Prints the best validation, or the last loss. Under torchrun, processes share the work; after Ctrl-C or SIGTERM the
    run can be resumed and ends with the same weights as if it had not been stopped.

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
    from . import train as verb

    chosen = verb.resumed_options(out, given) if resume else recipes.TrainOptions(**given)
    if complaint := recipes.complaint(chosen):
        raise click.UsageError(complaint)
    if recipe is not None:
        say(f"Recipe {recipe}: {recipes.as_text(chosen)}", err=True)
    result = verb.train_from(chosen, out, **how, resume=resume, note=lambda text: say(text, err=True), progress=True)
    if result.stopped_by is not None:
        if result.first:
            say(f"Stopped after step {result.step}: {shown(out)}: go on with --resume", err=True)
        ctx.exit(128 + result.stopped_by)
    if result.first:
        click.echo(verb.as_text(result, out))


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


@main.command("eval")
@click.argument("source", required=False, metavar="[SPLIT]")
@click.option("--model", metavar="NAME", help="Weights by name.")
@click.option("--rgb", type=click.Path(), metavar="PATH", help="Checkpoint of RGB; {split} stands for the number of a split.")
@click.option("--flow", type=click.Path(), metavar="PATH", help="Checkpoint of flow, likewise.")
@click.option("--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to score.  [default: those given]")
@click.option("--flow-dir", type=click.Path(), metavar="DIR", help="Use the flow that extract-flow wrote to DIR.")
@click.option("--protocol", type=click.Choice(["full", "clips"]), default="full", help="Every frame, or clips and crops.")
@click.option("--max-frames", type=COUNT, help=f"Of full: look at no more frames; the paper's are {defaults.MAX_CLIP_LEN}.")
@click.option("--clips", type=COUNT, help="Of clips: how many per video.  [default: 10]")
@click.option("--crops", type=click.Choice(["1", "3"]), help="Of clips: how many along the longer side.  [default: 1]")
@click.option("--format", type=click.Choice(["auto", *FORMATS]), default="auto", help="How SPLIT names videos and labels.")
@click.option(
    "--split",
    callback=numbers_from_text(int),
    default="1",
    metavar="1,2,3",
    help="Of UCF-101, HMDB-51.",
)
@click.option("--root", type=click.Path(), help="The folder in which the videos lie.  [default: that of the list]")
@click.option("--classes", type=click.Path(), help="Names of the classes, one per line, for lists of numbers.")
@click.option("--first-label", type=click.IntRange(0, 1), help="The number of the first class in a list.  [default: 0]")
@click.option(
    "--scores", multiple=True, type=click.Path(), metavar="FILE.npz", help="Saved scores to fuse, in place of running networks."
)
@click.option(
    "--fusion-weights", callback=numbers_from_text(float), default="1,1", metavar="RGB,FLOW", help="In the mean of the logits."
)
@click.option("--sweep-fusion", is_flag=True, help="Print the accuracy for fusion weights from 0 to 1, too.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Write metrics, scores, tables and report.html here.")
@click.option("--strict", is_flag=True, help="Stop at a video that cannot be read.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.pass_context
def evaluate(ctx: click.Context, /, **options: Any) -> None:
    """Score checkpoints on SPLIT (all that train takes): the accuracy of RGB, flow and two-stream, with 95 % intervals.

    Of a dataset with parts, the test part is scored. With --out, what is scored is kept, and running it again goes on
    where it stopped. Under torchrun, processes share the videos.

    \b
    Examples:
      i3d eval test.txt --rgb runs/rgb/best.pt --flow runs/flow/best.pt --out results/
      i3d eval ucfTrainTestlist/ --split 1,2,3 --rgb 'runs/rgb-{split}/best.pt' --max-frames 250
      i3d eval --scores rgb/scores.npz --scores flow/scores.npz --sweep-fusion
    """
    check_eval_options(options)
    sweep = options.pop("sweep_fusion")
    from . import evaluate as verb
    from . import findings

    options["crops"] = int(options["crops"] or 1)
    command = f"i3d {shlex.join(sys.argv[1:])}"
    evaluations = []
    for number, evaluation in verb.evaluate_splits(
        verb.EvalOptions(**options), command=command, note=lambda text: say(text, err=True), progress=True
    ):
        evaluations.append(evaluation)
        title = [f"split {number}"] if len(options["split"]) > 1 else []
        say("\n".join([*title, findings.as_table(evaluation), *([findings.sweep_table(evaluation.scores)] if sweep else [])]))
    if len(evaluations) > 1:
        click.echo(f"mean of {len(evaluations)} splits\n{findings.mean_table(evaluations)}")
    ctx.exit(1 if any(evaluation.failures for evaluation in evaluations) else 0)


def check_eval_options(options: dict[str, Any]) -> None:
    """Raise UsageError for options of eval that contradict each other."""
    weights = [name for name in ("model", "rgb", "flow") if options[name]]
    stream = options["stream"]
    wanted = defaults.STREAMS if stream == "both" else (stream,) if stream else ()
    missing = [f"--{name}" for name in wanted if weights and not options["model"] and not options[name]]
    both = stream in (None, "both") and (options["model"] or (options["rgb"] and options["flow"]))
    complaints = (
        (options["scores"] and weights, "--scores are fused without a network; leave out --model, --rgb and --flow."),
        (
            not options["scores"] and not weights,
            "No weights: give --rgb PATH, --flow PATH, --model NAME or --scores NPZ.",
        ),
        (options["scores"] and options["source"], "--scores hold the labels of their videos; leave out SPLIT."),
        (not options["scores"] and not options["source"], "Missing argument 'SPLIT', the videos to score."),
        (options["model"] and len(weights) > 1, "--model and --rgb or --flow name weights twice; give one or the other."),
        (
            options["protocol"] == "full" and (options["clips"] or options["crops"]),
            "--clips and --crops are for --protocol clips.",
        ),
        (options["protocol"] == "clips" and options["max_frames"], "--max-frames is for --protocol full."),
        (bool(missing), f"--stream {stream} needs {' and '.join(missing)} PATH too."),
        (
            options["sweep_fusion"] and not options["scores"] and not both,
            "--sweep-fusion needs the weights of both streams.",
        ),
        (len(options["fusion_weights"]) != 2, "--fusion-weights takes two numbers, of RGB and of flow."),
        (
            min(options["fusion_weights"]) < 0 or not 0 < sum(options["fusion_weights"]) < math.inf,
            "--fusion-weights must not be negative, nor all zero.",
        ),
    )
    for wrong, text in complaints:
        if wrong:
            raise click.UsageError(text)
