"""TV-L1 optical flow on a CUDA device, all pairs of a batch at once; `tvl1` explains the algorithm.

What happens once for each pyramid level is PyTorch; the loops are the Triton kernels of `_tvl1_triton`. The host queues
the greatest number of iterations and never waits for the device; kernels that find a pair converged leave it alone. As
these are 7500 iterations with OpenCV's parameters, of which a pair needs some 700, they are queued only once, as a CUDA
graph, which then serves every batch of that size. The flow of a pair does not depend on its batch, nor on the run.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..defaults import TVL1
from .tvl1 import level_sizes

CAPACITIES = (2, 4, 16, 64, 256)  # pairs in a batch; in the largest, idle iterations are some tenth of the time
MEMORY_SHARE = 10  # of a device's memory, a batch may take one part in so many, however large its frames
BYTES_PER_PIXEL = 200  # of each pair: 60 for the iterations, the rest for pyramids, gradients, the flow and gaps between
ALIGNMENT = 32  # floats in a cache line of 128 bytes
PROGRAMS = 2  # for each multiprocessor, as many as its registers hold; together they take the tiles of all pairs that go on
LAUNCH = {  # two pixels a thread
    "num_warps": 16,
    "num_stages": 1,
    "enable_fp_fusion": True,  # named as its default changes with Triton 3.10
}
ITERATE = {**LAUNCH, "maxnreg": 64}  # so that two programs share a multiprocessor; it costs a few spilled registers at most
GRAPHS = len(CAPACITIES)  # kept, of those used last; each holds the memory of its batch
RUNNING = 2**62  # an error above every threshold

Size = tuple[int, int]


class Axis(NamedTuple):
    """Resampling along an axis: the old pixels on either side of each new one's centre, and the weight of the second."""

    first: Tensor
    second: Tensor
    weight: Tensor


def tvl1_batch(previous: Tensor, following: Tensor, params: TVL1 = TVL1()) -> Tensor:
    """Flow (N,2,H,W) in pixels from grey frames (N,H,W) to grey frames (N,H,W), uint8 or float32 in [0,255].

    The flow is on the frames' device. A process should call this module on one CUDA stream only: its batches share memory.
    """
    _check(previous)
    _check(following)
    if previous.shape != following.shape or previous.device != following.device:
        raise ValueError(f"TV-L1: frames differ: {previous.shape = }, {following.shape = }; or so do their devices")
    count = _most_pairs(previous)
    flows = [_solve((a, b), len(a), params) for a, b in zip(previous.split(count), following.split(count), strict=True)]
    return torch.cat(flows)


def tvl1_frames(frames: Tensor, params: TVL1 = TVL1()) -> Tensor:
    """Flow (T-1,2,H,W) in pixels between successive grey frames (T,H,W); as `tvl1_batch`, with one pyramid per frame."""
    _check(frames)
    count = _most_pairs(frames)
    pieces = [frames[first : first + count + 1] for first in range(0, max(len(frames) - 1, 1), count)]
    return torch.cat([_solve((piece,), len(piece) - 1, params) for piece in pieces])


def pixel_iterations(frames: Tensor, params: TVL1 = TVL1()) -> int:
    """The pixels of all pairs and levels that the iterations go over for one batch of successive frames; for a benchmark.

    Each reads and writes some 60 bytes of device memory: u, p and the linearised image once, and the new u and p.
    """
    tvl1_frames(frames, params)
    batch = _find_batch((frames,), len(frames) - 1, params)
    return int(batch.work[: len(frames) - 1].sum())


def _check(frames: Tensor) -> None:
    if frames.ndim != 3 or frames.dtype not in (torch.uint8, torch.float32) or frames.numel() == 0:
        raise ValueError(f"TV-L1: expected grey frames (N,H,W) of uint8 or float32, got {frames.shape = }, {frames.dtype = }")
    if frames.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"TV-L1: expected frames on a CUDA device, got {frames.device = }")


