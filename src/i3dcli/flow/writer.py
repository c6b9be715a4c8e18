"""The flows of one video → its folder of flow, in one of the formats of `formats`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..defaults import JPEG_QUALITY
from ..threads import available_cores
from .formats import FORMATS, frame_name, jpeg

Write = Callable[[str, bytes], object]


class FlowWriter:
    """Writes the flows of one video, one after the other, into an existing folder; `close` completes the files.

    They are encoded by `threads` threads (default: every core) and written in order. The caller writes the sidecar,
    which marks the flow as complete.
    """

    def __init__(self, folder: Path, *, format: str, bound: float, quality: int = JPEG_QUALITY, threads: int | None = None):
        self.folder, self.quality = folder, quality
        self.format = FORMATS[format](folder, bound=bound, quality=quality)
        self.num_flows = self.num_frames = 0
        self.shape: tuple[int, ...] = ()  # of each flow
        self.threads = threads or available_cores()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")
        self.pending: deque[tuple[Write, str, Future[bytes]]] = deque()

    def write_flow(self, flow: NDArray[np.float32]) -> None:
        """Append one flow (2,H,W) in pixels per frame."""
        self.num_flows += 1
        self.shape = flow.shape
        for name, encode in zip(self.format.names(self.num_flows), self.format.encoders(flow), strict=True):
            self._put(self.format.write, name, encode)

    def write_frame(self, frame: NDArray[np.uint8]) -> None:
        """Append one RGB frame (H,W,3) as img_00001.jpg …"""
        self.num_frames += 1
        self._put(self.format.write_frame, frame_name(self.num_frames), partial(jpeg, frame[..., ::-1], self.quality))

    def close(self) -> None:
        try:
            while self.pending:
                self._write_first()
        finally:
            self.pool.shutdown(cancel_futures=True)
            self.format.close()

    def _put(self, write: Write, name: str, encode: Callable[[], bytes]) -> None:
        """Write a file once it is encoded and all earlier files are written."""
        self.pending.append((write, name, self.pool.submit(encode)))
        while len(self.pending) > 2 * self.threads:
            self._write_first()

    def _write_first(self) -> None:
        write, name, data = self.pending.popleft()
        write(name, data.result())
