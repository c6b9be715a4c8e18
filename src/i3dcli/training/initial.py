"""The network that a run starts from: fresh, or with weights of before, and how its clips are made."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints import load_streams
from ..data import Dataset
from ..errors import I3DError, VideoError
from ..flow import FlowFolder
from ..models import Preprocessing, VideoNetwork, create_model, list_architectures
from ..text import option, shown
from .options import TrainOptions
from .run_data import Note


def build_network(dataset: Dataset, options: TrainOptions, *, note: Note) -> VideoNetwork:
    """The network to start from: fresh, or that of `init` with a new head where its classes are others."""
    num_classes = len(dataset.classes)
    if options.architecture not in (known := list_architectures()):
        raise I3DError(f"unknown architecture: {shown(options.architecture)}: expected one of {', '.join(known)}; give one")
    torch.manual_seed(options.seed)
    if options.init is None:
        net = create_model(options.architecture, num_classes=num_classes, stream=options.stream, width=options.width)
    else:
        net = load_streams(options.init, (options.stream,))[options.stream]
        if net.num_classes != num_classes or net.classes not in (None, dataset.classes):
            note(f"Note: new head: {shown(options.init)} has {net.num_classes} classes, other than these {num_classes}")
            net.replace_head(num_classes)
    layers = [*net.layers()]
    if options.freeze_until not in (None, *layers):
        raise I3DError(f"no such layer: {option('freeze_until', options.freeze_until)}: expected one of {', '.join(layers)}")
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = options.dropout
    net.classes = dataset.classes
    net.preprocessing = dataclasses.replace(net.preprocessing, **asked_preprocessing(options))
    if options.flow_dir is not None:
        net.preprocessing = with_flow_as_stored(net.preprocessing, dataset, options, note=note)
    return net


def asked_preprocessing(options: TrainOptions) -> dict[str, Any]:
    """What the options say of how clips are made, as fields of Preprocessing."""
    asked: dict[str, Any] = {
        "clip_len": options.clip_len,
        "crop": options.crop,
        "short_side": options.short_side,
        "fps": options.fps,
        "flow_bound": options.bound,
    }
    return {name: value for name, value in asked.items() if value is not None}


def with_flow_as_stored(base: Preprocessing, dataset: Dataset, options: TrainOptions, *, note: Note) -> Preprocessing:
    """`base`, but for how the stored flow was made, where options do not say it; `predict` is to compute it likewise.

    Raises DatasetError where a run starts from weights that want other flow, unless `any_flow` is among its options.
    """
    wanted = None if options.init is None else base.flow
    stored = FlowFolder(Path(str(options.flow_dir)), wanted, any_flow=options.any_flow)
    for sample in dataset.train:
        with contextlib.suppress(VideoError):  # where there is none at all, RunData says so
            flow = stored.open(sample.key, sample.path)
            recipe = flow.recipe
            there: dict[str, Any] = {"flow_algorithm": recipe.algorithm, "flow_parameters": recipe.parameters}
            there |= {"fps": recipe.fps, "short_side": recipe.short_side}
            there |= {"flow_bound": recipe.bound} if flow.is_clamped else {}
            for text in stored.notes(flow):
                note(f"Note: {text}; the run is for it")
            return dataclasses.replace(base, **{**there, **asked_preprocessing(options)})
    return base
