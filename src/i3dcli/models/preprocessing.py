"""How the input of a network is made, which belongs to its weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..defaults import (
    CLIP_LEN,
    CROP,
    FLOW_ALGORITHM,
    FLOW_BOUND,
    FPS,
    LONGEST_NAME,
    RANGES,
    SHORT_SIDE,
    TVL1,
    FlowRecipe,
    check_ranges,
)
from ..text import briefly


@dataclass(frozen=True)
class Preprocessing:
    """How a network's input was made; stored in our checkpoints, so that weights and input stay together."""

    fps: float = FPS
    short_side: int = SHORT_SIDE
    crop: int = CROP
    clip_len: int = CLIP_LEN
    flow_algorithm: str = FLOW_ALGORITHM
    flow_parameters: TVL1 | None = TVL1()  # None for algorithms without
    flow_bound: float = FLOW_BOUND

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        name = self.flow_algorithm  # that of stored flow may be none of ours
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(f"Preprocessing: flow_algorithm: got {briefly(name)}, expected a name")
        if not isinstance(self.flow_parameters, (TVL1, type(None))):
            raise ValueError(f"Preprocessing: flow_parameters: got {briefly(self.flow_parameters)}, expected those of TV-L1")

    def small_pictures(self) -> str | None:
        """What to say where pictures are smaller than the crop; None where they are not."""
        if self.short_side >= self.crop:
            return None
        return (
            f"pictures smaller than the crop: got a short side of {self.short_side} pixels, the crop has {self.crop}; they are "
            "used whole, or where a batch has several, padded with their edges"
        )

    @property
    def flow(self) -> FlowRecipe:
        """How the flow was made that the weights have seen."""
        return FlowRecipe(self.flow_algorithm, self.flow_parameters, self.flow_bound, self.fps, self.short_side)
