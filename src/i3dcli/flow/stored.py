"""Flow on disk: one folder per video, with `flow.json` beside the flow that says how it was made.

    jpg   flow_x_00001.jpg, flow_y_00001.jpg …   8 bits, clamped to ±bound; the names and levels mmaction2 and TSN read
    zip   flow.zip                               the same pictures in one file
    npy   flow.npy                               (T,2,H,W) float16 pixels per frame, not clamped
    flo   flow_00001.flo …                       float32 pixels per frame, Middlebury's format, not clamped

Frame t (from 1) goes with the flow from it to frame t+1, so that n frames have n-1 flows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..defaults import JPEG_QUALITY, TVL1, Preprocessing
from ..errors import VideoError
from ..text import shown
from ..threads import available_cores
from ..video import FLOW_SIDECAR as SIDECAR
from ..video import source_bytes
from .formats import QUANTISED, ZIP_TIME, dequantise, flo, flow_names, frame_name, jpeg, quantise, read_flo
from .places import candidates, made_from

LARGEST_FLOW = 65504.0  # pixels per frame, the largest number of float16


class FlowWriter:
    """Writes the flows of one video, one after the other, into an existing folder; `close` completes the files.

    Pictures are encoded by `threads` threads (default: every core) and written in order. The sidecar is not written: it
    says that all is done, and that the caller knows.
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
                with self.array:  # closed also where what is still to be written finds no room
                    self._write_header()

    def _levels(self, field: NDArray[np.float32]) -> bytes:
        return jpeg(quantise(field, self.bound), self.quality)

    def _put(self, name: str, encode: Callable[[], bytes]) -> None:
        """Write a file, as soon as it is encoded and those before it are written."""
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
        """Numpy leaves room in the header for the first axis to grow, so that it can be written again at the end."""
        assert self.array is not None
        self.array.seek(0)
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.num_flows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.array, header)


class FlowReader:
    """The flow of one video, as `FlowWriter` and a sidecar left it. Raises VideoError for a folder that is not whole."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.sidecar = read_sidecar(self.folder)
        try:
            self.format, self.bound = str(self.sidecar["format"]), float(self.sidecar["bound"])
            self.num_flows = int(self.sidecar["num_flows"])
            self._read = self._opened()
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error

    def __len__(self) -> int:
        return self.num_flows

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Flow `index` (from 0) as (2,H,W) float32 in pixels per frame."""
        if not 0 <= index < self.num_flows:
            raise IndexError(index)
        try:
            return self._read(index)
        except (KeyError, ValueError, OSError, cv2.error, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(self.num_flows))

    def making(self) -> dict[str, Any]:
        """How this flow was made, as fields of `Preprocessing`. Raises VideoError."""
        parameters = self.sidecar.get("parameters")
        try:
            return {"flow_algorithm": str(self.sidecar["algorithm"]), "flow_parameters": parameters and TVL1(**parameters)}
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def mismatches(self, preprocessing: Preprocessing) -> list[str]:
        """How this flow was made otherwise than `preprocessing` says, in words; empty where it was not."""
        expected = {
            "algorithm": preprocessing.flow_algorithm,
            "fps": preprocessing.fps,
            "short_side": preprocessing.short_side,
        }
        found = [(key, self.sidecar.get(key), value) for key, value in expected.items()]
        parameters = self.sidecar.get("parameters")
        if preprocessing.flow_parameters is not None and isinstance(parameters, dict):
            wanted = asdict(preprocessing.flow_parameters)
            found += [(key.rstrip("_"), parameters.get(key), value) for key, value in wanted.items()]
        if self.format in QUANTISED:
            found.append(("bound", self.bound, preprocessing.flow_bound))
        return [f"{key} {there}, trained on {value}" for key, there, value in found if there != value]

    def _opened(self) -> Callable[[int], NDArray[np.float32]]:
        if self.format == "npy":
            array = np.load(self.folder / "flow.npy", mmap_mode="r")
            if len(array) != self.num_flows:
                raise ValueError(f"flow.npy holds {len(array)} flows, {SIDECAR} says {self.num_flows}")
            return lambda index: array[index].astype(np.float32)
        if self.format == "flo":
            return lambda index: read_flo(self.folder.joinpath(*flow_names("flo", index + 1)).read_bytes())
        if self.format == "zip":
            archive = zipfile.ZipFile(self.folder / "flow.zip")
            return lambda index: self._pictures(archive.read, index)
        if self.format == "jpg":
            return lambda index: self._pictures(lambda name: (self.folder / name).read_bytes(), index)
        raise ValueError(f"unknown format {self.format!r}")

    def _pictures(self, read: Callable[[str], bytes], index: int) -> NDArray[np.float32]:
        names = flow_names(self.format, index + 1)
        data = [np.frombuffer(read(name), np.uint8) for name in names]
        found = [cv2.imdecode(picture, cv2.IMREAD_GRAYSCALE) for picture in data if picture.size]  # cv2 raises for nothing
        levels = [picture for picture in found if picture is not None]
        if len(levels) < len(names):
            raise ValueError(f"{names[0]} or {names[1]} is no picture")
        return dequantise(np.stack(levels).astype(np.uint8), self.bound)

    def _damaged(self, error: Exception) -> VideoError:
        reason = str(error)
        if isinstance(error, KeyError):
            reason = f"{SIDECAR} has no {error}"
        elif isinstance(error, OSError) and error.filename is not None:
            reason = f"{Path(error.filename).name}: {error.strerror}"
        return VideoError(f"damaged flow: {shown(self.folder)}: {shown(reason)}; remove that folder and extract it again")


