"""Flow on disk: one folder per video, with the flow in a format of `formats` and a sidecar, `flow.json`, of how it was made.

Flow t (from 1) leads from frame t to frame t+1, so n frames have n-1 flows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..defaults import RANGES, TVL1, FlowRecipe
from ..errors import DatasetError, VideoError
from ..text import briefly, command, counted, option, shown
from ..video import FLOW_SIDECAR as SIDECAR
from ..video import source_bytes
from .compute import Moment
from .formats import FORMATS
from .places import candidates, made_from

LARGEST_FLOW = 65504.0  # pixels per frame, the largest number of float16


class FlowReader:
    """The stored flow of one video. Raises VideoError for a folder that is incomplete or damaged."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.sidecar = read_sidecar(self.folder)
        try:
            self.format, self.bound = str(self.sidecar["format"]), float(self.sidecar["bound"])
            self.num_flows = int(self.sidecar["num_flows"])
            if self.format not in FORMATS:
                raise ValueError(f"unknown format {self.format!r}")
            self._read = FORMATS[self.format].reader(self.folder, self.num_flows, self.bound)
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

    @property
    def is_clamped(self) -> bool:
        """True if the format clamps flow to the bound."""
        return FORMATS[self.format].is_clamped

    @property
    def recipe(self) -> FlowRecipe:
        """How this flow was made, according to its sidecar. Raises VideoError."""
        parameters = self.sidecar.get("parameters")
        try:
            recipe = FlowRecipe(
                algorithm=str(self.sidecar["algorithm"]),
                parameters=None if parameters is None else TVL1(**parameters),
                bound=self.bound,
                fps=self.sidecar.get("fps"),
                short_side=self.sidecar.get("short_side", 0),
            )
            for name, value in (("fps", recipe.fps), ("short_side", recipe.short_side), ("flow_bound", recipe.bound)):
                if value not in RANGES[name]:
                    raise ValueError(f"{SIDECAR} says {name} {briefly(value)}, expected {RANGES[name]}")
            return recipe
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def differences(self, wanted: FlowRecipe) -> list[str]:
        """The differences between how this flow was made and `wanted`, in words."""
        return self.recipe.differences(wanted, clamped=self.is_clamped)

    def moments(self, frames: Iterable[NDArray[np.uint8]], video: str | Path, *, wanted: FlowRecipe) -> Iterator[Moment]:
        """Each frame of a video with the flow to the next frame, None for the last.

        Raises VideoError if frames and flow differ in number or size; it advises to extract flow as `wanted`.
        """
        count = 0
        for count, frame in enumerate(frames, start=1):
            yield frame, self._of_frame(count - 1, frame, video, wanted) if count <= len(self) else None
        if count != len(self) + 1:
            raise self._of_other_frames(f"{counted(count, 'frame')} of {shown(video)}", f"{count - 1}", wanted)

    def flows_between(
        self, first: int, frames: Sequence[NDArray[np.uint8]], video: str | Path, *, wanted: FlowRecipe
    ) -> list[NDArray[np.float32]]:
        """The flows between `frames`, the first of which is frame `first` of a video. Raises VideoError as `moments` does."""
        last = first + len(frames) - 1
        if last > len(self):
            raise self._of_other_frames(f"frames {first} to {last} of {shown(video)}", f"{last} or more", wanted)
        return [self._of_frame(first + i, frame, video, wanted) for i, frame in enumerate(frames[:-1])]

    def _of_frame(self, index: int, frame: NDArray[np.uint8], video: str | Path, wanted: FlowRecipe) -> NDArray[np.float32]:
        """The flow from frame `index` of a video to the next; raises VideoError if it differs from the frame in size."""
        field = self[index]
        if field.shape[1:] != frame.shape[:2]:
            got = f"flow of {field.shape[1:]} and frames of {frame.shape[:2]} pixels of {shown(video)}"
            raise VideoError(f"flow of another size: {shown(self.folder)}: got {got}; {again(wanted)}")
        return field

    def _of_other_frames(self, frames: str, expected: str, wanted: FlowRecipe) -> VideoError:
        """The error for a number of flows that does not fit the frames."""
        return VideoError(
            f"flow of another video or frame rate: {shown(self.folder)}: got {counted(len(self), 'flow')} for {frames}, "
            f"expected {expected}; {again(wanted)}"
        )

    def _damaged(self, error: Exception) -> VideoError:
        reason = str(error)
        if isinstance(error, KeyError):
            reason = f"{SIDECAR} has no {error}"
        elif isinstance(error, OSError) and error.filename is not None:
            reason = f"{Path(error.filename).name}: {error.strerror}"
        return VideoError(f"damaged flow: {shown(self.folder)}: {shown(reason)}; remove that folder and extract it again")


