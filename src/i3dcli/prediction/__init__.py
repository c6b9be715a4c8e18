"""Video → labels: two streams, fused, over the whole video or over time, and what is printed, drawn and written of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .predict import Timeline as Timeline
    from .predict import write_outputs as write_outputs
    from .two_stream import Prediction as Prediction
    from .two_stream import Tally as Tally
    from .two_stream import TwoStream as TwoStream
    from .two_stream import load_model as load_model
    from .two_stream import load_stream as load_stream

_HOMES = {
    "predict": ("Timeline", "write_outputs"),
    "two_stream": ("Prediction", "Tally", "TwoStream", "load_model", "load_stream"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
