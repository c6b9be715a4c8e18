"""The formats of stored flow, one class each: file names, how a flow becomes bytes, and how it is read again.

jpg   flow_x_00001.jpg, flow_y_00001.jpg …   8 bits, clamped to ±bound; the names and levels mmaction2 and TSN read
zip   flow.zip                               the same pictures in one file
npy   flow.npy                               (T,2,H,W) float16 pixels per frame, not clamped
flo   flow_00001.flo …                       float32 pixels per frame, Middlebury's format, not clamped
"""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

Flow = NDArray[np.float32]  # (2,H,W), pixels per frame

ZERO_LEVEL = 128  # of 255, where a flow of zero lands: denseflow's cvRound(127.5), half to even
FLO_MAGIC = np.float32(202021.25)  # Middlebury's "PIEH"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same for every file, so that equal flow makes equal archives


class FlowFormat(ABC):
    """A format. Its class says what it is called on disk; an object of it stores the flow of one video in a folder."""

    is_clamped: ClassVar[bool] = False  # True if flow beyond the bound is lost
    in_one_file: ClassVar[str | None] = None  # the name of the file that holds all flows; None for files for each

    def __init__(self, folder: Path, *, bound: float, quality: int):
        self.folder, self.bound, self.quality = folder, bound, quality

    @staticmethod
    @abstractmethod
    def names(number: int) -> tuple[str, ...]:
        """The names of the parts of flow `number`, from 1: of files, or of what is in the one file."""

    @abstractmethod
    def encoders(self, flow: Flow) -> tuple[Callable[[], bytes], ...]:
        """Functions that give the bytes of each part of a flow; they are called in threads."""

    def write(self, name: str, data: bytes) -> None:
        """Store a part; parts come in order."""
        (self.folder / name).write_bytes(data)

    def write_frame(self, name: str, data: bytes) -> None:
        """Store an RGB frame beside the flow."""
        (self.folder / name).write_bytes(data)

    def close(self) -> None:  # noqa: B027 - most formats have nothing to complete
        """Complete what is written."""

    @staticmethod
    @abstractmethod
    def reader(folder: Path, num_flows: int, bound: float) -> Callable[[int], Flow]:
        """A function from an index, from 0, to a flow. It, or this, raises ValueError, KeyError, OSError or BadZipFile."""


class Jpg(FlowFormat):
    """Two pictures for each flow, x and y, in levels of 8 bits."""

    is_clamped = True

    @staticmethod
    def names(number: int) -> tuple[str, ...]:
        return f"flow_x_{number:05d}.jpg", f"flow_y_{number:05d}.jpg"

    def encoders(self, flow: Flow) -> tuple[Callable[[], bytes], ...]:
        return tuple(partial(self._picture, field) for field in flow)

    def _picture(self, field: Flow) -> bytes:
        return jpeg(quantise(field, self.bound), self.quality)

    @staticmethod
    def reader(folder: Path, num_flows: int, bound: float) -> Callable[[int], Flow]:
        return lambda index: from_pictures(Jpg.names(index + 1), lambda name: (folder / name).read_bytes(), bound)


class Zip(Jpg):
    """The pictures of Jpg in one archive."""

    in_one_file = "flow.zip"

    def __init__(self, folder: Path, *, bound: float, quality: int):
        super().__init__(folder, bound=bound, quality=quality)
        self.archive = zipfile.ZipFile(folder / self.in_one_file, "w")

    def write(self, name: str, data: bytes) -> None:
        self.archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)

    def write_frame(self, name: str, data: bytes) -> None:
        self.write(name, data)  # frames are in the archive, too

    def close(self) -> None:
        self.archive.close()

    @staticmethod
    def reader(folder: Path, num_flows: int, bound: float) -> Callable[[int], Flow]:
        archive = zipfile.ZipFile(folder / Zip.in_one_file)
        return lambda index: from_pictures(Zip.names(index + 1), archive.read, bound)


