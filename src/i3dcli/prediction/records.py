"""Predictions → text for people and records for programs: tables, JSON, CSV, .npz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..defaults import STREAMS, TOP_K
from ..scores import Scores, write_npz, write_scores
from ..text import as_unicode, csv_line, json_line, shown, shown_class
from .prediction import Prediction

CSV_FIELDS = ("model", "streams", "device", "rank", "label", "index", "probability", *STREAMS)  # after video and times
VIDEO_TIMES, WINDOW_TIMES = ("duration_seconds",), ("start_seconds", "end_seconds")


def as_record(prediction: Prediction, top_k: int = TOP_K, *, timeline: bool = False) -> dict[str, Any]:
    """A prediction as plain data; `rgb` and `flow` are that stream's own probability, None where it did not run.

    The path is as it is, not fit to be printed. With `timeline`, the record says where its window starts and ends, in
    place of how long the video is.
    """
    fused = prediction.probabilities
    by_stream = {stream: logits.softmax(0) for stream, logits in prediction.stream_logits.items()}
    return {
        "video": prediction.video,
        **{field: getattr(prediction, field) for field in (WINDOW_TIMES if timeline else VIDEO_TIMES)},
        "model": prediction.model,
        "streams": list(prediction.streams),
        "device": prediction.device,
        "top": [
            {
                "label": prediction.classes[i],
                "index": i,
                "probability": float(fused[i]),
                **{stream: float(by_stream[stream][i]) if stream in by_stream else None for stream in STREAMS},
            }
            for i in prediction.top_indices(top_k)
        ],
    }


def as_json(prediction: Prediction, top_k: int = TOP_K, *, timeline: bool = False) -> str:
    """One JSON object on one line; see `json_line`."""
    return json_line(as_record(prediction, top_k, timeline=timeline))


def csv_fields(*, timeline: bool = False) -> tuple[str, ...]:
    """The header of `as_csv`."""
    return ("video", *(WINDOW_TIMES if timeline else VIDEO_TIMES), *CSV_FIELDS)


def as_csv(prediction: Prediction, top_k: int = TOP_K, *, timeline: bool = False) -> str:
    """One CSV line for each label, without the header; bytes of a path that are not UTF-8 become U+FFFD."""
    record = as_record(prediction, top_k, timeline=timeline)
    labels = record.pop("top")
    record |= {key: as_unicode(record[key]) for key in ("video", "model")} | {"streams": "+".join(record["streams"])}
    rows = ({**record, "rank": rank, **label} for rank, label in enumerate(labels, start=1))
    fields = csv_fields(timeline=timeline)
    return "\n".join(csv_line([row[field] for field in fields]) for row in rows)


def as_table(prediction: Prediction, top_k: int = TOP_K, *, timeline: bool = False) -> str:
    """A few lines for people: the video, what ran where, and the most probable labels; of a window, `as_row`."""
    if timeline:
        return as_row(prediction)
    record = as_record(prediction, top_k)
    lines = [
        f"{shown(prediction.video)}  {prediction.duration_seconds:.2f} s, "
        f"{prediction.num_frames} frames at {prediction.fps:g} fps  ({what_ran(prediction)})",
        header(prediction) + "  label",
    ]
    return "\n".join([*lines, *(label_line(prediction, label) for label in record["top"])]) + "\n"


def as_row(prediction: Prediction) -> str:
    """One line for a window: from when to when, and its most probable label; before the first, what the columns are."""
    (label,) = as_record(prediction, 1)["top"]
    line = f"{prediction.start_seconds:8.2f}{prediction.end_seconds:8.2f}{label_line(prediction, label)}"
    if prediction.first_frame > 0:
        return line
    title = f"{shown(prediction.video)}  {prediction.fps:g} fps  ({what_ran(prediction)})"
    return f"{title}\n{'start':>8}{'end':>8}{header(prediction)}  label\n{line}"


def what_ran(prediction: Prediction) -> str:
    return f"{shown(prediction.model)}, {' + '.join(prediction.streams)}, {prediction.device}"


def columns(prediction: Prediction) -> list[str]:
    return [*prediction.streams, "fused"] if len(prediction.streams) > 1 else list(prediction.streams)


def header(prediction: Prediction) -> str:
    return "".join(f"{column:>8}" for column in columns(prediction))


def label_line(prediction: Prediction, label: dict[str, Any]) -> str:
    """A label of `as_record`, after its probability by each stream and both."""
    numbers = {**label, "fused": label["probability"]}
    return "".join(f"{numbers[column]:8.4f}" for column in columns(prediction)) + f"  {shown_class(label['label'])}"


def write_outputs(
    predictions: Sequence[Prediction], *, scores: str | None, features: str | None, overwrite: bool = True
) -> None:
    """Write the files that were asked for, if there is anything to write."""
    if predictions and scores is not None:
        write_scores(scores, scores_of_predictions(predictions), overwrite=overwrite)
    if predictions and features is not None:
        write_features(features, predictions, overwrite=overwrite)


def scores_of_predictions(predictions: Sequence[Prediction]) -> Scores:
    """The logits of predictions by one model."""
    first = predictions[0]
    logits = {stream: np.stack([p.stream_logits[stream].numpy() for p in predictions]) for stream in first.streams}
    return Scores(tuple(p.video for p in predictions), first.classes, logits)


def write_features(path: str | Path, predictions: Sequence[Prediction], *, overwrite: bool = True) -> None:
    """An .npz of `paths` (V,) and, for each stream, `rgb` (R,D) float32 rows, `rgb_video` (R,) indices into `paths`,
    `rgb_start_seconds` and `rgb_end_seconds` (R,), likewise for flow."""
    arrays: dict[str, Any] = {}
    for stream in predictions[0].streams:
        found = [p.features[stream] for p in predictions]
        arrays[stream] = np.concatenate([f.rows for f in found])
        arrays[f"{stream}_video"] = np.repeat(np.arange(len(found)), [len(f.rows) for f in found])
        arrays[f"{stream}_start_seconds"] = np.concatenate([f.start_seconds for f in found])
        arrays[f"{stream}_end_seconds"] = np.concatenate([f.end_seconds for f in found])
    write_npz(path, {"paths": [p.video for p in predictions], **arrays}, overwrite=overwrite)
