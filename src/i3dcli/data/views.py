"""How a whole video becomes the network's inputs: all of it in windows, or some clips of it in one or three crops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..defaults import Preprocessing
from ..errors import VideoError
from ..flow import FlowReader, Frame, Moment, flow_stream, with_flow, without_flow
from ..text import counted, shown
from ..video import Video
from .clips import centre_crop, flow_clip, looped, rgb_clip, sliding, windows

Clips = dict[str, Tensor]  # by stream, (V,C,T,H,W) in [-1, 1]: V views of the same frames
Watcher = Callable[[Moment], None]


@dataclass(frozen=True)
class Protocol:
    """What of a video the network sees. By default every frame, up to `max_frames`, in the centre crop; paper, table 1.

    With `clips`, so many of the length the stream was trained on, evenly spaced from the start to the end, or one
    in the middle; with three `crops`, each from the start, the middle and the end of the longer side.
    """

    clips: int | None = None
    crops: int = 1
    max_frames: int | None = None

    def __str__(self) -> str:
        if self.clips is None:
            frames = "every frame" if self.max_frames is None else f"the first {counted(self.max_frames, 'frame')}"
            return f"{frames}, centre crop, logits averaged over time"
        crop = "centre crop" if self.crops == 1 else f"{self.crops} crops"
        return f"{counted(self.clips, 'clip')} x {crop}, logits averaged"


FULL: Protocol = Protocol()


class Views:
    """The inputs of one video, to iterate over: (frames, clips) of each window or clip, lazily, in flat memory.

    `trained` holds the preprocessing of each stream that is wanted; `flow` is the video's flow as extract-flow stored it,
    in place of computing it. Opening checks the video. Raises VideoError, also while iterating.
    """

    def __init__(
        self,
        video: str | Path,
        trained: Mapping[str, Preprocessing],
        *,
        protocol: Protocol = FULL,
        flow: FlowReader | None = None,
        progress: bool = False,
    ):
        self.path, self.trained, self.protocol, self.flow, self.progress = video, trained, protocol, flow, progress
        shared = next(iter(trained.values()))
        self.crop = shared.crop
        self.source = Video(video, fps=shared.fps, short_side=shared.short_side)
        self.num_frames = 0  # of the video, so far

    def __iter__(self) -> Iterator[tuple[range, Clips]]:
        return self._windows() if self.protocol.clips is None else self._clips(self.protocol.clips)

    def timeline(self, length: int, stride: int, *, watch: Watcher | None = None) -> Iterator[tuple[int, list[Moment]]]:
        """(first frame, cropped moments) of each window of `length` frames, one every `stride`; see `clips.sliding`.

        Every whole moment goes by `watch` before it is cropped. Without it, no flow is computed within gaps.
        """
        kept = stride if watch is not None or self.flow is not None else min(stride, length + 1)  # 1 more ends the last flow
        moments = self._moments(stride=stride, kept=kept)
        if watch is not None:
            moments = watched(moments, watch)
        for first_kept, window in sliding(cropped(moments, self.crop), length=length, stride=kept):
            first = first_kept // kept * stride
            self.num_frames = first + len(window)
            yield first, window

    def inputs(self, moments: Sequence[Moment]) -> Clips:
        """Some of a window's moments as one view."""
        return self._inputs([frame for frame, _ in moments], [flow for _, flow in moments if flow is not None], self.trained)

    def _moments(self, *, stride: int = 1, kept: int = 1) -> Iterator[Moment]:
        """Whole frames, the first `kept` of every `stride`, and the flow from each to the next."""
        frames: Iterable[Frame] = tqdm(
            self.source,
            shown(Path(self.path).name),
            self.source.estimated_frames,
            unit="frame",
            leave=False,
            disable=None if self.progress else True,
        )
        if kept < stride:
            frames = (frame for index, frame in enumerate(frames) if index % stride < kept)
        if "flow" not in self.trained:
            return without_flow(frames)
        if self.flow is None:
            trained = self.trained["flow"]
            return with_flow(frames, trained.flow_algorithm, trained.flow_parameters)
        return with_stored_flow(frames, self.flow, self.path, remedy=self._remedy())

    def _windows(self) -> Iterator[tuple[range, Clips]]:
        """Up to 250 frames are one pass; of a longer video, windows of 250."""
        for window in windows(islice(cropped(self._moments(), self.crop), self.protocol.max_frames)):
            seen = range(self.num_frames, self.num_frames + len(window))
            self.num_frames = seen.stop
            if self.num_frames == self.protocol.max_frames:
                window[-1] = (window[-1][0], None)  # it leads to a frame that is not looked at
            yield seen, self.inputs(window)

    def _clips(self, count: int) -> Iterator[tuple[range, Clips]]:
        """Clips that are read on their own, so that little else is decoded; of streams of one length, the same."""
        self.num_frames = self._count_frames()
        for length in sorted({preprocessing.clip_len for preprocessing in self.trained.values()}):
            streams = [stream for stream, preprocessing in self.trained.items() if preprocessing.clip_len == length]
            for first in evenly_spaced(self.num_frames, length, count):
                frames = self.source.read(first, length + 1)
                if not frames:
                    raise VideoError(
                        f"damaged video: {shown(self.path)}: nothing could be decoded from frame {first} on; copy it again"
                    )
                flows = self._flows_between(first, frames) if "flow" in streams else []
                yield range(first, first + len(frames[:length])), self._crops(frames[:length], flows, streams)

    def _flows_between(self, first: int, frames: Sequence[Frame]) -> list[NDArray[np.float32]]:
        """The flows between `frames`, the first of which is frame `first`."""
        if self.flow is not None:
            return stored_flows(self.flow, first, frames, self.path, remedy=self._remedy())
        trained = self.trained["flow"]
        return list(flow_stream(frames, trained.flow_algorithm, trained.flow_parameters))

    def _remedy(self) -> str:
        """What to do about stored flow that does not belong to the video as the network sees it."""
        wanted = self.trained["flow"]
        options = f"--fps {self.source.fps:g} --short-side {wanted.short_side} --bound {wanted.flow_bound:g}"
        return f"extract it again with {options} --overwrite"

    def _count_frames(self) -> int:
        """How many there are; what the file claims is believed where that many can be reached."""
        claimed = self.source.estimated_frames
        return claimed if claimed and self.source.read(claimed - 1, 1) else self.source.num_frames

    def _crops(self, frames: Sequence[Frame], flows: Sequence[NDArray[np.float32]], streams: Collection[str]) -> Clips:
        """The clip in each crop of the protocol."""
        height, width, _ = frames[0].shape
        views = [
            self._inputs([frame[rows, columns] for frame in frames], [flow[:, rows, columns] for flow in flows], streams)
            for rows, columns in crops_along(height, width, self.crop, self.protocol.crops)
        ]
        return {stream: torch.cat([view[stream] for view in views]) for stream in streams}

    def _inputs(self, frames: Sequence[Frame], flows: Sequence[NDArray[np.float32]], streams: Collection[str]) -> Clips:
        """Cropped frames and the flows between them as one view each, looped where they are too few for the network."""
        clips = {}
        if "rgb" in streams:
            clips["rgb"] = rgb_clip(looped(frames))
        if "flow" in streams:
            if not flows:
                got = f"got 1 frame at {self.source.fps:g} fps, expected at least 2"
                remedy = "use --stream rgb" if "rgb" in self.trained else "give a longer video"
                raise VideoError(f"too short for flow: {shown(self.path)}: {got}; {remedy}")
            clips["flow"] = flow_clip(looped(flows), bound=self.trained["flow"].flow_bound)
        return clips


