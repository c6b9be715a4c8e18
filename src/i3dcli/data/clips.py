"""Which frames make a clip, and how they become the network's input. No video, no network, only arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..defaults import IN_CHANNELS, MAX_CLIP_LEN, MIN_CLIP_LEN

Item = TypeVar("Item")


def windows(items: Iterable[Item], *, length: int = MAX_CLIP_LEN, shortest: int = MIN_CLIP_LEN) -> Iterator[list[Item]]:
    """Consecutive lists of `length` items, lazily; a rest of fewer than `shortest` items joins the last list."""
    window: list[Item] = []
    for item in items:
        window.append(item)
        if len(window) == length + shortest:
            yield window[:length]
            window = window[length:]
    if window:
        yield window


def sliding(
    items: Iterable[Item], *, length: int, stride: int, shortest: int = MIN_CLIP_LEN
) -> Iterator[tuple[int, list[Item]]]:
    """(index of its first item, items) of each window of `length` items, one every `stride` items, lazily.

    Windows overlap or leave gaps. The last one ends with the items: a shorter one is kept if it is the only one, or if it
    has `shortest` items or more and not all of them were in the one before.
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


def looped(items: Sequence[Item], *, shortest: int = MIN_CLIP_LEN) -> list[Item]:
    """`items`, repeated from the start until there are `shortest`; paper, section 2.5."""
    return [items[i % len(items)] for i in range(max(len(items), shortest))]


def random_start(rng: np.random.Generator, num_frames: int, length: int) -> int:
    """The first frame of a clip of `length` frames, any that leaves enough of them; 0 if there are too few."""
    return int(rng.integers(max(1, num_frames - length + 1)))


def random_crop(rng: np.random.Generator, height: int, width: int, crop: int) -> tuple[slice, slice]:
    """The rows and columns of any crop x crop pixels; all of a side that is shorter."""
    top, left = int(rng.integers(max(1, height - crop + 1))), int(rng.integers(max(1, width - crop + 1)))
    return slice(top, top + crop), slice(left, left + crop)


def centre_crop(height: int, width: int, crop: int) -> tuple[slice, slice]:
    """The rows and columns of the middle crop x crop pixels; all of a side that is shorter."""
    top, left = max(0, (height - crop) // 2), max(0, (width - crop) // 2)
    return slice(top, top + crop), slice(left, left + crop)


def mirrored(clip: Tensor) -> Tensor:
    """A clip (…,C,T,H,W) as seen in a mirror; of flow (C = 2), what moved right moves left."""
    clip = clip.flip(-1)
    if clip.shape[-4] == IN_CHANNELS["flow"]:
        clip.select(-4, 0).neg_()
    return clip


def rgb_clip(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """T frames (H,W,3) uint8 → one clip (1,3,T,H,W) float32 in [-1, 1]."""
    return rgb_from_bytes(byte_clip(frames)[None])


def byte_clip(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """T frames (H,W,3) uint8 → (3,T,H,W) uint8, a quarter of the bytes to carry to a device."""
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)


def rgb_from_bytes(clips: Tensor) -> Tensor:
    """RGB clips of bytes → float32 in [-1, 1]."""
    return clips.float().div_(127.5).sub_(1)


def flow_clip(flows: Sequence[NDArray[np.float32]], *, bound: float) -> Tensor:
    """T flows (2,H,W) in pixels per frame → one clip (1,2,T,H,W) float32, clamped to ±bound and scaled to [-1, 1]."""
    return torch.from_numpy(np.stack(flows, axis=1)).clamp_(-bound, bound).div_(bound)[None]
