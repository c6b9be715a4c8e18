"""`i3d eval`: a split → scores of each stream → accuracies of RGB, flow and two-stream, and a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .datasets import Dataset, Sample, load_dataset
from .defaults import FLOW_BOUND, STREAMS
from .distributed import ALONE, Group, process_group
from .errors import DatasetError, VideoError, shown
from .files import make_folder
from .flow import flow_stream
from .flow.storage import flow_picture, jpeg
from .lists import read_class_names
from .metrics import (
    Metrics,
    MultiLabelMetrics,
    Paired,
    average_precision,
    class_accuracy,
    confusion,
    fuse,
    mcnemar,
    mean_over_splits,
    measure,
    measure_multi_label,
    rank,
)
from .report import (
    NAMES,
    Mistake,
    Report,
    mcnemar_sentence,
    write_confusion,
    write_per_class,
    write_report,
    write_text,
)
from .scores import Scores, join, read_scores, write_scores
from .scoring import Failure, match_classes, score_samples, scored_part
from .two_stream import TwoStream, choose_device, load_model
from .video import Video
from .views import FULL, Protocol

Measured = Metrics | MultiLabelMetrics
FUSED = "two_stream"
CLIPS = 10  # per video, of --protocol clips
MISTAKES = 24  # shown in the report
THUMBNAIL = 128  # pixels, the shorter side


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
    """The scores of a split's videos, what they are worth, and the videos that could not be read."""

    scores: Scores
    findings: Findings
    failures: tuple[Failure, ...] = ()

    @property
    def total(self) -> int:
        return len(self.scores.paths) + len(self.failures)


