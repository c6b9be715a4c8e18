"""inflate: a 2D Inception-v1 (torchvision's GoogLeNet) → the I3D that gives on a still video what it gives on the picture.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750, section 2.4: filters N×N become N×N×N by
repeating them N times along time and dividing by N.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import I3DError
from ..models import BN_EPS, CHANNELS, I3D, LAYERS, Unit3D, same_padding
from ..text import counted, shown
from .key_maps import FIRST_CONV, FIRST_TENSOR, Renaming, identify, renamed
from .matching import read_tensors, wrong
from .networks import find_network, split_key
from .tensors import Stored
from .weight_files import read_weights

HEAD_SEED = 0
STILL_CLIP = (112, 64, 64)  # frames, height, width; Mixed_5c sees 99 frames, so its middle step sees no padding in time
TOLERANCE = 1e-4  # relative to the largest activation of a layer; float32 sums in another order differ by about 1e-6
ADVICE = "give the state_dict of torchvision.models.googlenet"
FIRST_2D = re.compile(r"(?:^|\.)((?:conv1|Conv[23]d_1a_7x7)\.conv(?:[23]d)?\.weight)$")  # behind any prefix
PREFIXES = re.compile(r"^((module|_orig_mod|model|backbone)\.)+")  # left by wrappers and by training frameworks
HEADS = re.compile(r"^(aux\d*|fc|classifier|logits)\.")  # of ImageNet's classes; the only tensors that are left out
GOOGLENET: Renaming = (  # torchvision's name, or a 2D I3D's → ours, in the order they are applied
    (r"^conv1\.", "Conv3d_1a_7x7."),
    (r"^conv2\.", "Conv3d_2b_1x1."),
    (r"^conv3\.", "Conv3d_2c_3x3."),
    (r"^Conv2d_", "Conv3d_"),
    (r"^inception([345])([a-e])\.", lambda match: f"Mixed_{match[1]}{'bcdef'['abcde'.index(match[2])]}."),
    (r"\.branch1\.", ".b0."),
    (r"\.branch([23])\.([01])\.", lambda match: f".b{int(match[1]) - 1}{'ab'[int(match[2])]}."),
    (r"\.branch4\.1\.", ".b3b."),
    (r"\.conv(2d)?\.weight$", ".conv3d.weight"),
)


@dataclass(frozen=True)
class GoogLeNet:
    """The tensors of a 2D network under the names of I3D's, (O,I,k,k) and (O,), float32; and the names they came with."""

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Inflation:
    """An inflated network, where its convolutions came from, and how far it is from the 2D network on a still video."""

    net: I3D
    source: GoogLeNet
    differences: Mapping[str, float] | None  # by unit, relative; None if not rescaled, for then nothing is to be equal

    def as_table(self) -> str:
        """Lines for people: each convolution, the new head, the boring-video check."""
        weights = self.net.state_dict()
        rows = [("layer", "from", "shape", "to", "shape")]
        for key, tensor in self.source.tensors.items():
            if tensor.ndim == 4:
                layer = key.removesuffix(".conv3d.weight")
                rows.append((layer, shown(self.source.names[key]), sized(tensor), key, sized(weights[key])))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [*lines, f"head: {counted(self.net.num_classes, 'class')}, drawn anew from seed {HEAD_SEED}", self.verdict()]
        )

    def verdict(self) -> str:
        """The line that tells the result of the boring-video check."""
        if self.differences is None:
            return "boring video: not checked, for without rescaling activations are not those of the 2D network"
        unit, largest = worst(self.differences)
        return (
            f"boring video: {len(self.differences)} units equal the 2D network's, largest relative difference "
            f"{largest:.1e} at {unit}, allowed {TOLERANCE:.0e}"
        )


def inflate_googlenet(
    state_dict: Mapping[str, Any], *, stream: str = "rgb", num_classes: int = 400, rescale: bool = True
) -> I3D:
    """The I3D inflated from the state_dict of torchvision's GoogLeNet, in evaluation mode; its head is new, from a fixed seed.

    Weights (O,I,k,k) become (O,I,k,k,k), divided by k unless `rescale` is false; batch norm is copied with its affine
    weight. For "flow" the first convolution is the mean over its three input channels, twice, as in TSN (arXiv
    1608.00859). Auxiliary heads and fc are left out. Raises CheckpointError for tensors that are not GoogLeNet's.
    """
    return to_i3d(read_googlenet(state_dict, "state_dict"), stream=stream, num_classes=num_classes, rescale=rescale)


