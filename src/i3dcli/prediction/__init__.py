"""Video → labels: two streams, fused, over the whole video or over time, and what is printed, drawn and written of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .load import load_model as load_model
    from .predict import Timeline as Timeline
    from .predict import predict_videos as predict_videos
    from .prediction import Prediction as Prediction
    from .records import write_outputs as write_outputs
    from .two_stream import TwoStream as TwoStream

_HOMES = {
    "load": ("load_model",),
    "predict": ("Timeline", "predict_videos"),
    "prediction": ("Prediction",),
    "records": ("write_outputs",),
    "two_stream": ("TwoStream",),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
