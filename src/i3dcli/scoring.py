"""A model and labelled videos → their logits, by any number of processes, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .datasets import Dataset, Sample, renumbered
from .distributed import ALONE, Group
from .errors import DatasetError, VideoError, shown
from .flow.storage import FlowReader, find_flow
from .flow.threads import ahead
from .lists import numbered_classes
from .score_log import Logits, ScoreLog
from .scores import Scores
from .two_stream import Tally, TwoStream
from .views import FULL, Clips, Protocol


@dataclass(frozen=True)
class Failure:
    """A video that could not be scored, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scored:
    """The scores of all videos that could be read, and the others."""

    scores: Scores
    failures: tuple[Failure, ...] = ()

    @property
    def total(self) -> int:
        return len(self.scores.paths) + len(self.failures)


def test_part(dataset: Dataset) -> tuple[Sample, ...]:
    """The samples to score: the test part, or all of a source that has one part only."""
    return dataset.test or dataset.train


def match_classes(dataset: Dataset, labels: Sequence[str], *, note: Callable[[str], None]) -> tuple[Sample, ...]:
    """The samples to score with the model's class ids, matched by name. Raises DatasetError for a class it does not know."""
    samples = test_part(dataset)
    if tuple(labels) == numbered_classes(len(labels)) or dataset.classes == tuple(labels):
        if len(dataset.classes) > len(labels):
            raise DatasetError(
                f"too many classes: {dataset.summary}: got {len(dataset.classes)} classes, the model knows {len(labels)}; "
                "give weights that were trained on them"
            )
        return samples
    matched = renumbered(samples, dataset, tuple(labels), where="the model's classes")
    if [sample.labels for sample in matched] != [sample.labels for sample in samples]:
        note("Note: the model lists its classes in another order than the split; they are matched by name")
    return matched


def score_samples(
    model: TwoStream,
    samples: Sequence[Sample],
    *,
    multi_label: bool = False,
    protocol: Protocol = FULL,
    flow_dir: str | None = None,
    out: str | Path | None = None,
    strict: bool = False,
    group: Group = ALONE,
    note: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> Scored:
    """Score `samples`, whose labels are the model's class ids, in all processes of a group; the result is on each of them.

    With an output folder, scores are kept as they come, and a run that was interrupted goes on where it stopped. A video
    that cannot be read is a failure, or with `strict` an error. Raises VideoError, DatasetError and I3DError.
    """
    log = None if out is None else ScoreLog(Path(out), fingerprint(model, protocol, flow_dir), group)
    done = {} if log is None else log.read()
    todo = [sample for i, sample in enumerate(samples) if i % group.size == group.rank and shown(sample.path) not in done]
    failures = []
    bar = tqdm(total=len(samples), initial=len(done), unit="video", disable=None if progress and group.first else True)
    with bar, log or nullcontext():
        for sample, outcome in outcomes(model, todo, protocol=protocol, flow_dir=flow_dir):
            if isinstance(outcome, VideoError):
                if strict:
                    raise outcome
                note(f"Error: {outcome}")
                failures.append(Failure(shown(sample.path), str(outcome)))
            else:
                done[shown(sample.path)] = outcome
                if log is not None:
                    log.add(shown(sample.path), outcome)
            bar.update(group.size)
    everyones: dict[str, Logits] = {}
    for part in group.gather(done):
        everyones |= part
    failed = [failure for part in group.gather(failures) for failure in part]
    if not everyones:
        raise DatasetError(f"nothing could be scored: {len(failed)} videos: the first said: {failed[0].reason}")
    return Scored(as_scores(samples, everyones, model, multi_label=multi_label), tuple(failed))


def outcomes(
    model: TwoStream, samples: Iterable[Sample], *, protocol: Protocol, flow_dir: str | None
) -> Iterator[tuple[Sample, Logits | VideoError]]:
    """The logits of each sample, or why there are none; a thread reads ahead, also into the next video."""
    tallies: dict[str, Tally] = {}
    for sample, event in ahead(events(model, samples, protocol=protocol, flow_dir=flow_dir)):
        if isinstance(event, VideoError):
            tallies = {}
            yield sample, event
        elif event is None:
            yield sample, {stream: tally.logits().numpy() for stream, tally in tallies.items()}
            tallies = {}
        else:
            tallies = tallies or {stream: Tally() for stream in model.nets}
            model.add(tallies, event)


def events(
    model: TwoStream, samples: Iterable[Sample], *, protocol: Protocol, flow_dir: str | None
) -> Iterator[tuple[Sample, Clips | VideoError | None]]:
    """The inputs of each sample, one after the other, and then None, or an error."""
    for sample in samples:
        try:
            stored = flow_dir is not None and "flow" in model.nets
            flow = FlowReader(find_flow(str(flow_dir), sample.key)) if stored else None
            if flow is not None and (differing := flow.mismatches(model.nets["flow"].preprocessing)):
                raise DatasetError(
                    f"flow of another making: {shown(flow.folder)}: {'; '.join(differing)}; extract it as the weights want it"
                )
            for _, clips in model.views(sample.path, protocol=protocol, flow=flow):
                yield sample, clips
            yield sample, None
        except VideoError as error:
            yield sample, error


def as_scores(samples: Sequence[Sample], logits: Mapping[str, Logits], model: TwoStream, *, multi_label: bool) -> Scores:
    """What was scored, in the order of the samples."""
    scored = [sample for sample in samples if shown(sample.path) in logits]
    rows = [logits[shown(sample.path)] for sample in scored]
    labels = np.array([sample.labels[0] for sample in scored]) if not multi_label else multi_hot(scored, len(model.labels))
    streams = {stream: np.stack([row[stream] for row in rows]) for stream in model.nets}
    return Scores(tuple(shown(sample.path) for sample in scored), model.labels, streams, labels.astype(np.int64))


def multi_hot(samples: Sequence[Sample], num_classes: int) -> NDArray[np.int64]:
    """Zeros and ones, (V,K)."""
    table = np.zeros((len(samples), num_classes), np.int64)
    for row, sample in zip(table, samples, strict=True):
        row[list(sample.labels)] = 1
    return table


def fingerprint(model: TwoStream, protocol: Protocol, flow_dir: str | None) -> str:
    """What decides the scores of a video, in one word: weights, classes, protocol, and the folder of stored flow."""
    digest = hashlib.sha256(json.dumps([asdict(protocol), flow_dir, model.labels]).encode())
    for stream, net in model.nets.items():
        digest.update(json.dumps([stream, asdict(net.preprocessing)]).encode())
        for tensor in net.state_dict().values():
            digest.update(as_bytes(tensor))
    return digest.hexdigest()


def as_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
