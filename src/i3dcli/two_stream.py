"""TwoStream: an RGB and a flow I3D whose logits are averaged, and the way from a video to its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from . import zoo
from .checkpoints import load_checkpoint
from .clips import centre_crop, flow_clip, looped, rgb_clip, windows
from .defaults import MODEL, STREAMS, TOP_K
from .errors import CheckpointError, DatasetError, I3DError, VideoError, shown
from .flow import Frame, Moment, with_flow, without_flow
from .flow.storage import FlowReader
from .i3d import FEATURE_STRIDE, HEAD_POOL, I3D
from .video import Video


@dataclass(frozen=True)
class Features:
    """Rows of 1024·width numbers, just before the classifier, and the seconds of the video that each row was pooled from.

    A row pools two feature steps of 8 frames each; rows follow each other by one step. (R,D) float32, (R,), (R,) float64.
    """

    rows: NDArray[np.float32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a video. Logits are (K,) float32; those of a stream that did not run are None."""

    video: str
    model: str
    device: str
    labels: tuple[str, ...]
    num_frames: int
    fps: float
    damaged_frames: int  # of the file, that could not be decoded, or not whole
    stream_logits: Mapping[str, Tensor]
    features: Mapping[str, Features]  # by stream; empty unless asked for

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.stream_logits)

    @property
    def duration_seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def rgb_logits(self) -> Tensor | None:
        return self.stream_logits.get("rgb")

    @property
    def flow_logits(self) -> Tensor | None:
        return self.stream_logits.get("flow")

    @property
    def logits(self) -> Tensor:
        """Fused logits: the mean of the streams', with equal weight; paper, section 2.4."""
        return torch.stack(list(self.stream_logits.values())).mean(0)

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(0)

    def top_indices(self, k: int = TOP_K) -> list[int]:
        """The k most probable classes, best first; all of them where there are fewer."""
        return self.logits.topk(min(k, len(self.logits))).indices.tolist()

    def top(self, k: int = TOP_K) -> list[tuple[str, float]]:
        """The k most probable labels with their probabilities, best first."""
        return [(self.labels[i], float(self.probabilities[i])) for i in self.top_indices(k)]


class TwoStream:
    """One or both streams, ready to look at videos on one device; made by `load_model`."""

    def __init__(self, nets: Mapping[str, I3D], *, name: str, labels: Sequence[str], device: torch.device):
        self.nets = {stream: nets[stream].to(device).eval() for stream in STREAMS if stream in nets}
        self.name, self.labels, self.device = name, tuple(labels), device
        self.preprocessing = next(iter(self.nets.values())).preprocessing  # what both streams share of it

    @torch.inference_mode()
    def predict(
        self, video: str | Path, *, flow: FlowReader | None = None, features: bool = False, progress: bool = False
    ) -> Prediction:
        """Labels of a video of any length, in flat memory; `progress` shows a bar on stderr. Raises VideoError.

        `flow` is the video's flow as `i3d extract-flow` stored it, in place of computing it.

        Up to 250 frames the whole clip is one pass, as in the paper; of a longer video, windows of 250 frames, whose
        logits are averaged by their number of steps in time. A clip too short for the network is looped.
        """
        source = Video(video, fps=self.preprocessing.fps, short_side=self.preprocessing.short_side)
        frames = tqdm(
            source, Path(video).name, source.estimated_frames, unit="frame", leave=False, disable=None if progress else True
        )
        if "flow" not in self.nets:
            moments = without_flow(frames)
        elif flow is None:
            moments = with_flow(frames, self.nets["flow"].preprocessing.flow_algorithm)
        else:
            moments = with_stored_flow(frames, flow, video)
        tallies = {stream: Tally(keep_features=features) for stream in self.nets}
        num_frames = 0
        for window in windows(cropped(moments, self.preprocessing.crop)):
            for stream, clip in self.clips(window, video).items():
                maps = self.nets[stream].forward_features(clip.to(self.device))
                tallies[stream].add(self.nets[stream], maps, first_frame=num_frames)
            num_frames += len(window)
        return Prediction(
            video=str(video),
            model=self.name,
            device=str(self.device),
            labels=self.labels,
            num_frames=num_frames,
            fps=source.fps,
            damaged_frames=source.damaged_frames,
            stream_logits={stream: tally.logits() for stream, tally in tallies.items()},
            features={stream: tally.features(num_frames, source.fps) for stream, tally in tallies.items()} if features else {},
        )

    def clips(self, window: Sequence[Moment], video: str | Path) -> dict[str, Tensor]:
        """The network's inputs for a window of moments, by stream."""
        clips = {}
        if "rgb" in self.nets:
            clips["rgb"] = rgb_clip(looped([frame for frame, _ in window]))
        if "flow" in self.nets:
            flows = [flow for _, flow in window if flow is not None]
            if not flows:
                raise VideoError(f"too short for flow: {shown(video)}: got 1 frame, expected at least 2; use --stream rgb")
            clips["flow"] = flow_clip(looped(flows), bound=self.nets["flow"].preprocessing.flow_bound)
        return clips


