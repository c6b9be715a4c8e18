"""The flows of one video → its folder of flow, in one of the four formats."""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..defaults import JPEG_QUALITY
from ..threads import available_cores
from .formats import QUANTISED, ZIP_TIME, flo, flow_names, frame_name, jpeg, quantise


class FlowWriter:
    """Writes the flows of one video, one after the other, into an existing folder; `close` completes the files.

    Pictures are encoded by `threads` threads (default: every core) and written in order. The caller writes the sidecar,
    which marks the flow as complete.
    """

    def __init__(self, folder: Path, *, format: str, bound: float, quality: int = JPEG_QUALITY, threads: int | None = None):
        self.folder, self.format, self.bound, self.quality = folder, format, bound, quality
        self.num_flows = self.num_frames = 0
        self.archive = zipfile.ZipFile(folder / "flow.zip", "w") if format == "zip" else None
        self.array = (folder / "flow.npy").open("wb") if format == "npy" else None
        self.shape: tuple[int, ...] = ()  # of each flow
        self.threads = threads or available_cores()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")
        self.pending: deque[tuple[str, Future[bytes]]] = deque()

    def write_flow(self, flow: NDArray[np.float32]) -> None:
        """Append one flow (2,H,W) in pixels per frame."""
        self.num_flows += 1
        self.shape = flow.shape
        if self.format in QUANTISED:
            for name, field in zip(flow_names(self.format, self.num_flows), flow, strict=True):
                self._put(name, partial(self._levels, field))
        elif self.array is not None:
            if self.num_flows == 1:
                self._write_header()
            self.array.write(flow.astype("<f2").tobytes())
        else:
            (name,) = flow_names(self.format, self.num_flows)
            self._put(name, partial(flo, flow))

    def write_frame(self, frame: NDArray[np.uint8]) -> None:
        """Append one RGB frame (H,W,3) as img_00001.jpg …"""
        self.num_frames += 1
        self._put(frame_name(self.num_frames), partial(jpeg, frame[..., ::-1], self.quality))

    def close(self) -> None:
        try:
            while self.pending:
                self._write_first()
        finally:
            self.pool.shutdown(cancel_futures=True)
            if self.archive is not None:
                self.archive.close()
            if self.array is not None:
                with self.array:  # is closed even if the disk is full
                    self._write_header()

    def _levels(self, field: NDArray[np.float32]) -> bytes:
        return jpeg(quantise(field, self.bound), self.quality)

    def _put(self, name: str, encode: Callable[[], bytes]) -> None:
        """Write a file once it is encoded and all earlier files are written."""
        self.pending.append((name, self.pool.submit(encode)))
        while len(self.pending) > 2 * self.threads:
            self._write_first()

    def _write_first(self) -> None:
        name, data = self.pending.popleft()
        if self.archive is not None:
            self.archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data.result())
        else:
            (self.folder / name).write_bytes(data.result())

    def _write_header(self) -> None:
        """Write the header of flow.npy, again at the end: NumPy leaves room in it for the first axis to grow."""
        assert self.array is not None
        self.array.seek(0)
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.num_flows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.array, header)