@dataclass(frozen=True)
class FlowFolder:
    """An output folder of extract-flow, and which of its flows is a video's.

    It is the one in a place that the video may have there, by its key or by as much of its path as is there, whose sidecar
    says that it was made from this video.
    """

    path: Path

    def find(self, key: Path, video: Path) -> Path:
        """The folder of a video's flow, or where it would usually be."""
        parts = video.absolute().with_name(key.name or video.name).parts[1:]
        shorter = (candidates(Path(*parts[first:]), video)[:-1] for first in range(len(parts)))
        usual, *others = dict.fromkeys((*candidates(key, video), *itertools.chain.from_iterable(shorter)))
        for folder in (self.path / place for place in (usual, *others)):
            with contextlib.suppress(VideoError):  # none here, or damaged
                if made_from(read_sidecar(folder), video, count_pictures=False):
                    return folder
        return self.path / usual

    def holds(self, key: Path, video: Path) -> bool:
        return (self.find(key, video) / SIDECAR).exists()

    def lost_frames(self, key: Path, video: Path) -> int:
        """How many frames extract-flow missed in a video whose flow is here; 0 where the sidecar does not say."""
        with contextlib.suppress(VideoError):  # none here, or damaged
            lost = read_sidecar(self.find(key, video)).get("lost_frames")
            return lost if isinstance(lost, int) else 0
        return 0

    def open(self, key: Path, video: Path) -> FlowReader:
        """The flow of a video. Raises VideoError where there is none, or where it was made from another one."""
        flow = FlowReader(self.find(key, video))
        if not made_from(flow.sidecar, video, count_pictures=False):
            raise VideoError(f"{of_another_video(flow.folder, flow.sidecar, video)}; extract it again with --overwrite")
        return flow


def of_another_video(folder: Path, sidecar: Mapping[str, Any], video: Path) -> str:
    """What an error says where flow is not `made_from` a video, but for the remedy."""
    source, size = (shown(str(sidecar.get(key))) for key in ("source", "source_bytes"))
    found = source_bytes(video)
    has = f"has {found}" if size != str(found) else "has as many of another content"
    return f"flow of another video: {shown(folder)}: made from {source} of {size} bytes, {shown(video)} {has}"


def read_sidecar(folder: Path) -> dict[str, Any]:
    """What `flow.json` in a folder says. Raises VideoError where there is none or it is no record."""
    try:
        content = json.loads((folder / SIDECAR).read_text("utf-8"))
    except OSError as error:
        raise VideoError(f"no flow: {shown(folder)}: no {SIDECAR} in it; make it with i3d extract-flow") from error
    except ValueError as error:
        raise VideoError(
            f"damaged flow: {shown(folder)}: {SIDECAR} is no JSON; remove that folder and extract it again"
        ) from error
    if not isinstance(content, dict):
        raise VideoError(f"damaged flow: {shown(folder)}: {SIDECAR} is no record; remove that folder and extract it again")
    return content
