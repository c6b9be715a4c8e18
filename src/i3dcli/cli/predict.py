"""`i3d predict`: labels of videos, whole or over time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .. import defaults
from ..text import counted, shown
from .common import CLASSES_HELP, FILE_OR_NAME, NAME, check_outputs, chosen_streams
from .gate import error_lines, say, told_if_interrupted

if TYPE_CHECKING:
    from ..prediction import Prediction, Timeline, TwoStream

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


def list_models(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Print the models that have a name, and end."""
    if wanted:
        from ..checkpoints import zoo

        say(zoo.models_table())
        ctx.exit()


@click.command(short_help="Label videos, whole or window by window.")
@click.argument("videos", nargs=-1, type=NAME, required=True, metavar="VIDEO...")
@click.option(
    "--model", type=NAME, metavar="NAME", help=f"Name of the weights; see --list-models.  [default: {defaults.MODEL}]"
)
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_models,
    help="Print the names that --model takes, what they are, and exit.",
)
@click.option("--rgb", type=NAME, metavar="PATH", help="Checkpoint of the RGB stream, in place of --model.")
@click.option("--flow", type=NAME, metavar="PATH", help="Checkpoint of the flow stream, in place of --model.")
@click.option("--flow-dir", type=NAME, metavar="DIR", help="Read the flow that extract-flow wrote to DIR.")
@click.option(
    "--any-flow",
    is_flag=True,
    help="Use flow of --flow-dir even if it was made otherwise than the weights need, and print how.",
)
@click.option(
    "--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to run.  [default: both, or those given]"
)
@click.option("--top-k", type=click.IntRange(1), default=defaults.TOP_K, metavar="K", help="Number of labels to print.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.option(
    "--classes",
    type=FILE_OR_NAME,
    help=f"Names of the classes: {CLASSES_HELP}",
)
@click.option("--json", is_flag=True, help="Print each prediction as a line of JSON.")
@click.option("--csv", is_flag=True, help="Print predictions as CSV, one line per label.")
@click.option("--scores", type=NAME, metavar="FILE.npz", help="Write the logits of each stream to FILE.npz.")
@click.option(
    "--features", type=NAME, metavar="FILE.npz", help="Write the features before the classifier, with their times in seconds."
)
@click.option("--timeline", is_flag=True, help="Print the labels of each window of a video, not of the whole video.")
@click.option(
    "--window",
    callback=span_from_text,
    metavar="N|Ns",
    help="Length of a window: N frames or N seconds.  [default: a clip of the model's training]",
)
@click.option(
    "--stride",
    callback=span_from_text,
    metavar="N|Ns",
    help="Distance from window to window: N frames or N seconds.  [default: the length of the window]",
)
@click.option("--plot", type=NAME, metavar="FILE.png|.svg", help="Draw the timeline of one video as a picture.")
@click.option("--annotate", type=NAME, metavar="FILE.mp4", help="Write one video with the labels of each window drawn on it.")
@click.option("--show-flow", is_flag=True, help="With --annotate: show the flow in the video, too.")
@click.option("--overwrite", is_flag=True, help="Replace output files that already exist.")
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
    scores, features, flow_dir, any_flow = (options.pop(name) for name in ("scores", "features", "flow_dir", "any_flow"))
    sources = [*(video.removeprefix("@") for video in videos), *videos, *(options[name] for name in ("rgb", "flow", "classes"))]
    check_outputs(scores, features, over_time["plot"], over_time["annotate"], inputs=sources, overwrite=overwrite)
    if any_flow and flow_dir is None:
        raise click.UsageError("--any-flow is for --flow-dir DIR.")
    model = model_from_options(**options)
    check_flow_stream(model, {"--flow-dir": flow_dir, "--show-flow": over_time["show_flow"]})
    timeline = timeline_from_options(model, top_k=top_k, overwrite=overwrite, **over_time)
    flow = None if flow_dir is None else model.stored_flow(flow_dir, any_flow=any_flow)
    from ..prediction import predict as verb
    from ..prediction import records

    show = partial(records.as_json if json else records.as_csv if csv else records.as_table, timeline=timeline is not None)
    if csv:
        say(",".join(records.csv_fields(timeline=timeline is not None)))
    failed, count = False, 0
    what = "window" if timeline is not None else "video"
    printed = told_if_interrupted(lambda: f"{counted(count, what)} predicted and printed; nothing else is kept")
    writing = outputs(scores=scores, features=features, overwrite=overwrite)
    outcomes = verb.predict_inputs(model, videos, flow=flow, features=features is not None, timeline=timeline, progress=True)
    with printed, writing as done, error_lines() as tell_error, contextlib.closing(outcomes):
        for outcome in outcomes:
            if outcome.error is not None:
                failed = True
                tell_error(outcome.error)
            if outcome.note is not None:
                say(f"Note: {outcome.note}", err=True)
            if outcome.prediction is not None:
                say(show(outcome.prediction, top_k), exact=json or csv)
                count += 1
                if scores or features:
                    done.append(outcome.prediction)
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


def model_from_options(
    model: str | None, rgb: str | None, flow: str | None, stream: str | None, device: str, classes: str | None
) -> TwoStream:
    """The model that the options of a command name; raises UsageError for options that contradict each other."""
    streams = chosen_streams(model=model, rgb=rgb, flow=flow, stream=stream)
    from ..class_names import read_classes
    from ..prediction import load_model

    names = None if classes is None else read_classes(classes)
    with told_if_interrupted(lambda: "nothing is predicted yet"):
        return load_model(model, rgb=rgb, flow=flow, streams=streams, device=device, classes=names)
