"""The verb behind `i3d eval`: a split → scores of each stream → findings → files and a report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..class_names import read_classes
from ..data import Dataset, Protocol, Sample, count_chosen, load_dataset, report_absent, report_missing, scored_part
from ..defaults import TEST_CLIPS
from ..distributed import ALONE, choose_device, process_group
from ..files import check_writable, make_folder, write_text
from ..metrics import average_precision, class_accuracy, confusion, rank
from ..prediction import TwoStream, load_model
from ..scores import join, read_scores, write_scores
from ..text import counted, json_text, shown
from .findings import Evaluation, assess, chosen_sentences, comparisons, means_over_splits
from .mistakes import worst_mistakes
from .report import Report, write_confusion, write_per_class, write_report
from .result_folder import RESULTS, result_folders
from .score_log import METRICS
from .scoring import Scoring, match_classes, score_samples


def evaluate_model(
    model: TwoStream, dataset: Dataset, how: Scoring = Scoring(), *, weights: tuple[float, float] = (1, 1)
) -> Evaluation:
    """Score the test part of a dataset, or all of one that has no parts, and measure it.

    `weights` are those of RGB and flow in the mean of their logits. Raises what `score_samples` does.
    """
    dataset = scored_part(dataset)
    samples, classes = match_classes(dataset, model.classes, note=how.note_once)
    report_absent(samples, classes, how.note_once)
    scored = score_samples(model, samples, how, classes=classes, multi_label=dataset.multi_label)
    read = {*scored.scores.paths}
    paths = [sample.path for sample in samples if shown(sample.path) in read] if how.group.is_main_process else []
    chosen_on = {stream: count_chosen(net.chosen_on, paths) for stream, net in model.nets.items()}
    evaluation = Evaluation(scored.scores, assess(scored.scores, weights=weights), scored.failures, dataset.missing, chosen_on)
    for text in chosen_sentences(evaluation):
        how.note_once(f"Note: {text}")
    return evaluation


PROTOCOLS = ("full", "clips")


@dataclass(frozen=True)
class EvalOptions:
    """What to score, with what, and how; `{split}` in a path stands for the number of the split."""

    source: str | None
    model: str | None = None
    rgb: str | None = None
    flow: str | None = None
    streams: tuple[str, ...] | None = None  # None: those that there are weights for
    flow_dir: str | None = None
    any_flow: bool = False
    protocol: str = "full"
    max_frames: int | None = None
    clips: int | None = None
    crops: int | None = None
    format: str = "auto"
    split: tuple[int, ...] = (1,)
    root: str | None = None
    classes: str | None = None
    first_label: int | None = None
    scores: tuple[str, ...] = ()
    fusion_weights: tuple[float, float] = (1, 1)
    out: str | None = None
    overwrite: bool = False
    strict: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        wrong = {
            "protocol": self.protocol not in PROTOCOLS,
            "clips": self.protocol == "full" and bool(self.clips or self.crops),
            "max_frames": self.max_frames is not None and (self.protocol == "clips" or self.max_frames < 1),
            "fusion_weights": len(self.fusion_weights) != 2,
            "scores": isinstance(self.scores, str),
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ValueError(
                f"EvalOptions: {name} = {getattr(self, name)!r}: expected a protocol of {', '.join(PROTOCOLS)}, clips, "
                "crops with clips, max_frames with full, two fusion_weights, and a tuple of scores"
            )

    def views(self) -> Protocol:
        if self.protocol == "full":
            return Protocol(max_frames=self.max_frames)
        return Protocol(self.clips or TEST_CLIPS, self.crops or 1)

    def of_split(self, split: int) -> EvalOptions:
        """With the number in place of `{split}`; of several splits, each has an output folder of its own."""
        paths = {name: getattr(self, name) for name in ("rgb", "flow", "flow_dir", "out")}
        if self.out is not None and len(self.split) > 1 and "{split}" not in self.out:
            paths["out"] = str(Path(self.out) / "split{split}")
        return replace(self, **{name: path and path.replace("{split}", str(split)) for name, path in paths.items()})

    def dataset(self, split: int) -> Dataset:
        """The split's videos that are scored. Raises DatasetError."""
        names = None if self.classes is None else read_classes(self.classes)
        return scored_part(
            load_dataset(
                str(self.source), format=self.format, split=split, root=self.root, classes=names, first_label=self.first_label
            )
        )


