"""`i3d inflate`: 2D ImageNet weights → an I3D to train."""

from __future__ import annotations

import click

from .. import defaults
from .common import CLASSES, CLASSES_HELP, FILE_OR_NAME, NAME, check_outputs
from .gate import say


@click.command(short_help="Turn 2D ImageNet weights into an I3D to train.")
@click.argument("source", type=NAME)
@click.option("--out", required=True, type=NAME, metavar="FILE", help="Checkpoint file to write.")
@click.option("--stream", type=click.Choice(defaults.STREAMS), default=defaults.STREAMS[0], help="Stream that the I3D is for.")
@click.option(
    "--num-classes", type=CLASSES, metavar="N", help="Number of classes of the new head.  [default: Kinetics' 400, named]"
)
@click.option("--classes", type=FILE_OR_NAME, help=f"Names of the new head's classes: {CLASSES_HELP}")
@click.option("--no-rescale", is_flag=True, help="Repeat filters along time without dividing them by their length in time.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it already exists.")
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
    from ..checkpoints import inflate as verb
    from ..checkpoints import save_checkpoint
    from ..class_names import read_classes

    names = None
    if classes is not None:
        names = read_classes(classes)
    elif num_classes is None:
        names = read_classes(defaults.MODEL)
    count = num_classes or len(names or ())
    result = verb.inflate_checkpoint(source, stream=stream, num_classes=count, classes=names, rescale=not no_rescale)
    save_checkpoint(result.net, out, overwrite=overwrite)
    say(result.as_table())
