"""What scores are worth: each stream and both measured and compared, and tables of it for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..defaults import STREAMS
from ..errors import DatasetError
from ..metrics import Metrics, MultiLabelMetrics, Paired, fuse, mcnemar, mean_over_splits, measure, measure_multi_label, rank
from ..scores import Scores
from ..text import command, counted, option
from .report import NAMES, mcnemar_sentence
from .scoring import ScoringFailure

Measured = Metrics | MultiLabelMetrics
FUSED = "two_stream"


@dataclass(frozen=True)
class Findings:
    """What scores are worth: the metrics of `rgb`, `flow` and `two_stream`, as far as they are there."""

    measured: dict[str, Measured]
    logits: dict[str, NDArray[np.float32]]  # (V,K)
    comparison: Paired | None = None  # of two-stream, a, and the better stream, b
    better: str | None = None  # that stream
    agreement: Paired | None = None  # of RGB, a, and flow, b


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split's videos, what they are worth, and the videos that could not be read or are not on disk."""

    scores: Scores
    findings: Findings
    failures: tuple[ScoringFailure, ...] = ()
    missing: tuple[Path, ...] = ()
    chosen_on: Mapping[str, int] = field(default_factory=dict)  # by stream: scored videos that its weights are the best on

    @property
    def total(self) -> int:
        """How many videos were asked for."""
        return len(self.scores.paths) + len(self.failures) + len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether all of them were scored."""
        return not self.failures and not self.missing


def assess(scores: Scores, *, weights: tuple[float, float] = (1, 1)) -> Findings:
    """Measure each stream and, where both are there, the weighted mean of their logits. Raises DatasetError without labels."""
    if scores.labels is None:
        raise DatasetError(f"scores without labels: nothing to compare them with; make them with {command('eval')}")
    for stream, rows in scores.logits.items():
        if broken := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
            raise DatasetError(
                f"no finite scores: {stream}: got NaN or infinity for {len(broken)} of {len(rows)} videos, the first "
                f"{scores.paths[broken[0]]}; the weights are broken, give others"
            )
    if scores.labels.ndim == 2 and not scores.labels.any():
        raise DatasetError(f"no labels: none of the {len(scores.paths)} videos shows any class; give other videos")
    logits = dict(scores.logits)
    if len(logits) == len(STREAMS):
        with np.errstate(over="ignore", invalid="ignore"):
            logits[FUSED] = fuse(logits["rgb"], logits["flow"], weights)
        if not np.isfinite(logits[FUSED]).all():
            raise DatasetError(
                "no finite scores: two-stream: got logits whose mean is infinite; the weights are broken, give others"
            )
    multi_label = scores.labels.ndim == 2
    measured = {key: (measure_multi_label if multi_label else measure)(rows, scores.labels) for key, rows in logits.items()}
    if multi_label or FUSED not in logits:
        return Findings(measured, logits)
    right = {key: rank(rows)[:, 0] == scores.labels for key, rows in logits.items()}
    better = max(STREAMS, key=lambda stream: int(right[stream].sum()))
    return Findings(
        measured, logits, mcnemar(right[FUSED], right[better]), better, agreement=mcnemar(right["rgb"], right["flow"])
    )


def sweep(scores: Scores) -> list[tuple[float, Measured]]:
    """The metrics of the fused logits for weights of flow from 0 to 1 in tenths; of RGB it is the rest. Raises DatasetError."""
    if len(scores.logits) < len(STREAMS):
        raise DatasetError(f"nothing to fuse: {option('sweep_fusion')}: got one stream, expected the scores of both")
    return [(w / 10, assess(scores, weights=(1 - w / 10, w / 10)).measured[FUSED]) for w in range(11)]


def evaluation_table(evaluation: Evaluation) -> str:
    """Lines for people: a row for each stream and for both, with 95 % intervals, and whether fusion helps."""
    findings = evaluation.findings
    count = n_of(len(evaluation.scores.paths), evaluation.total)
    if evaluation.scores.labels is not None and evaluation.scores.labels.ndim == 2:
        rows = [(NAMES[key], f"{m.map:.4f}", count) for key, m in findings.measured.items() if isinstance(m, MultiLabelMetrics)]
        return columns([("", "mAP", "n"), *rows])
    header = ("", "top-1", "95 %", "top-5", "95 %", "mean-class", "n")
    single = [(NAMES[key], m) for key, m in findings.measured.items() if isinstance(m, Metrics)]
    table = [
        (name, *with_interval(m.top1, m.top1_interval), *with_interval(m.top5, m.top5_interval), f"{m.mean_class:.4f}", count)
        for name, m in single
    ]
    return "\n".join([columns([header, *table]), *comparisons(findings)])


def comparisons(findings: Findings) -> list[str]:
    """Whether two-stream is better than the better stream, in a sentence; nothing where there is one stream."""
    if findings.comparison is None or findings.better is None:
        return []
    return [mcnemar_sentence(FUSED, findings.better, findings.comparison)]


def chosen_sentences(evaluation: Evaluation) -> list[str]:
    """What is to be said of weights that were chosen on what is scored, in a sentence for each stream where it is so."""
    n = len(evaluation.scores.paths)
    return [
        f"the {NAMES[stream]} weights were chosen on {number} of the {counted(n, 'video')} that are scored, as the best of "
        "their run, so that their accuracy is too high; score others, or the run's last.pt"
        for stream, number in evaluation.chosen_on.items()
        if number
    ]


def sweep_table(scores: Scores) -> str:
    """Lines for people: the fused accuracy by the weight of flow."""
    name = "mAP" if scores.labels is not None and scores.labels.ndim == 2 else "top-1"
    rows = [(f"{1 - w:.1f}", f"{w:.1f}", f"{m.top1 if isinstance(m, Metrics) else m.map:.4f}") for w, m in sweep(scores)]
    return columns([("rgb", "flow", name), *rows])


def means_over_splits(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """The mean over splits of what each stream reaches, with `n` videos of `total` in all of them."""
    measured = [evaluation.findings.measured for evaluation in evaluations]
    total = sum(evaluation.total for evaluation in evaluations)
    return {key: {**mean_over_splits([split[key] for split in measured]), "total": total} for key in measured[0]}


def mean_table(evaluations: Sequence[Evaluation]) -> str:
    """Lines for people: the mean over splits of what each stream reaches."""
    means = means_over_splits(evaluations)
    names = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class", "map": "mAP"}
    shown_names = [name for name in names if name in next(iter(means.values()))]
    rows = [
        (NAMES[key], *(f"{mean[name]:.4f}" for name in shown_names), n_of(int(mean["n"]), int(mean["total"])))
        for key, mean in means.items()
    ]
    return columns([("", *(names[name] for name in shown_names), "n"), *rows])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def n_of(n: int, total: int) -> str:
    """How many videos were scored, of how many unless of all."""
    return str(n) if n == total else f"{n} of {total}"


def with_interval(accuracy: float, bounds: tuple[float, float]) -> tuple[str, str]:
    return f"{accuracy:.4f}", f"{bounds[0]:.3f}–{bounds[1]:.3f}"