def _most_pairs(frames: Tensor) -> int:
    """What fits in a batch of frames of this size."""
    fitting = _memory(frames.device) // (BYTES_PER_PIXEL * frames[0].numel())
    return max((capacity for capacity in CAPACITIES if capacity <= fitting), default=CAPACITIES[0])


@cache
def _memory(device: torch.device) -> int:
    """Bytes that a batch may take."""
    if device.type != "cuda":
        return 2**30
    return torch.cuda.get_device_properties(device).total_memory // MEMORY_SHARE


_LOCK = threading.Lock()


@torch.inference_mode(False)  # what a batch keeps must be ordinary tensors, whoever calls it first
@torch.no_grad()
def _solve(sources: Sequence[Tensor], pairs: int, params: TVL1) -> Tensor:
    """`sources` are the first and the second frames of pairs, or successive frames."""
    frames = sources[0]
    if pairs == 0:
        return frames.new_empty((0, 2, *frames.shape[1:]), dtype=torch.float32)
    with _LOCK, torch.cuda.device_of(frames):
        return _find_batch(sources, pairs, params)(sources)[:pairs]


def _find_batch(sources: Sequence[Tensor], pairs: int, params: TVL1) -> "Batch":
    frames = sources[0]
    capacity = min(capacity for capacity in CAPACITIES if capacity >= pairs)  # few graphs for clips of any length
    return _batch(frames.device, capacity, (frames.shape[1], frames.shape[2]), len(sources) == 1, params)


@lru_cache(maxsize=GRAPHS)
def _batch(device: torch.device, pairs: int, size: Size, successive: bool, params: TVL1) -> "Batch":
    return Batch(device, pairs, size, successive, params)


class Batch:
    """The computation for one number of pairs and size of frames; on a GPU, a graph of it."""

    def __init__(self, device: torch.device, pairs: int, size: Size, successive: bool, params: TVL1) -> None:
        self.pairs, self.params = pairs, params
        self.lag = 1 if successive else pairs  # from a pair's first frame to its second
        self.images = torch.zeros((pairs + self.lag, *size), device=device)
        self.programs = _programs(device)
        sizes = level_sizes(size, params)
        # tables are made here because a graph cannot copy them from the host
        self.shrink = [_axes(a, b, (1 / params.scale_step,) * 2, device) for a, b in pairwise(sizes)]
        self.enlarge = [_axes(b, a, (b[0] / a[0], b[1] / a[1]), device) for a, b in pairwise(sizes)]
        self.graph = self._capture() if device.type == "cuda" else None

    def __call__(self, sources: Sequence[Tensor]) -> Tensor:
        for images, frames in zip(self.images.chunk(len(sources)), sources, strict=True):
            images[: len(frames)] = frames
            images[len(frames) :] = sources[0][-1]  # pairs without motion, which stop at once
        if self.graph is None:
            return self._flow(self.params)
        self.graph.replay()
        return self.flow.clone()

    def _capture(self) -> torch.cuda.CUDAGraph:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._flow(replace(self.params, warps=1))  # compiles the kernels, which a capture cannot
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # other threads may allocate meanwhile
            self.flow = self._flow(self.params)
        return graph

    def _flow(self, params: TVL1) -> Tensor:
        """Coarse to fine: the flow of each level, enlarged, starts the next."""
        pyramid = [self.images]
        for axes in self.shrink:
            pyramid.append(_resize(pyramid[-1], axes))
        flow = self.images.new_zeros((self.pairs, 2, *pyramid[-1].shape[1:]))
        self.work = torch.zeros(self.pairs, dtype=torch.int64, device=flow.device)  # pixels gone over, in all iterations
        for level in reversed(range(len(pyramid))):
            if level < len(self.enlarge):
                flow = _resize(flow, self.enlarge[level]) * (1 / params.scale_step)
            previous, following = pyramid[level][: self.pairs], pyramid[level][self.lag :]
            flow = _solve_level(previous, _texture(following), flow, params, self.programs, self.work)
        return flow.contiguous()