def evaluate_splits(
    options: EvalOptions, *, command: str, note: Callable[[str], None], progress: bool = False
) -> Iterator[tuple[int, Evaluation]]:
    """Each split's number and evaluation, its outputs written; in the first process of a group only.

    What is wrong with any split's list or weights is found before hours go into the first. Raises I3DError.
    """
    if options.scores:
        yield options.split[0], evaluate_saved(options, command=command)
        return
    protocol = options.views()
    splits = [options.of_split(split) for split in options.split]
    folders = [Path(chosen.out) for chosen in splits if chosen.out is not None]
    with_mean = options.out is not None and len(splits) > 1 and "{split}" not in options.out
    if with_mean:
        folders.append(Path(str(options.out)))
    with process_group(choose_device(options.device)) as (group, device):
        datasets = [options.dataset(split) for split in options.split]
        load = functools.cache(functools.partial(load_model, options.model, streams=options.streams, device=device))
        models = [load(rgb=chosen.rgb, flow=chosen.flow) for chosen in splits]
        evaluations = []
        with result_folders(folders, group, resumable=True, overwrite=options.overwrite):
            check_inputs(splits)
            for split, chosen, dataset, model in zip(options.split, splits, datasets, models, strict=True):
                how = Scoring(
                    protocol=protocol,
                    flow_dir=chosen.flow_dir,
                    any_flow=options.any_flow,
                    out=chosen.out,
                    strict=options.strict,
                    group=group,
                    note=note,
                    progress=progress,
                )
                report_missing(dataset, how.note_once, strict=options.strict)
                how.note_once(f"{dataset.summary}; {shown(model.name)}, {protocol}, on {device}")
                evaluation = evaluate_model(model, dataset, how, weights=options.fusion_weights)
                if group.is_main_process:
                    if chosen.out is not None:
                        write_results(chosen.out, evaluation, command=command, protocol=protocol, samples=dataset.eval)
                    evaluations.append(evaluation)
                    yield split, evaluation
            if with_mean and evaluations:
                means = means_over_splits(evaluations)
                write_text(folders[-1] / METRICS, json_text(means))


def evaluate(
    source: str | Path | None = None,
    *,
    split: int = 1,
    command: str = "i3dcli.evaluate",
    note: Callable[[str], None] = lambda text: None,
    progress: bool = False,
    **options: Any,
) -> Evaluation | None:
    """Score checkpoints on the labelled videos that `source` names; what `i3d eval` does for one split.

    `options` are the fields of `EvalOptions`, called as the options of the command: `rgb="best.pt"`, `model="kinetics400"`,
    `protocol="clips"`, `out="results/"` … `command` is what report.html says that it was made by. `note` gets lines for people,
    `progress` shows a bar on stderr. Under torchrun, the other processes than the first get None. Raises DatasetError,
    CheckpointError, VideoError and I3DError.
    """
    given: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    chosen = EvalOptions(None if source is None else str(source), split=(split,), **given)
    weights = chosen.model or chosen.rgb or chosen.flow
    if bool(chosen.scores) == bool(weights) or bool(chosen.scores) == (source is not None):
        raise ValueError("expected source and the weights of model, rgb or flow, or else scores alone")
    found = [evaluation for _, evaluation in evaluate_splits(chosen, command=command, note=note, progress=progress)]
    return found[0] if found else None


def check_inputs(splits: Sequence[EvalOptions]) -> None:
    """Raise I3DError where results would be written over what they are made from."""
    for chosen in splits:
        inputs = [path for path in (chosen.source, chosen.rgb, chosen.flow, chosen.classes, *chosen.scores) if path is not None]
        for name in RESULTS if chosen.out is not None else ():
            check_writable(Path(str(chosen.out)) / name, others=inputs)


def evaluate_saved(options: EvalOptions, *, command: str) -> Evaluation:
    """The evaluation of saved scores, its outputs written. Raises I3DError."""
    saved = join([read_scores(path) for path in options.scores], options.scores)
    if options.out is not None:
        make_folder(Path(options.out))
        check_inputs([options])
    evaluation = Evaluation(saved, assess(saved, weights=options.fusion_weights))
    if options.out is not None:
        out = Path(options.out)
        with result_folders([out], ALONE, resumable=False, overwrite=options.overwrite):
            write_results(out, evaluation, command=command, protocol=None)
    return evaluation


def write_results(
    out: str | Path, evaluation: Evaluation, *, command: str, protocol: Protocol | None, samples: Sequence[Sample] = ()
) -> None:
    """Write metrics.json, scores.npz, per_class.csv, confusion.csv and report.html, which says what `command` made it.

    `samples` are those that were scored, of whose videos the report shows pictures; `protocol` is None for saved scores.
    """
    out = Path(out)
    make_folder(out)
    write_text(out / METRICS, json_text(as_metrics(evaluation)))
    write_scores(out / "scores.npz", evaluation.scores)
    report = as_report(evaluation, command=command, protocol=protocol, samples=samples)
    write_per_class(out / "per_class.csv", report)
    if report.confusion is not None:
        write_confusion(out / "confusion.csv", report.classes, report.confusion)
    write_report(out / "report.html", report)


def as_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json holds: the metrics by stream, accuracies from 0 to 1, `n` videos of `total` that were asked for.

    Where a stream's weights were chosen on some of the videos, `chosen_on` says on how many.
    """
    metrics = {key: {**asdict(m), "total": evaluation.total} for key, m in evaluation.findings.measured.items()}
    for stream, number in evaluation.chosen_on.items():
        metrics[stream] |= {"chosen_on": number} if number else {}
    return metrics


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
        title=f"i3d eval: {counted(len(scores.paths), 'video')}, {counted(num_classes, 'class')}",
        command=command,
        protocol="saved scores" if protocol is None else str(protocol),
        total=evaluation.total,
        measured=findings.measured,
        classes=scores.classes,
        class_counts=counts,
        class_accuracies=by_class,
        confusion=matrix,
        comparisons=[*chosen_sentences(evaluation), *comparisons(findings)],
        agreement=findings.agreement,
        mistakes=[] if labels.ndim == 2 else worst_mistakes(scores, findings, {shown(s.path): s.path for s in samples}),
        unreadable=[(failure.path, failure.reason) for failure in evaluation.failures],
        missing=len(evaluation.missing),
    )
