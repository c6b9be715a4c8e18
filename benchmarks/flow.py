"""TV-L1 flow, ours against OpenCV's: speed as a ratio in one run on the same cores, and how far the results differ.

    python benchmarks/flow.py VIDEO...

OpenCV is given its better way of using all cores: its own threads inside a pair, or one pair per thread. Where there is
a CUDA device, a second table has its speed: of the kernels alone and with decoded frames from and flow to the host, beside
the pairs per second at which the bytes of the iterations fill its memory's bandwidth, as a copy reaches it.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from i3dcli.defaults import TVL1
from i3dcli.flow.tvl1 import tvl1, tvl1_stream
from i3dcli.video.reader import Video

Frames = list[NDArray[np.uint8]]
Flows = list[NDArray[np.float32]]


def decode(path: Path, count: int) -> Frames:
    """The first frames of a video, grey, short side 256."""
    frames = itertools.islice(Video(path, fps=None), count)
    return [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]


def opencv_pair(previous: NDArray[np.uint8], following: NDArray[np.uint8]) -> NDArray[np.float32]:
    algorithm = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    flow = algorithm.calc(previous, following, None)
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


def opencv(frames: Frames, *, cv_threads: int, pool_threads: int) -> Flows:
    """All pairs by OpenCV: its own threads inside a pair, ours across pairs."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(cv_threads)
    try:
        with ThreadPoolExecutor(pool_threads) as pool:
            return list(pool.map(opencv_pair, frames, frames[1:]))
    finally:
        cv2.setNumThreads(before)


def timed(function: Callable[[], Flows], best: dict[str, float], name: str) -> Flows:
    start = time.perf_counter()
    flows = function()
    best[name] = min(best.get(name, np.inf), time.perf_counter() - start)
    return flows


def measure(frames: Frames, cores: int, repeats: int) -> tuple[dict[str, float], Flows, Flows]:
    """Best time of each contestant, the contestants taking turns, and both results."""
    best: dict[str, float] = {}
    for _ in range(repeats):
        theirs = timed(lambda: opencv(frames, cv_threads=cores, pool_threads=1), best, "opencv inside")
        ours = timed(lambda: list(tvl1_stream(frames, threads=cores)), best, "ours all")
        timed(lambda: opencv(frames, cv_threads=1, pool_threads=cores), best, "opencv across")
        timed(lambda: opencv(frames, cv_threads=1, pool_threads=1), best, "opencv one")
        timed(lambda: list(tvl1_stream(frames, threads=1)), best, "ours one")
    best["opencv all"] = min(best["opencv inside"], best["opencv across"])
    return best, theirs, ours


def gpu_row(frames: Frames, ours: Flows, pairs: int = 256, repeats: int = 3) -> str:
    """Speed on the current CUDA device, of as many pairs as a batch takes, and the difference to the CPU's flow."""
    from i3dcli.flow.compute import cuda_stream
    from i3dcli.flow.tvl1_cuda import pixel_iterations, tvl1_frames

    there_and_back = itertools.cycle([*frames, *frames[-2:0:-1]])
    many = list(itertools.islice(there_and_back, pairs + 1))
    batch = torch.from_numpy(np.stack(many)).cuda()
    seconds = 60 * pixel_iterations(batch) / copy_bandwidth()  # it compiles and captures, too
    found = tvl1_frames(torch.from_numpy(np.stack(frames)).cuda()).cpu().numpy()
    difference = np.hypot(*(found - np.stack(ours)).transpose(1, 0, 2, 3))
    kernels = rate_of(lambda: tvl1_frames(batch), pairs, repeats)
    whole = rate_of(lambda: sum(1 for _ in cuda_stream(iter(many * repeats), TVL1(), device="cuda")), pairs * repeats, 1)
    return (
        f"{kernels:12.0f} {whole:12.0f} {pairs / seconds:12.0f} {kernels * seconds / pairs:7.0%}"
        f" | {difference.mean():15.4f} {np.quantile(difference, 0.999):7.3f}"
    )


def rate_of(function: Callable[[], object], pairs: int, repeats: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    torch.cuda.synchronize()
    return pairs * repeats / (time.perf_counter() - start)


def copy_bandwidth(size: int = 2**30, repeats: int = 20) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size * rate_of(lambda: target.copy_(source), 1, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()

    print(
        f"pairs/s            {args.cores} cores: OpenCV   ours  ratio | 1 core: OpenCV   ours  ratio | end-point: mean  99.9 %"
    )
    ratios, gpu_rows = [], []
    for path in args.videos:
        frames = decode(path, args.frames)
        tvl1(frames[0], frames[1])  # compile, or load, before the clock starts
        best, theirs, ours = measure(frames, args.cores, args.repeats)
        rate = {name: (len(frames) - 1) / seconds for name, seconds in best.items()}
        difference = np.hypot(*(np.stack(ours, 1) - np.stack(theirs, 1)))  # (T,H,W)
        ratios.append((rate["ours all"] / rate["opencv all"], rate["ours one"] / rate["opencv one"]))
        print(
            f"{path.stem[:14]:14} {frames[0].shape[1]}x{frames[0].shape[0]}"
            f"  {rate['opencv all']:12.2f} {rate['ours all']:6.1f} {ratios[-1][0]:5.1f}x"
            f" | {rate['opencv one']:14.2f} {rate['ours one']:6.1f} {ratios[-1][1]:5.1f}x"
            f" | {difference.mean():15.4f} {np.quantile(difference, 0.999):7.3f}",
            flush=True,
        )
        if torch.cuda.is_available():
            gpu_rows.append(f"{path.stem[:14]:14} {frames[0].shape[1]}x{frames[0].shape[0]}  {gpu_row(frames, ours)}")
    every, one = np.exp(np.log(ratios).mean(0))
    print(f"geometric mean of the ratios: {every:.1f}x on {args.cores} cores, {one:.1f}x on one")
    if gpu_rows:
        print(
            f"\npairs/s, {torch.cuda.get_device_name()}:  kernels   with the host   bandwidth   share | end-point: mean  99.9 %"
        )
        print("\n".join(gpu_rows))


if __name__ == "__main__":
    main()
