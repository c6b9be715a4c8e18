"""The videos that a model was most confidently wrong about, as pictures for the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..defaults import FLOW_BOUND
from ..errors import VideoError
from ..flow import FlowMethod, flow_picture, jpeg
from ..metrics import rank
from ..scores import Scores
from ..video import Video
from .findings import Findings
from .report import Mistake

MISTAKES = 24  # shown in the report
THUMBNAIL = 128  # pixels, the shorter side


def worst_mistakes(scores: Scores, findings: Findings, paths: Mapping[str, Path]) -> list[Mistake]:
    """The videos that were most confidently taken for something else."""
    assert scores.labels is not None
    probabilities = {key: softmax(rows) for key, rows in findings.logits.items()}
    best = {key: rank(rows)[:, 0] for key, rows in findings.logits.items()}
    main = list(findings.logits)[-1]
    confidence = probabilities[main][np.arange(len(scores.paths)), best[main]]
    wrong = np.flatnonzero(best[main] != scores.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    mistakes = []
    for i in worst:
        rgb, flow = thumbnails(paths.get(scores.paths[i], Path(scores.paths[i])))
        streams = {key: (int(best[key][i]), float(probabilities[key][i, best[key][i]])) for key in scores.logits}
        mistakes.append(
            Mistake(scores.paths[i], int(scores.labels[i]), int(best[main][i]), float(confidence[i]), streams, rgb, flow)
        )
    return mistakes


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (V,K) of logits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def thumbnails(path: Path) -> tuple[bytes | None, bytes | None]:
    """A frame from the middle of a video and its flow in colours, as JPEG; None for what cannot be made."""
    try:
        video = Video(path, short_side=THUMBNAIL)
        frames = video.read((video.estimated_frames or 2) // 2, 2) or video.read(0, 2)
    except VideoError:
        return None, None
    flow = next(FlowMethod("dis").flows(frames), None)
    return jpeg(frames[0][..., ::-1], 85), None if flow is None else jpeg(flow_picture(flow, FLOW_BOUND / 4)[..., ::-1], 85)