class Tally:
    """The mean of one stream's logits over all steps of all windows, and its features if they are kept."""

    def __init__(self, *, keep_features: bool):
        self.keep_features = keep_features
        self.sum: Tensor | float = 0.0
        self.steps = 0
        self.rows: list[NDArray[np.float32]] = []
        self.first_frames: list[int] = []

    def add(self, net: I3D, maps: Tensor, *, first_frame: int) -> None:
        """Count the feature maps (1,C,T',H',W') of a window that starts at `first_frame`."""
        pooled = net.forward_head(maps, pre_logits=True)
        steps = pooled.shape[2]
        self.sum = self.sum + net.classify(pooled)[0].double().cpu() * steps
        self.steps += steps
        if self.keep_features:
            self.rows.append(pooled[0].mean(dim=(2, 3)).T.float().cpu().numpy())
            self.first_frames += range(first_frame, first_frame + steps * FEATURE_STRIDE, FEATURE_STRIDE)

    def logits(self) -> Tensor:
        return torch.as_tensor(self.sum / self.steps).float()

    def features(self, num_frames: int, fps: float) -> Features:
        first = np.array(self.first_frames)
        last = np.minimum(first + HEAD_POOL[0] * FEATURE_STRIDE, num_frames)
        return Features(np.concatenate(self.rows), first / fps, last / fps)


def with_stored_flow(frames: Iterable[Frame], flow: FlowReader, video: str | Path) -> Iterator[Moment]:
    """Each frame with the stored flow from it to the next; raises VideoError where flow and video do not belong together."""
    count = 0
    for count, frame in enumerate(frames, start=1):
        field = flow[count - 1] if count <= len(flow) else None
        if field is not None and field.shape[1:] != frame.shape[:2]:
            got = f"flow of {field.shape[1:]} and frames of {frame.shape[:2]} pixels"
            raise VideoError(f"flow of another size: {shown(flow.folder)}: got {got} of {shown(video)}; extract it again")
        yield frame, field
    if count != len(flow) + 1:
        raise VideoError(
            f"flow of another video: {shown(flow.folder)}: got {len(flow)} flows for {count} frames of {shown(video)}, "
            f"expected {count - 1}; extract it again"
        )


def cropped(moments: Iterable[Moment], crop: int) -> Iterator[Moment]:
    """The centre crop x crop pixels of each moment, copied, so that the whole pictures can go."""
    for frame, flow in moments:
        height, width, _ = frame.shape
        rows, columns = centre_crop(height, width, crop)
        yield frame[rows, columns].copy(), None if flow is None else flow[:, rows, columns].copy()


def load_model(
    name: str | None = None,
    *,
    rgb: str | Path | None = None,
    flow: str | Path | None = None,
    streams: Sequence[str] = STREAMS,
    device: str | torch.device | None = None,
    labels: Sequence[str] | None = None,
) -> TwoStream:
    """A model ready to predict: one of the zoo by `name` (default: kinetics400), or from checkpoint files `rgb` and `flow`.

    Files may be of any layout `load_checkpoint` knows; one of them is enough for one stream. `streams` limits what of
    a named model is loaded. `device=None` picks CUDA if there is one. `labels` replaces the names of the classes.
    Raises CheckpointError, and DatasetError for labels that do not fit.
    """
    chosen = choose_device(device)
    paths = {stream: Path(path) for stream, path in (("rgb", rgb), ("flow", flow)) if path is not None}
    if paths and name is not None:
        raise ValueError(f"expected a model's name or files, got both: {name = }, {rgb = }, {flow = }")
    known = None
    if not paths:
        model = zoo.find_model(name or MODEL)
        paths, known = zoo.fetch(model, tuple(streams)), model.classes()
    nets = {stream: load_stream(path, stream) for stream, path in paths.items()}
    check_pair(nets, paths)
    names = labels or known or next((net.classes for net in nets.values() if net.classes), None)
    num_classes = next(iter(nets.values())).num_classes
    names = names or [f"class {i}" for i in range(num_classes)]
    if len(names) != num_classes:
        raise DatasetError(f"wrong labels: got {len(names)} labels, expected {num_classes}, one for each class of the model")
    title = (name or MODEL) if known is not None or name else " + ".join(path.name for path in paths.values())
    return TwoStream(nets, name=title, labels=names, device=chosen)


def load_stream(path: Path, stream: str, *, remedy: str = "give them with --") -> I3D:
    """The checkpoint at `path`; raises CheckpointError if it is not of that stream, with the option to use as remedy."""
    net = load_checkpoint(path)
    if net.stream != stream:
        raise CheckpointError(f"wrong stream: {shown(path)}: got {net.stream} weights, expected {stream}; {remedy}{net.stream}")
    return net


def check_pair(nets: Mapping[str, I3D], paths: Mapping[str, Path]) -> None:
    """Raise CheckpointError unless two streams have the same classes and look at the same pictures."""
    if len(nets) < 2:
        return
    rgb, flow = nets["rgb"], nets["flow"]
    pair = f"{shown(paths['rgb'])} and {shown(paths['flow'])}"
    if rgb.num_classes != flow.num_classes or (rgb.classes and flow.classes and rgb.classes != flow.classes):
        raise CheckpointError(
            f"streams do not match: {pair}: got {rgb.num_classes} and {flow.num_classes} classes of other names or order; "
            "expected two streams trained on the same classes"
        )
    seen = [(net.preprocessing.fps, net.preprocessing.short_side, net.preprocessing.crop) for net in (rgb, flow)]
    if seen[0] != seen[1]:
        raise CheckpointError(
            f"streams do not match: {pair}: got (fps, short side, crop) {seen[0]} and {seen[1]}; expected the same"
        )


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on; None or "auto" picks CUDA if there is one. Raises I3DError for one that is not there."""
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise I3DError(f"unknown device: {device}: expected auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise I3DError(f"unknown device: {device}: expected auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise I3DError(f"no such device: {device}: torch finds {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return chosen
