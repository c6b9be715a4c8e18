"""The four formats of flow on disk, one flow at a time: levels in pictures, numbers in arrays; and flow in colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

QUANTISED = ("jpg", "zip")
ZERO_LEVEL = 128  # of 255, where a flow of zero lands: denseflow's cvRound(127.5), half to even
FLO_MAGIC = np.float32(202021.25)  # Middlebury's "PIEH"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same for every file, so that equal flow makes equal archives


def quantise(flow: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    """Pixels per frame → levels 0 … 255 for -bound … bound, clamped and rounded as denseflow and mmaction2 do."""
    levels = np.rint((np.clip(flow, -bound, bound) + bound) * (255 / (2 * bound)))
    return np.asarray(levels, np.uint8)


def dequantise(levels: NDArray[np.uint8], bound: float) -> NDArray[np.float32]:
    """Levels → pixels per frame, the linear inverse: 0 is -bound, 255 is bound; zero flow comes back as bound/255."""
    return levels.astype(np.float32) * np.float32(2 * bound / 255) - np.float32(bound)


def flow_names(format: str, number: int) -> tuple[str, ...]:
    """The names of what holds flow `number`, from 1, in its folder, or of a zip in the archive; npy has one file for all."""
    return (f"flow_{number:05d}.flo",) if format == "flo" else (f"flow_x_{number:05d}.jpg", f"flow_y_{number:05d}.jpg")


def frame_name(number: int) -> str:
    """The name of frame `number`, from 1."""
    return f"img_{number:05d}.jpg"


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """A grey (H,W) or BGR (H,W,3) picture as JPEG."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def flo(flow: NDArray[np.float32]) -> bytes:
    """A flow (2,H,W) in Middlebury's format: a magic number, width, height, then (x, y) of each pixel, little-endian."""
    _, height, width = flow.shape
    return FLO_MAGIC.tobytes() + np.array([width, height], "<i4").tobytes() + flow.transpose(1, 2, 0).astype("<f4").tobytes()


def read_flo(data: bytes) -> NDArray[np.float32]:
    """The flow (2,H,W) in a file of Middlebury's format. Raises ValueError."""
    if data[:4] != FLO_MAGIC.tobytes() or len(data) < 12:
        raise ValueError("no .flo file")
    width, height = np.frombuffer(data, "<i4", 2, 4)
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1).copy()
