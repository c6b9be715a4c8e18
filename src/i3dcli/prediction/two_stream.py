"""TwoStream: an RGB and a flow I3D whose logits are averaged, and the way from a video to its labels."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import FULL, Clips, Protocol, Views, Watcher, windows
from ..defaults import STREAMS
from ..errors import CheckpointError, VideoWarning, memory_errors
from ..flow import FlowReader
from ..models import FEATURE_STRIDE, HEAD_POOL, I3D
from ..text import shown
from .prediction import Features, Prediction

LARGEST = 1e30  # of logits; the sums of such are finite, and no network that was trained comes near


class TwoStream:
    """One or both streams, ready to look at videos on one device; made by `load_model`."""

    def __init__(self, nets: Mapping[str, I3D], *, name: str, labels: Sequence[str], device: torch.device):
        self.nets = {stream: nets[stream].to(device).eval() for stream in STREAMS if stream in nets}
        self.name, self.labels, self.device = name, tuple(labels), device
        self.preprocessing = next(iter(self.nets.values())).preprocessing  # what both streams share of it

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

        `flow` is the video's flow as `i3d extract-flow` stored it, in place of computing it.

        Up to 250 frames the whole clip is one pass, as in the paper; of a longer video, windows of 250 frames, whose
        logits are averaged by their number of steps in time. A clip too short for the network is looped. `protocol`
        has it see less of the video, or more of each frame. Warns with VideoWarning where frames are missing or damaged.
        """
        views = self.views(video, protocol=protocol, flow=flow, progress=progress)
        prediction = self.predict_views(views, features=features)
        if loss := views.source.loss():
            warnings.warn(loss, VideoWarning, stacklevel=2)
        return prediction

    @torch.inference_mode()
    def predict_views(self, views: Views, *, features: bool = False) -> Prediction:
        """Labels of a video whose views are made already; see `predict`."""
        tallies = self.tallies(keep_features=features)
        for frames, clips in views:
            self.add(tallies, clips, frames=frames)
        kept = {stream: tally.features(views.source.fps) for stream, tally in tallies.items()} if features else None
        damaged = views.source.damaged_frames
        return self._prediction(views, tallies, range(views.num_frames), damaged_frames=damaged, features=kept)

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
        """A prediction for each window of `window` frames, one every `stride` frames, as they are seen. Raises VideoError.

        The default window is what the weights were trained on, the default stride is the window. Each is seen as
        `predict` sees a video of these frames, with the flow to the frame that comes next; the last one is shorter where
        the video ends in it, see `clips.sliding`. Memory is that of one window. `watch` is called with every frame and
        its flow, whole, before the window that they end.
        """
        for name, value, least in (("window", window, 2), ("stride", stride, 1)):
            if value is not None and not (isinstance(value, int) and value >= least):
                raise ValueError(f"expected {name} in frames, an integer of at least {least}, got {value!r}")
        length = self.preprocessing.clip_len if window is None else window
        views = self.views(video, flow=flow, progress=progress)
        return self.timeline_views(views, window=length, stride=stride or length, watch=watch)

    @torch.inference_mode()
    def timeline_views(self, views: Views, *, window: int, stride: int, watch: Watcher | None = None) -> Iterator[Prediction]:
        """The predictions over time of a video whose views are made already; see `timeline`."""
        known_damage = 0
        for first, moments in views.timeline(window, stride, watch=watch):
            tallies = self.tallies()
            frames = range(first, first + len(moments))
            for part in windows(moments):
                self.add(tallies, views.inputs(part), frames=frames)
            damaged, known_damage = views.source.damaged_frames - known_damage, views.source.damaged_frames
            yield self._prediction(views, tallies, frames, damaged_frames=damaged)

    def _prediction(
        self,
        views: Views,
        tallies: Mapping[str, Tally],
        frames: range,
        *,
        damaged_frames: int,
        features: Mapping[str, Features] | None = None,
    ) -> Prediction:
        """What the tallies say of some frames of a video."""
        return Prediction(
            video=str(views.path),
            model=self.name,
            device=str(self.device),
            labels=self.labels,
            num_frames=len(frames),
            fps=views.source.fps,
            damaged_frames=damaged_frames,
            stream_logits={stream: tally.logits() for stream, tally in tallies.items()},
            features=features or {},
            start_seconds=frames.start / views.source.fps,
        )

    def views(
        self, video: str | Path, *, protocol: Protocol = FULL, flow: FlowReader | None = None, progress: bool = False
    ) -> Views:
        """The inputs of a video for the streams of this model. Raises VideoError."""
        trained = {stream: net.preprocessing for stream, net in self.nets.items()}
        return Views(video, trained, protocol=protocol, flow=flow, progress=progress)

    def tallies(self, *, keep_features: bool = False) -> dict[str, Tally]:
        """What counts what each stream says of a video or a window."""
        return {stream: Tally(f"{stream} of {self.name}", keep_features=keep_features) for stream in self.nets}

    @torch.inference_mode()
    def add(self, tallies: Mapping[str, Tally], clips: Clips, *, frames: range) -> None:
        """Count what each stream says of its clips, which show `frames` of the video. Raises I3DError out of memory."""
        with memory_errors(f"use --device cpu, or look at fewer frames at once: got {len(frames)}"), exact_convolutions():
            for stream, clip in clips.items():
                maps = self.nets[stream].forward_features(clip.to(self.device))
                tallies[stream].add(self.nets[stream], maps, frames)


def exact_convolutions() -> contextlib.AbstractContextManager[None]:
    """Numbers in float32 on a CUDA device too, where PyTorch rounds those of convolutions to TF32's 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class Tally:
    """The mean of one stream's logits over all steps of all windows, and its features if they are kept.

    `name` says in an error whose they are.
    """

    def __init__(self, name: str, *, keep_features: bool = False):
        self.name, self.keep_features = name, keep_features
        self.sum: Tensor | float = 0.0
        self.steps = 0
        self.rows: list[NDArray[np.float32]] = []
        self.spans: list[tuple[int, int]] = []  # of each row, the first frame and the one after the last

    def add(self, net: I3D, maps: Tensor, frames: range) -> None:
        """Count the feature maps (V,C,T',H',W') of the views of `frames`."""
        pooled = net.forward_head(maps, pre_logits=True)
        steps = pooled.shape[2]
        self.sum = self.sum + net.classify(pooled).double().cpu().mean(0) * steps
        self.steps += steps
        if self.keep_features:
            self.rows.append(pooled.mean(dim=(0, 3, 4)).T.float().cpu().numpy())
            firsts = range(frames.start, frames.start + steps * FEATURE_STRIDE, FEATURE_STRIDE)
            self.spans += [(first, min(first + HEAD_POOL[0] * FEATURE_STRIDE, frames.stop)) for first in firsts]

    def logits(self) -> Tensor:
        """(K,) float32. Raises CheckpointError unless all are numbers that a softmax can be taken of."""
        logits = torch.as_tensor(self.sum / self.steps).float()
        self.check(bool((logits.abs() < LARGEST).all()))  # NaN is not
        return logits

    def features(self, fps: float) -> Features:
        """The rows that were kept. Raises CheckpointError unless all are finite."""
        rows = np.concatenate(self.rows)
        self.check(bool(np.isfinite(rows).all()))
        start_seconds, end_seconds = np.array(self.spans).T / fps
        return Features(rows, start_seconds, end_seconds)

    def check(self, finite: bool) -> None:
        if not finite:
            raise CheckpointError(
                f"predictions are not finite: {shown(self.name)}: got NaN or infinity; the weights are broken, train "
                "them again or get others"
            )
