"""What every network is to the rest of the package: how it is described, cut in layers, and asked for features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .preprocessing import Preprocessing

CHANNELS = {"rgb": 3, "flow": 2}  # of a frame of each input; several flows that are stacked have 2 each: x, y, x, y …


class VideoNetwork(nn.Module, ABC):
    """Clips → logits: a network of `ARCHITECTURES`.

    `inputs` names what it looks at, "rgb" or "flow", or both in the order of the arguments of `forward`, each of which is
    (N,C,T,H,W) float in [-1, 1]. The logits are (N,K).
    """

    architecture: str  # its name in ARCHITECTURES

    def __init__(self, num_classes: int, inputs: Sequence[str], *, width: float = 1.0):
        super().__init__()
        if num_classes < 1 or not width > 0 or not inputs or not set(inputs) <= set(CHANNELS):
            raise ValueError(
                f"expected at least one class and inputs of {[*CHANNELS]}, got {num_classes = }, {inputs = }, {width = }"
            )
        self.num_classes, self.inputs, self.width = num_classes, tuple(inputs), width
        self.classes: tuple[str, ...] | None = None  # names of the K logits, where they are known
        self.chosen_on: frozenset[int] = frozenset()  # the videos that these weights are the best on; see data/chosen.py
        self.preprocessing = Preprocessing()  # how the input was made that the weights have seen

    @property
    def stream(self) -> str:
        """What it looks at as one word: "rgb", "flow", or "rgb+flow" for a network of both."""
        return "+".join(self.inputs)

    @abstractmethod
    def layers(self) -> dict[str, nn.Module]:
        """Its parts before the head by name, from the input on; training may leave the first of them as they are."""

    @property
    @abstractmethod
    def classifier(self) -> nn.Module:
        """The last layer: its `weight` (K, …) and `bias` (K,) have a row for each class."""

    @abstractmethod
    def replace_head(self, num_classes: int) -> None:
        """Draw a new classifier for other classes, whose names are not known yet."""

    @abstractmethod
    def forward_features(self, *clips: Tensor) -> Tensor:
        """Clips → feature maps (N, D, T', H', W'), before pooling."""

    @abstractmethod
    def forward_head(self, features: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Feature maps → (N,K) logits, or with `pre_logits` what the classifier sees of each of its steps, (N, D, T'', …)."""

    @abstractmethod
    def classify(self, pooled: Tensor) -> Tensor:
        """What `forward_head(features, pre_logits=True)` gives → (N,K) logits, the mean over all steps."""

    @abstractmethod
    def frames_of_step(self, step: int) -> range:
        """The frames of a clip that a step of `forward_head(features, pre_logits=True)` pools, from 0."""

    def forward(self, *clips: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(*clips))

    @torch.no_grad()
    def reorder_classes(self, names: Sequence[str]) -> None:
        """Put the classes, whose names are known, in another order."""
        assert self.classes is not None
        order = [self.classes.index(name) for name in names]
        for part in (self.classifier.weight, self.classifier.bias):
            assert isinstance(part, Tensor)
            part.copy_(part[order])
        self.classes = tuple(names)
