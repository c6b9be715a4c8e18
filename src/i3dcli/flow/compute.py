"""FlowMethod: frames → optical flow. DIS and Farnebäck are here, TV-L1 is in `tvl1` and `tvl1_cuda`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..defaults import FLOW_ALGORITHM, FLOW_ALGORITHMS, TVL1
from ..errors import CheckpointError, memory_errors
from ..text import command, option, shown
from ..threads import prefetch, threaded_map

Frame = NDArray[np.uint8]  # (H,W,3) RGB
Grey = NDArray[np.uint8]  # (H,W)
Flow = NDArray[np.float32]  # (2,H,W), pixels per frame
Moment = tuple[Frame, Flow | None]  # a frame and the flow from it to the next


def farneback(pair: tuple[Grey, Grey]) -> Flow:
    """Farnebäck's flow by OpenCV, parameters of its tutorial."""
    return channels_first(cv2.calcOpticalFlowFarneback(*pair, None, 0.5, 3, 15, 3, 5, 1.2, 0))  # type: ignore[call-overload]


def dis(pair: tuple[Grey, Grey]) -> Flow:
    """Dense inverse search by OpenCV, its medium preset; it wants 12 pixels, and smaller pictures get a border."""
    height, width = pair[0].shape
    border = (0, max(0, 12 - height), 0, max(0, 12 - width), cv2.BORDER_REPLICATE)
    larger = [cv2.copyMakeBorder(grey, *border) for grey in pair]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*larger, None)  # type: ignore[call-overload]
    return channels_first(flow[:height, :width])


def channels_first(flow: NDArray[np.float32]) -> Flow:
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


QUICK: dict[str, Callable[[tuple[Grey, Grey]], Flow]] = {"dis": dis, "farneback": farneback}
CUDA_PAIRS = 256  # computed at once on a CUDA device


@dataclass(frozen=True)
class FlowMethod:
    """An algorithm of FLOW_ALGORITHMS with its parameters, and where it runs.

    `parameters` (default: OpenCV's) and `device` ("cpu" or "cuda") are for "tvl1", `threads` (default: every core) for the CPU.
    """

    algorithm: str = FLOW_ALGORITHM
    parameters: TVL1 | None = None
    device: str = "cpu"
    threads: int | None = None

    def flows(self, frames: Iterable[Frame]) -> Iterator[Flow]:
        """Flows (2,H,W) float32 between successive (H,W,3) uint8 RGB frames, lazily, one fewer than frames.

        Channel 0 is x, right positive, channel 1 is y, down positive, in pixels per frame at the size of the frames.
        """
        greys = (cast(Grey, cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames)
        if self.algorithm == FLOW_ALGORITHM and torch.device(self.device).type == "cuda":
            return cuda_stream(greys, self.parameters or TVL1(), device=self.device)
        if self.algorithm == FLOW_ALGORITHM:
            from .tvl1 import tvl1_stream  # not above: numba takes a moment, and not all who read flow compute it

            return within_memory(tvl1_stream(greys, self.parameters or TVL1(), threads=self.threads))
        if self.algorithm not in QUICK:
            known = ", ".join(FLOW_ALGORITHMS)
            raise CheckpointError(
                f"unknown flow: {shown(self.algorithm)}: the weights want it, expected one of {known}; give it stored, with "
                f"{option('flow_dir')}"
            )
        return within_memory(threaded_map(QUICK[self.algorithm], pairwise(greys), threads=self.threads))

    def moments(self, frames: Iterable[Frame]) -> Iterator[Moment]:
        """Each frame with the flow from it to the next; the last one's is None."""
        held: deque[Frame] = deque()  # frames whose flow is being computed

        def held_frames() -> Iterator[Frame]:
            for frame in frames:
                held.append(frame)
                yield frame

        for flow in self.flows(held_frames()):
            yield held.popleft(), flow
        yield from without_flow(held)


def within_memory(flows: Iterator[Flow]) -> Iterator[Flow]:
    """The flows; raises I3DError where memory runs out."""
    with memory_errors(
        f"compute flow with {command('extract-flow')} at a lower {option('short_side')} or with fewer {option('threads')}"
    ):
        yield from flows


def cuda_stream(greys: Iterable[Grey], params: TVL1, *, device: str) -> Iterator[Flow]:
    """TV-L1 flows between successive grey frames, in batches of pairs on a CUDA device.

    One thread takes the frames and one waits for the device, while the caller has the flows before.
    """
    from .tvl1_cuda import tvl1_frames

    def batches() -> Iterator[NDArray[np.uint8]]:
        source = iter(greys)
        batch = list(islice(source, CUDA_PAIRS + 1))
        while len(batch) > 1:
            yield np.stack(batch)
            batch = [batch[-1], *islice(source, CUDA_PAIRS)]

    def flows() -> Iterator[NDArray[np.float32]]:
        for batch in prefetch(batches(), depth=0):
            with memory_errors(f"lower {option('short_side')}, or use {option('device', 'cpu')}"):
                flow = tvl1_frames(torch.from_numpy(batch).to(device), params).cpu().numpy()
            yield flow

    for flow in prefetch(flows(), depth=0):
        yield from flow


def without_flow(frames: Iterable[Frame]) -> Iterator[Moment]:
    """Each frame alone, as a stream of the same kind."""
    return ((frame, None) for frame in frames)


def compute_flow(frames: torch.Tensor, params: TVL1 = TVL1(), *, threads: int | None = None) -> torch.Tensor:
    """TV-L1 flow (T-1,2,H,W) float32 in pixels per frame of frames (T,3,H,W) uint8 RGB, as `read_video` gives them."""
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8 or len(frames) < 2:
        raise ValueError(f"expected at least two frames (T,3,H,W) uint8, got {tuple(frames.shape) = }, {frames.dtype = }")
    pictures = frames.permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(np.stack(list(FlowMethod(parameters=params, threads=threads).flows(pictures))))