def inflate_state_dict(state_dict: Mapping[str, Tensor], *, rescale: bool = True) -> dict[str, Tensor]:
    """The 3D state_dict of any module of 2D convolutions and batch norms, under the same names.

    Weights (O,I,k,k) become (O,I,k,k,k), divided by k unless `rescale` is false; (O,) and scalars are copied (paper, section
    2.4). Raises CheckpointError for any other shape.
    """
    for key, tensor in state_dict.items():
        if tensor.ndim not in (0, 1, 4) or (tensor.ndim == 4 and tensor.shape[2] != tensor.shape[3]):
            raise wrong(
                "state_dict",
                f"{key} of shape {tuple(tensor.shape)}",
                "(O,I,k,k) or (O,)",
                "inflate convolutions and batch norms",
            )
    return {key: inflated(tensor.detach(), rescale=rescale) for key, tensor in state_dict.items()}


def inflate_checkpoint(
    path: str | Path, *, stream: str, num_classes: int, classes: Sequence[str] | None = None, rescale: bool = True
) -> Inflation:
    """The GoogLeNet stored at `path`, inflated as by `inflate_googlenet` and, if rescaled, checked on a boring video.

    Raises CheckpointError for another file, I3DError where the check fails.
    """
    file, key = split_key(path)
    source = read_googlenet(read_weights(file), file, key=key)
    net = to_i3d(source, stream=stream, num_classes=num_classes, rescale=rescale)
    net.classes = None if classes is None else tuple(classes)
    return Inflation(net, source, check_boring_video(net, source, path) if rescale else None)


