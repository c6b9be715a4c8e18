"""What a file of weights holds, before any of it is read: tensors that know their shape, and values that stay unread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import Malformed

DEEPEST = 8  # values within each other in the state of a run


@dataclass(frozen=True)
class Stored:
    """A dense tensor that is read when it is asked for, so that what it is can be judged before memory is taken for it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    numbers: int  # that it has in the file; fewer than its shape asks for where they are used several times
    read: Callable[[], Tensor]  # raises CheckpointError

    @property
    def is_whole(self) -> bool:
        """Whether it has a number for each of its places."""
        return self.numbers >= torch.Size(self.shape).numel()

    def changed(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> Stored:
        """The tensor of this shape that `change` makes of it once it is read."""
        return replace(self, shape=shape, read=lambda: change(self.read()))

    @classmethod
    def of(cls, tensor: Tensor) -> Stored | Inert:
        """A tensor that is in memory already."""
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            return Inert("Tensor")
        return cls(tuple(tensor.shape), tensor.dtype, tensor.numel(), tensor.detach)


@dataclass(frozen=True, eq=False)
class Inert:
    """Something else in a file of weights, of which only the kind is known."""

    kind: str


def read_all(value: Any, *, depth: int = 0, done: dict[int, Any] | None = None) -> Any:
    """Plain values and the tensors in them, read. Raises Malformed for what is nested more deeply than a run's state is.

    What occurs in several places is read once (`done`), as whoever wants to fill the memory writes it so.
    """
    done = {} if done is None else done
    if depth > DEEPEST:
        raise Malformed("its values are nested too deeply")
    if id(value) not in done:
        if isinstance(value, Stored):
            if not value.is_whole:
                raise Malformed("a tensor is larger than what is stored of it")
            done[id(value)] = value.read()
        elif isinstance(value, dict):
            done[id(value)] = {key: read_all(item, depth=depth + 1, done=done) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            done[id(value)] = type(value)(read_all(item, depth=depth + 1, done=done) for item in value)
        else:
            return value
    return done[id(value)]
