"""Our numbers against scikit-learn's and SciPy's."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from i3dcli.metrics import (
    average_precision,
    class_accuracy,
    confusion,
    fuse,
    mcnemar,
    mean_over_splits,
    measure,
    measure_multi_label,
    rank,
    wilson,
)


def table(seed):
    """Random scores (V,K) with many ties, and labels that leave classes out."""
    rng = np.random.default_rng(seed)
    videos, classes = rng.integers(2, 25), rng.integers(2, 9)
    scores = rng.integers(-3, 4, (videos, classes)) / 2
    return rng, scores, rng.choice(rng.permutation(classes)[: rng.integers(1, classes + 1)], videos)


def reference_top_k(labels, scores, k):
    """scikit-learn's, which takes other rules for two classes; a third that is never chosen prevents it."""
    padded = np.column_stack([np.full(len(scores), -1e9), scores])
    return sklearn.metrics.top_k_accuracy_score(labels + 1, padded, k=k, labels=range(padded.shape[1]))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_accuracies_equal_those_of_scikit_learn():
    for seed in range(300):
        _, scores, labels = table(seed)
        ours, classes = measure(scores, labels), scores.shape[1]
        assert ours.top1 == pytest.approx(reference_top_k(labels, scores, 1), abs=1e-12)
        assert ours.top5 == pytest.approx(reference_top_k(labels, scores, min(5, classes)), abs=1e-12)
        assert classes > 5 or ours.top5 == 1
        reference = sklearn.metrics.balanced_accuracy_score(labels, rank(scores)[:, 0])
        assert ours.mean_class == pytest.approx(reference, abs=1e-12)
        assert (ours.n, ours.classes, ours.absent_classes) == (*scores.shape, classes - len(set(labels)))


def test_average_precision_equals_that_of_scikit_learn():
    for seed in range(300):
        rng, scores, _ = table(seed)
        targets = rng.random(scores.shape) < rng.choice([0.02, 0.2, 0.9])
        present = targets.any(axis=0)
        ours = average_precision(scores, targets)
        assert np.array_equal(np.isnan(ours), ~present)
        if present.any():
            reference = sklearn.metrics.average_precision_score(targets[:, present], scores[:, present], average=None)
            assert ours[present] == pytest.approx(reference, abs=1e-12)
            metrics = measure_multi_label(scores, targets)
            assert metrics.map == pytest.approx(np.mean(reference), abs=1e-12)
            assert (metrics.n, metrics.classes, metrics.absent_classes) == (*scores.shape, np.sum(~present))


def test_intervals_equal_those_of_scipy():
    for n in (1, 2, 7, 73, 3783):
        for successes in {0, 1, n // 3, n - 1, n}:
            reference = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
            assert wilson(successes, n) == pytest.approx(tuple(reference), abs=1e-12)


def test_mcnemars_test_equals_scipys():
    rng = np.random.default_rng(0)
    for videos in (1, 5, 40, 500, 20_000):
        for better in (0.5, 0.9):
            a, b = rng.random(videos) < better, rng.random(videos) < 0.6
            ours = mcnemar(a, b)
            assert ours.only_a == np.sum(a & ~b) and ours.only_b == np.sum(b & ~a)
            assert ours.both + ours.only_a + ours.only_b + ours.neither == videos and ours.both == np.sum(a & b)
            discordant = ours.only_a + ours.only_b
            reference = scipy.stats.binomtest(ours.only_a, discordant).pvalue if discordant else 1
            assert ours.p_value == pytest.approx(reference, rel=1e-9, abs=1e-300)


def test_the_confusion_matrix_has_the_truth_in_rows():
    matrix = confusion([0, 0, 0, 2], [1, 0, 1, 2], 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(class_accuracy(matrix), [1 / 3, np.nan, 1, np.nan])
    assert matrix.sum(axis=1).tolist() == [3, 0, 1, 0]


def test_of_equal_logits_the_higher_index_comes_first():
    assert rank([[0.0, 1.0, 1.0, 0.0]]).tolist() == [[2, 1, 3, 0]]


def test_streams_are_fused_by_their_logits():
    rgb, flow = np.float32([[8, 0, 0]]), np.float32([[0, 3, 0]])
    assert fuse(rgb, flow).tolist() == [[4, 1.5, 0]]  # not by probabilities, whose mean is nearly even
    assert fuse(rgb, flow, (1, 3)).tolist() == [[2, 2.25, 0]]
    assert fuse(rgb, flow, (0, 2)).tolist() == flow.tolist()
    assert fuse(rgb, flow).dtype == np.float32


def test_metrics_are_plain_data():
    metrics = asdict(measure(np.eye(6), np.arange(6)))
    assert json.loads(json.dumps(metrics)) == {
        **metrics,
        "top1_interval": list(wilson(6, 6)),
        "top5_interval": list(wilson(6, 6)),
    }
    assert (metrics["n"], metrics["top1"], metrics["top5"], metrics["mean_class"]) == (6, 1, 1, 1)


def test_the_mean_over_splits_weights_them_equally():
    good, bad = measure(np.eye(6), np.arange(6)), measure(np.eye(6)[:2], [1, 0])
    assert mean_over_splits([good, bad]) == {"splits": 2, "n": 8, "top1": 0.5, "top5": 0.5, "mean_class": 0.5}
    precision = measure_multi_label(np.eye(3), np.eye(3))
    assert mean_over_splits([precision]) == {"splits": 1, "n": 3, "map": 1.0}


ROW = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: measure(np.zeros(3), [0]), r"array.shape = \(3,\)"),
        (lambda: measure(np.zeros((0, 3)), np.zeros(0, int)), r"array.shape = \(0, 3\)"),
        (lambda: measure([[0, np.nan]], [0]), "finite.* for 1 videos"),
        (lambda: fuse(ROW, [[0, np.inf, 0]]), "finite"),
        (lambda: measure(ROW, [0, 1]), r"expected 1 class indices, got array.shape = \(2,\)"),
        (lambda: measure(ROW, [0.0]), "float64"),
        (lambda: measure(ROW, [3]), "num_classes = 3, got 3 to 3"),
        (lambda: measure(ROW, [-1]), "got -1 to -1"),
        (lambda: confusion([0, 1], [0], 2), "expected 2 class indices"),
        (lambda: fuse(ROW, ROW.T), r"rgb.shape = \(1, 3\), flow.shape = \(3, 1\)"),
        (lambda: fuse(ROW, ROW, (0, 0)), r"weights = \(0, 0\)"),
        (lambda: fuse(ROW, ROW, (2, -1)), r"weights = \(2, -1\)"),
        (lambda: average_precision(ROW, [[0, 1]]), r"targets.shape = \(1, 2\)"),
        (lambda: average_precision(ROW, [[0, 1, 2]]), "0 and 1"),
        (lambda: measure_multi_label(ROW, ROW), "no target is set"),
        (lambda: mcnemar([True], [True, False]), r"b.shape = \(2,\)"),
        (lambda: mcnemar([1], [0]), "dtype"),
        (lambda: wilson(2, 1), "successes = 2"),
        (lambda: wilson(0, 0), "n = 0"),
        (lambda: mean_over_splits([]), "at least one split"),
    ],
)
def test_mistakes_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
