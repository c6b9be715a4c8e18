"""A model and labelled videos → their logits, by any number of processes, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..data import FULL, Dataset, Protocol, Sample, numbered_classes, renumbered
from ..distributed import ALONE, Group
from ..errors import DatasetError
from ..flow import FlowFolder
from ..prediction import TwoStream, predict_videos
from ..scores import Scores
from ..text import command, counted, option, shown
from ..video import source_bytes
from .score_log import Logits, ScoreLog


@dataclass(frozen=True)
class Scoring:
    """How videos are scored.

    With an output folder `out`, each score is saved at once, and an interrupted run goes on where it stopped. A video that
    cannot be read is a failure, or with `strict` an error. `note` is called with lines for the user.
    """

    protocol: Protocol = FULL
    flow_dir: str | None = None
    any_flow: bool = False
    out: str | Path | None = None
    strict: bool = False
    group: Group = ALONE
    note: Callable[[str], None] = lambda text: None
    progress: bool = False

    def note_once(self, text: str) -> None:
        """Note, in the main process alone, what all processes of the group know."""
        if self.group.is_main_process:
            self.note(text)


@dataclass(frozen=True)
class ScoringFailure:
    """A video that could not be scored, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scored:
    """The scores of all videos that could be read, and the failures of the others."""

    scores: Scores
    failures: tuple[ScoringFailure, ...] = ()


def match_classes(
    dataset: Dataset, labels: tuple[str, ...], *, note: Callable[[str], None]
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples to score, with ids of the model's classes, `labels`; and the names of these classes.

    Classes are matched by name, or by position if the split or the model has only numbers. Raises DatasetError for a
    class that the model does not know.
    """
    samples, names = dataset.eval, dataset.classes
    unnamed = labels == numbered_classes(len(labels)) and not set(names) & set(labels)
    if dataset.has_names and not unnamed:
        matched = renumbered(samples, dataset, labels, where="the model's classes")
        if names != labels[: len(names)]:
            note("Note: the model lists its classes in another order than the split; they are matched by name")
        return matched, labels
    if len(names) > len(labels):
        raise DatasetError(
            f"too many classes: {dataset.summary}: got {len(names)} classes, the model knows {len(labels)}; "
            "give weights that were trained on them"
        )
    return samples, (names + labels[len(names) :] if unnamed else labels)


def score_samples(
    model: TwoStream,
    samples: Sequence[Sample],
    how: Scoring = Scoring(),
    *,
    classes: tuple[str, ...] | None = None,
    multi_label: bool = False,
) -> Scored:
    """The scores of `samples`, whose labels are the model's class ids; all processes of the group share the work.

    `classes` replaces the names of the model's classes. Raises VideoError, DatasetError and I3DError.
    """
    group, protocol = how.group, how.protocol
    stored = None
    if how.flow_dir is not None and "flow" in model.nets:
        stored = model.stored_flow(how.flow_dir, any_flow=how.any_flow)
    check_flow(stored, samples)
    log = None
    if how.out is not None:
        log = ScoreLog(Path(how.out), fingerprint(model, protocol, how.flow_dir), group, videos=fingerprint_of_videos(samples))
    paths = {shown(sample.path): sample.path for sample in samples}

    def size_of(video: str) -> int | None:
        with suppress(KeyError, OSError):
            return source_bytes(paths[video])
        return None

    kept = merged(group.gather({} if log is None else log.read(size_of)))  # no process writes before all have read
    todo = [sample for sample in samples if shown(sample.path) not in kept]
    new: dict[str, Logits] = {}
    failures = []
    shows = how.progress and group.is_main_process
    bar = tqdm(total=len(samples), initial=len(samples) - len(todo), unit="video", disable=None if shows else True)
    mine = todo[group.rank :: group.size]
    open_views = partial(model.views, protocol=protocol)
    with bar, log or nullcontext(), closing(predict_videos(model, mine, open_views=open_views, flow=stored)) as outcomes:
        for outcome in outcomes:
            if outcome.note is not None:
                how.note(f"Note: {outcome.note}")
                continue
            assert outcome.video is not None
            path = shown(outcome.video.path)
            if outcome.error is not None:
                if how.strict:
                    raise outcome.error
                how.note(f"Error: {outcome.error}")
                failures.append(ScoringFailure(path, str(outcome.error)))
            elif outcome.prediction is not None:
                new[path] = {stream: logits.numpy() for stream, logits in outcome.prediction.stream_logits.items()}
                if log is not None:
                    log.add(path, new[path], size=size_of(path))
            bar.update(min(group.size, len(samples) - bar.n))  # the other processes are as far
    logits = kept | merged(group.gather(new))
    failed = {failure.path: failure for part in group.gather(failures) for failure in part}
    failures = [failed[path] for path in map(shown, (sample.path for sample in samples)) if path in failed]
    if len(failures) == len(samples):
        raise DatasetError(f"nothing could be scored: {counted(len(failures), 'video')}: the first said: {failures[0].reason}")
    return Scored(scores_of_samples(samples, logits, classes or model.classes, multi_label=multi_label), tuple(failures))


def merged(parts: Iterable[Mapping[str, Logits]]) -> dict[str, Logits]:
    """The logits of all processes as one dict."""
    return {video: logits for part in parts for video, logits in part.items()}


def check_flow(stored: FlowFolder | None, samples: Sequence[Sample]) -> None:
    """Raise DatasetError if stored flow is to be read but there is none of any sample."""
    if stored is not None and not any(stored.holds(sample.key, sample.path) for sample in samples):
        raise DatasetError(
            f"no flow: {shown(stored.path)}: none of the {len(samples)} videos has any there, that of the first would be in "
            f"{shown(samples[0].key)}; make it with {command('extract-flow')}, or leave {option('flow_dir')} out"
        )


def scores_of_samples(
    samples: Sequence[Sample], logits: Mapping[str, Logits], classes: tuple[str, ...], *, multi_label: bool
) -> Scores:
    """The scores of all samples that have logits, in the order of the samples."""
    scored = [sample for sample in samples if shown(sample.path) in logits]
    rows = [logits[shown(sample.path)] for sample in scored]
    labels = np.array([sample.labels[0] for sample in scored]) if not multi_label else multi_hot(scored, len(classes))
    streams = {stream: np.stack([row[stream] for row in rows]) for stream in rows[0]}
    return Scores(tuple(shown(sample.path) for sample in scored), classes, streams, labels.astype(np.int64))


def multi_hot(samples: Sequence[Sample], num_classes: int) -> NDArray[np.int64]:
    """Labels as zeros and ones, (V,K)."""
    table = np.zeros((len(samples), num_classes), np.int64)
    for row, sample in zip(table, samples, strict=True):
        row[list(sample.labels)] = 1
    return table


def fingerprint(model: TwoStream, protocol: Protocol, flow_dir: str | None) -> str:
    """A hash of what decides the scores of a video: weights, classes, protocol, and the folder of stored flow."""
    seen = {name: getattr(protocol, name) for name in ("clips", "crops", "max_frames")}  # as logs of all versions have it
    digest = hashlib.sha256(json.dumps([seen, flow_dir, model.classes]).encode())
    for stream, net in model.nets.items():
        digest.update(json.dumps([stream, asdict(net.preprocessing)]).encode())
        for tensor in net.state_dict().values():
            digest.update(as_bytes(tensor))
    return digest.hexdigest()


def fingerprint_of_videos(samples: Sequence[Sample]) -> str:
    """A hash of which videos are scored."""
    return hashlib.sha256("\0".join(sorted(shown(sample.path) for sample in samples)).encode()).hexdigest()


def as_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