class Npy(FlowFormat):
    """One array of float16."""

    in_one_file = "flow.npy"

    def __init__(self, folder: Path, *, bound: float, quality: int):
        super().__init__(folder, bound=bound, quality=quality)
        self.file = (folder / self.in_one_file).open("wb")
        self.num_flows = 0
        self.shape: tuple[int, ...] = ()  # of each flow

    @staticmethod
    def names(number: int) -> tuple[str, ...]:
        return (Npy.in_one_file,)

    def encoders(self, flow: Flow) -> tuple[Callable[[], bytes], ...]:
        self.shape = flow.shape
        return (flow.astype("<f2").tobytes,)

    def write(self, name: str, data: bytes) -> None:
        if self.num_flows == 0:
            self._write_header()
        self.num_flows += 1
        self.file.write(data)

    def close(self) -> None:
        with self.file:  # is closed even if the disk is full
            self._write_header()

    def _write_header(self) -> None:
        """Write the header, again at the end: NumPy leaves room in it for the first axis to grow."""
        self.file.seek(0)
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.num_flows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    @staticmethod
    def reader(folder: Path, num_flows: int, bound: float) -> Callable[[int], Flow]:
        array = np.load(folder / Npy.in_one_file, mmap_mode="r")
        if len(array) != num_flows:
            raise ValueError(f"flow.npy holds {len(array)} flows, flow.json says {num_flows}")
        return lambda index: array[index].astype(np.float32)


class Flo(FlowFormat):
    """A file of Middlebury's format for each flow."""

    @staticmethod
    def names(number: int) -> tuple[str, ...]:
        return (f"flow_{number:05d}.flo",)

    def encoders(self, flow: Flow) -> tuple[Callable[[], bytes], ...]:
        return (partial(flo, flow),)

    @staticmethod
    def reader(folder: Path, num_flows: int, bound: float) -> Callable[[int], Flow]:
        return lambda index: read_flo(folder.joinpath(*Flo.names(index + 1)).read_bytes())


FORMATS: dict[str, type[FlowFormat]] = {"jpg": Jpg, "zip": Zip, "npy": Npy, "flo": Flo}  # defaults.FLOW_FORMATS


def flow_files() -> re.Pattern[str]:
    """The names of all files that hold flow in any format."""
    in_folders = {name for format in FORMATS.values() if format.in_one_file is None for name in format.names(1)}
    numbered = [re.escape(name).replace("00001", r"\d{5,}") for name in sorted(in_folders)]
    return re.compile("|".join([*numbered, *(re.escape(f.in_one_file) for f in FORMATS.values() if f.in_one_file)]))


def frame_name(number: int) -> str:
    """The name of frame `number`, from 1."""
    return f"img_{number:05d}.jpg"


def quantise(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """Pixels per frame → levels 0 … 255 for -bound … bound, clamped and rounded as denseflow and mmaction2 do."""
    levels = np.rint((np.clip(flow, -bound, bound) + bound) * (255 / (2 * bound)))
    return np.asarray(levels, np.uint8)


def dequantise(levels: NDArray[np.uint8], bound: float) -> Flow:
    """Levels → pixels per frame, the linear inverse: 0 is -bound, 255 is bound; zero flow comes back as bound/255."""
    return levels.astype(np.float32) * np.float32(2 * bound / 255) - np.float32(bound)


def from_pictures(names: tuple[str, ...], read: Callable[[str], bytes], bound: float) -> Flow:
    """The flow in two pictures, x and y. Raises ValueError."""
    data = [np.frombuffer(read(name), np.uint8) for name in names]
    found = [cv2.imdecode(picture, cv2.IMREAD_GRAYSCALE) for picture in data if picture.size]  # cv2 raises for an empty one
    levels = [picture for picture in found if picture is not None]
    if len(levels) < len(names):
        raise ValueError(f"{names[0]} or {names[1]} is no picture")
    return dequantise(np.stack(levels).astype(np.uint8), bound)


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """A grey (H,W) or BGR (H,W,3) picture as JPEG."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def flo(flow: Flow) -> bytes:
    """A flow (2,H,W) in Middlebury's format: a magic number, width, height, then (x, y) of each pixel, little-endian."""
    _, height, width = flow.shape
    return FLO_MAGIC.tobytes() + np.array([width, height], "<i4").tobytes() + flow.transpose(1, 2, 0).astype("<f4").tobytes()


def read_flo(data: bytes) -> Flow:
    """The flow (2,H,W) in a file of Middlebury's format. Raises ValueError."""
    if data[:4] != FLO_MAGIC.tobytes() or len(data) < 12:
        raise ValueError("no .flo file")
    width, height = np.frombuffer(data, "<i4", 2, 4)
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1).copy()
