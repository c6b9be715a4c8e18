"""Every number of the I3D protocol, once, with its unit and its source.

Sources: [paper] Carreira & Zisserman, "Quo Vadis, Action Recognition?", arXiv 1705.07750v3;
[readme] the README of deepmind/kinetics-i3d; [author] its author in issue 24 there.
"""

from __future__ import annotations

from dataclasses import dataclass

FPS = 25.0  # frames per second; [paper] 2.4
SHORT_SIDE = 256  # pixels, the shorter side after resizing; [paper] 2.5
CROP = 224  # pixels, centre crop at test time; [paper] 2.5
CLIP_LEN = 64  # frames the released streams were trained on; [paper] table 1
MAX_CLIP_LEN = 250  # frames the network looks at in one pass at test time: 10 s; [paper] table 1
MIN_CLIP_LEN = 9  # frames; fewer leave one feature step, and the head pools two
FLOW_BOUND = 20.0  # pixels per frame, where flow is clamped before scaling to [-1, 1]; [readme], [author]
FLOW_ALGORITHM = "tvl1"  # [paper] 2.5
FLOW_ALGORITHMS = (FLOW_ALGORITHM, "dis", "farneback")
FLOW_FORMATS = ("jpg", "zip", "npy", "flo")  # the first is what mmaction2 and TSN read
JPEG_QUALITY = 95  # OpenCV's default

MODEL = "kinetics400"  # the zoo's name of the weights used when none are named
TOP_K = 5  # labels shown per video
STREAMS = ("rgb", "flow")  # in the order they are always listed
IN_CHANNELS = {"rgb": 3, "flow": 2}


@dataclass(frozen=True)
class Preprocessing:
    """How a stream's input was made; stored in our checkpoints, so that weights and input stay together."""

    fps: float = FPS
    short_side: int = SHORT_SIDE
    crop: int = CROP
    clip_len: int = CLIP_LEN
    flow_algorithm: str = FLOW_ALGORITHM
    flow_bound: float = FLOW_BOUND
