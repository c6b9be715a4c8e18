"""Training videos → samples to train on and samples to validate on, with each recording on one side."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..defaults import TEST_PART
from ..errors import DatasetError
from ..text import counted, option, shown
from .dataset import Dataset, Sample

FRACTION = 0.1  # of the training videos, if the only other part is a test part

UNLABELLED = -1  # stands for the class of a video without labels
GROUPS = (  # video names where several are of one recording; group 1 names it
    re.compile(r"(.+_g[0-9]+)_c[0-9]+"),  # UCF-101: v_<class>_g<recording>_c<clip>
    re.compile(r"(.+)_[fuhl]_(?:cm|nm)_np[0-9]+_(?:fr|ba|le|ri)_(?:goo|med|bad)_[0-9]+"),  # HMDB-51: <source>_<class>_<tags>
    re.compile(r"(.{11})_[0-9]{6}_[0-9]{6}"),  # Kinetics: <youtube id>_<start>_<end>
)


def for_training(
    dataset: Dataset, fraction: float | str | None, *, seed: int, note: Callable[[str], None] = lambda text: None
) -> Dataset:
    """The dataset that a run uses: with its validation part, or with `fraction` of its training videos held out instead.

    A part that the source calls test is not used, unless `fraction` is TEST_PART, as in old runs. If `fraction` is None, a
    tenth is held out where there is such a part, else nothing. Raises DatasetError if a given share cannot be held out.
    """
    has_test = bool(dataset.eval) and dataset.eval_part == "test"
    if fraction == TEST_PART or (fraction is None and not has_test):
        return dataset
    share = FRACTION if fraction is None else float(fraction)
    train, val = hold_out(dataset.train, share, seed=seed) if share else (dataset.train, ())
    if share and not val:
        got = f"{counted(len(dataset.train), 'training video')} of {dataset.format}: each class has one recording only"
        if fraction is not None:
            raise DatasetError(
                f"nothing to hold out: {option('val_fraction', share)}: got {got}; leave it out, or give {option('val')}"
            )
        note(f"Note: no validation, as nothing can be held out: {got}")
    notes = ["val held out of train"] * bool(val) + ["test part not looked at"] * has_test
    return replace(dataset, train=train, eval=val, eval_part="val", missing_eval=(), notes=(*dataset.notes, *notes))


def hold_out(samples: Sequence[Sample], share: float, *, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Samples to train on, and about `share` of each class to validate on; no group is on both sides.

    A class with more than one group has videos on both sides. The choice depends on names and `seed` alone.
    """
    groups: dict[str, list[Sample]] = {}
    names = [group_of(sample) for sample in samples]
    for sample, name in zip(samples, names, strict=True):
        groups.setdefault(name, []).append(sample)
    counts = {name: Counter(label for sample in group for label in classes_of(sample)) for name, group in groups.items()}
    totals = Counter(label for sample in samples for label in classes_of(sample))
    targets = {label: max(1, round(share * total)) for label, total in totals.items()}
    held, chosen = Counter[int](), set[str]()
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {shown(name)}".encode()).digest())

    def take(names: Iterable[str], wanted: Callable[[Counter[int]], bool]) -> None:
        for name in names:
            count = counts[name]
            leaves_some = all(totals[label] - held[label] > n or label == UNLABELLED for label, n in count.items())
            if name not in chosen and leaves_some and wanted(count):
                chosen.add(name)
                held.update(count)

    def nears(count: Counter[int]) -> bool:
        """True if a group brings its classes, taken together, nearer to their targets."""
        gains = (abs(targets[c] - held[c]) - abs(targets[c] - held[c] - n) for c, n in count.items())
        return sum(gains) > 0

    take(order, nears)
    take(sorted(order, key=lambda name: len(groups[name])), lambda count: any(held[label] == 0 for label in count))
    train = tuple(sample for sample, name in zip(samples, names, strict=True) if name not in chosen)
    return train, tuple(sample for sample, name in zip(samples, names, strict=True) if name in chosen)


def classes_of(sample: Sample) -> set[int]:
    return set(sample.labels) or {UNLABELLED}


def group_of(sample: Sample) -> str:
    """The recording of a video, from its name in UCF-101, HMDB-51 or Kinetics; any other video is its own recording.

    The class (the folder's name) is cut from names of HMDB-51, as one film is in several classes.
    """
    matches = (pattern.fullmatch(sample.key.name) for pattern in GROUPS)
    match = next((match for match in matches if match is not None), None)
    return str(sample.key) if match is None else match[1].removesuffix(f"_{sample.path.parent.name}")
