"""A network as somebody would add it: one file, and one row of ARCHITECTURES."""

import torch
from torch import nn

from i3dcli.models.architectures import Architecture
from i3dcli.models.network import CHANNELS, VideoNetwork


class Toy(VideoNetwork):
    """Two convolutions, one over space and one over time; a step of its features is four frames."""

    architecture = "toy"

    def __init__(self, num_classes, *, inputs, width=1.0, dropout=0.5):
        super().__init__(num_classes, inputs, width=width)
        channels = max(1, round(16 * width))
        self.space = nn.Conv3d(CHANNELS[inputs[0]], channels, (1, 5, 5), (1, 4, 4))
        self.time = nn.Conv3d(channels, channels, (4, 1, 1), (4, 1, 1))
        self.norm = nn.BatchNorm3d(channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def layers(self):
        return {"space": self.space, "time": self.time, "norm": self.norm}

    @property
    def classifier(self):
        return self.head

    def replace_head(self, num_classes):
        self.head = nn.Linear(self.head.in_features, num_classes)
        self.num_classes, self.classes = num_classes, None

    def forward_features(self, clips):
        return torch.relu(self.norm(self.time(torch.relu(self.space(clips)))))

    def forward_head(self, features, *, pre_logits=False):
        pooled = features.mean(dim=(3, 4), keepdim=True)
        return pooled if pre_logits else self.classify(pooled)

    def classify(self, pooled):
        return self.head(self.dropout(pooled[..., 0, 0].movedim(1, 2))).mean(dim=1)

    def frames_of_step(self, step):
        return range(4 * step, 4 * step + 4)


ROW = Architecture("Toy", Toy, (("rgb",), ("flow",)), clip_len=8, test_clip_len=16, min_clip_len=4, parameters=0.001)
