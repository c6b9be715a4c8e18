"""The clips of a run: which samples there are to learn from and to validate on, and their batches."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ..data import Dataset, Sample, labels_of, video_numbers
from ..distributed import Group, cores_per_process
from ..errors import DatasetError, VideoError
from ..flow import FlowFolder
from ..models import Preprocessing
from ..text import as_unicode, command, counted, option, shown
from .clip_loader import Batch, ClipDataset, ClipItem, ClipSampler, end_workers, load_batches
from .options import TrainOptions

Note = Callable[[str], None]


class RunData:
    """The clips of a run: which samples there are to learn from and to validate on, and their batches."""

    def __init__(
        self,
        dataset: Dataset,
        options: TrainOptions,
        preprocessing: Preprocessing,
        group: Group,
        *,
        device: torch.device,
        workers: int | None,
        note: Note,
    ):
        self.options, self.preprocessing, self.group, self.note = options, preprocessing, group, note
        self.device = device
        self.workers = min(8, cores_per_process() - 1) if workers is None else workers
        self.metric = "map" if dataset.multi_label else "top1"
        self.reported: set[str] = set()
        self.stored = None
        if options.flow_dir is not None:
            self.stored = FlowFolder(Path(options.flow_dir), preprocessing.flow, any_flow=options.any_flow)
        self.train, self.val = (self.with_input(part) for part in (dataset.train, dataset.eval))
        self.dataset = replace(dataset, train=self.train, eval=self.val)
        if not self.train:
            raise DatasetError(
                f"nothing to train on: {shown(options.train)}: {dataset.summary}; name a list of training videos"
            )
        self.check_classes(dataset)
        if self.stored is not None:  # how the flow of each part was made is seen before the first step
            for sample in (*self.train[:1], *self.val[:1]):
                with contextlib.suppress(VideoError):  # it is said when it is read
                    self.stored.open(sample.key, sample.path)
        self.clips_per_step = options.batch_size * options.accumulate * group.size
        self.steps_per_epoch = math.ceil(len(self.train) / self.clips_per_step)
        if options.schedule == "plateau" and not self.val:
            raise DatasetError(
                f"no validation: {option('schedule', 'plateau')}: {dataset.summary}; give {option('val')} or "
                f"{option('val_fraction')}, or another {option('schedule')}"
            )
        self.num_steps = options.steps or max(1, round(options.epochs * self.steps_per_epoch))
        self.loaders: list[DataLoader[ClipItem]] = []
        self.validation = self.validation_batches()

    def with_input(self, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        """The samples, of the flow stream those whose stored flow is there; the number of the others is said."""
        stored = self.stored
        if stored is None:
            return samples
        found = [stored.holds(sample.key, sample.path) for sample in samples]
        without = list(itertools.compress(samples, (not there for there in found)))
        if without:
            text = (
                f"no flow: {shown(stored.path)}: got none for {len(without)} of {len(samples)} videos, the first "
                f"{shown(without[0].path)}; make it with {command('extract-flow')}"
            )
            if self.options.strict or len(without) == len(samples):
                raise DatasetError(text)
            self.note(f"Note: {text}")
        there = tuple(itertools.compress(samples, found))
        if lacking := [sample for sample in there if stored.lost_frames(sample.key, sample.path)]:
            self.note(
                f"Note: flow of videos that lack frames: {shown(stored.path)}: got {len(lacking)} of {len(there)}, the first "
                f"{shown(lacking[0].path)}; copy or download them again"
            )
        return there

    def fingerprint(self) -> str:
        """Which videos, in which order and with which labels, are learnt from and validated on, in one word."""
        parts = [[(as_unicode(sample.key.as_posix()), sample.labels) for sample in part] for part in (self.train, self.val)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def check_classes(self, listed: Dataset) -> None:
        """Raise DatasetError where a class of the `listed` training videos is lost for want of flow, or there is but one."""
        there = labels_of(self.train)
        lost = sorted(labels_of(listed.train) - there)
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise DatasetError(
                f"no flow of a class: {shown(str(self.options.flow_dir))}: got none for any training video of "
                f"{shown(listed.classes[lost[0]])!r}{more}; make it with {command('extract-flow')}, or take the class out"
            )
        if not listed.multi_label and len(there) == 1:
            raise DatasetError(
                f"one class: {shown(self.options.train)}: got {shown(listed.classes[there.pop()])!r} for all "
                f"{counted(len(self.train), 'training video')}, expected two classes or more; add videos of another"
            )

    @functools.cached_property
    def chosen_on(self) -> frozenset[int]:
        """The numbers of the validation videos, which best.pt is chosen on; those of no other process than the first."""
        return video_numbers(sample.path for sample in self.val) if self.group.is_main_process else frozenset()

    def describe(self) -> str:
        """What a step and the run consist of, in words."""
        p, options = self.preprocessing, self.options
        parts = [counted(options.batch_size, "clip")]
        parts += [f"{options.accumulate} batches"] if options.accumulate > 1 else []
        parts += [f"{self.group.size} processes"] if self.group.size > 1 else []
        clip = f"{counted(p.clip_len, 'frame')} at {p.fps:g} fps, {p.crop} of {p.short_side} pixels"
        return f"{counted(self.num_steps, 'step')} of {' x '.join(parts)} of {clip}"

    def clips(self, samples: tuple[Sample, ...]) -> ClipDataset:
        return ClipDataset(
            samples,
            self.preprocessing,
            num_classes=len(self.dataset.classes),
            multi_label=self.dataset.multi_label,
            stored=self.stored,
            seed=self.options.seed,
            flip=self.options.flip,
        )

    def load(self, samples: tuple[Sample, ...], batches: ClipSampler | list[list[int]]) -> DataLoader[ClipItem]:
        loader = load_batches(self.clips(samples), batches, workers=self.workers, pin_memory=self.device.type == "cuda")
        self.loaders.append(loader)
        return loader

    def close(self) -> None:
        """End the processes that read videos."""
        for loader in self.loaders:
            end_workers(loader)

    def training_batches(self, first_step: int) -> DataLoader[ClipItem]:
        """The batches of this process from a step on, `accumulate` for each step."""
        options = self.options
        draws = ClipSampler(
            len(self.train),
            batch_size=options.batch_size,
            seed=options.seed,
            first=first_step * options.accumulate,
            last=self.num_steps * options.accumulate,
            rank=self.group.rank,
            size=self.group.size,
        )
        return self.load(self.train, draws)

    def validation_batches(self) -> DataLoader[ClipItem]:
        """This process's share of the validation videos."""
        mine = list(range(self.group.rank, len(self.val), self.group.size))
        size = self.options.batch_size
        return self.load(self.val, [mine[i : i + size] for i in range(0, len(mine), size)])

    def report(self, batch: Batch) -> None:
        """Say which videos could not be read, or not all of them, each once; raise what must not be passed over."""
        for error in batch.errors:
            if isinstance(error, DatasetError) or self.options.strict:
                raise error
            if str(error) not in self.reported:
                self.reported.add(str(error))
                self.note(f"Error: {error}")
        for note in batch.notes:
            if note not in self.reported:
                self.reported.add(note)
                self.note(f"Note: {note}")
