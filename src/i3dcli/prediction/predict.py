"""`i3d predict`: videos → predictions, one after the other, and their records for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..data import Views
from ..defaults import TOP_K
from ..errors import DatasetError, I3DError, VideoError
from ..flow import FlowFolder
from ..text import shown
from ..video import Found, find_videos
from .annotate import FlowPictures, annotated
from .prediction import Prediction
from .timeline_plot import plotted
from .two_stream import TwoStream


@dataclass(frozen=True)
class Timeline:
    """How a video is looked at window by window: lengths in frames, and the files that are drawn of it."""

    window: int
    stride: int
    plot: str | None = None
    annotate: str | None = None
    show_flow: bool = False
    top_k: int = TOP_K
    overwrite: bool = True


def predict_videos(
    model: TwoStream,
    inputs: Iterable[str],
    *,
    flow_dir: str | None = None,
    features: bool = False,
    timeline: Timeline | None = None,
    progress: bool = False,
) -> Iterator[Prediction | I3DError | str]:
    """A prediction for each video that `inputs` name (files, folders, `@list.txt`), or the error that prevented it.

    With `timeline`, one for each window of it. `flow_dir` is an output folder of extract-flow, whose flow the model's
    flow stream sees; where it was made otherwise than the weights want it, a note that says so comes first. What is
    missing of a video is noted after it.
    """
    stored = None if flow_dir is None else FlowFolder(Path(flow_dir))
    noted = False
    for name in inputs:
        try:
            for video in chosen_videos(name, timeline):
                try:
                    flow = None if stored is None else stored.open(video.key, video.path)
                    if flow is not None and not noted and (differing := flow.mismatches(model.nets["flow"].preprocessing)):
                        noted = True  # once for all videos
                        yield f"other flow than the weights want: {shown(flow.folder)}: {'; '.join(differing)}"
                    views = model.views(video.path, flow=flow, progress=progress)
                    if timeline is None:
                        yield model.predict_views(views, features=features)
                    else:
                        yield from predict_windows(model, views, timeline)
                    if loss := views.source.loss():
                        yield loss
                except VideoError as error:
                    yield error
        except DatasetError as error:
            yield error


def chosen_videos(name: str, timeline: Timeline | None) -> list[Found]:
    """The videos of one input; raises DatasetError where they cannot be drawn: several, or one that would be overwritten."""
    found = find_videos(name)
    if timeline is None or (timeline.plot is None and timeline.annotate is None):
        return found
    if len(found) > 1:
        raise DatasetError(f"several videos: {shown(name)}: got {len(found)}, expected one for --plot and --annotate; name one")
    if timeline.annotate is not None and found[0].path.resolve() == Path(timeline.annotate).resolve():
        raise DatasetError(f"cannot write: {shown(timeline.annotate)}: it is the video itself; give --annotate another name")
    return found


def predict_windows(model: TwoStream, views: Views, timeline: Timeline) -> Iterator[Prediction]:
    """A prediction for each window of a video, and the files that are drawn of them."""
    pictures = FlowPictures() if timeline.show_flow else None
    watch = None if pictures is None else pictures.watch
    predictions = model.timeline_views(views, window=timeline.window, stride=timeline.stride, watch=watch)
    if timeline.plot is not None:
        predictions = plotted(predictions, timeline.plot, top_k=timeline.top_k, overwrite=timeline.overwrite)
    if timeline.annotate is not None:
        predictions = annotated(
            predictions, timeline.annotate, flows=pictures, top_k=timeline.top_k, overwrite=timeline.overwrite
        )
    return predictions