@dataclass(frozen=True)
class FlowFolder:
    """An output folder of extract-flow, in which the flow of a video is looked up.

    The lookup tries the places of the video's key, then of ends of its path, until a sidecar names this video as its
    source. The flow must be made as `wanted`, if that is given, unless `any_flow` is true.
    """

    path: Path
    wanted: FlowRecipe | None = None
    any_flow: bool = False

    def find(self, key: Path, video: Path) -> Path:
        """The folder of a video's flow or, if there is none, its usual place."""
        parts = video.absolute().with_name(key.name or video.name).parts[1:]
        shorter = (candidates(Path(*parts[first:]), video)[:-1] for first in range(len(parts)))
        usual, *others = dict.fromkeys((*candidates(key, video), *itertools.chain.from_iterable(shorter)))
        for folder in (self.path / place for place in (usual, *others)):
            with contextlib.suppress(VideoError):  # no flow here, or a damaged one
                if made_from(read_sidecar(folder), video, count_pictures=False):
                    return folder
        return self.path / usual

    def holds(self, key: Path, video: Path) -> bool:
        return (self.find(key, video) / SIDECAR).exists()

    def lost_frames(self, key: Path, video: Path) -> int:
        """The number of frames that were missing when a video's flow was extracted; 0 if the sidecar does not say."""
        with contextlib.suppress(VideoError):  # no flow here, or a damaged one
            lost = read_sidecar(self.find(key, video)).get("lost_frames")
            return lost if isinstance(lost, int) else 0
        return 0

    def open(self, key: Path, video: Path) -> FlowReader:
        """The flow of a video. Raises VideoError if there is none, or if it was made from another video.

        Raises DatasetError if it was made otherwise than `wanted`.
        """
        flow = FlowReader(self.find(key, video))
        if not made_from(flow.sidecar, video, count_pictures=False):
            raise VideoError(
                f"{of_another_video(flow.folder, flow.sidecar, video)}; extract it again with {option('overwrite', True)}"
            )
        if not self.any_flow and (differing := self.differences(flow)):
            raise DatasetError(
                f"flow of another making: {shown(flow.folder)}: {'; '.join(differing)}; extract it as the weights want it, or "
                f"take it as it is with {option('any_flow', True)}"
            )
        return flow

    def differences(self, flow: FlowReader) -> list[str]:
        """The differences between how a flow was made and what is `wanted`, in words."""
        return [] if self.wanted is None else flow.differences(self.wanted)

    def notes(self, flow: FlowReader) -> list[str]:
        """A note if a flow was made otherwise than wanted and is used all the same; else nothing."""
        differing = self.differences(flow)
        return [f"flow of another making: {shown(self.path)}: {'; '.join(differing)}"] if differing else []


def again(wanted: FlowRecipe) -> str:
    """The advice for flow that does not fit the frames of a video."""
    given = {"fps": wanted.fps, "short_side": wanted.short_side, "bound": wanted.bound}
    options = " ".join(option(name, value) for name, value in given.items())
    return f"extract it again with {options} {option('overwrite', True)}"


def of_another_video(folder: Path, sidecar: Mapping[str, Any], video: Path) -> str:
    """The error text, without advice, for flow that was not `made_from` a video."""
    source, size = (shown(str(sidecar.get(key))) for key in ("source", "source_bytes"))
    found = source_bytes(video)
    has = f"has {found}" if size != str(found) else "has as many of another content"
    return f"flow of another video: {shown(folder)}: made from {source} of {size} bytes, {shown(video)} {has}"


def read_sidecar(folder: Path) -> dict[str, Any]:
    """The content of `flow.json` in a folder. Raises VideoError if it is missing or no JSON object."""
    try:
        content = json.loads((folder / SIDECAR).read_text("utf-8"))
    except OSError as error:
        raise VideoError(f"no flow: {shown(folder)}: no {SIDECAR} in it; make it with {command('extract-flow')}") from error
    except ValueError as error:
        raise VideoError(
            f"damaged flow: {shown(folder)}: {SIDECAR} is no JSON; remove that folder and extract it again"
        ) from error
    if not isinstance(content, dict):
        raise VideoError(f"damaged flow: {shown(folder)}: {SIDECAR} is no record; remove that folder and extract it again")
    return content
