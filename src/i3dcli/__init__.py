"""Two-stream I3D: what happens in a video. The names below are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .checkpoints import inflate_googlenet as inflate_googlenet
    from .checkpoints import inflate_state_dict as inflate_state_dict
    from .checkpoints import list_models as list_models
    from .checkpoints import load_checkpoint as load_checkpoint
    from .checkpoints import model_info as model_info
    from .checkpoints import save_checkpoint as save_checkpoint
    from .checkpoints.convert import convert as convert
    from .data import load_dataset as load_dataset
    from .errors import CheckpointError as CheckpointError
    from .errors import DatasetError as DatasetError
    from .errors import I3DError as I3DError
    from .errors import VideoError as VideoError
    from .errors import VideoWarning as VideoWarning
    from .evaluation.evaluate import evaluate as evaluate
    from .flow import compute_flow as compute_flow
    from .flow import extract_flow as extract_flow
    from .models import I3D as I3D
    from .models import create_model as create_model
    from .models import list_architectures as list_architectures
    from .prediction import Prediction as Prediction
    from .prediction import TwoStream as TwoStream
    from .prediction import load_model as load_model
    from .training.train import train as train
    from .video import Video as Video
    from .video import read_video as read_video

_HOMES = {
    "checkpoints.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "checkpoints.convert": ("convert",),
    "checkpoints.inflate": ("inflate_googlenet", "inflate_state_dict"),
    "checkpoints.zoo": ("list_models", "model_info"),
    "data.dataset": ("load_dataset",),
    "errors": ("CheckpointError", "DatasetError", "I3DError", "VideoError", "VideoWarning"),
    "evaluation.evaluate": ("evaluate",),
    "flow.compute": ("compute_flow",),
    "flow.extract": ("extract_flow",),
    "models.architectures": ("create_model", "list_architectures"),
    "models.i3d": ("I3D",),
    "prediction.load": ("load_model",),
    "prediction.prediction": ("Prediction",),
    "prediction.two_stream": ("TwoStream",),
    "training.train": ("train",),
    "video.reader": ("Video", "read_video"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
__all__ += ["__version__"]
