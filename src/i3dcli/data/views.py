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

from ..defaults import ARCHITECTURE
from ..errors import VideoError
from ..flow import FlowMethod, FlowReader, Frame, Moment, without_flow
from ..models import ARCHITECTURES, Preprocessing
from ..text import counted, option, shown
from ..video import Video
from .clips import as_clip, centre_crop, cut, looped, sliding, windows

Clips = dict[str, Tensor]  # by stream, (V,C,T,H,W): V views of the same frames; RGB as bytes, flow in [-1, 1]
Items = Sequence[NDArray[np.uint8 | np.float32]]  # frames (H,W,3), or flows (2,H,W)
Watcher = Callable[[Moment], None]


@dataclass(frozen=True)
class Protocol:
    """What the network sees of a video: by default every frame, up to `max_frames`, in the centre crop; paper, table 1.

    With `clips`, it sees this many clips of its training's length, evenly spaced from start to end, or one in the middle.
    Three `crops` lie at the start, the middle and the end of the longer side. With `window`, it sees a window of this many
    frames every `stride` frames, and each window has its own prediction.
    """

    clips: int | None = None
    crops: int = 1
    max_frames: int | None = None
    window: int | None = None
    stride: int | None = None

    def __str__(self) -> str:
        if self.window is not None:
            return f"windows of {counted(self.window, 'frame')} every {self.stride}, centre crop"
        if self.clips is None:
            frames = "every frame" if self.max_frames is None else f"the first {counted(self.max_frames, 'frame')}"
            return f"{frames}, centre crop, logits averaged over time"
        crop = "centre crop" if self.crops == 1 else f"{self.crops} crops"
        return f"{counted(self.clips, 'clip')} x {crop}, logits averaged"


FULL: Protocol = Protocol()


@dataclass(frozen=True)
class View:
    """Clips of some frames of a video. The views of one prediction follow each other; the last one has `completes`."""

    frames: range
    clips: Clips
    completes: range | None  # the frames of the prediction that ends with this view
    damaged_frames: int  # of the video, so far


