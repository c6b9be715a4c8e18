"""The command `i3d`: parse → one call → print. Heavy imports wait inside the commands, so that help comes at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .. import __version__, defaults
from ..data import FORMATS
from ..errors import I3DError
from ..text import counted, shown
from ..training import options as recipes
from .common import (
    BOUND,
    CLASSES,
    COUNT,
    NAME,
    PIXELS,
    PROCESSES,
    TIMELINE_OPTIONS,
    Span,
    check_eval_options,
    check_timeline_options,
    chosen_streams,
    flow_options,
    numbers_from_text,
    rate_steps,
    shard_from_text,
    span_from_text,
    train_options,
    tvl1_options,
)
from .gate import ErrorGate, error_lines, say, told_if_interrupted

if TYPE_CHECKING:
    from ..flow import Outcome
    from ..prediction import Prediction, Timeline, TwoStream


@click.group(cls=ErrorGate, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="i3d")
def main() -> None:
    """Classify what happens in a video with two-stream I3D: RGB and TV-L1 optical flow."""


def list_models(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Print the models that have a name, and end."""
    if wanted:
        from ..checkpoints import zoo

        say(zoo.as_table())
        ctx.exit()


@main.command()
@click.argument("videos", nargs=-1, type=NAME, required=True, metavar="VIDEO...")
@click.option("--model", type=NAME, metavar="NAME", help=f"Weights by name.  [default: {defaults.MODEL}]")
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_models,
    help="Print these names, and what they are.",
)
@click.option("--rgb", type=NAME, metavar="PATH", help="Checkpoint of the RGB stream, in place of --model.")
@click.option("--flow", type=NAME, metavar="PATH", help="Checkpoint of the flow stream, in place of --model.")
@click.option("--flow-dir", type=NAME, metavar="DIR", help="Use the flow that extract-flow wrote to DIR.")
@click.option(
    "--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to run.  [default: both, or those given]"
)
@click.option("--top-k", type=click.IntRange(1), default=defaults.TOP_K, metavar="K", help="Labels to print.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.option(
    "--labels", type=NAME, metavar="FILE|NAME", help="Names of the classes: text, JSON, CSV, or a model's, as kinetics400."
)
@click.option("--json", is_flag=True, help="Print one JSON object per line and video.")
@click.option("--csv", is_flag=True, help="Print CSV, one line per label.")
@click.option("--scores", type=NAME, metavar="FILE.npz", help="Write the logits of each stream.")
@click.option("--features", type=NAME, metavar="FILE.npz", help="Write the features before the classifier, with their seconds.")
@click.option("--timeline", is_flag=True, help="Print the labels of each window of a video, not of the whole.")
@click.option(
    "--window", callback=span_from_text, metavar="N|Ns", help="Frames or seconds.  [default: a clip of the model's training]"
)
@click.option("--stride", callback=span_from_text, metavar="N|Ns", help="From window to window.  [default: the window]")
@click.option("--plot", type=NAME, metavar="FILE.png|.svg", help="Draw the timeline of one video.")
@click.option("--annotate", type=NAME, metavar="FILE.mp4", help="Write one video with each window's labels on it.")
@click.option("--show-flow", is_flag=True, help="Show the flow too in the video of --annotate.")
@click.option("--overwrite", is_flag=True, help="Replace the files that are to be written where they are there already.")
@click.pass_context
def predict(
    ctx: click.Context, /, videos: tuple[str, ...], json: bool, csv: bool, top_k: int, overwrite: bool, **options: Any
) -> None:
    """Print the most probable labels of each VIDEO: files, folders, folders of pictures, or @list.txt.

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
    sources = [*(video.removeprefix("@") for video in videos), *videos, *(options[name] for name in ("rgb", "flow", "labels"))]
    check_outputs(scores, features, over_time["plot"], over_time["annotate"], inputs=sources, overwrite=overwrite)
    model = model_from_options(**options)
    check_flow_stream(model, {"--flow-dir": flow_dir, "--show-flow": over_time["show_flow"]})
    timeline = timeline_from_options(model, top_k=top_k, overwrite=overwrite, **over_time)
    from ..prediction import predict as verb
    from ..prediction import records

    show = partial(records.as_json if json else records.as_csv if csv else records.as_table, timeline=timeline is not None)
    if csv:
        say(",".join(records.csv_fields(timeline=timeline is not None)))
    failed = False
    wanted = {"flow_dir": flow_dir, "features": features is not None, "timeline": timeline}
    count = 0
    what = "window" if timeline is not None else "video"
    printed = told_if_interrupted(lambda: f"{counted(count, what)} predicted and printed; nothing else is kept")
    writing = outputs(scores=scores, features=features, overwrite=overwrite)
    with printed, writing as done, error_lines() as tell_error:
        for outcome in verb.predict_videos(model, videos, **wanted, progress=True):
            failed |= isinstance(outcome, I3DError)
            if isinstance(outcome, I3DError):
                tell_error(outcome)
            elif isinstance(outcome, str):
                say(f"Note: {outcome}", err=True)
            else:
                say(show(outcome, top_k), exact=json or csv)
                count += 1
                if scores or features:
                    done.append(outcome)
    ctx.exit(1 if failed else 0)


@contextlib.contextmanager
def outputs(*, scores: str | None, features: str | None, overwrite: bool) -> Iterator[list[Prediction]]:
    """A list that is written to these files at the end of the block; where that is an interruption, it is said, too.

    What an interrupted run has done does not replace files that are there.
    """
    from ..prediction import write_outputs

    done: list[Prediction] = []

    def keep() -> str:
        if not done:
            return "nothing is predicted yet"
        paths = {"scores": scores, "features": features}
        new = {name: path for name, path in paths.items() if path is None or not os.path.lexists(path)}
        write_outputs(done, **{"scores": None, "features": None, **new}, overwrite=False)
        files = " and ".join(shown(path) for path in new.values() if path)
        kept = f"kept in {files}" if files else "not kept, as the files of before are left as they are"
        return f"{counted(len(done), 'video')}, {kept}"

    with told_if_interrupted(keep) if scores or features else contextlib.nullcontext():
        try:
            yield done
        except Exception:
            if done:
                say(f"Note: interrupted after {keep()}", err=True)
            raise
    write_outputs(done, scores=scores, features=features, overwrite=overwrite)


def check_flow_stream(model: TwoStream, options: dict[str, Any]) -> None:
    """Raise UsageError for one of these options that is given where the model has no flow stream."""
    for name, value in options.items():
        if value and "flow" not in model.nets:
            raise click.UsageError(f"{name} needs the flow stream; give its weights too, or leave it out.")


def timeline_from_options(
    model: TwoStream, *, timeline: bool, window: Span | None, stride: Span | None, **more: Any
) -> Timeline | None:
    """What the options ask of this model, or None for whole videos; raises UsageError for what it cannot do."""
    if not (timeline or more["plot"] or more["annotate"]):
        return None
    from ..prediction import Timeline

    fps = model.preprocessing.fps
    length = model.preprocessing.clip_len if window is None else frames_in(window, fps)
    step = length if stride is None else frames_in(stride, fps)
    if length < 2:
        raise click.UsageError(f"--window is {counted(length, 'frame')} at {fps:g} fps, expected at least 2.")
    if step < 1:
        raise click.UsageError(f"--stride is less than a frame at {fps:g} fps.")
    return Timeline(length, step, **more)


def frames_in(span: Span, fps: float) -> int:
    number, unit = span
    return round(number if unit == "frames" else number * fps)


@main.command("extract-flow")
@click.argument("inputs", nargs=-1, type=NAME, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=NAME, metavar="DIR", help="Where each video gets a folder of its own.")
@click.option(
    "--format", type=click.Choice(defaults.FLOW_FORMATS), default=defaults.FLOW_FORMATS[0], help="How flow is stored."
)
@click.option("--bound", type=BOUND, default=defaults.FLOW_BOUND, help="Pixels per frame at which jpg and zip are clamped.")
@click.option("--fps", default=f"{defaults.FPS:g}", metavar="FPS|native", help="Frames per second to resample to.")
@click.option("--short-side", type=PIXELS, default=defaults.SHORT_SIDE, help="Pixels, resized to before the flow.")
@click.option("--frames", is_flag=True, help="Write the RGB frames too, as img_00001.jpg ...")
@click.option("--viz", is_flag=True, help="Write flow.mp4 too: hue is direction, strength is speed, white is still.")
@click.option("--quality", type=click.IntRange(1, 100), default=defaults.JPEG_QUALITY, help="Of JPEG pictures.")
@click.option("--algorithm", type=click.Choice(defaults.FLOW_ALGORITHMS), default=defaults.FLOW_ALGORITHM, help="Of flow.")
@click.option("--overwrite", is_flag=True, help="Do again what is there.")
@click.option(
    "--shard", callback=shard_from_text, metavar="I/N", help="Take every N-th video from the I-th on, counted from 0."
)
@click.option("--device", type=NAME, default="cpu", metavar="cpu|cuda[:N]", help="Where TV-L1 runs; cuda is new and untried.")
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
    run = {name: options.pop(name) for name in ("overwrite", "device", "threads", "shard")}
    from ..distributed import choose_device, process_group
    from ..flow import extract as verb

    chosen = flow_options(ctx, **options)
    run["device"] = verb.flow_device(run["device"])
    counts = Counter[str]()
    with process_group(choose_device("cpu")) as (group, _):
        run["shard"] = run["shard"] or (group.rank, group.size)
        telling = told_if_interrupted(lambda: f"{verb.summary(counts)}; run it again to go on", by_all=True)
        with telling, error_lines() as tell_error:
            for outcome in verb.extract_videos(inputs, out, chosen, **run, progress=run["shard"][0] == 0):
                counts[outcome.status] += 1
                if outcome.error is None:
                    tell(outcome)
                else:
                    tell_error(outcome.error)
        say(verb.summary(counts), err=True)
        failed = any(group.gather(counts["failed"] > 0))  # torchrun ends all when the first ends with an error
    ctx.exit(1 if failed else 0)


def tell(outcome: Outcome) -> None:
    """Print what became of a video."""
    if outcome.status == "elsewhere":
        say(f"Note: left to another process: {shown(outcome.video)}", err=True)
    else:
        say(shown(outcome.folder))
        if outcome.note is not None:
            say(f"Note: {outcome.note}", err=True)


@main.command()
@click.argument("source", type=NAME)
@click.option("--out", required=True, type=NAME, metavar="FILE", help="Where the checkpoint is written.")
@click.option("--stream", type=click.Choice(defaults.STREAMS), default=defaults.STREAMS[0], help="Input of the I3D.")
@click.option("--num-classes", type=CLASSES, metavar="N", help="Of the new head.  [default: Kinetics' 400, named]")
@click.option("--classes", type=NAME, metavar="FILE", help="Names of the new head's classes: text, JSON or CSV.")
@click.option("--no-rescale", is_flag=True, help="Repeat filters along time without dividing them by their size.")
@click.option("--overwrite", is_flag=True, help="Replace FILE where it is there already.")
def inflate(
    source: str, out: str, stream: str, num_classes: int | None, classes: str | None, no_rescale: bool, overwrite: bool
) -> None:
    """Turn the 2D ImageNet weights at SOURCE (torchvision's GoogLeNet) into an I3D to train, with a new random head.

    Prints which filter became which, and how far activations on a still video are from the 2D network's.

    \b
    Examples:
      i3d inflate googlenet.pth --out rgb.pt
      i3d inflate googlenet.pth --out flow.pt --stream flow --classes labels.txt
    """
    if classes is not None and num_classes is not None:
        raise click.UsageError("--classes and --num-classes name the classes twice; give one or the other.")
    check_outputs(out, inputs=[source, classes], overwrite=overwrite)
    from ..checkpoints import find_model, save_checkpoint
    from ..checkpoints import inflate as verb
    from ..class_names import read_class_names

    names = None
    if classes is not None:
        names = read_class_names(classes)
    elif num_classes is None:
        names = find_model(defaults.MODEL).classes()
    count = num_classes or len(names or ())
    result = verb.inflate_checkpoint(source, stream=stream, num_classes=count, classes=names, rescale=not no_rescale)
    save_checkpoint(result.net, out, overwrite=overwrite)
    say(result.as_table())


def model_from_options(
    model: str | None, rgb: str | None, flow: str | None, stream: str | None, device: str, labels: str | None
) -> TwoStream:
    """The model that the options of a command name; raises UsageError for options that contradict each other."""
    streams = chosen_streams(model=model, rgb=rgb, flow=flow, stream=stream)
    from ..checkpoints import named_classes
    from ..prediction import load_model

    names = None if labels is None else named_classes(labels)
    with told_if_interrupted(lambda: "nothing is predicted yet"):
        return load_model(model, rgb=rgb, flow=flow, streams=streams, device=device, labels=names)


def check_outputs(*paths: str | None, inputs: Iterable[str | None], overwrite: bool) -> None:
    """Refuse output files that could not be written, or only over an input or each other, before hours of work go by.

    Without `overwrite`, those that are there already are refused, too.
    """
    from ..checkpoints import split_key
    from ..files import check_writable

    taken = [str(split_key(path)[0]) for path in inputs if path is not None]
    for path in paths:
        if path is not None:
            check_writable(path, others=taken, overwrite=overwrite)
            taken.append(path)


@main.command()
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
        say(f"Recipe {recipe}: {recipes.as_text(chosen)}", err=True)
    with told_if_interrupted(lambda: verb.what_is_kept(out)):
        result = verb.train_from(chosen, out, **how, resume=resume, note=lambda text: say(text, err=True), progress=True)
    if result.stopped_by is not None:
        if result.first:
            say(f"Stopped after step {result.step}: {shown(out)}: go on with --resume", err=True)
        ctx.exit(128 + result.stopped_by)
    if result.first:
        say(verb.as_text(result, out))


@main.command("eval")
@click.argument("source", type=NAME, required=False, metavar="[SPLIT]")
@click.option("--model", type=NAME, metavar="NAME", help="Weights by name.")
@click.option("--rgb", type=NAME, metavar="PATH", help="Checkpoint of RGB; {split} stands for the number of a split.")
@click.option("--flow", type=NAME, metavar="PATH", help="Checkpoint of flow, likewise.")
@click.option("--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to score.  [default: those given]")
@click.option("--flow-dir", type=NAME, metavar="DIR", help="Use the flow that extract-flow wrote to DIR.")
@click.option("--protocol", type=click.Choice(["full", "clips"]), default="full", help="Every frame, or clips and crops.")
@click.option("--max-frames", type=COUNT, help=f"Of full: look at no more frames; the paper's are {defaults.MAX_CLIP_LEN}.")
@click.option("--clips", type=click.IntRange(1, 1000), help=f"Of clips: how many per video.  [default: {defaults.TEST_CLIPS}]")
@click.option(
    "--crops",
    type=click.Choice(["1", "3"]),
    callback=lambda ctx, param, text: text and int(text),
    help="Of clips: how many along the longer side.  [default: 1]",
)
@click.option("--format", type=click.Choice(["auto", *FORMATS]), default="auto", help="How SPLIT names videos and labels.")
@click.option(
    "--split",
    callback=numbers_from_text(int),
    default="1",
    metavar="1,2,3",
    help="Of UCF-101, HMDB-51.",
)
@click.option("--root", type=NAME, help="The folder in which the videos lie.  [default: that of the list]")
@click.option("--classes", type=NAME, help="Names of the classes, for lists of numbers: text, JSON or CSV.")
@click.option("--first-label", type=click.IntRange(0, 1), help="The number of the first class in a list.  [default: 0]")
@click.option(
    "--scores", multiple=True, type=NAME, metavar="FILE.npz", help="Saved scores to fuse, in place of running networks."
)
@click.option(
    "--fusion-weights", callback=numbers_from_text(float), default="1,1", metavar="RGB,FLOW", help="In the mean of the logits."
)
@click.option("--sweep-fusion", is_flag=True, help="Print the accuracy for fusion weights from 0 to 1, too.")
@click.option("--out", type=NAME, metavar="DIR", help="Write metrics, scores, tables and report.html here.")
@click.option("--overwrite", is_flag=True, help="Score all videos anew, and replace what is in DIR of these files.")
@click.option("--strict", is_flag=True, help="Stop at a video that cannot be read.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.pass_context
def evaluate(ctx: click.Context, /, **options: Any) -> None:
    """Score checkpoints on SPLIT (all that train takes): the accuracy of RGB, flow and two-stream, with 95 % intervals.

    Of a dataset with parts, the validation part is scored, or the test part if it has no other; name videos/test to
    score that. Where weights were chosen on videos that are scored, it is said. With --out, what is scored is kept, and
    running it again goes on where it stopped. Under torchrun, processes share the videos.

    \b
    Examples:
      i3d eval test.txt --rgb runs/rgb/best.pt --flow runs/flow/best.pt --out results/
      i3d eval ucfTrainTestlist/ --split 1,2,3 --rgb 'runs/rgb-{split}/best.pt' --max-frames 250
      i3d eval --scores rgb/scores.npz --scores flow/scores.npz --sweep-fusion
    """
    weights = {name: options[name] for name in ("model", "rgb", "flow")}
    options["streams"] = chosen_streams(**weights, stream=options.pop("stream"))
    check_eval_options(options)
    sweep = options.pop("sweep_fusion")
    from ..evaluation import evaluate as verb
    from ..evaluation import findings

    command = f"i3d {shlex.join(sys.argv[1:])}"
    evaluations = []
    out = options["out"]
    kept = f"what was scored is in {shown(out)}; run it again to go on" if out else "nothing is kept; with --out it would be"
    with told_if_interrupted(lambda: kept):
        for number, evaluation in verb.evaluate_splits(
            verb.EvalOptions(**options), command=command, note=lambda text: say(text, err=True), progress=True
        ):
            evaluations.append(evaluation)
            title = [f"split {number}"] if len(options["split"]) > 1 else []
            swept = [findings.sweep_table(evaluation.scores)] if sweep else []
            say("\n".join([*title, findings.as_table(evaluation), *swept]))
    if len(evaluations) > 1:
        say(f"mean of {len(evaluations)} splits\n{findings.mean_table(evaluations)}")
    ctx.exit(0 if all(evaluation.complete for evaluation in evaluations) else 1)
