"""`i3d extract-flow`: flow of whole datasets."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .. import defaults
from ..text import shown
from .common import BOUND, NAME, PIXELS, option_type
from .gate import error_lines, say, told_if_interrupted

if TYPE_CHECKING:
    from ..flow import FlowOptions, FlowOutcome

TVL1_OPTIONS = {  # a field of TVL1 and its help; the ranges are those of its own
    "tau": "Time step of the dual variable.",
    "lambda_": "Weight of the data term: smaller is smoother.",
    "theta": "Coupling of the flow to its data term: smaller is tighter.",
    "scales": "Number of levels of the image pyramid.",
    "warps": "Number of warps per level of the pyramid.",
    "epsilon": "Iterations stop when the mean squared change is below this, squared; in pixels.",
    "inner_iterations": "Largest number of iterations between two median filters.",
    "outer_iterations": "Number of rounds of iterations per warp.",
    "scale_step": "Size of a level of the pyramid, as a fraction of the next larger one.",
    "median": "Side of the median filter: 5 as in OpenCV's CPU class, 0 for none as in its CUDA class and denseflow.",
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


@click.command("extract-flow", short_help="Compute the optical flow of videos and store it on disk.")
@click.argument("inputs", nargs=-1, type=NAME, required=True, metavar="INPUT...")
@click.option(
    "--out", required=True, type=NAME, metavar="DIR", help="Output folder, where each video gets a folder of its own."
)
@click.option(
    "--format",
    type=click.Choice(defaults.FLOW_FORMATS),
    default=defaults.FLOW_FORMATS[0],
    help="Format in which flow is stored.",
)
@click.option(
    "--bound",
    type=BOUND,
    default=defaults.FLOW_BOUND,
    help="Largest flow in jpg and zip, in pixels per frame; a larger one is clamped.",
)
@click.option(
    "--fps",
    default=f"{defaults.FPS:g}",
    metavar="FPS|native",
    help="Frames per second to resample to, or native for the video's own rate.",
)
@click.option(
    "--short-side",
    type=PIXELS,
    default=defaults.SHORT_SIDE,
    help="Pixels of the shorter side, to which frames are resized first.",
)
@click.option("--frames", is_flag=True, help="Write the RGB frames, too, as img_00001.jpg ...")
@click.option("--viz", is_flag=True, help="Write the flow in colours, too, as flow.mp4: hue is direction, saturation is speed.")
@click.option("--quality", type=click.IntRange(1, 100), default=defaults.JPEG_QUALITY, help="Quality of JPEG pictures.")
@click.option(
    "--algorithm",
    type=click.Choice(defaults.FLOW_ALGORITHMS),
    default=defaults.FLOW_ALGORITHM,
    help="Algorithm that computes the flow.",
)
@click.option("--overwrite", is_flag=True, help="Compute flow that is already stored again, and replace it.")
@click.option(
    "--shard", callback=shard_from_text, metavar="I/N", help="Extract every N-th video from the I-th on, counted from 0."
)
@click.option(
    "--device", type=NAME, default="cpu", metavar="cpu|cuda[:N]", help="Device to run TV-L1 on; cuda is new and untried."
)
@click.option("--threads", type=click.IntRange(1), help="Number of frame pairs to compute at once.  [default: every core]")
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


def tell(outcome: FlowOutcome) -> None:
    """Print what became of a video."""
    if outcome.status == "elsewhere":
        say(f"Note: left to another process: {shown(outcome.video)}", err=True)
    else:
        say(shown(outcome.folder))
        if outcome.note is not None:
            say(f"Note: {outcome.note}", err=True)


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
