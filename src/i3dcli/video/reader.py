"""Video file → a stream of RGB frames at a frame rate and size."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from ..defaults import FPS, SHORT_SIDE
from ..errors import VideoError, VideoWarning
from ..text import option, shown
from .clock import timed
from .containers import Clock, container_seconds, one_thread, open_container, packets, video_stream
from .find import picture_paths
from .losses import Loss, Pass
from .orientation import orientation, woven
from .seeking import MAX_GAP_SECONDS, NOWHERE, EntryPoint, EntryPoints, NoEntryError, frames_from, survey

MAX_ASPECT = 8  # long side : short side; what lies outside the middle of a longer strip is cut off, no crop sees it
# Since PyAV 17 each scaled frame has threads of its own, and a forked process that clears it away waits for them for ever.
SCALING_THREADS = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
ESTIMATE_SLACK = 2  # frames, by which a header's duration may be off


class Video:
    """A video file to iterate over: `for frame in Video(path)` gives (H,W,3) uint8 RGB frames, decoded as they are asked for.

    Frames are resampled to `fps` by presentation time, as FFmpeg's fps filter does: each goes to the output frame nearest
    to its time, counted from the first, and stays until the next one comes; `fps=None` gives every frame as it is. Frames are
    turned and mirrored as their display matrix or EXIF says (an angle between quarter turns as the nearest), and the shorter
    side is scaled to `short_side` pixels, bilinear, keeping the aspect ratio; `short_side=None` leaves the size as it is. Both
    fields of an interlaced frame are scaled as one picture, and pixels count as square whatever the file says of their
    aspect, both as by FFmpeg's scale filter. Of a strip longer than `MAX_ASPECT` times its shorter side, the middle is kept.
    A folder of numbered pictures is a video too, taken to be at the frame rate that is asked for.
    Opening checks the file. Raises VideoError if there is no video in it, and while iterating if no frame can be decoded.
    """

    def __init__(self, path: str | Path, *, fps: float | None = FPS, short_side: int | None = SHORT_SIDE):
        if (fps is not None and not 0 < fps <= 1000) or (short_side is not None and short_side < 1):
            raise ValueError(f"expected 0 < fps <= 1000 and a short side of at least one pixel, got {fps = }, {short_side = }")
        self.path, self.short_side = path, short_side
        self.damaged_frames = 0  # that could not be decoded, or not whole, so far
        self._clock: Clock | None = None
        self._whole: Loss | None = None  # what a pass over the whole file found
        self._came_short = False  # frames that the file claims were not there
        self.pictures = picture_paths(path)
        if self.pictures:
            self.source_fps = FPS if fps is None else float(fps)
            seconds: float | None = len(self.pictures) / self.source_fps
        else:
            with open_container(path) as container:
                stream = video_stream(container, path)
                self._clock = Clock(container, stream, path)
                self.source_fps = self._clock.fps
                seconds = container_seconds(container, stream)
                if seconds is not None:
                    seconds *= self._clock.claimed / self._clock.fps
        self.resample = fps is not None
        self.fps = self.source_fps if fps is None else float(fps)
        self.estimated_frames = None if seconds is None else max(1, round(seconds * self.fps))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        frames = self._resampled() if self.resample else (picture() for picture, _, _ in self._decoded())
        empty = True
        for frame in frames:
            empty = False
            yield frame
        if empty:
            raise self._no_frame()

    def read(self, start: int, count: int) -> list[NDArray[np.uint8]]:
        """Frames start … start + count - 1 of those that iterating gives, fewer at the end of the video; none beyond it.

        Decodes from the key frame before them on, so that a clip from the middle of a long video costs little more than
        its own frames. What cannot be entered in its middle such that the same frames come, is decoded from its start; so is
        every video at its native rate. Raises VideoError.
        """
        frames = self._read(start, count)
        claimed = min(start + count, self.estimated_frames or 0)
        self._came_short = self._came_short or start + len(frames) + ESTIMATE_SLACK < claimed
        return frames

    def _read(self, start: int, count: int) -> list[NDArray[np.uint8]]:
        if start > 0 and self.pictures:
            first = next((i for i in range(min(start, len(self.pictures) - 1), 0, -1) if self._is_whole(self.pictures[i])), 0)
            frames = self._decoded(pictures=self.pictures[first : start + count])
            return [picture() for picture, _, _ in itertools.islice(frames, start - first, None)]
        if start > 0 and self.resample:
            for entry in self._entries(start):
                with contextlib.suppress(NoEntryError):
                    return list(itertools.islice(self._resampled(start, entry), count))
        return list(itertools.islice(self, start, start + count))

    @functools.cached_property
    def num_frames(self) -> int:
        """How many frames iterating gives, counted by decoding all of them. Raises VideoError."""
        return sum(1 for _ in self)

    @property
    def lost_frames(self) -> int:
        """How many of the frames that the file claims are not in it, known at the end of iterating; 0 where it is whole."""
        return 0 if self._whole is None else self._whole.missing

    def loss(self) -> str | None:
        """What is wrong with the file, in a sentence that is the same everywhere; None where nothing is, as far as was read.

        What came out is compared with what the container claims: the entries of its index, the duration of the stream or
        of all of them, the bytes that no packet came from. From a tenth of the frames missing on it is said, or from two
        that an index names; so are frames that came damaged, and a frame rate that cannot be. After iterating to the end all
        of it is known. Where reading met damage or came short of what is claimed, the file is read through for it, once.
        """
        if self._whole is None and (self.damaged_frames or self._came_short):
            before, self.damaged_frames = self.damaged_frames, 0
            for _ in self._decoded():
                pass
            self._whole = self._whole or Loss(damaged=self.damaged_frames)  # of a folder of pictures
            self.damaged_frames = before
        return (self._whole or Loss()).sentence(self.path, fault=None if self._clock is None else self._clock.fault)

    @functools.cached_property
    def _outset(self) -> tuple[float | None, tuple[int, int], EntryPoints]:
        """What reading from the start finds out, for reading from the middle: the time on the file's clock and the size of
        the first frame; with them, where the file can be entered. Raises VideoError.
        """
        if self.pictures:
            first, entry_points = next(self._decode_pictures(self.pictures), None), NOWHERE
        else:
            with open_container(self.path) as container:
                stream = video_stream(container, self.path)
                one_thread(stream)
                first, entry_points = survey(container, stream, size=os.path.getsize(self.path))
        if first is None:
            raise self._no_frame()
        return first.time, upright_size(first, self.short_side), entry_points

    def _entries(self, start: int) -> list[EntryPoint]:
        """Where to begin for output frame `start`, the best first: at a frame that is shown then, or before."""
        first_time, _, entry_points = self._outset
        trusted = self._clock is not None and self._clock.trusted
        return entry_points.before(first_time + (start + 0.5) / self.fps) if trusted and first_time is not None else []

    def _no_frame(self) -> VideoError:
        reason = "its frames are damaged" if self.damaged_frames else "the video stream is empty"
        return VideoError(f"no frame could be decoded: {shown(self.path)}: {reason}; encode or copy it again")

    def _resampled(self, start: int = 0, entry: EntryPoint | None = None) -> Iterator[NDArray[np.uint8]]:
        """Every output frame from `start` on, the picture that is nearest to its time or was there last.

        With an `entry` decoding begins there; raises NoEntryError where that is not at or before `start`.
        """
        slot = start  # the next output frame
        shift = 0.0  # seconds between the file's clock and ours
        previous: tuple[Callable[[], NDArray[np.uint8]], float] | None = None  # a picture, and when it ends
        last_time = 0.0
        for picture, file_time, duration in self._decoded(entry=entry):
            if previous is None:
                shift = -file_time if entry is None else -(self._outset[0] or 0.0)
            time = file_time + shift
            if previous is not None and not last_time <= time <= last_time + MAX_GAP_SECONDS:
                shift += previous[1] - time
                time = previous[1]
            due = int(time * self.fps + 0.5)
            if previous is None and due > start:
                raise NoEntryError
            while previous is not None and slot < due:
                yield previous[0]()
                slot += 1
            previous, last_time = (picture, time + duration), time
        if previous is not None:
            for _ in range(max(1 if slot == 0 else 0, int(previous[1] * self.fps + 0.5) - slot)):
                yield previous[0]()

    def _decoded(
        self, *, entry: EntryPoint | None = None, pictures: Sequence[Path] | None = None
    ) -> Iterator[tuple[Callable[[], NDArray[np.uint8]], float, float]]:
        """Each frame as a scaled picture, made when it is called for, with its presentation time and duration in seconds."""
        period = 1 / self.source_fps
        size = None  # of the first frame of the video; what differs on the way is scaled to it
        if self.pictures:
            frames = self._decode_pictures(self.pictures if pictures is None else pictures)
        else:
            frames = self._decode_packets(self.path) if entry is None else self._frames_from(entry)
        if entry is not None or pictures is not None:
            size = self._outset[1]
        for frame, time in timed(frames, period=period):
            size = size or upright_size(frame, self.short_side)
            seconds = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else period
            yield functools.cache(functools.partial(self._scaled, frame, size)), time, min(seconds, MAX_GAP_SECONDS)

    def _scaled(self, frame: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        try:
            return scaled_rgb(frame, size)
        except (av.FFmpegError, MemoryError) as error:
            raise VideoError(
                f"cannot scale video: {shown(self.path)}: got {frame.width}x{frame.height} pixels, {size[1]}x{size[0]} are too "
                f"many; lower {option('short_side')}"
            ) from error

    def _decode_pictures(self, pictures: Sequence[Path]) -> Iterator[av.VideoFrame]:
        """A frame without a time for each picture; for a damaged one the one before it, or the first that is whole."""
        missing, last = 0, None
        for path in pictures:
            last = next(self._decode_packets(path), last)
            if last is None:
                missing += 1
                continue
            last.pts = last.dts = None
            yield from itertools.repeat(last, missing + 1)
            missing = 0

    def _is_whole(self, picture: Path) -> bool:
        return next(self._decode_packets(picture), None) is not None

    def _frames_from(self, entry: EntryPoint) -> Iterator[av.VideoFrame]:
        """Each frame as decoded, in presentation order, from a key frame in the middle on. Raises NoEntryError."""
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            one_thread(stream)
            clock = Clock(container, stream, self.path)
            for frame in frames_from(container, stream, entry):
                if clock.checked(frame).time is None:  # when it is shown depends on those before it
                    raise NoEntryError
                yield frame

    def _decode_packets(self, path: str | Path) -> Iterator[av.VideoFrame]:
        """Each frame of a file as decoded, in presentation order; damaged ones are counted."""
        with open_container(path) as container:
            stream = video_stream(container, path)
            one_thread(stream)
            counts, known = Pass(container, stream, path), 0
            for frame in counts.frames_of(packets(container)):
                self.damaged_frames, known = self.damaged_frames + counts.damaged - known, counts.damaged
                yield counts.clock.checked(frame)
            self.damaged_frames += counts.damaged - known
            if path == self.path:
                self._whole = counts.loss()


def scaled_rgb(frame: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A decoded frame as contiguous (H,W,3) uint8 RGB, turned and mirrored as it is to be seen, scaled to `size` (H, W)."""
    lay = orientation(frame)
    height, width = size[::-1] if lay.transposed else size
    scaled = woven(frame).reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR", **SCALING_THREADS)
    picture = np.asarray(scaled.to_ndarray(), np.uint8)
    limit = MAX_ASPECT * min(size)
    top, left = max(0, (height - limit) // 2), max(0, (width - limit) // 2)
    return np.ascontiguousarray(lay.apply(picture[top : top + limit, left : left + limit]))


def upright_size(frame: av.VideoFrame, short_side: int | None) -> tuple[int, int]:
    """(height, width) of a decoded frame as it is to be seen, scaled as by `scaled_size`."""
    height, width = scaled_size(frame.height, frame.width, short_side)
    return (width, height) if orientation(frame).transposed else (height, width)


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) with the shorter side `short_side`, if there is one, and the other rounded to keep the aspect ratio."""
    scale = 1 if short_side is None else short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def read_video(path: str | Path, *, fps: float | None = FPS, short_side: int = SHORT_SIDE) -> torch.Tensor:
    """All frames of a video as (T,3,H,W) uint8 RGB; see `Video` for how they are resampled and scaled.

    Warns with VideoWarning where frames are missing or damaged; see `Video.loss`. Raises VideoError.
    """
    video = Video(path, fps=fps, short_side=short_side)
    frames = torch.from_numpy(np.stack(list(video))).permute(0, 3, 1, 2)
    if loss := video.loss():
        warnings.warn(loss, VideoWarning, stacklevel=2)
    return frames
