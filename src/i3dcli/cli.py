"""The command `i3d`: parse → one call → print. Heavy imports wait inside the commands, so that help comes at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from . import __version__, defaults
from .errors import I3DError, shown

if TYPE_CHECKING:
    from .two_stream import Prediction, TwoStream


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


@main.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--model", metavar="NAME", help=f"Weights by name.  [default: {defaults.MODEL}]")
@click.option("--rgb", type=click.Path(), metavar="PATH", help="Checkpoint of the RGB stream, in place of --model.")
@click.option("--flow", type=click.Path(), metavar="PATH", help="Checkpoint of the flow stream, in place of --model.")
@click.option(
    "--stream", type=click.Choice(["both", *defaults.STREAMS]), help="Streams to run.  [default: both, or those given]"
)
@click.option("--top-k", type=click.IntRange(1), default=defaults.TOP_K, metavar="K", help="Labels to print.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where to run the network.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Names of the classes, one per line.")
@click.option("--json", "form", flag_value="json", default=None, help="Print one JSON object per line and video.")
@click.option("--csv", "form", flag_value="csv", default=None, help="Print CSV, one line per label.")
@click.option("--scores", type=click.Path(), metavar="FILE.npz", help="Write the logits of each stream.")
@click.option("--features", type=click.Path(), metavar="FILE.npz", help="Write the 1024-d features, with their seconds.")
@click.pass_context
def predict(ctx: click.Context, /, videos: tuple[str, ...], form: str | None, top_k: int, **options: Any) -> None:
    """Print the most probable labels of each VIDEO: files, folders, or @list.txt.

    \b
    Examples:
      i3d predict video.mp4
      i3d predict --rgb rgb.pt --flow flow.pt --json clips/ > labels.jsonl
    """
    scores, features = options.pop("scores"), options.pop("features")
    check_outputs(scores, features)
    model = model_from_options(**options)
    from . import predict as verb

    show = {None: verb.as_table, "json": verb.as_json, "csv": verb.as_csv}[form]
    if form == "csv":
        click.echo(",".join(verb.CSV_FIELDS))
    done, failed = [], False
    try:
        for outcome in verb.predict_videos(model, videos, features=features is not None, progress=True):
            if isinstance(outcome, I3DError):
                failed = True
                click.echo(f"Error: {outcome}", err=True)
                continue
            click.echo(show(outcome, top_k))
            warn_of_damage(outcome)
            done.append(outcome)
    finally:  # what is done is kept, also when the next video is interrupted
        verb.write_outputs(done, scores=scores, features=features)
    ctx.exit(1 if failed else 0)


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


def warn_of_damage(prediction: Prediction) -> None:
    if prediction.damaged_frames:
        click.echo(
            f"Note: damaged video: {shown(prediction.video)}: {prediction.damaged_frames} frames could not be decoded whole; "
            f"predicted from the {prediction.num_frames} that were there",
            err=True,
        )
