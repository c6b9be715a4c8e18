"""Video file → frames: videos are found, and their frames decoded, resampled, scaled and turned as they are to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .find import FLOW_SIDECAR as FLOW_SIDECAR
    from .find import Found as Found
    from .find import as_on_disk as as_on_disk
    from .find import find_videos as find_videos
    from .find import picture_paths as picture_paths
    from .find import raise_unreadable as raise_unreadable
    from .find import source_bytes as source_bytes
    from .find import video_key as video_key
    from .find import videos_below as videos_below
    from .reader import Video as Video
    from .reader import read_video as read_video
    from .writer import VideoWriter as VideoWriter

_HOMES = {
    "find": (
        "FLOW_SIDECAR",
        "Found",
        "as_on_disk",
        "find_videos",
        "picture_paths",
        "raise_unreadable",
        "source_bytes",
        "video_key",
        "videos_below",
    ),
    "reader": ("Video", "read_video"),
    "writer": ("VideoWriter",),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
