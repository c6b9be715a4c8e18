"""Two streams, by the name of a model or the paths of their files → a TwoStream that is ready to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..checkpoints import find_model, load_streams
from ..class_names import fault_in_names, read_classes
from ..data import numbered_classes
from ..defaults import MODEL
from ..distributed import choose_device
from ..errors import CheckpointError, DatasetError
from ..models import VideoNetwork
from ..text import shown
from .two_stream import TwoStream


def load_model(
    name: str | None = None,
    *,
    rgb: str | Path | None = None,
    flow: str | Path | None = None,
    streams: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    classes: str | Path | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> TwoStream:
    """A model ready to predict: one of the zoo by `name` (default: kinetics400), or from checkpoint files `rgb` and `flow`.

    Files may be of any layout `load_checkpoint` knows; one of them is enough for one stream, and their paths are the
    model's name. `streams` limits what is loaded; by default it is all there is. `device=None` picks CUDA if there is one.
    `classes` (or `labels`) replaces the names of the classes: a list, a file or a model's name. Raises CheckpointError, and
    DatasetError for names that do not fit.
    """
    chosen = choose_device(device)
    streams = (streams,) if isinstance(streams, str) else streams
    classes = read_classes(classes) if isinstance(classes, (str, Path)) else classes
    files = {stream: str(path) for stream, path in (("rgb", rgb), ("flow", flow)) if path is not None}
    if files and name is not None:
        raise ValueError(f"expected a model's name or files, got both: {name = }, {rgb = }, {flow = }")
    if files:
        wanted = [stream for stream in files if streams is None or stream in streams]
        if not wanted or not set(streams or ()) <= set(wanted):
            raise ValueError(f"expected a file for each stream, got {streams = }, {rgb = }, {flow = }")
        nets = {stream: load_streams(files[stream], (stream,))[stream] for stream in wanted}
        title = " + ".join(files[stream] for stream in wanted)
    else:
        model = find_model(MODEL if name is None else name)
        nets, title = load_streams(model, streams), model.name
    align_classes(nets)
    check_pair(nets, title)
    num_classes = next(iter(nets.values())).num_classes
    known = next((net.classes for net in nets.values() if net.classes), None)
    names = next((names for names in (classes, labels, known) if names is not None), numbered_classes(num_classes))
    if fault := fault_in_names(names if isinstance(names, str) else list(names)):
        raise DatasetError(f"wrong classes: {shown(title)}: got {fault}; give each class a name of its own")
    if len(names) != num_classes:
        raise DatasetError(
            f"wrong classes: {shown(title)}: got {len(names)} names, expected {num_classes}, one for each class of the model; "
            "give the list that it was trained with"
        )
    return TwoStream(nets, name=title, classes=names, device=chosen)


def align_classes(nets: Mapping[str, VideoNetwork]) -> None:
    """Put the classes of the flow stream in the order of RGB's, where both have the same names."""
    if len(nets) < 2:
        return
    names, there = nets["rgb"].classes, nets["flow"].classes
    if names and there and names != there and sorted(names) == sorted(there):
        nets["flow"].reorder_classes(names)


def check_pair(nets: Mapping[str, VideoNetwork], title: str) -> None:
    """Raise CheckpointError unless two streams have the same classes and look at the same pictures."""
    if len(nets) < 2:
        return
    rgb, flow = nets["rgb"], nets["flow"]
    if rgb.num_classes != flow.num_classes or (rgb.classes and flow.classes and rgb.classes != flow.classes):
        raise CheckpointError(
            f"streams do not match: {shown(title)}: got {rgb.num_classes} and {flow.num_classes} classes of other names; "
            "expected two streams trained on the same classes"
        )
    if rgb.architecture != flow.architecture:
        raise CheckpointError(
            f"streams do not match: {shown(title)}: got {rgb.architecture} and {flow.architecture}; expected one architecture"
        )
    seen = [(net.preprocessing.fps, net.preprocessing.short_side, net.preprocessing.crop) for net in (rgb, flow)]
    if seen[0] != seen[1]:
        raise CheckpointError(
            f"streams do not match: {shown(title)}: got (fps, short side, crop) {seen[0]} and {seen[1]}; expected the same"
        )
