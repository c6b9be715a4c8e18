"""Checks that the tensors of a file are those of a network in name, shape and kind, and reads them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..text import shown
from .tensors import Inert, Stored

VARIANCES = "running_var"
MOST_REPEATED = 1 << 25  # numbers that a network may have while its file stores fewer; the paper's has 13 million


def read_tensors(
    tensors: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    path: str | Path,
    *,
    network: str,
    names: Mapping[str, str] | None = None,
    advice: str = "",
) -> dict[str, Tensor]:
    """The `tensors`, if they are exactly the `expected` ones in name, shape and kind of numbers, and all are finite.

    All are checked before the first is read. Weights become float32, and counters int64. `names` are the tensors' names
    in the file where these differ from ours. Raises CheckpointError.
    """
    names = names or {}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}  # absent before torch 0.4.1
    missing = sorted(expected.keys() - optional - tensors.keys())
    unknown = sorted(names.get(key, key) for key in tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(keys)} {what} (first {keys[0]})" for keys, what in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise wrong(path, "tensors " + " and ".join(parts), f"exactly those of {network}", advice)
    for key, tensor in tensors.items():
        name, like = names.get(key, key), expected[key]
        if not isinstance(tensor, Stored):
            kind = tensor.kind if isinstance(tensor, Inert) else type(tensor).__name__
            raise wrong(path, f"{name}, a {kind} without plain numbers", "a dense tensor", advice)
        if tensor.shape != like.shape:
            raise wrong(path, f"{name} of shape {tensor.shape}", str(tuple(like.shape)), advice)
        if tensor.dtype.is_floating_point != like.dtype.is_floating_point or tensor.dtype.is_complex:
            raise wrong(path, f"{name} of {tensor.dtype}", "float weights and integer counters", advice)
    check_volume(tensors.values(), path, advice)
    return {key: finite(read_as(tensor, expected[key].dtype), names.get(key, key), path) for key, tensor in tensors.items()}


def read_as(tensor: Stored, dtype: torch.dtype) -> Tensor:
    """A tensor as another type, with memory of its own for each number, so that training can change it."""
    numbers = tensor.read().to(dtype)
    return numbers if tensor.is_whole else numbers.contiguous()


def check_volume(tensors: Collection[Stored], path: str | Path, advice: str) -> None:
    """Raise CheckpointError for tensors far larger than their data in the file, as with a stride of zero."""
    claimed, there = sum(math.prod(tensor.shape) for tensor in tensors), sum(tensor.numbers for tensor in tensors)
    if claimed > max(there, MOST_REPEATED):
        raise wrong(path, f"tensors of {claimed} numbers, of which it has {there}", "a number for each place", advice)


def finite(tensor: Tensor, name: str, path: str | Path) -> Tensor:
    """The tensor, if all its numbers are finite and no variance is negative. Raises CheckpointError."""
    if not torch.isfinite(tensor).all():  # a float64 too large for float32 is infinite
        raise wrong(path, f"NaN or infinity in {name}", "finite weights", "copy or download the file again")
    if name.endswith(VARIANCES) and tensor.numel() and tensor.min() < 0:
        raise wrong(path, f"a negative variance in {name}", "variances from 0 on", "copy or download the file again")
    return tensor


def wrong(path: str | Path, got: str, expected: str, advice: str = "") -> CheckpointError:
    return CheckpointError(f"wrong checkpoint: {shown(path)}: got {shown(got)}, expected {expected}{advice and f'; {advice}'}")