def evaluate(
    model: TwoStream,
    dataset: Dataset,
    *,
    protocol: Protocol = FULL,
    flow_dir: str | None = None,
    weights: tuple[float, float] = (1, 1),
    out: str | Path | None = None,
    strict: bool = False,
    group: Group = ALONE,
    note: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> Evaluation:
    """Score the test part of a dataset, or all of one that has no parts, and measure it; see `score_samples`.

    `weights` are those of RGB and flow in the mean of their logits.
    """
    samples, classes = match_classes(dataset, model.labels, note=note if group.first else lambda text: None)
    scored = score_samples(
        model,
        samples,
        classes=classes,
        multi_label=dataset.multi_label,
        protocol=protocol,
        flow_dir=flow_dir,
        out=out,
        strict=strict,
        group=group,
        note=note,
        progress=progress,
    )
    return Evaluation(scored.scores, assess(scored.scores, weights=weights), scored.failures)


@dataclass(frozen=True)
class EvalOptions:
    """What to score, with what, and how; `{split}` in a path stands for the number of the split."""

    source: str | None
    model: str | None = None
    rgb: str | None = None
    flow: str | None = None
    stream: str | None = None
    flow_dir: str | None = None
    protocol: str = "full"
    max_frames: int | None = None
    clips: int | None = None
    crops: int = 1
    format: str = "auto"
    split: tuple[int, ...] = (1,)
    root: str | None = None
    classes: str | None = None
    first_label: int | None = None
    scores: tuple[str, ...] = ()
    fusion_weights: tuple[float, float] = (1, 1)
    out: str | None = None
    strict: bool = False
    device: str = "auto"

    def views(self) -> Protocol:
        return Protocol(max_frames=self.max_frames) if self.protocol == "full" else Protocol(self.clips or CLIPS, self.crops)

    def dataset(self, split: int) -> Dataset:
        """The split's videos. Raises DatasetError."""
        names = None if self.classes is None else read_class_names(Path(self.classes))
        return load_dataset(
            str(self.source), format=self.format, split=split, root=self.root, classes=names, first_label=self.first_label
        )


def evaluate_splits(
    options: EvalOptions, *, command: str, note: Callable[[str], None], progress: bool = False
) -> Iterator[tuple[int, Evaluation]]:
    """Each split's number and evaluation, its outputs written; in the first process of a group only. Raises I3DError."""
    if options.scores:
        saved = join([read_scores(path) for path in options.scores], options.scores)
        evaluation = Evaluation(saved, assess(saved, weights=options.fusion_weights))
        if options.out is not None:
            write_outputs(options.out, evaluation, command=command, protocol=None)
        yield options.split[0], evaluation
        return
    with process_group(choose_device(options.device)) as (group, device):
        for split in options.split:
            dataset = options.dataset(split)
            rgb, flow, flow_dir, out = (
                None if path is None else path.replace("{split}", str(split))
                for path in (options.rgb, options.flow, options.flow_dir, options.out)
            )
            streams = STREAMS if options.stream in (None, "both") else (str(options.stream),)
            paths = {stream: path for stream, path in (("rgb", rgb), ("flow", flow)) if stream in streams}
            model = load_model(options.model, **paths, streams=streams, device=device)
            if out is not None and len(options.split) > 1 and "{split}" not in str(options.out):
                out = str(Path(out) / f"split{split}")
            say = note if group.first else lambda text: None
            say(f"{dataset.summary}; {model.name}, {options.views()}, on {device}")
            evaluation = evaluate(
                model,
                dataset,
                protocol=options.views(),
                flow_dir=flow_dir,
                weights=options.fusion_weights,
                out=out,
                strict=options.strict,
                group=group,
                note=note,
                progress=progress,
            )
            if not group.first:
                continue
            if out is not None:
                write_outputs(out, evaluation, command=command, protocol=options.views(), samples=scored_part(dataset))
            yield split, evaluation


def assess(scores: Scores, *, weights: tuple[float, float] = (1, 1)) -> Findings:
    """Measure each stream and, where both are there, the weighted mean of their logits. Raises DatasetError without labels."""
    if scores.labels is None:
        raise DatasetError("scores without labels: nothing to compare them with; make them with i3d eval")
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
        logits[FUSED] = fuse(logits["rgb"], logits["flow"], weights)
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
        raise DatasetError("nothing to fuse: --sweep-fusion: got one stream, expected the scores of both")
    return [(w / 10, assess(scores, weights=(1 - w / 10, w / 10)).measured[FUSED]) for w in range(11)]


def as_table(evaluation: Evaluation) -> str:
    """Lines for people: a row for each stream and for both, with 95 % intervals, and whether fusion helps."""
    findings = evaluation.findings
    n = len(evaluation.scores.paths)
    count = str(n) if n == evaluation.total else f"{n} of {evaluation.total}"
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


def sweep_table(scores: Scores) -> str:
    """Lines for people: the fused accuracy by the weight of flow."""
    name = "mAP" if scores.labels is not None and scores.labels.ndim == 2 else "top-1"
    rows = [(f"{1 - w:.1f}", f"{w:.1f}", f"{m.top1 if isinstance(m, Metrics) else m.map:.4f}") for w, m in sweep(scores)]
    return columns([("rgb", "flow", name), *rows])


def mean_table(evaluations: Sequence[Evaluation]) -> str:
    """Lines for people: the mean over splits of what each stream reaches."""
    measured = [evaluation.findings.measured for evaluation in evaluations]
    means = {key: mean_over_splits([split[key] for split in measured]) for key in measured[0]}
    names = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class", "map": "mAP"}
    shown_names = [name for name in names if name in next(iter(means.values()))]
    rows = [(NAMES[key], *(f"{mean[name]:.4f}" for name in shown_names), f"{mean['n']:.0f}") for key, mean in means.items()]
    return columns([("", *(names[name] for name in shown_names), "n"), *rows])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def with_interval(accuracy: float, bounds: tuple[float, float]) -> tuple[str, str]:
    return f"{accuracy:.4f}", f"{bounds[0]:.3f}–{bounds[1]:.3f}"


def write_outputs(
    out: str | Path, evaluation: Evaluation, *, command: str, protocol: Protocol | None, samples: Sequence[Sample] = ()
) -> None:
    """Write metrics.json, scores.npz, per_class.csv, confusion.csv and report.html, which says what `command` made it.

    `samples` are those that were scored, of whose videos the report shows pictures; `protocol` is None for saved scores.
    """
    out = Path(out)
    make_folder(out)
    write_text(out / "metrics.json", json.dumps(as_metrics(evaluation), indent=1) + "\n")
    write_scores(out / "scores.npz", evaluation.scores)
    report = as_report(evaluation, command=command, protocol=protocol, samples=samples)
    write_per_class(out / "per_class.csv", report)
    if report.confusion is not None:
        write_confusion(out / "confusion.csv", report.classes, report.confusion)
    write_report(out / "report.html", report)


def as_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json holds: the metrics by stream, accuracies from 0 to 1, `n` videos of `total` that were asked for."""
    return {key: {**asdict(m), "total": evaluation.total} for key, m in evaluation.findings.measured.items()}


def as_report(evaluation: Evaluation, *, command: str, protocol: Protocol | None, samples: Sequence[Sample]) -> Report:
    """The content of report.html."""
    scores, findings = evaluation.scores, evaluation.findings
    assert scores.labels is not None
    labels, num_classes = scores.labels, len(scores.classes)
    if labels.ndim == 2:
        by_class = {key: average_precision(rows, labels) for key, rows in findings.logits.items()}
        counts, matrix = labels.sum(axis=0), None
    else:
        tables = {key: confusion(labels, rank(rows)[:, 0], num_classes) for key, rows in findings.logits.items()}
        by_class = {key: class_accuracy(table) for key, table in tables.items()}
        matrix = tables[list(tables)[-1]]
        counts = matrix.sum(axis=1)
    return Report(
        title=f"i3d eval: {len(scores.paths)} videos, {num_classes} classes",
        command=command,
        protocol="saved scores" if protocol is None else str(protocol),
        total=evaluation.total,
        measured=findings.measured,
        classes=scores.classes,
        class_counts=counts,
        class_scores=by_class,
        confusion=matrix,
        comparisons=comparisons(findings),
        agreement=findings.agreement,
        mistakes=[] if labels.ndim == 2 else worst_mistakes(scores, findings, {shown(s.path): s.path for s in samples}),
        unreadable=[(failure.path, failure.reason) for failure in evaluation.failures],
    )


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
    flow = next(flow_stream(frames, "dis"), None)
    return jpeg(frames[0][..., ::-1], 85), None if flow is None else jpeg(flow_picture(flow, FLOW_BOUND / 4)[..., ::-1], 85)
