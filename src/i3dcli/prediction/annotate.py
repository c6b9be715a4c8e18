"""A video with what a model says of it written on it, window by window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..defaults import MIN_CLIP_LEN, TOP_K
from ..drawing import drawable_label, fitted, text_width, write
from ..files import atomic_write
from ..flow import Frame, Moment, flow_picture
from ..video import Video, VideoWriter

if TYPE_CHECKING:
    from .prediction import Prediction

FULL_COLOUR = 8.0  # pixels per frame, where the colour of flow is full
INSET = 0.32  # of the picture's sides, at most, for the flow
PANEL_HEIGHT = 0.55  # of the picture, at most
PANEL_WIDTH = 22  # letters' heights
DARKNESS = 0.68  # of the panel
PANEL, TRACK, WHITE, PALE = (16, 18, 24), (86, 90, 98), (255, 255, 255), (196, 200, 208)  # RGB, as are frames
BARS = {"rgb": (86, 168, 255), "flow": (255, 148, 66), "fused": (255, 255, 255)}


class FlowPictures:
    """The flow of frames that have gone by, in colours, kept until the frames are drawn."""

    def __init__(self) -> None:
        self.held: deque[Frame] = deque()
        self.last: Frame | None = None

    def watch(self, moment: Moment) -> None:
        _, flow = moment
        if flow is not None:
            self.held.append(flow_picture(flow, FULL_COLOUR))

    def next(self) -> Frame | None:
        """That of the next frame; the last frame has none of its own and shows the one before."""
        if self.held:
            self.last = self.held.popleft()
        return self.last


def annotated(
    predictions: Iterable[Prediction],
    path: str | Path,
    *,
    flows: FlowPictures | None = None,
    top_k: int = TOP_K,
    overwrite: bool = True,
) -> Iterator[Prediction]:
    """The predictions of a video's windows, passed on, while an .mp4 of the video is written with their labels on it.

    The file is decoded a second time, in its own size but for an odd last row or column, as far as predictions have come:
    so flow and network run once, and no frame waits for its label. `flows` are drawn too, if they are given. Raises I3DError
    and VideoError.
    """
    with atomic_write(path, overwrite=overwrite) as temporary, ExitStack() as stack:
        painter, previous = None, None
        for prediction in predictions:
            if painter is None or previous is None:
                writer = stack.enter_context(VideoWriter(temporary, fps=prediction.fps))
                source = Video(prediction.video, fps=prediction.fps, short_side=None)
                painter = Painter(writer, iter(source), flows=flows, top_k=top_k)
            else:
                painter.paint(previous, until=(previous.end_frame + prediction.first_frame) // 2)
            yield prediction
            previous = prediction
        if painter is not None and previous is not None:
            painter.paint(previous, until=None)


class Painter:
    """Draws on frames, one after the other."""

    def __init__(self, writer: VideoWriter, frames: Iterator[Frame], *, flows: FlowPictures | None, top_k: int):
        self.writer, self.frames, self.flows, self.top_k = writer, frames, flows, top_k
        self.painted = 0

    def paint(self, prediction: Prediction, *, until: int | None) -> None:
        """The frames before `until`, or all that are left, with the labels of the window they are in.

        Labels stay for the few frames that may be left after the last window; between windows there are none.
        """
        for frame in islice(self.frames, None if until is None else until - self.painted):
            picture = frame.copy()  # a frame that is shown for longer is the same array again
            if prediction.first_frame <= self.painted < prediction.end_frame + MIN_CLIP_LEN - 1:
                draw_labels(picture, prediction, self.top_k)
            if self.flows is not None and (inset := self.flows.next()) is not None:
                draw_inset(picture, inset)
            self.writer.write(picture)
            self.painted += 1


def draw_labels(picture: Frame, prediction: Prediction, top_k: int) -> None:
    """Darken the lower left corner, and write there the window's time, its labels, and a bar for each stream and both."""
    height, width, _ = picture.shape
    scores = {stream: logits.softmax(0) for stream, logits in prediction.stream_logits.items()}
    if len(scores) > 1:
        scores["fused"] = prediction.probabilities
    unit = max(2, round(min(height, width) / 32), min(11, min(height, width) // 14))  # the height of letters
    bar = max(2, round(unit / 5))
    row = round(1.9 * unit) + len(scores) * (bar + 1)
    room = int(PANEL_HEIGHT * height) - 3 * unit
    indices = prediction.top_indices(min(top_k, max(1, room // row)))
    panel_width, panel_height = min(width - 2 * unit, PANEL_WIDTH * unit), 3 * unit + len(indices) * row
    left, top = unit, max(0, height - unit - panel_height)
    darken(picture[top : top + panel_height, left : left + panel_width])
    left, right, y = left + unit, left + panel_width - unit, top + round(1.7 * unit)
    draw_header(picture, prediction, list(scores), left=left, right=right, y=y, unit=unit)
    for index in indices:
        y += round(1.7 * unit)
        percent = f"{100 * float(prediction.probabilities[index]):.0f}%"
        taken = write(picture, percent, right, y, align=1.0, size=unit, colour=WHITE)
        label = fitted(drawable_label(prediction.classes[index], index), right - left - taken - unit, unit)
        write(picture, label, left, y, size=unit, colour=WHITE)
        y += round(0.4 * unit)
        for name, probabilities in scores.items():
            end = left + round((right - left) * float(probabilities[index]))
            cv2.rectangle(picture, (left, y), (right - 1, y + bar - 1), TRACK, cv2.FILLED)
            if end > left:
                cv2.rectangle(picture, (left, y), (end - 1, y + bar - 1), BARS[name], cv2.FILLED)
            y += bar + 1
        y -= round(0.2 * unit)


def darken(region: Frame) -> None:
    cv2.addWeighted(region, 1 - DARKNESS, np.full_like(region, PANEL), DARKNESS, 0, dst=region)


def draw_header(
    picture: Frame, prediction: Prediction, names: list[str], *, left: int, right: float, y: int, unit: int
) -> None:
    """Which bar is whose, and where there is room, when the window is."""
    size = max(2, round(0.85 * unit))
    side = round(unit / 2)
    for name in reversed(names):
        right -= write(picture, name, right, y, align=1.0, size=size, colour=PALE)
        right -= round(unit / 4) + side
        cv2.rectangle(picture, (round(right), y - side), (round(right) + side - 1, y - 1), BARS[name], cv2.FILLED)
        right -= round(0.7 * unit)
    time = f"{prediction.start_seconds:.1f}-{prediction.end_seconds:.1f} s"
    if text_width(time, size) <= right - left:
        write(picture, time, left, y, size=size, colour=PALE)


def draw_inset(picture: Frame, inset: NDArray[np.uint8]) -> None:
    """Put the flow's colours in the upper right corner, in a thin white frame."""
    height, width, _ = picture.shape
    scale = INSET * min(height / inset.shape[0], width / inset.shape[1])
    size = max(1, round(inset.shape[1] * scale)), max(1, round(inset.shape[0] * scale))
    edge = max(1, round(min(height, width) / 256))
    small = cv2.resize(inset, size, interpolation=cv2.INTER_AREA)
    framed = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=WHITE)
    margin = max(2, round(min(height, width) / 32))
    region = picture[margin : margin + framed.shape[0], max(0, width - margin - framed.shape[1]) : width - margin]
    region[:] = framed[: region.shape[0], : region.shape[1]]
