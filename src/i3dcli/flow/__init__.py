"""Frames → optical flow: computed by TV-L1, DIS or Farnebäck, stored in several formats, and of whole datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .compute import FlowMethod as FlowMethod
    from .compute import Frame as Frame
    from .compute import Moment as Moment
    from .compute import compute_flow as compute_flow
    from .compute import without_flow as without_flow
    from .extract import FlowOptions as FlowOptions
    from .extract import FlowOutcome as FlowOutcome
    from .extract import extract_flow as extract_flow
    from .formats import jpeg as jpeg
    from .stored import FlowFolder as FlowFolder
    from .stored import FlowReader as FlowReader
    from .visualize import flow_picture as flow_picture

_HOMES = {
    "compute": ("FlowMethod", "Frame", "Moment", "compute_flow", "without_flow"),
    "extract": ("FlowOptions", "FlowOutcome", "extract_flow"),
    "formats": ("jpeg",),
    "stored": ("FlowFolder", "FlowReader"),
    "visualize": ("flow_picture",),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
