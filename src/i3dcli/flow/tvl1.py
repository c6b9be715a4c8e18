"""Dense optical flow by TV-L1, as `cv2.optflow.DualTVL1OpticalFlow_create()` computes it.

The flow u from image I0 to image I1 minimises

    sum over pixels of  |grad u1| + |grad u2| + lambda |I1(x + u) - I0(x)|

Total variation keeps motion edges sharp and the L1 norm forgives occlusions, but neither is differentiable and I1(x + u)
is not convex, so the work is split three times:

1. coarse to fine: a pyramid of images makes large motions small; each level starts from the flow of the coarser one;
2. warps: I1 is linearised around the current flow, rho(u) = I1(x + u0) + <grad I1(x + u0), u - u0> - I0, and the
   linear problem is solved, several times for each level;
3. a copy v of the flow takes over the data term, tied to u by |u - v|^2 / (2 theta), so that both are easy: v is a
   threshold of rho in each pixel, u is total-variation denoising of v, solved through its dual variable p.

A median filter on the flow between rounds of the third loop removes outliers.

Sources: Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007; Sánchez,
Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", IPOL 2013; the median filter and every default are OpenCV's.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..defaults import TVL1
from ..stopping import StopFlag
from ..threads import threaded_map
from . import _tvl1_cpu as cpu

SMALLEST_SIDE = 16  # pixels; OpenCV makes no pyramid level with a shorter side


def tvl1(previous: NDArray[np.uint8], following: NDArray[np.uint8], params: TVL1 = TVL1()) -> NDArray[np.float32]:
    """Flow (2,H,W) from one grey frame (H,W) to the next, in pixels: 0 is x, right positive; 1 is y, down positive."""
    return _flow(_pyramid(previous, params), _pyramid(following, params), params, StopFlag())


def tvl1_stream(
    frames: Iterable[NDArray[np.uint8]], params: TVL1 = TVL1(), *, threads: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """The n-1 flows between n successive grey frames, in order, computed on `threads` threads (default: every core).

    Frames are taken as the flows are asked for, a few ahead, so that a stream of any length fits in memory. The number
    of threads does not change a bit of the result. Closing the stream ends the threads within an iteration.
    """
    stop = StopFlag()
    pyramids = (_pyramid(frame, params) for frame in frames)
    return threaded_map(lambda pair: _flow(*pair, params, stop), pairwise(pyramids), threads=threads, stop=stop)


def level_sizes(size: tuple[int, int], params: TVL1) -> list[tuple[int, int]]:
    """(height, width) of each level of the pyramid, each `scale_step` times that of the one before."""
    sizes = [size]
    while len(sizes) < params.scales:
        height, width = (round(side * params.scale_step) for side in sizes[-1])
        if min(height, width) < SMALLEST_SIDE:
            break
        sizes.append((height, width))
    return sizes


def _pyramid(frame: NDArray[np.uint8], params: TVL1) -> list[NDArray[np.float32]]:
    """The frame as float32 in [0,255], then its smaller levels."""
    levels = [_grey(frame)]
    for height, width in level_sizes((frame.shape[0], frame.shape[1]), params)[1:]:
        with cpu.kernels_loaded():
            levels.append(cpu.resize(levels[-1], height, width, 1 / params.scale_step, 1 / params.scale_step))
    return levels


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    if frame.ndim != 2 or frame.dtype != np.uint8 or frame.size == 0:
        raise ValueError(f"TV-L1: expected a grey frame (H,W) of uint8, got {frame.shape = }, {frame.dtype = }")
    return np.ascontiguousarray(frame, np.float32)


def _flow(
    previous: list[NDArray[np.float32]], following: list[NDArray[np.float32]], params: TVL1, stop: StopFlag
) -> NDArray[np.float32]:
    """Coarse to fine: the flow of each level, enlarged, starts the next. Raises Stopped once it is told to stop."""
    if previous[0].shape != following[0].shape:
        raise ValueError(f"TV-L1: frames differ in size: {previous[0].shape} and {following[0].shape}")
    flow = np.zeros((2, *previous[-1].shape), np.float32)
    for level0, level1 in zip(reversed(previous), reversed(following), strict=True):
        with cpu.kernels_loaded():
            if flow.shape[1:] != level0.shape:
                flow = _enlarge(flow, level0.shape, params.scale_step)
            cpu.solve(level0, level1, flow, params, stop=stop)
        stop.check()  # flow is not finished then
    return flow


def _enlarge(flow: NDArray[np.float32], shape: tuple[int, ...], scale_step: float) -> NDArray[np.float32]:
    (height, width), (rows, columns) = shape, flow.shape[1:]
    channels = [cpu.resize(channel, height, width, rows / height, columns / width) for channel in flow]
    return np.stack(channels) * np.float32(1 / scale_step)