class Views:
    """An iterable of the views of one video, lazy and in constant memory.

    `trained` is the preprocessing of each wanted stream, and `architecture` names their network. `flow` is the video's
    stored flow; without it, flow is computed. `watch` is called with every uncropped frame and its flow, before the window
    that ends with them. The constructor checks the video. Raises VideoError, also while iterating.
    """

    def __init__(
        self,
        video: str | Path,
        trained: Mapping[str, Preprocessing],
        *,
        architecture: str = ARCHITECTURE,
        protocol: Protocol = FULL,
        flow: FlowReader | None = None,
        watch: Watcher | None = None,
        progress: bool = False,
    ):
        self.path, self.trained, self.protocol, self.flow = video, trained, protocol, flow
        self.watch, self.progress = watch, progress
        self.architecture = ARCHITECTURES[architecture]
        shared = next(iter(trained.values()))
        self.crop = shared.crop
        self.source = Video(video, fps=shared.fps, short_side=shared.short_side)

    def __iter__(self) -> Iterator[View]:
        protocol = self.protocol
        if protocol.window is not None:
            return self._sliding_windows(protocol.window, protocol.stride or protocol.window)
        return self._windows(protocol.max_frames) if protocol.clips is None else self._clips(protocol.clips)

    def notes(self) -> list[str]:
        """Notes on the video, complete after its last view: small pictures, missing frames."""
        small = next(iter(self.trained.values())).small_pictures()
        return [note for note in (small, self.source.loss()) if note is not None]

    def _windows(self, max_frames: int | None) -> Iterator[View]:
        """The views of one prediction: one pass if the network takes all frames at once, else a pass per window."""
        seen = range(0)
        moments = islice(cropped(self._moments(), self.crop), max_frames)
        for window, is_last in self._passes(moments):
            seen = range(seen.stop, seen.stop + len(window))
            if seen.stop == max_frames:
                window[-1] = (window[-1][0], None)  # this flow leads to a frame beyond the limit
            yield self._view(seen, self._inputs(window), completes=range(seen.stop) if is_last else None)

    def _sliding_windows(self, length: int, stride: int) -> Iterator[View]:
        """A window of `length` frames every `stride` frames; see `clips.sliding`.

        `watch` sees every moment before it is cropped. Without `watch`, no flow is computed in gaps between windows.
        """
        watch = self.watch
        kept = stride if watch is not None or self.flow is not None else min(stride, length + 1)  # 1 more ends the last flow
        moments = self._moments(stride=stride, kept=kept)
        if watch is not None:
            moments = watched(moments, watch)
        shortest = self.architecture.min_clip_len
        for first_kept, window in sliding(cropped(moments, self.crop), length=length, stride=kept, shortest=shortest):
            first = first_kept // kept * stride
            frames = range(first, first + len(window))
            for part, is_last in self._passes(window):
                yield self._view(frames, self._inputs(part), completes=frames if is_last else None)

    def _clips(self, count: int) -> Iterator[View]:
        """Clips, each read by itself so that little else is decoded; streams of the same clip length share them."""
        num_frames = self._count_frames()
        lengths = sorted({preprocessing.clip_len for preprocessing in self.trained.values()})
        places = [(length, first) for length in lengths for first in evenly_spaced(num_frames, length, count)]
        for number, (length, first) in enumerate(places, start=1):
            streams = [stream for stream, preprocessing in self.trained.items() if preprocessing.clip_len == length]
            frames = self.source.read(first, length + 1)
            if not frames:
                raise VideoError(
                    f"damaged video: {shown(self.path)}: nothing could be decoded from frame {first} on; copy it again"
                )
            flows = self._flows_between(first, frames) if "flow" in streams else []
            clips = self._crops(frames[:length], flows, streams)
            seen = range(first, first + len(frames[:length]))
            yield self._view(seen, clips, completes=range(num_frames) if number == len(places) else None)

    def _view(self, frames: range, clips: Clips, *, completes: range | None) -> View:
        return View(frames, clips, completes, self.source.damaged_frames)

    def _passes(self, moments: Iterable[Moment]) -> Iterator[tuple[list[Moment], bool]]:
        """(moments, is last) of each pass of the network."""
        return windows(moments, length=self.architecture.test_clip_len, shortest=self.architecture.min_clip_len)

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
            return self._method().moments(frames)
        return self.flow.moments(frames, self.path, wanted=self.trained["flow"].flow)

    def _flows_between(self, first: int, frames: Sequence[Frame]) -> list[NDArray[np.float32]]:
        """The flows between `frames`, the first of which is frame `first` of the video."""
        if self.flow is not None:
            return self.flow.flows_between(first, frames, self.path, wanted=self.trained["flow"].flow)
        return list(self._method().flows(frames))

    def _method(self) -> FlowMethod:
        """The flow algorithm, with parameters, that the weights were trained on."""
        return FlowMethod(self.trained["flow"].flow_algorithm, self.trained["flow"].flow_parameters)

    def _count_frames(self) -> int:
        """The number of frames: the file's own count, if its last frame can be read, else counted."""
        claimed = self.source.estimated_frames
        return claimed if claimed and self.source.read(claimed - 1, 1) else self.source.num_frames

    def _crops(self, frames: Sequence[Frame], flows: Sequence[NDArray[np.float32]], streams: Collection[str]) -> Clips:
        """The clips of these streams, a view for each crop of the protocol."""
        height, width, _ = frames[0].shape
        views = []
        for rows, columns in crops_along(height, width, self.crop, self.protocol.crops):
            items: dict[str, Items] = {"rgb": frames, "flow": flows}
            views.append({stream: self._clip(stream, cut(stream, items[stream], rows, columns)) for stream in streams})
        return {stream: torch.cat([view[stream] for view in views]) for stream in streams}

    def _inputs(self, moments: Sequence[Moment]) -> Clips:
        """The clips of cropped moments, a single view."""
        items: dict[str, Items] = {
            "rgb": [frame for frame, _ in moments],
            "flow": [flow for _, flow in moments if flow is not None],
        }
        return {stream: self._clip(stream, items[stream]) for stream in self.trained}

    def _clip(self, stream: str, items: Items) -> Tensor:
        """Frames or flows as one clip (1,C,T,H,W), looped if too few for the network. Raises VideoError for none."""
        if not items:
            got = f"got 1 frame at {self.source.fps:g} fps, expected at least 2"
            remedy = f"use {option('stream', 'rgb')}" if "rgb" in self.trained else "give a longer video"
            raise VideoError(f"too short for flow: {shown(self.path)}: {got}; {remedy}")
        shortest = self.architecture.min_clip_len
        return as_clip(stream, looped(items, shortest=shortest), bound=self.trained[stream].flow_bound)[None]


def evenly_spaced(num_frames: int, length: int, count: int) -> list[int]:
    """The first frame of each of `count` clips from the start to the end of a video; a single clip is in the middle."""
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


def watched(moments: Iterable[Moment], watch: Watcher) -> Iterator[Moment]:
    """The moments, each shown to `watch` first."""
    for moment in moments:
        watch(moment)
        yield moment


def cropped(moments: Iterable[Moment], crop: int) -> Iterator[Moment]:
    """The centre crop x crop pixels of each moment, copied, so that the whole pictures can be freed."""
    for frame, flow in moments:
        height, width, _ = frame.shape
        rows, columns = centre_crop(height, width, crop)
        yield frame[rows, columns].copy(), None if flow is None else flow[:, rows, columns].copy()
