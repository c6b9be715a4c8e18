"""TwoStream: an RGB and a flow network whose logits are averaged, and the way from the views of a video to its labels.

`predict.predict_videos`, which the commands use, and `TwoStream.predict`, for one video in Python, both go this way.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import FULL, Protocol, View, Views, Watcher, as_input
from ..defaults import STREAMS
from ..errors import CheckpointError, VideoWarning, memory_errors
from ..flow import FlowFolder, FlowReader
from ..models import VideoNetwork
from ..text import option, shown
from ..threads import prefetch
from .prediction import Features, Prediction

LARGEST = 1e30  # largest logit: sums stay finite, and trained networks come nowhere near


class TwoStream:
    """One or both streams, ready to predict on one device; made by `load_model`."""

    def __init__(self, nets: Mapping[str, VideoNetwork], *, name: str, classes: Sequence[str], device: torch.device):
        self.nets = {stream: nets[stream].to(device).eval() for stream in STREAMS if stream in nets}
        self.name, self.classes, self.device = name, tuple(classes), device
        first = next(iter(self.nets.values()))
        self.architecture, self.preprocessing = first.architecture, first.preprocessing  # for what both streams share

    @property
    def labels(self) -> tuple[str, ...]:
        """Another name of `classes`."""
        return self.classes

    def predict(
        self,
        video: str | Path,
        *,
        protocol: Protocol = FULL,
        flow: FlowReader | None = None,
        features: bool = False,
        progress: bool = False,
    ) -> Prediction:
        """Labels of a video of any length, in flat memory; `progress` shows a bar on stderr. Raises VideoError.

        `flow` is the video's flow, stored by `i3d extract-flow`; without it, flow is computed.

        A video of up to 250 frames is one pass, as in the paper. A longer one is seen in windows of 250 frames, and their
        logits are averaged, weighted by their steps in time. A video too short for the network is looped. `protocol` can
        choose fewer frames or more crops. Warns with VideoWarning if frames are missing or damaged.
        """
        views = self.views(video, protocol=protocol, flow=flow, progress=progress)
        *_, prediction = self.look_at(views, features=features)
        if loss := views.source.loss():
            warnings.warn(loss, VideoWarning, stacklevel=2)
        return prediction

    def timeline(
        self,
        video: str | Path,
        *,
        window: int | None = None,
        stride: int | None = None,
        flow: FlowReader | None = None,
        progress: bool = False,
        watch: Watcher | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each window of `window` frames, one every `stride` frames, lazily. Raises VideoError.

        The default window is the clip length of training, the default stride is the window. A window is predicted like a
        video of its frames, but with the flow from its last frame to the next one. The last window may be shorter, see
        `clips.sliding`. Memory is that of a few windows. `watch` is called with every uncropped frame and its flow, before
        the window that ends with them.
        """
        for name, value, least in (("window", window, 2), ("stride", stride, 1)):
            if value is not None and not (isinstance(value, int) and value >= least):
                raise ValueError(f"expected {name} in frames, an integer of at least {least}, got {value!r}")
        window = self.preprocessing.clip_len if window is None else window
        protocol = Protocol(window=window, stride=stride or window)
        return self.look_at(self.views(video, protocol=protocol, flow=flow, watch=watch, progress=progress))

    def views(
        self,
        video: str | Path,
        *,
        protocol: Protocol = FULL,
        flow: FlowReader | None = None,
        watch: Watcher | None = None,
        progress: bool = False,
    ) -> Views:
        """The inputs of a video for the streams of this model. Raises VideoError."""
        trained = {stream: net.preprocessing for stream, net in self.nets.items()}
        return Views(
            video, trained, architecture=self.architecture, protocol=protocol, flow=flow, watch=watch, progress=progress
        )

    def stored_flow(self, folder: str | Path, *, any_flow: bool = False) -> FlowFolder:
        """The flow that extract-flow wrote to a folder; unless `any_flow` is true, it must be made as the weights need it."""
        return FlowFolder(Path(folder), self.nets["flow"].preprocessing.flow, any_flow=any_flow)

    def look_at(self, views: Views, *, features: bool = False) -> Iterator[Prediction]:
        """The predictions of a video: one per window if its protocol has windows, else one; a thread reads ahead."""
        pending = PendingPrediction(self, views, features=features)
        with closing(prefetch(views, depth=0)) as ready:
            for view in ready:
                if (prediction := pending.add(view)) is not None:
                    yield prediction

    @torch.inference_mode()
    def see(self, view: View) -> dict[str, tuple[Tensor, Tensor]]:
        """The features (V,D,T',…) just before the classifier and the logits (V,K) of each stream.

        Raises I3DError if memory runs out.
        """
        advice = f"use {option('device', 'cpu')}, or look at fewer frames at once: got {len(view.frames)}"
        seen = {}
        with memory_errors(advice), exact_convolutions():
            for stream, clips in view.clips.items():
                net = self.nets[stream]
                pooled = net.forward_head(net.forward_features(as_input(clips.to(self.device))), pre_logits=True)
                seen[stream] = pooled, net.classify(pooled)
        return seen


