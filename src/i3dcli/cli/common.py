"""What several commands share: types of options, the model that options name, and checks of output files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import click

from .. import defaults


class Name(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has none
    """A path, or another name; the empty one is of a variable that is not set."""

    def __init__(self, metavar: str = "PATH") -> None:
        self.name = metavar.lower()

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail("it is empty.", param, ctx)
        return value


NAME, FILE_OR_NAME = Name(), Name("FILE|NAME")


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
CLASSES_HELP = "a text, JSON or CSV file, or those of a model such as kinetics400."
PROCESSES = click.IntRange(0, 256)
COUNT, FRACTION = click.IntRange(1), FloatRange(0)


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
