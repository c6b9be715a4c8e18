"""The architectures that can be trained, scored and asked: the paper's table 1, with how each is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..defaults import ARCHITECTURE, CLIP_LEN, DROPOUT, MAX_CLIP_LEN, MIN_CLIP_LEN
from .i3d import I3D
from .network import VideoNetwork


@dataclass(frozen=True)
class Architecture:
    """A row of the paper's table 1, "number of parameters and temporal input sizes", and how to build its networks.

    `build(num_classes, inputs=…, width=…, dropout=…)` makes one of them, whose `inputs` are a row of `networks`.
    """

    title: str  # as the paper calls it
    build: Callable[..., VideoNetwork]
    networks: tuple[tuple[str, ...], ...]  # what each of its networks looks at
    clip_len: int  # frames that it is trained on
    test_clip_len: int  # frames that it looks at in one pass at test time; longer videos are windows of so many
    min_clip_len: int  # frames that it needs; shorter clips are looped
    parameters: float  # millions, of all its networks together


ARCHITECTURES = {
    ARCHITECTURE: Architecture(
        title="Two-Stream I3D",
        build=I3D,
        networks=(("rgb",), ("flow",)),
        clip_len=CLIP_LEN,
        test_clip_len=MAX_CLIP_LEN,
        min_clip_len=MIN_CLIP_LEN,
        parameters=25,
    ),
}


def list_architectures() -> tuple[str, ...]:
    """The names that `create_model` and `i3d train --architecture` know."""
    return tuple(ARCHITECTURES)


def create_model(
    architecture: str = ARCHITECTURE,
    *,
    num_classes: int = 400,
    stream: str = "rgb",
    width: float = 1.0,
    dropout: float = DROPOUT,
) -> VideoNetwork:
    """A network with freshly drawn weights: one of `list_architectures()`, for "rgb" or "flow".

    `width` scales the channels of every layer. Raises ValueError for an architecture, or a stream of it, that is not known.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture: got name = {architecture!r}, expected one of {', '.join(ARCHITECTURES)}")
    row = ARCHITECTURES[architecture]
    inputs = tuple(stream.split("+"))
    if inputs not in row.networks:
        known = " or ".join("+".join(names) for names in row.networks)
        raise ValueError(f"no such stream: {architecture}: got {stream = }, expected {known}")
    net = row.build(num_classes, inputs=inputs, width=width, dropout=dropout)
    net.preprocessing = replace(net.preprocessing, clip_len=row.clip_len)
    return net
