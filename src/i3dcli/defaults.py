"""Every number of the I3D protocol, once, with its unit and its source.

Sources: [paper] Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750v3;
[readme] the README of deepmind/kinetics-i3d; [author] its author in issue 24 there.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .text import briefly

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
DATASET_FORMATS = ("folder", "list", "ucf101", "hmdb51", "kinetics", "charades")  # the layouts of labelled videos
TEST_PART = "test"  # what --val-fraction was of runs that validated on a part called so
JPEG_QUALITY = 95  # OpenCV's default

ARCHITECTURE = "i3d"  # the network that is trained where none is named
MODEL = "kinetics400"  # the zoo's name of the weights used when none are named
TEST_CLIPS = 10  # per video, of those who score clips; Wang et al., "Non-local Neural Networks", section 5.1
TOP_K = 5  # labels shown per video
STREAMS = ("rgb", "flow")  # in the order they are always listed


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, both of them in it."""

    least: float
    most: float
    whole: bool = True  # only integers

    def __contains__(self, value: Any) -> bool:
        is_number = isinstance(value, numbers.Integral if self.whole else numbers.Real) and not isinstance(value, bool)
        return is_number and bool(self.least <= value <= self.most)

    def __str__(self) -> str:
        return f"{'an integer' if self.whole else 'a number'} from {self.least:g} to {self.most:g}"


# What is believed, of an option and of a checkpoint's description alike.
PIXELS = Range(1, 8192)  # of a side
CLASSES = Range(1, 100_000)
WIDTHS = Range(0.01, 10, whole=False)
RANGES = {
    "fps": Range(0.01, 1000, whole=False),
    "short_side": PIXELS,
    "crop": PIXELS,
    "clip_len": Range(1, 10_000),
    "flow_bound": Range(0.01, 10_000, whole=False),
}
TVL1_RANGES = {
    "tau": Range(1e-6, 1e6, whole=False),
    "lambda_": Range(1e-6, 1e6, whole=False),
    "theta": Range(1e-6, 1e6, whole=False),
    "scales": Range(1, 100),
    "warps": Range(1, 100),
    "epsilon": Range(0, 1e6, whole=False),
    "inner_iterations": Range(1, 1000),
    "outer_iterations": Range(1, 1000),
    "scale_step": Range(0.01, 0.99, whole=False),
}
MEDIANS = (0, 1, 3, 5)
LONGEST_NAME = 1000  # characters, of a class or an algorithm


def check_ranges(record: object, ranges: Mapping[str, Range]) -> None:
    """Raise ValueError for a field of a dataclass that is out of its range."""
    for name, allowed in ranges.items():
        if (value := getattr(record, name)) not in allowed:
            raise ValueError(f"{type(record).__name__}: {name}: got {briefly(value)}, expected {allowed}")


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
        check_ranges(self, TVL1_RANGES)
        if self.median not in MEDIANS or isinstance(self.median, (bool, float)):
            raise ValueError(f"TVL1: median: got {briefly(self.median)}, expected one of {', '.join(map(str, MEDIANS))}")


@dataclass(frozen=True)
class FlowRecipe:
    """How flow is made: by which algorithm, of frames of which rate and size, and where it is clamped."""

    algorithm: str = FLOW_ALGORITHM
    parameters: TVL1 | None = TVL1()  # None for algorithms without
    bound: float = FLOW_BOUND  # pixels per frame
    fps: float | None = FPS  # None: that of the video
    short_side: int = SHORT_SIDE  # pixels

    def differences(self, wanted: FlowRecipe, *, clamped: bool = True) -> list[str]:
        """What is otherwise than `wanted`, in words; the bound counts where flow is `clamped`."""
        pairs: list[tuple[str, object, object]] = [
            ("algorithm", self.algorithm, wanted.algorithm),
            ("fps", self.fps, wanted.fps),
            ("short_side", self.short_side, wanted.short_side),
        ]
        if self.parameters is not None and wanted.parameters is not None:
            there, expected = asdict(self.parameters), asdict(wanted.parameters)
            pairs += [(name.rstrip("_"), there[name], expected[name]) for name in there]
        if clamped:
            pairs.append(("bound", self.bound, wanted.bound))
        return [f"{name} {there}, trained on {expected}" for name, there, expected in pairs if there != expected]
