"""Weights by the path of a file or the name of a model → the networks of the streams that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import CheckpointError
from ..models import VideoNetwork
from ..text import shown
from .checkpoint import load_checkpoint
from .zoo import ZooModel, fetch, model_named


def load_streams(source: str | Path | ZooModel, streams: Sequence[str] | None = None) -> dict[str, VideoNetwork]:
    """The networks of `source` by stream: that of a checkpoint, or those of a model, which are downloaded on first use.

    A `source` that is both the name of a model and a path where something lies is the path. `streams` limits a model to
    some of its streams; a checkpoint must be of the one that it names. The networks have the names of their classes where
    these are known. Raises CheckpointError.
    """
    model = source if isinstance(source, ZooModel) else model_named(source)
    paths: list[str | Path] = [str(source)] if model is None else list(fetch(model, streams).values())
    nets = {}
    for path in paths:
        net = load_checkpoint(path)
        if streams is not None and net.stream not in streams:
            expected = " and ".join(streams)
            raise CheckpointError(
                f"wrong stream: {shown(path)}: got {net.stream} weights, expected {expected}; "
                f"give {expected} weights, or use these for the {net.stream} stream"
            )
        if model is not None:
            net.classes = model.classes or net.classes
        nets[net.stream] = net
    return nets
