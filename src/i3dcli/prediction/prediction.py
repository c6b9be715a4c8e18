"""What a model says of a video, or of one window of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..defaults import TOP_K


@dataclass(frozen=True)
class Features:
    """Rows of 1024·width numbers, just before the classifier, and the seconds of the video that each row was pooled from.

    A row pools two feature steps of 8 frames each; rows follow each other by one step. (R,D) float32, (R,), (R,) float64.
    """

    rows: NDArray[np.float32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a video, or of one window of it.

    Logits are (K,) float32; those of a stream that did not run are None.
    """

    video: str
    model: str
    device: str
    classes: tuple[str, ...]
    num_frames: int
    fps: float
    damaged_frames: int  # of the file, that could not be decoded, or not whole; of a window, since the one before
    stream_logits: Mapping[str, Tensor]
    features: Mapping[str, Features]  # by stream; empty unless asked for
    start_seconds: float = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Another name of `classes`."""
        return self.classes

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.stream_logits)

    @property
    def duration_seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def first_frame(self) -> int:
        return round(self.start_seconds * self.fps)

    @property
    def end_frame(self) -> int:
        """The first one after the window."""
        return self.first_frame + self.num_frames

    @property
    def end_seconds(self) -> float:
        return self.end_frame / self.fps

    @property
    def rgb_logits(self) -> Tensor | None:
        return self.stream_logits.get("rgb")

    @property
    def flow_logits(self) -> Tensor | None:
        return self.stream_logits.get("flow")

    @property
    def logits(self) -> Tensor:
        """Fused logits: the mean of the streams', with equal weight; paper, section 2.4."""
        return torch.stack(list(self.stream_logits.values())).mean(0)

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(0)

    def top_indices(self, k: int = TOP_K) -> list[int]:
        """The k most probable classes, best first; all of them where there are fewer."""
        if k < 1:
            raise ValueError(f"expected at least one class, got {k = }")
        return self.logits.topk(min(k, len(self.logits))).indices.tolist()

    def top(self, k: int = TOP_K) -> list[tuple[str, float]]:
        """The k most probable labels with their probabilities, best first."""
        return [(self.classes[i], float(self.probabilities[i])) for i in self.top_indices(k)]
