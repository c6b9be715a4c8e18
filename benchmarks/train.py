"""Clips per second of `i3d train` against a plain PyTorch loop around the reference network, in one run.

    python benchmarks/train.py [--width 1.0] [--clip-len 64] [--crop 224] [--steps 3] [--device auto] [--precision fp32 bf16]

The plain loop is what one writes first: whole videos decoded, a random clip taken, pytorch-i3d's operations (every
convolution and pool after an explicit zero padding, ReLU out of place) in fp32, NCDHW, batch size 4, the same loader
processes. Videos (10 s of 340x256 at 25 fps, H.264) are made in a temporary folder. Rates are the best of rounds in
which all take turns; loader-only and network-only rates stand beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import i3dcli
from i3dcli.data.dataset import Sample
from i3dcli.distributed import ALONE, cores_per_process
from i3dcli.models.i3d import MaxPool3d, Unit3D, same_padding
from i3dcli.models.preprocessing import Preprocessing
from i3dcli.prediction.two_stream import choose_device
from i3dcli.training.clip_loader import Batch, ClipDataset, ClipSampler, load_batches
from i3dcli.training.options import TrainOptions
from i3dcli.training.trainer import Trainer
from i3dcli.video.writer import VideoWriter

BATCH = 4


class PlainClips(Dataset[tuple[Tensor, int]]):
    """A random clip of a video that is decoded whole."""

    def __init__(self, samples: list[Sample], p: Preprocessing, length: int):
        self.samples, self.p, self.length = samples, p, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self.samples[index % len(self.samples)]
        frames = i3dcli.read_video(sample.path)
        rng = np.random.default_rng(index)
        first = int(rng.integers(len(frames) - self.p.clip_len + 1))
        top, left = (int(rng.integers(side - self.p.crop + 1)) for side in frames.shape[-2:])
        clip = frames[first : first + self.p.clip_len, :, top : top + self.p.crop, left : left + self.p.crop]
        return clip.permute(1, 0, 2, 3).float() / 127.5 - 1, sample.labels[0]


def reference(net: i3dcli.I3D) -> i3dcli.I3D:
    """The same network with pytorch-i3d's operations."""

    def padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.pad(x, [n for pair in reversed(same_padding(x.shape[2:], kernel, stride)) for n in pair])

    def unit(self: Unit3D, x: Tensor) -> Tensor:
        x = self.conv3d(padded(x, self.conv3d.kernel_size, self.conv3d.stride))
        return x if self.bn is None else F.relu(self.bn(x))

    def pool(self: MaxPool3d, x: Tensor) -> Tensor:
        return F.max_pool3d(padded(x, self.kernel, self.stride), self.kernel, self.stride)

    for module in net.modules():
        if isinstance(module, Unit3D):
            module.forward = unit.__get__(module)
        elif isinstance(module, MaxPool3d):
            module.forward = pool.__get__(module)
    return net


def make_videos(folder: Path, count: int = 4) -> list[Sample]:
    """Ten seconds of a texture that moves, 340x256."""
    samples = []
    for i in range(count):
        rng = np.random.default_rng(i)
        world = cv2.resize(rng.integers(0, 256, (80, 160, 3), np.uint8), (1280, 640), interpolation=cv2.INTER_CUBIC)
        with VideoWriter(folder / f"{i}.mp4", fps=25) as writer:
            for t in range(250):
                writer.write(world[t : t + 256, 2 * t : 2 * t + 340])
        samples.append(Sample(folder / f"{i}.mp4", Path(str(i)), (i % 2,)))
    return samples


def our_batches(samples: list[Sample], p: Preprocessing, workers: int) -> Iterator[Batch]:
    dataset = ClipDataset(samples, p, num_classes=2, multi_label=False)
    draws = ClipSampler(len(samples), batch_size=BATCH, seed=0, first=0, last=10_000)
    return iter(load_batches(dataset, draws, workers=workers))


def plain_batches(samples: list[Sample], p: Preprocessing, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    return iter(DataLoader(PlainClips(samples, p, 10_000 * BATCH), BATCH, shuffle=True, num_workers=workers))


def plain_step(width: float, device: torch.device) -> Callable[[tuple[Tensor, Tensor]], float]:
    """The step of the plain loop."""
    net = reference(i3dcli.I3D(2, width=width)).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step(batch: tuple[Tensor, Tensor]) -> float:
        loss = F.cross_entropy(net(batch[0].to(device)), batch[1].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(width: float, device: torch.device, precision: str) -> Callable[[Batch], tuple[float, float]]:
    """The step of `i3d train`."""
    options = TrainOptions(precision=precision, batch_size=BATCH)
    net = i3dcli.I3D(2, width=width)
    trainer = Trainer(net, options, group=ALONE, device=device, multi_label=False, report=lambda batch: None)
    return lambda batch: trainer.step([batch], number=0, lr=1e-3)


def rate(batches: Iterator[Any], step: Callable[[Any], object], steps: int) -> float:
    """Clips per second over some steps, the first one left out."""
    step(next(batches))
    start = time.perf_counter()
    for _ in range(steps):
        step(next(batches))
    return steps * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--clip-len", type=int, default=64)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=min(8, max(1, cores_per_process() - 1)))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    args = parser.parse_args()
    device = choose_device(args.device)
    p = Preprocessing(clip_len=args.clip_len, crop=args.crop)
    print(f"{device}, width {args.width:g}, {BATCH} clips of {p.clip_len}x{p.crop}x{p.crop}, {args.workers} loader processes")
    with tempfile.TemporaryDirectory() as name:
        samples = make_videos(Path(name))
        plain, ours = (lambda: plain_batches(samples, p, args.workers)), (lambda: our_batches(samples, p, args.workers))
        one_plain, one = next(plain()), next(ours())
        step = plain_step(args.width, device)
        contestants: dict[str, Callable[[], float]] = {
            "plain loop": lambda: rate(plain(), step, args.steps),
            "plain network only": lambda: rate(repeat(one_plain), step, args.steps),
            "plain loader only": lambda: rate(plain(), lambda batch: None, 8),
            "our loader only": lambda: rate(ours(), lambda batch: None, 8),
        }
        for precision in args.precision:
            ours_step = our_step(args.width, device, precision)
            contestants[f"our loop, {precision}"] = lambda step=ours_step: rate(ours(), step, args.steps)
            contestants[f"our network only, {precision}"] = lambda step=ours_step: rate(repeat(one), step, args.steps)
        best = dict.fromkeys(contestants, 0.0)
        for _ in range(args.rounds):
            for title, contestant in contestants.items():
                best[title] = max(best[title], contestant())
    for title, clips in best.items():
        ratio = f"  {clips / best['plain loop']:5.2f} x the plain loop" if title.startswith("our loop") else ""
        print(f"{title:24} {clips:7.2f} clips/s{ratio}")


if __name__ == "__main__":
    main()
