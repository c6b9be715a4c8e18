"""The verb behind `i3d predict`: videos → predictions, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol as Interface

from ..data import FULL, Protocol, View, Views
from ..defaults import TOP_K
from ..errors import DatasetError, I3DError, VideoError
from ..flow import FlowFolder
from ..text import option, shown
from ..threads import prefetch
from ..video import Found, find_videos
from .annotate import FlowPictures, annotated
from .prediction import Prediction
from .timeline_plot import plotted
from .two_stream import PendingPrediction, TwoStream


class NamedVideo(Interface):
    """A video with its key in an output folder: a result of `find_videos`, or a sample of a dataset."""

    @property
    def path(self) -> Path: ...

    @property
    def key(self) -> Path: ...


@dataclass(frozen=True)
class PredictionOutcome:
    """One result of a video: a prediction, a note or an error."""

    video: NamedVideo | None = None  # None for an input that names no video
    prediction: Prediction | None = None
    note: str | None = None
    error: I3DError | None = None


def predict_videos(
    model: TwoStream,
    videos: Iterable[NamedVideo | DatasetError],
    *,
    open_views: Callable[..., Views] | None = None,
    flow: FlowFolder | None = None,
    features: bool = False,
) -> Generator[PredictionOutcome, None, None]:
    """The outcomes of videos, one after the other: predictions, notes and errors; a thread reads ahead, also into the next.

    `open_views` opens a video, by default `model.views`; if its protocol has windows, each has a prediction. `flow` is a folder
    with the stored flow of all videos; without it, flow is computed. Raises DatasetError if stored flow was made otherwise
    than the weights need.
    """
    pending = None
    reading = read_videos(videos, open_views or model.views, flow)
    with closing(prefetch(reading, depth=0)) as events:
        for event in events:
            if isinstance(event, PredictionOutcome):
                yield event
                continue
            video, views, view = event
            if pending is None or pending.views is not views:
                pending = PendingPrediction(model, views, features=features)
            if (prediction := pending.add(view)) is not None:
                yield PredictionOutcome(video, prediction)


def read_videos(
    videos: Iterable[NamedVideo | DatasetError], open_views: Callable[..., Views], flow: FlowFolder | None
) -> Iterator[tuple[NamedVideo, Views, View] | PredictionOutcome]:
    """The views of each video, or an error instead, and notes on it, each note once."""
    said = set[str]()

    def say_once(video: NamedVideo, notes: list[str]) -> Iterator[PredictionOutcome]:
        yield from (PredictionOutcome(video, note=note) for note in notes if note not in said)
        said.update(notes)

    for video in videos:
        if isinstance(video, DatasetError):
            yield PredictionOutcome(error=video)
            continue
        try:
            stored = None if flow is None else flow.open(video.key, video.path)
            yield from say_once(video, [] if flow is None or stored is None else flow.notes(stored))
            views = open_views(video.path, flow=stored)
            for view in views:
                yield video, views, view
            yield from say_once(video, views.notes())
        except VideoError as error:
            yield PredictionOutcome(video, error=error)


@dataclass(frozen=True)
class Timeline:
    """How a video is predicted window by window: lengths in frames, and the files to draw."""

    window: int
    stride: int
    plot: str | None = None
    annotate: str | None = None
    show_flow: bool = False
    top_k: int = TOP_K
    overwrite: bool = True


def predict_inputs(
    model: TwoStream,
    inputs: Iterable[str],
    *,
    flow: FlowFolder | None = None,
    features: bool = False,
    timeline: Timeline | None = None,
    progress: bool = False,
) -> Generator[PredictionOutcome, None, None]:
    """The outcomes of all videos that `inputs` name (files, folders, `@list.txt`); with `timeline`, of each window."""
    pictures = FlowPictures() if timeline is not None and timeline.show_flow else None
    open_views = partial(
        model.views,
        protocol=FULL if timeline is None else Protocol(window=timeline.window, stride=timeline.stride),
        watch=None if pictures is None else pictures.watch,
        progress=progress,
    )
    outcomes = predict_videos(model, named_videos(inputs, timeline), open_views=open_views, flow=flow, features=features)
    draws = timeline is not None and (timeline.plot is not None or timeline.annotate is not None)
    yield from drawn(outcomes, timeline, pictures) if draws and timeline is not None else outcomes


def named_videos(inputs: Iterable[str], timeline: Timeline | None) -> Iterator[Found | DatasetError]:
    """The videos that inputs name, and the error of each input that names none."""
    for name in inputs:
        try:
            yield from chosen_videos(name, timeline)
        except DatasetError as error:
            yield error


def chosen_videos(name: str, timeline: Timeline | None) -> list[Found]:
    """The videos of one input; raises DatasetError if `timeline` draws and there are several, or one would be overwritten."""
    found = find_videos(name)
    if timeline is None or (timeline.plot is None and timeline.annotate is None):
        return found
    if len(found) > 1:
        raise DatasetError(
            f"several videos: {shown(name)}: got {len(found)}, expected one for {option('plot')} and {option('annotate')}; "
            "name one"
        )
    if timeline.annotate is not None and found[0].path.resolve() == Path(timeline.annotate).resolve():
        raise DatasetError(
            f"cannot write: {shown(timeline.annotate)}: it is the video itself; give {option('annotate')} another name"
        )
    return found


def drawn(
    outcomes: Iterator[PredictionOutcome], timeline: Timeline, pictures: FlowPictures | None
) -> Iterator[PredictionOutcome]:
    """The outcomes of one video's windows, passed on while the files of `timeline` are drawn from them."""
    notes: list[PredictionOutcome] = []

    def predictions() -> Iterator[Prediction]:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error  # nothing is drawn of half a video
            if outcome.prediction is None:
                notes.append(outcome)
            else:
                yield outcome.prediction

    found = predictions()
    if timeline.plot is not None:
        found = plotted(found, timeline.plot, top_k=timeline.top_k, overwrite=timeline.overwrite)
    if timeline.annotate is not None:
        found = annotated(found, timeline.annotate, flows=pictures, top_k=timeline.top_k, overwrite=timeline.overwrite)
    try:
        for prediction in found:
            yield PredictionOutcome(prediction=prediction)
    except (VideoError, DatasetError) as error:
        yield PredictionOutcome(error=error)
    yield from notes
