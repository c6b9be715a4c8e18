"""How good scores are: accuracies with their uncertainty, confusions, average precision; only arrays.

Axes: V videos, K classes. Accuracies and precisions are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95  # of every interval


@dataclass(frozen=True)
class Metrics:
    """Accuracy of videos with one label each. Intervals are Wilson's, of 95% confidence.

    With K ≤ 5 classes `top5` is 1 whatever the scores. `mean_class` is the mean of the classes' own accuracies, over those
    that occur; `absent_classes` of the K `classes` do not.
    """

    n: int
    classes: int
    absent_classes: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top5_interval: tuple[float, float]
    mean_class: float


@dataclass(frozen=True)
class MultiLabelMetrics:
    """Mean average precision of videos with any number of labels, over the classes that occur."""

    n: int
    classes: int
    absent_classes: int
    map: float


@dataclass(frozen=True)
class Paired:
    """How many videos two classifiers, a and b, got right, and McNemar's p-value that they are equally good."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def fuse(rgb: ArrayLike, flow: ArrayLike, weights: tuple[float, float] = (1, 1)) -> NDArray[Any]:
    """The weighted mean of both streams' logits, (V,K); paper, section 2.4. Never of probabilities."""
    rgb, flow = checked_scores(rgb), checked_scores(flow)
    if rgb.shape != flow.shape:
        raise ValueError(f"expected logits of the same shape, got {rgb.shape = }, {flow.shape = }")
    if not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise ValueError(f"expected weights of at least 0 with a positive sum, got {weights = }")
    return (weights[0] * rgb + weights[1] * flow) / sum(weights)


def measure(logits: ArrayLike, labels: ArrayLike) -> Metrics:
    """The accuracy of logits (V,K) on labels (V,), which are class indices."""
    ranked = rank(logits)
    n, classes = ranked.shape
    labels = checked_labels(labels, n, classes)
    hits = ranked == labels[:, None]
    top1, top5 = (int(hits[:, :k].sum()) for k in (1, 5))
    by_class = class_accuracy(confusion(labels, ranked[:, 0], classes))
    return Metrics(
        n=n,
        classes=classes,
        absent_classes=int(np.isnan(by_class).sum()),
        top1=top1 / n,
        top1_interval=wilson(top1, n),
        top5=top5 / n,
        top5_interval=wilson(top5, n),
        mean_class=float(np.nanmean(by_class)),
    )


def measure_multi_label(scores: ArrayLike, targets: ArrayLike) -> MultiLabelMetrics:
    """The mean average precision of scores (V,K), logits or probabilities, on targets (V,K) of bool or 0 and 1."""
    by_class = average_precision(scores, targets)
    absent = int(np.isnan(by_class).sum())
    if absent == len(by_class):
        raise ValueError("no target is set: average precision needs at least one class that occurs")
    return MultiLabelMetrics(
        n=len(np.asarray(scores)), classes=len(by_class), absent_classes=absent, map=float(np.nanmean(by_class))
    )


def mean_over_splits(measured: Sequence[Metrics | MultiLabelMetrics]) -> dict[str, float]:
    """The plain mean of each accuracy over splits, by its name, with `n` summed over the `splits`; no intervals."""
    if not measured:
        raise ValueError("expected at least one split")
    rows = [asdict(metrics) for metrics in measured]
    means = {key: fmean(row[key] for row in rows) for key, value in rows[0].items() if isinstance(value, float)}
    return {"splits": len(rows), "n": sum(row["n"] for row in rows), **means}


def rank(logits: ArrayLike) -> NDArray[np.intp]:
    """Class indices (V,K), best first; of equal logits the higher index comes first, as in scikit-learn."""
    return np.argsort(checked_scores(logits), axis=1, kind="stable")[:, ::-1]


def confusion(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """How often each label (row) was predicted as each class (column), (K,K)."""
    labels = checked_labels(labels, len(np.asarray(labels)), num_classes)
    predictions = checked_labels(predictions, len(labels), num_classes)
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_accuracy(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each class's own accuracy, (K,), from a confusion matrix; NaN for classes that do not occur."""
    counts = matrix.sum(axis=1)
    return np.where(counts > 0, np.diag(matrix) / np.maximum(counts, 1), np.nan)


def average_precision(scores: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Each class's average precision, (K,): the precision at each recall step, not interpolated; NaN for absent classes.

    Videos of equal score count together, as in scikit-learn.
    """
    scores, targets = checked_scores(scores), np.asarray(targets)
    if targets.shape != scores.shape or not np.isin(targets, (0, 1)).all():
        raise ValueError(f"expected targets of 0 and 1 like the scores, got {targets.shape = }, {scores.shape = }")
    order = np.argsort(-scores, axis=0, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(targets.astype(np.int64), order, axis=0).cumsum(axis=0)
    last = np.ones(scores.shape, bool)  # of its run of equal scores
    last[:-1] = ordered[:-1] != ordered[1:]
    precision = hits / np.arange(1, len(scores) + 1)[:, None]
    by_class = np.full(scores.shape[1], np.nan)
    for k in np.flatnonzero(hits[-1]):
        found, at = hits[last[:, k], k], precision[last[:, k], k]
        by_class[k] = np.diff(found, prepend=0) @ at / found[-1]
    return by_class


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> Paired:
    """The exact two-sided test (binomial) of what two classifiers got right, (V,) bool each, of the same videos."""
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.dtype != bool or b.dtype != bool:
        raise ValueError(f"expected two bool arrays (V,), got {a.shape = }, {b.shape = }, {a.dtype = }, {b.dtype = }")
    both, only_a, only_b, neither = (int(np.sum(x & y)) for x, y in ((a, b), (a, ~b), (~a, b), (~a, ~b)))
    n, fewer = only_a + only_b, min(only_a, only_b)
    ways = tail = 1  # of choosing `fewer` or less of n, in whole numbers, which do not underflow
    for i in range(fewer):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    return Paired(both, only_a, only_b, neither, min(1.0, 2 * tail / 2**n))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's interval, of 95% confidence, of a proportion; J. Am. Stat. Assoc. 22 (1927) 209."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes = }, {n = }")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def checked_scores(scores: ArrayLike) -> NDArray[Any]:
    """Scores as an array (V,K) of finite numbers, V and K at least 1; ValueError otherwise."""
    array = np.asarray(scores)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"expected scores (V,K), got {array.shape = }")
    if not np.isfinite(array).all():
        raise ValueError(
            f"expected finite scores, got NaN or infinity for {int((~np.isfinite(array)).any(axis=1).sum())} videos"
        )
    return array


def checked_labels(labels: ArrayLike, n: int, num_classes: int) -> NDArray[np.int64]:
    """Class indices as an array (V,) of int64, V = `n`; ValueError otherwise."""
    array = np.asarray(labels)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"expected {n} class indices, got {array.shape = }, {array.dtype = }")
    if array.size and not 0 <= array.min() <= array.max() < num_classes:
        raise ValueError(f"expected class indices below {num_classes = }, got {array.min()} to {array.max()}")
    return array.astype(np.int64)
