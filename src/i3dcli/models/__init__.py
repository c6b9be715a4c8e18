"""Clips → logits: the networks, each a table of layers, and ARCHITECTURES, which is the paper's table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .architectures import ARCHITECTURES as ARCHITECTURES
    from .architectures import create_model as create_model
    from .architectures import list_architectures as list_architectures
    from .i3d import I3D as I3D
    from .i3d import LAYERS as LAYERS
    from .layers import BN_EPS as BN_EPS
    from .layers import BN_MOMENTUM as BN_MOMENTUM
    from .layers import Unit3D as Unit3D
    from .layers import same_padding as same_padding
    from .network import CHANNELS as CHANNELS
    from .network import VideoNetwork as VideoNetwork
    from .preprocessing import Preprocessing as Preprocessing

_HOMES = {
    "architectures": ("ARCHITECTURES", "create_model", "list_architectures"),
    "i3d": ("I3D", "LAYERS"),
    "layers": ("BN_EPS", "BN_MOMENTUM", "Unit3D", "same_padding"),
    "network": ("CHANNELS", "VideoNetwork"),
    "preprocessing": ("Preprocessing",),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
