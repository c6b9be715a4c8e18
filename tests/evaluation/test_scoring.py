"""A model and labelled videos → scores, by one process or several."""

import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import cut, moving, write_video
from tqdm import tqdm

import i3dcli
from i3dcli import DatasetError, VideoError, VideoWarning
from i3dcli.data.dataset import Dataset, Sample, load_dataset
from i3dcli.data.views import Protocol, View, Views
from i3dcli.evaluation import scoring
from i3dcli.evaluation.scoring import Scoring, match_classes, score_samples
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.prediction.predict import predict_videos
from i3dcli.prediction.two_stream import MeanLogits, TwoStream

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

NAMES = tuple(f"action {i}" for i in range(10))


def scored_by(model, samples, *, classes=None, multi_label=False, **how):
    return score_samples(model, samples, Scoring(**how), classes=classes, multi_label=multi_label)


@pytest.fixture
def samples(split):
    return load_dataset(split.path).train


class ThreadGroup:
    """One of several processes, which are threads here, so that they can be watched."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.is_main_process = rank, size, rank == 0
        self.values, self.barrier = shared

    def gather(self, value):
        self.values[self.rank] = value
        self.barrier.wait()
        gathered = list(self.values)
        self.barrier.wait()
        return gathered


def in_threads(size, function):
    """What `function` of each member of a group gives."""
    shared = [None] * size, threading.Barrier(size, timeout=60)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(function, [ThreadGroup(rank, size, shared) for rank in range(size)]))


@pytest.fixture
def bars(monkeypatch):
    """The values that progress bars have had, and their totals."""
    seen = []

    class Bar(tqdm):
        def __init__(self, *arguments, **options):
            self.values = [options["initial"]]
            shown = options["disable"] is None
            super().__init__(*arguments, **options | {"disable": True})
            if shown:
                seen.append((self.values, options["total"]))

        def update(self, n=1):
            self.n = self.values[-1] + n
            self.values.append(self.n)

    monkeypatch.setattr(scoring, "tqdm", Bar)
    return seen


def dataset(classes, labels, *, has_names=True):
    samples = tuple(Sample(Path(f"{i}.mp4"), Path(str(i)), (label,)) for i, label in enumerate(labels))
    return Dataset("list", classes, (), samples, False, "a dataset", has_names=has_names)


def matched(data, labels):
    """The labels as the model counts them, the names of its classes, and what was said."""
    notes = []
    samples, classes = match_classes(data, labels, note=notes.append)
    return [sample.labels[0] for sample in samples], classes, notes


# Classes


def test_classes_in_the_models_order_stay_as_they_are():
    assert matched(dataset(NAMES, [3, 0]), NAMES) == ([3, 0], NAMES, [])
    assert matched(dataset(NAMES[:2], [1, 0]), NAMES) == ([1, 0], NAMES, [])


def test_classes_in_another_order_are_matched_by_name_which_is_said():
    note = "Note: the model lists its classes in another order than the split; they are matched by name"
    assert matched(dataset(("b", "a"), [0, 1, 0]), ("a", "x", "b")) == ([2, 0, 2], ("a", "x", "b"), [note])


def test_spaces_underscores_and_case_make_no_difference():
    assert matched(dataset(("Long_Jump", "run"), [0, 1]), ("run", "long jump"))[0] == [1, 0]


def test_a_class_that_the_model_lacks_is_named():
    with pytest.raises(DatasetError, match=r"unknown class: the model's classes: got 'fly', expected one of 2: a, b;"):
        matched(dataset(("a", "fly"), [0, 1]), ("a", "b"))


def test_numbers_without_names_go_by_position():
    numbers = tuple(f"class {i}" for i in range(3))
    assert matched(dataset(numbers, [2, 0], has_names=False), NAMES) == ([2, 0], NAMES, [])
    assert matched(dataset(("a", "b"), [1, 0]), numbers) == ([1, 0], ("a", "b", "class 2"), [])


def test_classes_that_are_really_called_by_numbers_are_names():
    labels = tuple(f"class {i}" for i in range(5))
    assert matched(dataset(("class 3", "class 4"), [0, 1]), labels)[0] == [3, 4]


@pytest.mark.parametrize("has_names", [False, True])
def test_more_classes_than_the_model_has_are_too_many(has_names):
    classes = tuple("abcd") if has_names else tuple(f"class {i}" for i in range(4))
    labels = tuple(f"class {i}" for i in range(3)) if has_names else NAMES[:3]
    with pytest.raises(
        DatasetError,
        match=r"too many classes: a dataset: 1 test video, 4 classes: got 4 classes, the model knows 3; give weights",
    ):
        matched(dataset(classes, [3], has_names=has_names), labels)


# Scores


def test_every_frame_gives_exactly_the_logits_of_predict(quick_model, split, samples):
    scored = scored_by(quick_model, samples)
    assert scored.failures == () and scored.scores.paths == tuple(map(str, split.videos))
    assert scored.scores.labels.tolist() == split.labels and scored.scores.classes == quick_model.classes
    for stream in ("rgb", "flow"):
        for row, prediction in zip(scored.scores.logits[stream], split.predictions, strict=True):
            np.testing.assert_array_equal(row, prediction.stream_logits[stream].numpy())


def test_a_64_frame_clip_has_the_logits_of_predict(checkpoints, tmp_path):
    model = i3dcli.load_model(rgb=checkpoints["rgb"], device="cpu")
    path = write_video(tmp_path / "v.mp4", moving(64, 64, 80))
    [row] = scored_by(model, [Sample(path, Path("v"), (0,))]).scores.logits["rgb"]
    np.testing.assert_array_equal(row, model.predict(path).rgb_logits.numpy())


def test_the_protocol_and_stored_flow_are_used(quick_model, split, samples, tmp_path):
    list(extract_videos([str(path) for path in split.videos], tmp_path, FlowOptions(short_side=64, format="flo")))
    np.testing.assert_allclose(
        scored_by(quick_model, samples, flow_dir=str(tmp_path)).scores.logits["flow"],
        [prediction.flow_logits for prediction in split.predictions],
        atol=1e-5,
    )
    protocol = Protocol(clips=2, crops=3)
    np.testing.assert_array_equal(
        scored_by(quick_model, samples[:2], protocol=protocol).scores.logits["rgb"],
        [quick_model.predict(path, protocol=protocol).rgb_logits for path in split.videos[:2]],
    )


def test_several_labels_become_rows_of_zeros_and_ones(quick_model, samples):
    several = [replace(samples[0], labels=(3, 1)), replace(samples[1], labels=()), replace(samples[2], labels=(1, 1))]
    labels = scored_by(quick_model, several, multi_label=True).scores.labels
    assert labels.sum() == 3 and labels[0, [1, 3]].all() and labels[2, 1]


def with_bad_ones(samples, folder):
    """Samples of which the second and the last cannot be read."""
    (folder / "text.mp4").write_text("hello")
    bad = [Sample(folder / name, Path(name), (0,)) for name in ("text.mp4", "absent.mp4")]
    return [samples[0], bad[0], samples[1], samples[2], bad[1]]


@pytest.mark.parametrize("size", [1, 2])
def test_videos_that_cannot_be_read_are_failures_in_their_order(quick_model, samples, tmp_path, size):
    notes = []
    mixed = with_bad_ones(samples, tmp_path)
    for scored in in_threads(size, lambda group: scored_by(quick_model, mixed, group=group, note=notes.append)):
        assert scored.scores.paths == tuple(str(sample.path) for sample in samples[:3])
        assert [Path(failure.path).name for failure in scored.failures] == ["text.mp4", "absent.mp4"]
        assert all(failure.path in failure.reason for failure in scored.failures)
    assert sorted(notes) == sorted(f"Error: {failure.reason}" for failure in scored.failures)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(clips=2)], ids=str)
def test_what_a_video_lacks_is_noted_once_and_the_rest_of_it_scored(quick_model, samples, tmp_path, protocol):
    path = cut(write_video(tmp_path / "v.webm", moving(50, 64, 80), codec="libvpx"))
    with pytest.warns(VideoWarning) as caught:
        i3dcli.read_video(path, short_side=64)
    notes = []
    mixed = [*samples[:2], Sample(path, Path("v"), (0,))]
    scored = scored_by(quick_model, mixed, protocol=protocol, note=notes.append)
    assert len(scored.scores.paths) == 3 and notes == [f"Note: {caught[0].message}"]


def test_strict_stops_at_the_first_that_cannot_be_read(quick_model, samples, tmp_path):
    with pytest.raises(VideoError, match=r"not a video: .*text\.mp4"):
        scored_by(quick_model, with_bad_ones(samples, tmp_path), strict=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_nothing_readable_is_an_error(quick_model, tmp_path):
    with pytest.raises(DatasetError, match=r"nothing could be scored: 1 video: the first said: cannot read video: .*absent"):
        scored_by(quick_model, [Sample(tmp_path / "absent.mp4", Path("absent"), (0,))])


def test_flow_that_is_nowhere_in_its_folder_is_an_error_before_the_work(quick_model, samples, tmp_path):
    with pytest.raises(DatasetError) as caught:
        scored_by(quick_model, samples, flow_dir=str(tmp_path), out=tmp_path / "out")
    assert str(caught.value) == (
        f"no flow: {tmp_path}: none of the 6 videos has any there, that of the first would be in v0; "
        "make it with i3d extract-flow, or leave --flow-dir out"
    )
    assert not (tmp_path / "out").exists()


def test_one_video_without_stored_flow_is_a_failure(quick_model, split, samples, tmp_path):
    list(extract_videos([str(split.videos[0])], tmp_path, FlowOptions(short_side=64)))
    scored = scored_by(quick_model, samples[:2], flow_dir=str(tmp_path))
    assert len(scored.scores.paths) == 1 and "no flow.json in it; make it with i3d extract-flow" in scored.failures[0].reason


def test_flow_of_another_making_is_an_error(quick_model, split, samples, tmp_path):
    list(extract_videos([str(split.videos[0])], tmp_path, FlowOptions(short_side=64, bound=5.0)))
    with pytest.raises(DatasetError) as caught:
        scored_by(quick_model, samples, flow_dir=str(tmp_path))
    assert str(caught.value) == (
        f"flow of another making: {tmp_path}/v0: bound 5.0, trained on 20.0; extract it as the weights want it, or "
        "take it as it is with --any-flow"
    )
    notes = []
    scored = scored_by(quick_model, samples[:1], flow_dir=str(tmp_path), any_flow=True, note=notes.append)
    assert len(scored.scores.paths) == 1
    assert notes == [f"Note: flow of another making: {tmp_path}: bound 5.0, trained on 20.0"]


# Several processes, and runs that were interrupted


@pytest.mark.parametrize("size", [2, 4, 7])
def test_any_number_of_processes_gives_the_scores_of_one_on_each(quick_model, samples, tmp_path, size):
    alone = scored_by(quick_model, samples)
    together = in_threads(size, lambda group: scored_by(quick_model, samples, group=group, out=tmp_path))
    for scored in together:
        assert scored.scores.paths == alone.scores.paths
        for stream in ("rgb", "flow"):
            np.testing.assert_array_equal(scored.scores.logits[stream], alone.scores.logits[stream])
    lines = [path.read_text().count('{"video"') for path in sorted(tmp_path.glob("scores.*.jsonl"))]
    assert sum(lines) == 6 and max(lines) - min(lines) <= 1


def test_what_was_scored_is_not_scored_again(quick_model, samples, tmp_path, monkeypatch):
    first = scored_by(quick_model, samples[:4], out=tmp_path)
    asked = []
    look = type(quick_model).views
    monkeypatch.setattr(
        type(quick_model), "views", lambda self, video, **how: asked.append(Path(video).name) or look(self, video, **how)
    )
    second = scored_by(quick_model, samples, out=tmp_path)
    assert asked == ["v4.mp4", "v5.mp4"]
    np.testing.assert_array_equal(second.scores.logits["flow"][:4], first.scores.logits["flow"])
    scored_by(quick_model, samples, out=tmp_path)
    assert len(asked) == 2


def test_failures_are_tried_again(quick_model, samples, split, tmp_path):
    path = tmp_path / "late.mp4"
    mixed = [samples[0], Sample(path, Path("late"), (1,))]
    assert len(scored_by(quick_model, mixed, out=tmp_path / "out").failures) == 1
    shutil.copy(split.videos[1], path)
    assert scored_by(quick_model, mixed, out=tmp_path / "out").failures == ()


@pytest.mark.parametrize("change", ["weights", "protocol", "stream", "flow_dir"])
def test_scores_of_another_making_are_not_mixed(quick, quick_model, samples, split, tmp_path, change):
    scored_by(quick_model, samples[:1], out=tmp_path / "out")
    model, how = quick_model, {}
    if change == "weights":
        model = i3dcli.load_model(**quick, device="cpu")
        with torch.no_grad():
            model.nets["flow"].logits.conv3d.bias[3] += 1e-6
    elif change == "protocol":
        how = {"protocol": Protocol(max_frames=250)}
    elif change == "stream":
        model = i3dcli.load_model(rgb=quick["rgb"], device="cpu")
    else:
        list(extract_videos([str(split.videos[0])], tmp_path / "flow", FlowOptions(short_side=64)))
        how = {"flow_dir": str(tmp_path / "flow")}
    with pytest.raises(i3dcli.I3DError, match="scores of another making"):
        scored_by(model, samples[:1], out=tmp_path / "out", **how)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_bar_ends_at_the_number_of_videos(quick_model, samples, tmp_path, bars, size):
    in_threads(size, lambda group: scored_by(quick_model, samples, group=group, out=tmp_path, progress=True))
    [(values, total)] = bars
    assert total == 6 and values == [*range(0, 6, size), 6]


def test_the_bar_starts_at_what_was_scored_of_these_videos(quick_model, samples, tmp_path, bars):
    scored_by(quick_model, samples[:3], out=tmp_path)
    scored_by(quick_model, samples[2:], out=tmp_path, progress=True)
    assert bars == [([1, 2, 3, 4], 4)]


# Memory, and work side by side


def test_few_windows_of_a_long_video_are_alive_at_a_time(quick_model, samples, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def views(self):
        for number in range(40):
            tensor = torch.zeros(1, 3, 9, 48, 48, dtype=torch.uint8)
            alive.add(tensor)
            yield View(range(9), {"rgb": tensor}, completes=range(9) if number == 39 else None, damaged_frames=0)
            del tensor

    def see(self, view):
        most.append(len(alive))
        return {}

    monkeypatch.setattr(Views, "__iter__", views)
    monkeypatch.setattr(type(quick_model), "see", see)
    monkeypatch.setattr(MeanLogits, "logits", lambda self: torch.zeros(10))
    list(predict_videos(quick_model, samples[:1]))
    assert len(most) == 40 and max(most) <= 3


def test_videos_are_read_in_another_thread_than_the_networks(quick_model, samples, monkeypatch):
    readers, whole = set(), Views.__iter__

    def views(self):
        for view in whole(self):
            readers.add(threading.current_thread())
            yield view

    monkeypatch.setattr(Views, "__iter__", views)
    scored_by(quick_model, samples[:2])
    assert len(readers) == 1 and threading.main_thread() not in readers


def test_the_record_of_scores_of_an_earlier_version_is_gone_on_with():
    net = i3dcli.I3D(2, 3, width=0.02)
    net.load_state_dict({key: torch.zeros_like(tensor) for key, tensor in net.state_dict().items()})
    model = TwoStream({"rgb": net}, name="zeros", classes=("a", "b"), device=torch.device("cpu"))
    word = "e773255ebf0c159017688187d346e4c40ba9a88147a03310532ea72045724480"  # of version 0.1.0
    assert scoring.fingerprint(model, Protocol(clips=3, crops=3), "flow") == word
