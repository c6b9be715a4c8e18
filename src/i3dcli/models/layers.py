"""The layers that Inception-v1 is made of in three dimensions: units, pools and blocks, padded as TensorFlow pads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BN_EPS = 1e-3  # Sonnet v1 snt.BatchNorm
BN_MOMENTUM = 0.001  # 1 - decay_rate 0.999, Sonnet v1 snt.BatchNorm


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """TensorFlow's SAME padding of each axis as (before, after); it depends on the input size, the odd one goes after."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return [(pad // 2, pad - pad // 2) for pad in total]


class Unit3D(nn.Module):
    """Convolution with SAME padding → batch norm → ReLU; the last layer of the network is a bare convolution with bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, bare: bool = False):
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=bare)
        self.bn = None if bare else nn.BatchNorm3d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        padding = same_padding(x.shape[2:], self.conv3d.kernel_size, self.conv3d.stride)
        if any(before != after for before, after in padding):  # the convolution itself only pads both ends alike
            x = F.pad(x, [n for pair in reversed(padding) for n in pair])
            padding = [(0, 0)] * 3
        x = F.conv3d(x, self.conv3d.weight, self.conv3d.bias, self.conv3d.stride, [before for before, _ in padding])
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class MaxPool3d(nn.Module):
    """Max-pool with SAME padding."""

    def __init__(self, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        before = [before for before, _ in same_padding(x.shape[2:], self.kernel, self.stride)]
        # The end needs at most one row more than the start, which is just what ceil_mode lets a window hang over.
        return F.max_pool3d(x, self.kernel, self.stride, before, ceil_mode=True)


class InceptionBlock(nn.Module):
    """Four branches side by side, concatenated along channels. Both large filters are 3x3x3, as in DeepMind's code."""

    def __init__(self, in_channels: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int):
        super().__init__()
        self.b0 = Unit3D(in_channels, b0)
        self.b1a = Unit3D(in_channels, b1a)
        self.b1b = Unit3D(b1a, b1b, kernel=3)
        self.b2a = Unit3D(in_channels, b2a)
        self.b2b = Unit3D(b2a, b2b, kernel=3)
        self.b3a = MaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(in_channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, dim=1)


def scaled(channels: int, width: float) -> int:
    """Channels of a layer in a network of the given width; never none."""
    return max(1, round(channels * width))
