"""Clips → logits: the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .i3d import BN_EPS as BN_EPS
    from .i3d import BN_MOMENTUM as BN_MOMENTUM
    from .i3d import FEATURE_STRIDE as FEATURE_STRIDE
    from .i3d import HEAD_POOL as HEAD_POOL
    from .i3d import I3D as I3D
    from .i3d import LAYERS as LAYERS
    from .i3d import Unit3D as Unit3D
    from .i3d import same_padding as same_padding

_HOMES = {
    "i3d": ("BN_EPS", "BN_MOMENTUM", "FEATURE_STRIDE", "HEAD_POOL", "I3D", "LAYERS", "Unit3D", "same_padding"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