def exact_convolutions() -> contextlib.AbstractContextManager[None]:
    """A context with float32 convolutions on CUDA, where PyTorch otherwise rounds to TF32's 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class PendingPrediction:
    """The prediction of a video or a window, of which some views have been seen."""

    def __init__(self, model: TwoStream, views: Views, *, features: bool):
        self.model, self.views, self.keeps_features = model, views, features
        self.damaged_frames = 0  # of the video, up to the prediction before
        self._begin()

    def _begin(self) -> None:
        self.means = {stream: MeanLogits(f"{stream} of {self.model.name}") for stream in self.model.nets}
        self.rows = {stream: FeatureRows(f"{stream} of {self.model.name}") for stream in self.model.nets}

    def add(self, view: View) -> Prediction | None:
        """Run the networks on a view; the prediction, if this is its last view."""
        for stream, (pooled, logits) in self.model.see(view).items():
            self.means[stream].add(logits, steps=pooled.shape[2])
            if self.keeps_features:
                self.rows[stream].add(self.model.nets[stream], pooled, view.frames)
        if view.completes is None:
            return None
        prediction = self._complete(view.completes, damaged_frames=view.damaged_frames - self.damaged_frames)
        self.damaged_frames = view.damaged_frames
        self._begin()
        return prediction

    def _complete(self, frames: range, *, damaged_frames: int) -> Prediction:
        fps = self.views.source.fps
        return Prediction(
            video=str(self.views.path),
            model=self.model.name,
            device=str(self.model.device),
            classes=self.model.classes,
            num_frames=len(frames),
            fps=fps,
            damaged_frames=damaged_frames,
            stream_logits={stream: mean.logits() for stream, mean in self.means.items()},
            features={stream: rows.features(fps) for stream, rows in self.rows.items()} if self.keeps_features else {},
            start_seconds=frames.start / fps,
        )


class MeanLogits:
    """The mean of one stream's logits over all steps of all views; `name` is for errors."""

    def __init__(self, name: str):
        self.name = name
        self.sum: Tensor | float = 0.0
        self.steps = 0

    def add(self, logits: Tensor, *, steps: int) -> None:
        """Add the logits (V,K) of `steps` steps in time."""
        self.sum = self.sum + logits.double().cpu().mean(0) * steps
        self.steps += steps

    def logits(self) -> Tensor:
        """The mean (K,), float32. Raises CheckpointError for NaN, infinity and logits from LARGEST on."""
        logits = torch.as_tensor(self.sum / self.steps).float()
        check_finite(bool((logits.abs() < LARGEST).all()), self.name)  # False for NaN
        return logits


class FeatureRows:
    """The features of one stream, a row for each step in time."""

    def __init__(self, name: str):
        self.name = name
        self.rows: list[NDArray[np.float32]] = []
        self.spans: list[tuple[int, int]] = []  # of each row, the first frame and the one after the last

    def add(self, net: VideoNetwork, pooled: Tensor, frames: range) -> None:
        """Keep the features (V,D,T',…) of `frames`, averaged over views and space."""
        self.rows.append(pooled.flatten(3).mean(dim=(0, 3)).T.float().cpu().numpy())
        for covered in map(net.frames_of_step, range(pooled.shape[2])):
            self.spans.append((frames.start + covered.start, min(frames.start + covered.stop, frames.stop)))

    def features(self, fps: float) -> Features:
        """The rows that were kept. Raises CheckpointError unless all are finite."""
        rows = np.concatenate(self.rows)
        check_finite(bool(np.isfinite(rows).all()), self.name)
        start_seconds, end_seconds = np.array(self.spans).T / fps
        return Features(rows, start_seconds, end_seconds)


def check_finite(finite: bool, name: str) -> None:
    if not finite:
        raise CheckpointError(
            f"predictions are not finite: {shown(name)}: got NaN or infinity; the weights are broken, train "
            "them again or get others"
        )
