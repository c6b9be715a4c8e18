"""Which frames make a clip, and how they become the network's input. No video, no network, only arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Item = TypeVar("Item")


def windows(items: Iterable[Item], *, length: int, shortest: int) -> Iterator[tuple[list[Item], bool]]:
    """(items, is last) of consecutive lists of `length` items, lazily.

    A remainder of fewer than `shortest` items joins the last list.
    """
    window: list[Item] = []
    for item in items:
        window.append(item)
        if len(window) == length + max(1, shortest):
            yield window[:length], False
            window = window[length:]
    if window:
        yield window, True


def sliding(items: Iterable[Item], *, length: int, stride: int, shortest: int) -> Iterator[tuple[int, list[Item]]]:
    """(index of its first item, items) of each window of `length` items, one every `stride` items, lazily.

    Windows may overlap or leave gaps. A last window of fewer items is kept if it is the only one, or if it has at least
    `shortest` items and the window before lacks some of them.
    """
    first, window = 0, list[Item]()
    for index, item in enumerate(items):
        if index >= first:
            window.append(item)
        if len(window) == length:
            yield first, window
            first, window = first + stride, window[stride:]
    news = len(window) - max(0, length - stride)
    if window and (first == 0 or (len(window) >= shortest and news > 0)):
        yield first, window


def looped(items: Sequence[Item], *, shortest: int) -> list[Item]:
    """`items`, repeated from the start until there are `shortest`; paper, section 2.5."""
    return [items[i % len(items)] for i in range(max(len(items), shortest))]


def random_start(rng: np.random.Generator, num_frames: int, length: int) -> int:
    """A random first frame of a clip of `length` frames; 0 if there are too few frames."""
    return int(rng.integers(max(1, num_frames - length + 1)))


def random_crop(rng: np.random.Generator, height: int, width: int, crop: int) -> tuple[slice, slice]:
    """The rows and columns of a random crop x crop pixels; a shorter side is kept whole."""
    top, left = int(rng.integers(max(1, height - crop + 1))), int(rng.integers(max(1, width - crop + 1)))
    return slice(top, top + crop), slice(left, left + crop)


def centre_crop(height: int, width: int, crop: int) -> tuple[slice, slice]:
    """The rows and columns of the middle crop x crop pixels; a shorter side is kept whole."""
    top, left = max(0, (height - crop) // 2), max(0, (width - crop) // 2)
    return slice(top, top + crop), slice(left, left + crop)


def cut(input: str, items: Sequence[NDArray[Any]], rows: slice, columns: slice) -> list[NDArray[Any]]:
    """Some rows and columns of frames (H,W,3) of "rgb", or of flows (2,H,W) of "flow"."""
    return [item[rows, columns] if input == "rgb" else item[:, rows, columns] for item in items]


def padded(clip: Tensor, crop: int) -> Tensor:
    """A clip (…,H,W) with sides of at least `crop` pixels: a smaller picture is continued by the pixels of its edge."""
    for axis in (-2, -1):
        size = clip.shape[axis]
        if size < crop:
            before = (crop - size) // 2
            clip = clip.index_select(axis, torch.arange(-before, crop - before).clamp_(0, size - 1))
    return clip


def mirrored(clip: Tensor, *, input: str) -> Tensor:
    """A clip (…,C,T,H,W) flipped left to right; in "flow", one or stacked as x, y, x, y …, x changes its sign."""
    clip = clip.flip(-1)
    if input == "flow":
        clip[..., 0::2, :, :, :].neg_()
    return clip


def as_clip(input: str, items: Sequence[NDArray[np.uint8 | np.float32]], *, bound: float) -> Tensor:
    """Frames or flows as one clip (C,T,H,W).

    T frames (H,W,3) of "rgb" stay uint8, a quarter of the bytes to copy to a device, where `as_input` scales them. T flows
    (2,H,W) of "flow" in pixels per frame become float32, clamped to ±`bound` and scaled to [-1, 1].
    """
    if input == "rgb":
        return torch.from_numpy(np.stack(items)).permute(3, 0, 1, 2)
    return torch.from_numpy(np.stack(items, axis=1)).clamp_(-bound, bound).div_(bound)


def as_input(clips: Tensor) -> Tensor:
    """Clips as the input of a network, float32 in [-1, 1]; clips of RGB may be uint8."""
    return clips.float().div_(127.5).sub_(1) if clips.dtype == torch.uint8 else clips
