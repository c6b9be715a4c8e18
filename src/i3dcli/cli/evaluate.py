"""`i3d eval`: score checkpoints on a split."""

from __future__ import annotations

import math
import shlex
import sys
from typing import Any

import click

from .. import defaults
from ..text import shown
from .common import CLASSES_HELP, COUNT, FILE_OR_NAME, NAME, chosen_streams, numbers_from_text
from .gate import say, told_if_interrupted


@click.command("eval", short_help="Measure the accuracy of checkpoints on labelled videos.")
@click.argument("source", type=NAME, required=False, metavar="[SPLIT]")
@click.option("--model", type=NAME, metavar="NAME", help="Name of the weights to score.")
@click.option(
    "--rgb", type=NAME, metavar="PATH", help="Checkpoint of the RGB stream; {split} stands for the number of a split."
)
@click.option(
    "--flow", type=NAME, metavar="PATH", help="Checkpoint of the flow stream; {split} stands for the number of a split."
)
@click.option("--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to score.  [default: those given]")
@click.option("--flow-dir", type=NAME, metavar="DIR", help="Read the flow that extract-flow wrote to DIR.")
@click.option(
    "--any-flow",
    is_flag=True,
    help="Use flow of --flow-dir even if it was made otherwise than the weights need, and print how.",
)
@click.option(
    "--protocol",
    type=click.Choice(["full", "clips"]),
    default="full",
    help="What the network sees of a video: every frame, or some clips in some crops.",
)
@click.option(
    "--max-frames",
    type=COUNT,
    help=f"With --protocol full: use at most this many frames, the first ones; {defaults.MAX_CLIP_LEN} in the paper.",
)
@click.option(
    "--clips",
    type=click.IntRange(1, 1000),
    help=f"With --protocol clips: number of clips per video.  [default: {defaults.TEST_CLIPS}]",
)
@click.option(
    "--crops",
    type=click.Choice(["1", "3"]),
    callback=lambda ctx, param, text: text and int(text),
    help="With --protocol clips: number of crops along the longer side.  [default: 1]",
)
@click.option(
    "--format",
    type=click.Choice(["auto", *defaults.DATASET_FORMATS]),
    default="auto",
    help="Format in which SPLIT names videos and labels.",
)
@click.option(
    "--split",
    callback=numbers_from_text(int),
    default="1",
    metavar="1,2,3",
    help="Numbers of the splits of UCF-101 or HMDB-51.",
)
@click.option("--root", type=NAME, help="Folder that the videos lie in.  [default: that of the list]")
@click.option("--classes", type=FILE_OR_NAME, help=f"Names of the classes of a list of numbers: {CLASSES_HELP}")
@click.option("--first-label", type=click.IntRange(0, 1), help="Number of the first class in a list.  [default: 0]")
@click.option(
    "--scores",
    multiple=True,
    type=NAME,
    metavar="FILE.npz",
    help="Saved scores to fuse, in place of running networks; may be given more than once.",
)
@click.option(
    "--fusion-weights",
    callback=numbers_from_text(float),
    default="1,1",
    metavar="RGB,FLOW",
    help="Weights of RGB and flow in the mean of their logits.",
)
@click.option("--sweep-fusion", is_flag=True, help="Print the accuracy for fusion weights from 0 to 1, too.")
@click.option("--out", type=NAME, metavar="DIR", help="Write metrics, scores, tables and report.html to DIR.")
@click.option("--overwrite", is_flag=True, help="Score all videos again, and replace the results in DIR.")
@click.option("--strict", is_flag=True, help="Stop at a video that cannot be read.")
@click.option("--device", type=NAME, default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.pass_context
def evaluate(ctx: click.Context, /, **options: Any) -> None:
    """Score checkpoints on SPLIT (all that train takes): the accuracy of RGB, flow and two-stream, with 95 % intervals.

    If a dataset has parts, the validation part is scored, or the test part if there is no other; name videos/test to
    score the test part. A note tells if weights were chosen on videos that are scored. With --out, scores are kept, and
    running the command again goes on where it stopped. Under torchrun, processes share the videos.

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
            say("\n".join([*title, findings.evaluation_table(evaluation), *swept]))
    if len(evaluations) > 1:
        say(f"mean of {len(evaluations)} splits\n{findings.mean_table(evaluations)}")
    ctx.exit(0 if all(evaluation.complete for evaluation in evaluations) else 1)


def check_eval_options(options: dict[str, Any]) -> None:
    """Raise UsageError for options of eval that contradict each other."""
    weights = [name for name in ("model", "rgb", "flow") if options[name] is not None]
    both = options["streams"] in (None, defaults.STREAMS) and weights in (["model"], ["rgb", "flow"])
    complaints = (
        (options["any_flow"] and not options["flow_dir"], "--any-flow is for --flow-dir DIR."),
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
