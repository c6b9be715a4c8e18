"""Two-stream I3D: what happens in a video. The names below are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .checkpoints import available_models as available_models
    from .checkpoints import inflate_googlenet as inflate_googlenet
    from .checkpoints import inflate_state_dict as inflate_state_dict
    from .checkpoints import load_checkpoint as load_checkpoint
    from .checkpoints import save_checkpoint as save_checkpoint
    from .checkpoints.convert import convert as convert
    from .errors import CheckpointError as CheckpointError
    from .errors import DatasetError as DatasetError
    from .errors import I3DError as I3DError
    from .errors import VideoError as VideoError
    from .errors import VideoWarning as VideoWarning
    from .flow import compute_flow as compute_flow
    from .models import I3D as I3D
    from .prediction import Prediction as Prediction
    from .prediction import TwoStream as TwoStream
    from .prediction import load_model as load_model
    from .video import read_video as read_video

_HOMES = {
    "checkpoints.checkpoint": (
        "load_checkpoint",
        "save_checkpoint",
    ),
    "checkpoints.convert": ("convert",),
    "checkpoints.inflate": (
        "inflate_googlenet",
        "inflate_state_dict",
    ),
    "checkpoints.zoo": ("available_models",),
    "errors": (
        "CheckpointError",
        "DatasetError",
        "I3DError",
        "VideoError",
        "VideoWarning",
    ),
    "flow.compute": ("compute_flow",),
    "models.i3d": ("I3D",),
    "prediction.load": ("load_model",),
    "prediction.prediction": ("Prediction",),
    "prediction.two_stream": ("TwoStream",),
    "video.reader": ("read_video",),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
__all__ += ["__version__"]