def to_i3d(source: GoogLeNet, *, stream: str, num_classes: int, rescale: bool) -> I3D:
    """The I3D whose every layer but the head is inflated from `source`."""
    if stream not in CHANNELS:
        raise ValueError(f"expected stream rgb or flow, got {stream = }")
    tensors = dict(source.tensors)
    if stream == "flow":
        tensors[FIRST_CONV] = tensors[FIRST_CONV].mean(dim=1, keepdim=True).repeat(1, CHANNELS["flow"], 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        net = I3D(num_classes, inputs=(stream,))
    head = {key: value for key, value in net.state_dict().items() if key.startswith("logits.")}
    net.load_state_dict({**inflate_state_dict(tensors, rescale=rescale), **head}, strict=True)
    return net.eval()


def inflated(tensor: Tensor, *, rescale: bool) -> Tensor:
    """(O,I,k,k) → (O,I,k,k,k), repeated along time; (O,) and scalars → a copy."""
    if tensor.ndim < 4:
        return tensor.clone()
    size = tensor.shape[-1]
    repeated = tensor.unsqueeze(2).repeat(1, 1, size, 1, 1)
    return repeated / size if rescale else repeated


def read_googlenet(content: Mapping[str, Any], where: str | Path, *, key: str | None = None) -> GoogLeNet:
    """The tensors of the 2D GoogLeNet in a file or state_dict but for its heads, wherever in it that is.

    `key` names one of several. Raises CheckpointError unless they are all there, and only they.
    """
    stored = {name: Stored.of(value) if isinstance(value, Tensor) else value for name, value in content.items()}
    network = find_network(stored, FIRST_2D, where, key=key)
    entries, called = network.entries, network.names
    names: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name in entries:
        if not HEADS.match(stripped := PREFIXES.sub("", name)):
            ours = renamed(stripped, GOOGLENET)
            if ours in names:
                raise wrong(where, f"both {names[ours]} and {called[name]} for {ours}", "one of them", "remove the other")
            names[ours], found[ours] = called[name], entries[name]
    expected = expected_tensors()
    refuse_other_networks(entries, where, known=not found.keys().isdisjoint(expected))
    tensors = read_tensors(found, expected, where, network="GoogLeNet", names=names, advice=ADVICE)
    return GoogLeNet({ours: tensors[ours] for ours in expected if ours in tensors}, names)  # in the order of the network


def expected_tensors() -> dict[str, Tensor]:
    """The tensors of the 2D network, by our name, without content."""
    with torch.device("meta"):
        tensors = I3D().state_dict()
    # Without the axis of time (O,I,k,k,k) is (O,I,k,k); what has no such axis stays.
    return {key: v[:, :, 0] if v.ndim == 5 else v for key, v in tensors.items() if not key.startswith("logits.")}


def refuse_other_networks(entries: Mapping[str, Any], where: str | Path, *, known: bool) -> None:
    """Raise CheckpointError for an I3D, and unless any tensor is `known`; says what network it is instead."""
    tensors = {PREFIXES.sub("", key): value for key, value in entries.items() if isinstance(value, Stored)}
    if any(FIRST_TENSOR.search(key) and len(value.shape) == 5 for key, value in tensors.items()):
        raise wrong(where, "an I3D, which is inflated already", "a 2D GoogLeNet", "use it as it is")
    if not known:
        found = identify({key: tensor.shape for key, tensor in tensors.items()})
        raise wrong(where, found, "GoogLeNet (Inception-v1)", ADVICE)


@torch.inference_mode()
def check_boring_video(net: I3D, source: GoogLeNet, where: str | Path) -> dict[str, float]:
    """Largest difference of each unit between `net` on a still clip and the 2D network on its picture, relative.

    Compared is the frame in the middle, where no padding in time is seen, with the largest activation of the unit as
    measure. The 2D network is computed from `source`, not from what was inflated. Raises I3DError above TOLERANCE.
    """
    frames, *size = STILL_CLIP
    picture = torch.rand(1, net.in_channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = middle_activations(net, picture.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    if net.stream == "flow":  # three channels (u+v)/3: under the weights W of R, G and B this is mean(W) u + mean(W) v
        picture = picture.sum(dim=1, keepdim=True).expand(-1, CHANNELS["rgb"], -1, -1) / CHANNELS["rgb"]
    theirs = flat_activations(source.tensors, picture)
    differences = {name: relative_difference(ours[name], expected) for name, expected in theirs.items()}
    unit, largest = worst(differences)
    if not largest <= TOLERANCE:  # NaN too
        raise I3DError(
            f"wrong inflation: {shown(where)}: on a still video {unit} differs from the 2D network by {largest:.1e} of its "
            f"largest activation, expected at most {TOLERANCE:.0e}; please report this"
        )
    return differences


def middle_activations(net: I3D, clip: Tensor) -> dict[str, Tensor]:
    """What each unit (convolution → batch norm → ReLU) puts out at the middle frame, (1,C,H,W)."""
    activations = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            activations[name] = output[:, :, output.shape[2] // 2].clone()  # a slice would hold all frames

        return hook

    units = [(name, unit) for name, unit in net.named_modules() if isinstance(unit, Unit3D) and unit.bn is not None]
    hooks = [unit.register_forward_hook(keep(name)) for name, unit in units]
    try:
        net.forward_features(clip)
    finally:
        for handle in hooks:
            handle.remove()
    return activations


def flat_activations(tensors: Mapping[str, Tensor], picture: Tensor) -> dict[str, Tensor]:
    """What each unit of the 2D network puts out on a picture (1,3,H,W), in the order of the network."""
    activations: dict[str, Tensor] = {}

    def unit(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = tensors[f"{name}.conv3d.weight"]
        x = F.conv2d(padded(x, weight.shape[2:], (stride, stride), 0.0), weight, stride=stride)
        scale, shift, mean, var = (tensors[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        activations[name] = F.relu(F.batch_norm(x, mean, var, scale, shift, eps=BN_EPS))
        return activations[name]

    def pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
        return F.max_pool2d(padded(x, kernel, stride, -torch.inf), tuple(kernel), tuple(stride))

    def block(name: str, x: Tensor) -> Tensor:
        first = unit(f"{name}.b0", x)
        second = unit(f"{name}.b1b", unit(f"{name}.b1a", x))
        third = unit(f"{name}.b2b", unit(f"{name}.b2a", x))
        return torch.cat([first, second, third, unit(f"{name}.b3b", pool(x, (3, 3), (1, 1)))], dim=1)

    x = picture
    for name, spec in LAYERS:
        if name.startswith("MaxPool"):
            x = pool(x, spec[0][1:], spec[1][1:])
        else:
            x = block(name, x) if name.startswith("Mixed") else unit(name, x, spec[2])
    return activations


def padded(x: Tensor, kernel: Sequence[int], stride: Sequence[int], value: float) -> Tensor:
    """A picture with TensorFlow's SAME padding."""
    (top, bottom), (left, right) = same_padding(x.shape[2:], kernel, stride)
    return F.pad(x, (left, right, top, bottom), value=value)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest |ours - theirs|, relative to the largest |theirs|; NaN where either holds one."""
    scale = theirs.abs().max().clamp_min(torch.finfo(theirs.dtype).tiny)  # a unit that is silent in both is equal
    return float((ours - theirs).abs().max() / scale)


def worst(differences: Mapping[str, float]) -> tuple[str, float]:
    """The unit that differs most, or the first that is NaN."""
    return max(differences.items(), key=lambda item: (item[1] != item[1], item[1]))


def sized(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
