"""Every number of the I3D protocol, once, with its unit and its source.

Sources: [paper] Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750v3;
[readme] the README of deepmind/kinetics-i3d; [author] its author in issue 24 there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FPS = 25.0  # frames per second; [paper] 2.4
SHORT_SIDE = 256  # pixels, the shorter side after resizing; [paper] 2.5
CROP = 224  # pixels, centre crop at test time; [paper] 2.5
CLIP_LEN = 64  # frames the released streams were trained on; [paper] table 1
MAX_CLIP_LEN = 250  # frames the network looks at in one pass at test time: 10 s; [paper] table 1
MIN_CLIP_LEN = 9  # frames; fewer leave one feature step, and the head pools two
DROPOUT = 0.5  # the share of features that training drops before the classifier; [readme]
FLOW_BOUND = 20.0  # pixels per frame, where flow is clamped before scaling to [-1, 1]; [readme], [author]
FLOW_ALGORITHM = "tvl1"  # [paper] 2.5
FLOW_ALGORITHMS = (FLOW_ALGORITHM, "dis", "farneback")
FLOW_FORMATS = ("jpg", "zip", "npy", "flo")  # the first is what mmaction2 and TSN read
JPEG_QUALITY = 95  # OpenCV's default

MODEL = "kinetics400"  # the zoo's name of the weights used when none are named
TEST_CLIPS = 10  # per video, of those who score clips; Wang et al., "Non-local Neural Networks", section 5.1
TOP_K = 5  # labels shown per video
STREAMS = ("rgb", "flow")  # in the order they are always listed
IN_CHANNELS = {"rgb": 3, "flow": 2}


@dataclass(frozen=True)
class TVL1:
    """Parameters of TV-L1, by default those of OpenCV's CPU class.

    `median` is the side of the filter's window, 3 or 5; 0 and 1 mean none, as in OpenCV's CUDA class.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    median: int = 5

    def __post_init__(self) -> None:
        for name in ("tau", "lambda_", "theta"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"TVL1: {name}: got {getattr(self, name)}, expected a positive number")
        for name in ("scales", "warps", "inner_iterations", "outer_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"TVL1: {name}: got {getattr(self, name)}, expected at least 1")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"TVL1: epsilon: got {self.epsilon}, expected 0 or more")
        if not 0 < self.scale_step < 1:
            raise ValueError(f"TVL1: scale_step: got {self.scale_step}, expected a number between 0 and 1")
        if self.median not in (0, 1, 3, 5):
            raise ValueError(f"TVL1: median: got {self.median}, expected 0, 1, 3 or 5")


@dataclass(frozen=True)
class Preprocessing:
    """How a stream's input was made; stored in our checkpoints, so that weights and input stay together."""

    fps: float = FPS
    short_side: int = SHORT_SIDE
    crop: int = CROP
    clip_len: int = CLIP_LEN
    flow_algorithm: str = FLOW_ALGORITHM
    flow_parameters: TVL1 | None = TVL1()  # None for algorithms without
    flow_bound: float = FLOW_BOUND
