"""Two-stream I3D: what happens in a video. The names below are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .checkpoints import load_checkpoint, save_checkpoint
    from .conversion import convert
    from .errors import CheckpointError, DatasetError, I3DError, VideoError, VideoWarning
    from .flow import compute_flow
    from .i3d import I3D
    from .inflate import inflate_googlenet, inflate_state_dict
    from .two_stream import Prediction, TwoStream, load_model
    from .video import read_video
    from .zoo import available_models

_HOMES = {
    "I3D": "i3d",
    "load_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "convert": "conversion",
    "TwoStream": "two_stream",
    "Prediction": "two_stream",
    "load_model": "two_stream",
    "available_models": "zoo",
    "read_video": "video",
    "compute_flow": "flow",
    "inflate_googlenet": "inflate",
    "inflate_state_dict": "inflate",
    "I3DError": "errors",
    "VideoError": "errors",
    "VideoWarning": "errors",
    "CheckpointError": "errors",
    "DatasetError": "errors",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
