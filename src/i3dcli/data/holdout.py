"""Training videos → those to learn from and those to validate on, with all that was filmed at once on one side."""

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

FRACTION = 0.1  # of the training videos, where the source has no other part than a test list

UNLABELLED = -1  # in place of the classes of a video that shows none
GROUPS = (  # names of videos of which several are of one recording; the group tells it
    re.compile(r"(.+_g[0-9]+)_c[0-9]+"),  # UCF-101: v_<class>_g<recording>_c<clip>
    re.compile(r"(.+)_[fuhl]_(?:cm|nm)_np[0-9]+_(?:fr|ba|le|ri)_(?:goo|med|bad)_[0-9]+"),  # HMDB-51: <source>_<class>_<tags>
    re.compile(r"(.{11})_[0-9]{6}_[0-9]{6}"),  # Kinetics: <youtube id>_<start>_<end>
)


def for_training(
    dataset: Dataset, fraction: float | str | None, *, seed: int, note: Callable[[str], None] = lambda text: None
) -> Dataset:
    """What a run sees of a dataset: its validation part, or `fraction` of its training videos held out in place of one.

    A part that the source calls test is not looked at. Where `fraction` is None, a tenth is held out of a source with such
    a part, and nothing of one without. Raises DatasetError where nothing can be held out, though it was asked for.
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
    """Those to learn from and about `share` of each class to validate on, no group on both sides.

    Each class keeps a video on both sides, if it has more than one group. Which these are depends on names and `seed` alone.
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
        """Whether the classes of a group are nearer to their targets with it than without, all together."""
        gains = (abs(targets[c] - held[c]) - abs(targets[c] - held[c] - n) for c, n in count.items())
        return sum(gains) > 0

    take(order, nears)
    take(sorted(order, key=lambda name: len(groups[name])), lambda count: any(held[label] == 0 for label in count))
    train = tuple(sample for sample, name in zip(samples, names, strict=True) if name not in chosen)
    return train, tuple(sample for sample, name in zip(samples, names, strict=True) if name in chosen)


def classes_of(sample: Sample) -> set[int]:
    return set(sample.labels) or {UNLABELLED}


def group_of(sample: Sample) -> str:
    """What videos of one recording share: the part of UCF-101's, HMDB-51's and Kinetics' names that tells it, else the video.

    Of HMDB-51's the name of the class, which is that of the folder, is left out, as one film is in several.
    """
    matches = (pattern.fullmatch(sample.key.name) for pattern in GROUPS)
    match = next((match for match in matches if match is not None), None)
    return str(sample.key) if match is None else match[1].removesuffix(f"_{sample.path.parent.name}")
