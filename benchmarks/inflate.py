"""Features of an inflated I3D on a still clip against torchvision's GoogLeNet on its picture: they are to be the same.

    pip install --no-deps torchvision pillow && python benchmarks/inflate.py

torchvision should be the release that belongs to the installed torch; `--target DIR` and PYTHONPATH=DIR keep it out of
the environment. The weights are random, batch statistics too. torchvision pads its convolutions and pools alike at both
ends; here they are given TensorFlow's SAME padding, which I3D has. Printed is the largest difference of the features
before pooling at the middle frame, relative to the largest feature, and the same with three mistakes made on purpose.
Takes a minute on two cores.
"""

from __future__ import annotations

from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import i3dcli
from i3dcli.checkpoints import inflate

SIZES = ((112, 64, 64), (112, 224, 224), (120, 97, 130))  # frames, height, width
TOLERANCE = 1e-5


def import_googlenet():
    """torchvision's constructor. GoogLeNet needs no compiled operator, and those for CUDA do not load beside torch for CPUs."""
    try:
        from torchvision.models import googlenet
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision.models import googlenet
    return googlenet


def random_googlenet() -> nn.Module:
    """torchvision's own network in evaluation mode, of weights that keep every layer alive."""
    torch.manual_seed(0)
    net = import_googlenet()(weights=None, init_weights=False, aux_logits=True, transform_input=False).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1)
    return net


def pad_as_tensorflow(net: nn.Module) -> None:
    """Give every convolution and max-pool of a network SAME padding, computed from the size that comes in."""

    def pad(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (x,) = inputs
        sides = []
        for axis in (1, 0):  # F.pad wants the width first
            size, stride, kernel = (
                value if isinstance(value, int) else value[axis] for value in (x.shape[2:], module.stride, module.kernel_size)
            )
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, sides)  # zeros do for max-pools too: all of them follow a ReLU

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            module.padding, module.ceil_mode = (0, 0), False
            module.register_forward_pre_hook(pad)


def features(net: nn.Module, picture: Tensor) -> Tensor:
    """What torchvision's own forward hands to its pooling, (1,1024,H/32,W/32)."""
    kept: list[Tensor] = []
    with net.inception5b.register_forward_hook(lambda module, inputs, output: kept.append(output)):
        net(picture)
    return kept[0]


def difference(net: nn.Module, stream: str, size: tuple[int, int, int]) -> float:
    frames, height, width = size
    picture = torch.rand(1, 3 if stream == "rgb" else 2, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    inflated = i3dcli.inflate_googlenet(net.state_dict(), stream=stream)
    ours = inflated.forward_features(picture.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    seen = picture if stream == "rgb" else (picture.sum(dim=1, keepdim=True) / 3).expand(-1, 3, -1, -1)
    theirs = features(net, seen)
    return float((ours[:, :, ours.shape[2] // 2] - theirs).abs().max() / theirs.abs().max())


def not_rescaled(tensor: Tensor, *, rescale: bool) -> Tensor:
    return tensor.clone() if tensor.ndim < 4 else tensor.unsqueeze(2).repeat(1, 1, tensor.shape[-1], 1, 1)


def along_height(tensor: Tensor, *, rescale: bool) -> Tensor:
    return tensor.clone() if tensor.ndim < 4 else tensor.unsqueeze(3).repeat(1, 1, 1, tensor.shape[-1], 1) / tensor.shape[-1]


def without_batch_norm(tensor: Tensor, *, rescale: bool) -> Tensor:
    return torch.ones_like(tensor) if tensor.ndim < 4 else not_rescaled(tensor, rescale=False) / tensor.shape[-1]


@torch.inference_mode()
def main() -> None:
    net = random_googlenet()
    pad_as_tensorflow(net)
    for stream in ("rgb", "flow"):
        for size in SIZES:
            found = difference(net, stream, size)
            print(f"{stream:5} {'x'.join(map(str, size)):12} largest relative difference {found:.1e}", flush=True)
            assert found <= TOLERANCE
        for mistake in (not_rescaled, along_height, without_batch_norm):
            with mock.patch.object(inflate, "inflated", mistake):
                found = difference(net, stream, SIZES[0])
            print(f"{stream:5} {mistake.__name__:18} largest relative difference {found:.1e}: wrong, as it must be", flush=True)
            assert not found <= 1e-2


if __name__ == "__main__":
    main()
