"""RGB frames → an .mp4."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import VideoError

MAX_ENCODED_SIDE = 16384  # pixels; libx264
X264 = {"crf": "18", "x264-params": "mbtree=0"}  # with mbtree, the same frames become other bytes now and then


class VideoWriter:
    """Encodes RGB frames (H,W,3) uint8 into an .mp4; a context manager, which completes the file when it ends."""

    def __init__(self, path: str | Path, *, fps: float):
        self.container = av.open(f"file:{os.fspath(path)}", "w", format="mp4")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.stream: av.VideoStream | None = None

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame; an odd last row or column is left out, as the codec wants even sizes. Raises VideoError."""
        height, width = (n // 2 * 2 for n in frame.shape[:2])
        if not 2 <= min(height, width) <= max(height, width) <= MAX_ENCODED_SIDE:
            raise VideoError(f"cannot encode video: got {width}x{height} pixels, expected sides from 2 to {MAX_ENCODED_SIDE}")
        if self.stream is None:
            self.stream = self.container.add_stream("libx264", rate=self.fps, options=X264)
            self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, "yuv420p"
        picture = np.ascontiguousarray(frame[:height, :width])
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))
        self.container.close()