def _solve_level(previous: Tensor, texture: Tensor, flow: Tensor, params: TVL1, programs: int, work: Tensor) -> Tensor:
    """The improved flow (N,2,H,W) at one level of the pyramid; `work` (N,) counts the pixels of its iterations."""
    kernels = _kernels()
    pairs, height, width = previous.shape
    stride = -(-width // ALIGNMENT) * ALIGNMENT
    u = pad(flow, (0, stride - width))
    p, linear = u.new_zeros((pairs, 4, height, stride)), u.new_empty((pairs, 3, height, stride))
    u_next, p_next = torch.empty_like(u), torch.empty_like(p)
    errors = torch.empty((2 + params.outer_iterations * params.inner_iterations, pairs), dtype=torch.int64, device=u.device)
    threshold = int(params.epsilon**2 * height * width * kernels.ERROR_SCALE.value)
    rates = params.theta, params.lambda_ * params.theta, params.tau / params.theta
    tiles = -(-height // kernels.ROWS.value) * -(-stride // kernels.COLUMNS.value)
    grid = (min(programs, pairs * tiles),)
    for _ in range(params.warps):
        kernels.warp[(tiles, pairs)](u, previous, texture, linear, height, width, stride, **LAUNCH)
        errors.zero_()
        errors[:2].fill_(RUNNING)
        for row in range(len(errors) - 2):
            if params.median > 1 and row % params.inner_iterations == 0:  # an outer iteration starts
                kernels.median[grid](
                    u, u_next, errors[row], height, width, stride, threshold, SIZE=params.median, PAIRS=pairs, **LAUNCH
                )
                u, u_next = u_next, u
            kernels.iterate[grid](
                u, p, u_next, p_next, linear, errors[row], height, width, stride, threshold, *rates, PAIRS=pairs, **ITERATE
            )
            u, u_next, p, p_next = u_next, u, p_next, p
        work += (errors[1:-1] > threshold).sum(0) * (height * stride)
    return u[..., :width]


@cache
def _kernels() -> ModuleType:
    try:
        from . import _tvl1_triton
    except ImportError as cause:
        raise ImportError("TV-L1: CUDA: Triton is missing; `pip install triton`, or compute the flow on the CPU") from cause
    return _tvl1_triton


@cache
def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 2  # Triton's interpreter runs them one after the other
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


def _axes(old: Size, new: Size, scales: tuple[float, float], device: torch.device) -> list[Axis]:
    """Bilinear, pixel centres aligned as in `cv2.resize`; `scales` are the old size over the new: rows, columns."""
    axes = []
    for before, after, scale, shape in zip(old, new, scales, ((-1, 1), (1, -1)), strict=True):
        position = np.clip((np.arange(after) + 0.5) * scale - 0.5, 0, before - 1)
        first = position.astype(np.int64)
        weight = (position - first).astype(np.float32).reshape(shape)
        axes.append(Axis(*(torch.from_numpy(x).to(device) for x in (first, np.minimum(first + 1, before - 1), weight))))
    return axes


def _resize(images: Tensor, axes: list[Axis]) -> Tensor:
    """(..., H, W) to another size; along the rows first, as `_tvl1_cpu` does, for the same rounding."""
    for dim, axis in ((-1, axes[1]), (-2, axes[0])):
        first = images.index_select(dim, axis.first)
        images = first + axis.weight * (images.index_select(dim, axis.second) - first)
    return images


def _texture(images: Tensor) -> Tensor:
    """(N,3,H,W): the images and their centred differences in x and y, border repeated."""
    repeated = pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    dx = 0.5 * (repeated[:, 1:-1, 2:] - repeated[:, 1:-1, :-2])
    dy = 0.5 * (repeated[:, 2:, 1:-1] - repeated[:, :-2, 1:-1])
    return torch.stack((images, dx, dy), 1)
