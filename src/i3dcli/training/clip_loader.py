"""Samples → batches of clips: which clip of which video is seen at which step, read by worker processes."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data import Sample, as_clip, centre_crop, cut, looped, mirrored, padded, random_crop, random_start
from ..errors import DatasetError, I3DError, VideoError
from ..flow import FlowFolder
from ..models import Preprocessing
from ..stopping import SIGNALS
from ..text import option, shown
from ..video import Video

MAX_TRIES = 32  # videos tried for one clip before giving up: so many unreadable ones in a row are no accident


ClipFrames = tuple[int, list[NDArray[Any]], str | None]  # where a clip begins, what it shows, what of the video is missing


class Draw(NamedTuple):
    """Which sample, and where in the endless stream of all epochs, which seeds what is random about its clip."""

    sample: int
    position: int


class ClipItem(NamedTuple):
    """One clip (C,T,H,W), uint8 RGB or float32 flow, or None; its target; what stood in the way; what its video lacks."""

    clip: Tensor | None
    target: Tensor
    path: Path
    errors: tuple[I3DError, ...]
    note: str | None = None


class Batch(NamedTuple):
    """Clips (N,C,T,H,W), targets (N,) int64 or (N,K) float32 of zeros and ones, the errors of unreadable videos, and what
    others lack."""

    clips: Tensor
    targets: Tensor
    paths: tuple[Path, ...]
    errors: tuple[I3DError, ...]
    notes: tuple[str, ...] = ()


class ClipSampler(Sampler[list[Draw]]):
    """The draws of batches `first` … `last` - 1 of one process.

    All processes together walk an endless stream of shuffled epochs, `batch_size` samples each at a time. Which sample
    stands at which place depends on nothing but the seed, so that a resumed run goes on anywhere.
    """

    def __init__(self, num_samples: int, *, batch_size: int, seed: int, first: int, last: int, rank: int = 0, size: int = 1):
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.batches, self.rank, self.size = range(first, last), rank, size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        shuffled = functools.lru_cache(maxsize=2)(self._shuffled)
        for batch in self.batches:
            start = (batch * self.size + self.rank) * self.batch_size
            places = [(position, divmod(position, self.num_samples)) for position in range(start, start + self.batch_size)]
            yield [Draw(int(shuffled(epoch)[place]), position) for position, (epoch, place) in places]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)


class ClipDataset(Dataset[ClipItem]):
    """One clip of each sample: at random when it is asked for a Draw, from the middle when asked for an index.

    A random clip starts anywhere that leaves enough frames, is cropped anywhere and mirrored half of the time, all of
    it in the same way; one in the middle is not mirrored. Short videos are looped. Paper, section 2.5. With `stored`
    the clips are of flow that extract-flow stored, else of RGB frames. A video that cannot be read is replaced by
    another one for a Draw, and leaves its item without a clip for an index.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        num_classes: int,
        multi_label: bool,
        stored: FlowFolder | None = None,
        seed: int = 0,
        flip: bool = True,
    ):
        self.samples, self.preprocessing = samples, preprocessing
        self.stored, self.input = stored, "rgb" if stored is None else "flow"
        self.num_classes, self.multi_label, self.seed, self.flip = num_classes, multi_label, seed, flip

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> ClipItem:
        if isinstance(draw, int):
            return self._first_readable([draw], None)
        rng = np.random.default_rng((self.seed, draw.sample, draw.position))
        others = rng.permutation(len(self.samples)) if len(self.samples) <= MAX_TRIES else rng.choice(len(self), MAX_TRIES)
        return self._first_readable([draw.sample, *others[others != draw.sample]], rng)

    def _first_readable(self, indices: Sequence[int], rng: np.random.Generator | None) -> ClipItem:
        errors: list[I3DError] = []
        for index in indices:
            sample = self.samples[index]
            try:
                clip, seconds, note = self._read(sample, rng)
                return ClipItem(clip, self._target(sample, seconds), sample.path, tuple(errors), note)
            except VideoError as error:
                errors.append(error)
            except DatasetError as error:
                errors.append(error)
                break
        if rng is not None and isinstance(errors[-1], VideoError):
            errors.append(DatasetError(f"no readable video: {len(indices)} tried: the first said: {errors[0]}"))
        return ClipItem(None, self._target(sample, (0.0, 0.0)), sample.path, tuple(errors))

    def _read(self, sample: Sample, rng: np.random.Generator | None) -> tuple[Tensor, tuple[float, float], str | None]:
        """A clip (C,T,H,W), the seconds of the video it shows, and what of the video is missing. Raises VideoError."""
        length, crop, fps = self.preprocessing.clip_len, self.preprocessing.crop, self.preprocessing.fps
        start, found, note = self._frames(sample, rng) if self.stored is None else self._flows(sample, rng, self.stored)
        height, width = found[0].shape[:2] if self.input == "rgb" else found[0].shape[1:]
        rows, columns = centre_crop(height, width, crop) if rng is None else random_crop(rng, height, width, crop)
        items = looped(cut(self.input, found, rows, columns), shortest=length)
        clip = as_clip(self.input, items, bound=self.preprocessing.flow_bound)
        if rng is not None and self.flip and rng.random() < 0.5:
            clip = mirrored(clip, input=self.input)
        return clip, (start / fps, (start + length) / fps), note

    def _start(self, rng: np.random.Generator | None, num_frames: int) -> int:
        """Where a clip begins."""
        length = self.preprocessing.clip_len
        return max(0, (num_frames - length) // 2) if rng is None else random_start(rng, num_frames, length)

    def _frames(self, sample: Sample, rng: np.random.Generator | None) -> ClipFrames:
        video, num_frames = probe(sample.path, self.preprocessing.fps, self.preprocessing.short_side)
        start = self._start(rng, num_frames)
        frames = video.read(start, self.preprocessing.clip_len)
        if not frames:  # the header claims more than there is
            start = self._start(rng, video.num_frames)
            frames = video.read(start, self.preprocessing.clip_len) or video.read(0, self.preprocessing.clip_len)
        return start, frames, video.loss()

    def _flows(self, sample: Sample, rng: np.random.Generator | None, stored: FlowFolder) -> ClipFrames:
        flow = stored.open(sample.key, sample.path)
        if not len(flow):
            raise VideoError(
                f"damaged flow: {shown(flow.folder)}: it holds none; extract it again with {option('overwrite', True)}"
            )
        start = self._start(rng, len(flow))
        flows = [flow[i] for i in range(start, min(start + self.preprocessing.clip_len, len(flow)))]
        return start, flows, next(iter(stored.notes(flow)), None)

    def _target(self, sample: Sample, seconds: tuple[float, float]) -> Tensor:
        """The class, or the classes whose spans overlap `seconds` as zeros and ones."""
        if not self.multi_label:
            return torch.tensor(sample.labels[0])
        spans = sample.spans or (seconds,) * len(sample.labels)
        shown_labels = [
            label for label, (a, b) in zip(sample.labels, spans, strict=True) if a <= seconds[1] and seconds[0] <= b
        ]
        return torch.zeros(self.num_classes).index_fill_(0, torch.tensor(shown_labels, dtype=torch.int64), 1.0)


@functools.lru_cache(maxsize=10_000)
def probe(path: Path, fps: float, short_side: int) -> tuple[Video, int]:
    """A video and the number of its frames, from its header where that says it. Raises VideoError."""
    video = Video(path, fps=fps, short_side=short_side)
    return video, video.estimated_frames or sum(1 for _ in video)


def collate(items: Sequence[ClipItem], *, crop: int) -> Batch:
    """Items with a clip as one batch, padded to `crop` x `crop` pixels unless there is but one; the errors of all."""
    good = [item for item in items if item.clip is not None]
    clips = [item.clip for item in good if item.clip is not None]
    if len(clips) > 1:
        clips = [padded(clip, crop) for clip in clips]
    return Batch(
        torch.stack(clips) if clips else torch.empty(0),
        torch.stack([item.target for item in good or items]),
        tuple(item.path for item in good),
        tuple(error for item in items for error in item.errors),
        tuple(item.note for item in items if item.note),
    )


def load_batches(
    dataset: ClipDataset, batches: Sampler[list[Draw]] | Sequence[list[int]], *, workers: int, pin_memory: bool = False
) -> DataLoader[ClipItem]:
    """The batches of a dataset, read ahead by `workers` processes, or by this one if there are none.

    With `pin_memory` they are where a CUDA device can fetch them while it computes.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=functools.partial(collate, crop=dataset.preprocessing.crop),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
    )


def end_workers(loader: DataLoader[ClipItem]) -> None:
    """End the processes of a loader, if it has any.

    They would end with the last reference to them, but a traceback may hold that until Python exits, which then asks
    them by a signal that they ignore.
    """
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def prepare_worker(worker: int) -> None:
    """One thread each, as there are many of them; signals to the whole group are for the process that started them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