def evenly_spaced(num_frames: int, length: int, count: int) -> list[int]:
    """The first frames of `count` clips from the start to the end of a video; of one clip, such that it is in the middle."""
    room = max(0, num_frames - length)
    return [room // 2] if count == 1 else [round(i * room / (count - 1)) for i in range(count)]


def crops_along(height: int, width: int, crop: int, count: int) -> list[tuple[slice, slice]]:
    """The rows and columns of one crop in the centre, or of several along the longer side, from one end to the other."""
    rows, columns = centre_crop(height, width, crop)
    if count == 1:
        return [(rows, columns)]
    places = [round(i * max(0, max(height, width) - crop) / (count - 1)) for i in range(count)]
    along = [slice(place, place + crop) for place in places]
    return [(rows, place) for place in along] if width >= height else [(place, columns) for place in along]


def with_stored_flow(frames: Iterable[Frame], flow: FlowReader, video: str | Path, *, remedy: str) -> Iterator[Moment]:
    """Each frame with the stored flow from it to the next; raises VideoError where flow and video do not belong together."""
    count = 0
    for count, frame in enumerate(frames, start=1):
        yield frame, flow_of_frame(flow, count - 1, frame, video, remedy=remedy) if count <= len(flow) else None
    if count != len(flow) + 1:
        raise VideoError(
            f"flow of another video or frame rate: {shown(flow.folder)}: got {counted(len(flow), 'flow')} for "
            f"{counted(count, 'frame')} of {shown(video)}, expected {count - 1}; {remedy}"
        )


def stored_flows(
    flow: FlowReader, first: int, frames: Sequence[Frame], video: str | Path, *, remedy: str
) -> list[NDArray[np.float32]]:
    """The stored flows between `frames`, which start with frame `first`; VideoError where they are of another video."""
    there = [(first + i, frame) for i, frame in enumerate(frames[:-1]) if first + i < len(flow)]
    found = [flow_of_frame(flow, index, frame, video, remedy=remedy) for index, frame in there]
    if len(found) != len(frames) - 1:
        raise VideoError(
            f"flow of another video or frame rate: {shown(flow.folder)}: got {len(flow)} flows, expected "
            f"{first + len(frames) - 1} or more for {shown(video)}; {remedy}"
        )
    return found


def flow_of_frame(flow: FlowReader, index: int, frame: Frame, video: str | Path, *, remedy: str) -> NDArray[np.float32]:
    """The stored flow from a frame to the next; raises VideoError where it is not of the frame's size."""
    field = flow[index]
    if field.shape[1:] != frame.shape[:2]:
        got = f"flow of {field.shape[1:]} and frames of {frame.shape[:2]} pixels of {shown(video)}"
        raise VideoError(f"flow of another size: {shown(flow.folder)}: got {got}; {remedy}")
    return field


def watched(moments: Iterable[Moment], watch: Watcher) -> Iterator[Moment]:
    """The moments, each shown to `watch` first."""
    for moment in moments:
        watch(moment)
        yield moment


def cropped(moments: Iterable[Moment], crop: int) -> Iterator[Moment]:
    """The centre crop x crop pixels of each moment, copied, so that the whole pictures can go."""
    for frame, flow in moments:
        height, width, _ = frame.shape
        rows, columns = centre_crop(height, width, crop)
        yield frame[rows, columns].copy(), None if flow is None else flow[:, rows, columns].copy()
