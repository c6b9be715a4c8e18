"""`i3d predict`: videos → predictions, one after the other, and their records for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .defaults import STREAMS, TOP_K
from .errors import DatasetError, I3DError, VideoError, shown
from .files import find_videos
from .flow.storage import FlowReader, find_flow
from .scores import Scores, write_npz, write_scores
from .two_stream import Prediction, TwoStream

CSV_FIELDS = ("video", "duration_seconds", "model", "streams", "device", "rank", "label", "index", "probability", *STREAMS)


def predict_videos(
    model: TwoStream,
    inputs: Iterable[str],
    *,
    flow_dir: str | None = None,
    features: bool = False,
    progress: bool = False,
) -> Iterator[Prediction | I3DError | str]:
    """A prediction for each video that `inputs` name (files, folders, `@list.txt`), or the error that prevented it.

    `flow_dir` is an output folder of extract-flow, whose flow is used; where it was made otherwise than the model's
    weights want it, a note that says so comes first.
    """
    noted = False
    for name in inputs:
        try:
            for video in find_videos(name):
                try:
                    flow = None if flow_dir is None or "flow" not in model.nets else FlowReader(find_flow(flow_dir, video.key))
                    if flow is not None and not noted and (differing := flow.mismatches(model.nets["flow"].preprocessing)):
                        noted = True  # once for all videos
                        yield f"other flow than the weights want: {shown(flow.folder)}: {'; '.join(differing)}"
                    yield model.predict(video.path, flow=flow, features=features, progress=progress)
                except VideoError as error:
                    yield error
        except DatasetError as error:
            yield error


def as_record(prediction: Prediction, top_k: int = TOP_K) -> dict[str, Any]:
    """A prediction as plain data; `rgb` and `flow` are that stream's own probability, None where it did not run."""
    fused = prediction.probabilities
    by_stream = {stream: logits.softmax(0) for stream, logits in prediction.stream_logits.items()}
    return {
        "video": shown(prediction.video),
        "duration_seconds": prediction.duration_seconds,
        "model": prediction.model,
        "streams": list(prediction.streams),
        "device": prediction.device,
        "top": [
            {
                "label": prediction.labels[i],
                "index": i,
                "probability": float(fused[i]),
                **{stream: float(by_stream[stream][i]) if stream in by_stream else None for stream in STREAMS},
            }
            for i in prediction.top_indices(top_k)
        ],
    }


def as_json(prediction: Prediction, top_k: int = TOP_K) -> str:
    """One JSON object on one line."""
    return json.dumps(as_record(prediction, top_k), ensure_ascii=False)


def as_csv(prediction: Prediction, top_k: int = TOP_K) -> str:
    """One CSV line for each label, without the header, which is CSV_FIELDS."""
    record = as_record(prediction, top_k)
    labels = record.pop("top")
    record["streams"] = "+".join(record["streams"])
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_FIELDS, lineterminator="\n")
    writer.writerows({**record, "rank": rank, **label} for rank, label in enumerate(labels, start=1))
    return text.getvalue().rstrip("\n")


def as_table(prediction: Prediction, top_k: int = TOP_K) -> str:
    """A few lines for people: the video, what ran where, and the most probable labels."""
    record = as_record(prediction, top_k)
    columns = [*prediction.streams, "fused"] if len(prediction.streams) > 1 else list(prediction.streams)
    lines = [
        f"{record['video']}  {prediction.duration_seconds:.2f} s, {prediction.num_frames} frames at {prediction.fps:g} fps  "
        f"({prediction.model}, {' + '.join(prediction.streams)}, {prediction.device})",
        "".join(f"{column:>8}" for column in columns) + "  label",
    ]
    for label in record["top"]:
        numbers = {**label, "fused": label["probability"]}
        lines.append("".join(f"{numbers[column]:8.4f}" for column in columns) + f"  {label['label']}")
    return "\n".join(lines) + "\n"


def write_outputs(predictions: Sequence[Prediction], *, scores: str | None, features: str | None) -> None:
    """Write the files that were asked for, if there is anything to write."""
    if predictions and scores is not None:
        write_scores(scores, as_scores(predictions))
    if predictions and features is not None:
        write_features(features, predictions)


def as_scores(predictions: Sequence[Prediction]) -> Scores:
    """The logits of predictions by one model."""
    first = predictions[0]
    logits = {stream: np.stack([p.stream_logits[stream].numpy() for p in predictions]) for stream in first.streams}
    return Scores(tuple(shown(p.video) for p in predictions), first.labels, logits)


def write_features(path: str | Path, predictions: Sequence[Prediction]) -> None:
    """An .npz of `paths` (V,) and, for each stream, `rgb` (R,D) float32 rows, `rgb_video` (R,) indices into `paths`,
    `rgb_start_seconds` and `rgb_end_seconds` (R,), likewise for flow."""
    arrays: dict[str, Any] = {}
    for stream in predictions[0].streams:
        found = [p.features[stream] for p in predictions]
        arrays[stream] = np.concatenate([f.rows for f in found])
        arrays[f"{stream}_video"] = np.repeat(np.arange(len(found)), [len(f.rows) for f in found])
        arrays[f"{stream}_start_seconds"] = np.concatenate([f.start_seconds for f in found])
        arrays[f"{stream}_end_seconds"] = np.concatenate([f.end_seconds for f in found])
    write_npz(path, paths=[shown(p.video) for p in predictions], **arrays)
