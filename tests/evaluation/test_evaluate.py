"""`i3d eval` from the command line to the files it writes."""

import csv
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from media import write_audio
from processes import ends_of, start, start_ranks

import i3dcli
from i3dcli import DatasetError, save_checkpoint
from i3dcli.cli.main import main
from i3dcli.data.chosen import video_numbers
from i3dcli.data.dataset import load_dataset
from i3dcli.evaluation.evaluate import evaluate_model
from i3dcli.evaluation.findings import assess, evaluation_table
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.metrics import mcnemar, wilson
from i3dcli.scores import Scores, read_scores, write_scores

OUTPUTS = ["confusion.csv", "metrics.json", "per_class.csv", "report.html", "scores.0.jsonl", "scores.npz"]


def score(*arguments):
    """The result of `i3d eval`."""
    return CliRunner().invoke(main, ["eval", *map(str, arguments)], prog_name="i3d", catch_exceptions=False)


@pytest.fixture
def weights(quick):
    return ["--rgb", quick["rgb"], "--flow", quick["flow"], "--device", "cpu"]


@pytest.fixture(scope="module")
def done(split, quick, tmp_path_factory):
    """The result of an evaluation of the split, and its output folder."""
    out = tmp_path_factory.mktemp("done") / "out"
    return score(split.path, "--rgb", quick["rgb"], "--flow", quick["flow"], "--device", "cpu", "--out", out), out


def one_line(result, exit_code, text):
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", f"Error: {text}\n")


def last_line(result, text):
    """An error after the line that says what is scored, and any notes."""
    *before, last = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, last) == (1, "", f"Error: {text}")
    assert len([line for line in before if not line.startswith("Note: ")]) == 1


def metrics(out):
    return json.loads((out / "metrics.json").read_text())


def page(out):
    """The data of a report."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', (out / "report.html").read_text())[1]
    )


def logits_of(split):
    """Of each stream and of both, as predict gives them, (V,K)."""
    rgb, flow = (np.stack([p.stream_logits[stream].numpy() for p in split.predictions]) for stream in ("rgb", "flow"))
    return {"rgb": rgb, "flow": flow, "two_stream": np.stack([p.logits.numpy() for p in split.predictions])}


# One evaluation


def test_metrics_are_those_of_predicts_logits(done, split):
    result, out = done
    found, labels = metrics(out), np.array(split.labels)
    assert result.exit_code == 0 and list(found) == ["rgb", "flow", "two_stream"]
    for stream, logits in logits_of(split).items():
        ranked = np.argsort(-logits, axis=1)
        hits = ranked[:, 0] == labels
        assert found[stream] == {
            "n": 6,
            "total": 6,
            "classes": 10,
            "absent_classes": 10 - len(set(labels.tolist())),
            "top1": pytest.approx(hits.mean(), abs=1e-12),
            "top1_interval": pytest.approx(wilson(int(hits.sum()), 6), abs=1e-12),
            "top5": pytest.approx((ranked[:, :5] == labels[:, None]).any(axis=1).mean(), abs=1e-12),
            "top5_interval": pytest.approx(wilson(int((ranked[:, :5] == labels[:, None]).sum()), 6), abs=1e-12),
            "mean_class": pytest.approx(np.mean([hits[labels == k].mean() for k in set(labels.tolist())]), abs=1e-12),
        }
    assert found["two_stream"]["top1"] == 0.5  # as the labels were chosen


def chosen_on(videos, source, target):
    """A copy of a checkpoint that says it was chosen on videos."""
    save_checkpoint(i3dcli.load_checkpoint(source), target, chosen_on=video_numbers(videos))
    return target


def test_weights_that_were_chosen_on_what_is_scored_are_said_to_be(split, quick, tmp_path):
    rgb = chosen_on(split.videos[:4], quick["rgb"], tmp_path / "rgb.pt")
    elsewhere = chosen_on([split.path], quick["flow"], tmp_path / "flow.pt")
    result = score(split.path, "--rgb", rgb, "--flow", elsewhere, "--device", "cpu", "--out", tmp_path / "out")
    text = (
        "the RGB weights were chosen on 4 of the 6 videos that are scored, as the best of their run, so that their accuracy is "
        "too high; score others, or the run's last.pt"
    )
    assert result.exit_code == 0 and result.stderr.splitlines()[-1] == f"Note: {text}"
    assert page(tmp_path / "out")["comparisons"][0] == text and len(page(tmp_path / "out")["comparisons"]) == 2
    found = metrics(tmp_path / "out")
    assert found["rgb"]["chosen_on"] == 4 and "chosen_on" not in {*found["flow"], *found["two_stream"]}


def test_weights_that_were_chosen_on_nothing_that_is_scored_are_not_mentioned(done):
    result, out = done
    assert "chosen" not in result.stderr and len(page(out)["comparisons"]) == 1 and "chosen_on" not in metrics(out)["rgb"]


def test_the_scores_are_predicts_logits(done, split):
    with np.load(done[1] / "scores.npz") as file:
        assert file["paths"].tolist() == [str(path) for path in split.videos]
        assert file["labels"].tolist() == split.labels and file["classes"].tolist() == [f"action {i}" for i in range(10)]
        for stream in ("rgb", "flow"):
            np.testing.assert_array_equal(file[stream], logits_of(split)[stream])


def test_the_tables_count_each_class(done, split):
    _, out = done
    predicted = logits_of(split)["two_stream"].argmax(axis=1)
    header, *rows = csv.reader((out / "confusion.csv").read_text().splitlines())
    assert header[1:] == [row[0] for row in rows] == [f"action {i}" for i in range(10)]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (split.labels, predicted), 1)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], int), expected)
    for row in csv.DictReader((out / "per_class.csv").read_text().splitlines()):
        k = int(row["class"].split()[1])
        count = split.labels.count(k)
        assert int(row["count"]) == count
        assert row["two_stream"] == ("" if not count else str(expected[k, k] / count))


def test_the_report_shows_the_mistakes_with_pictures(done, split):
    data = page(done[1])
    assert data["protocol"] == "every frame, centre crop, logits averaged over time" and data["total"] == 6
    logits = logits_of(split)
    probabilities = {stream: np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for stream, rows in logits.items()}
    assert sorted(mistake["video"] for mistake in data["mistakes"]) == [str(split.videos[i]) for i in (1, 3, 5)]
    for mistake in data["mistakes"]:
        i = split.videos.index(Path(mistake["video"]))
        assert mistake["truth"] == split.labels[i] and mistake["predicted"] == logits["two_stream"][i].argmax()
        assert mistake["probability"] == pytest.approx(probabilities["two_stream"][i].max(), rel=1e-5)
        for stream, said in zip(("rgb", "flow"), mistake["streams"], strict=True):
            assert said["label"] == logits[stream][i].argmax()
            assert said["probability"] == pytest.approx(probabilities[stream][i].max(), rel=1e-5)
        assert all(mistake[stream].startswith("data:image/jpeg;base64,") for stream in ("rgb", "flow"))
    assert [m["probability"] for m in data["mistakes"]] == sorted((m["probability"] for m in data["mistakes"]), reverse=True)
    right = {stream: rows.argmax(axis=1) == split.labels for stream, rows in logits.items()}
    agreement = mcnemar(right["rgb"], right["flow"])
    assert (data["agreement"]["both"], data["agreement"]["only_a"]) == (agreement.both, agreement.only_a)


def test_the_table_and_what_runs_are_printed(done, split, quick):
    result, out = done
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["top-1", "95", "%", "top-5", "95", "%", "mean-class", "n"]
    assert [line.split()[0] for line in lines[1:4]] == ["RGB", "Flow", "Two-stream"]
    assert lines[3].split()[1:3] == ["0.5000", "0.188–0.812"] and lines[4].startswith("Two-stream and ") and len(lines) == 5
    protocol = "every frame, centre crop, logits averaged over time"
    absent = [f"action {i}" for i in range(10) if i not in split.labels]
    assert result.stderr.splitlines() == [
        f"list: 6 videos, {max(split.labels) + 1} classes; {quick['rgb']} + {quick['flow']}, {protocol}, on cpu",
        f"Note: no video of {len(absent)} of 10 classes: {', '.join(absent)}",
    ]
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


def test_a_finished_evaluation_runs_no_network_again(done, split, weights, monkeypatch):
    result, out = done
    before = {name: (out / name).read_bytes() for name in ("metrics.json", "scores.npz", "confusion.csv")}
    monkeypatch.setattr("i3dcli.prediction.two_stream.TwoStream.see", None)
    again = score(split.path, *weights, "--out", out)
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert {name: (out / name).read_bytes() for name in before} == before


def test_one_stream_is_a_table_of_one_row(split, quick, tmp_path):
    result = score(split.path, "--flow", quick["flow"], "--device", "cpu", "--out", tmp_path)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and lines[1].startswith("Flow ")
    assert list(metrics(tmp_path)) == ["flow"] and page(tmp_path)["agreement"] is None


def test_stream_chooses_of_the_given_weights(split, weights):
    for stream, name in (("rgb", "RGB"), ("flow", "Flow")):
        lines = score(split.path, *weights, "--stream", stream).stdout.splitlines()
        assert len(lines) == 2 and lines[1].split()[0] == name


def test_clips_and_stored_flow_are_options(split, weights, quick_model, tmp_path):
    list(extract_videos([str(path) for path in split.videos], tmp_path / "flow", FlowOptions(short_side=64, format="npy")))
    options = ["--protocol", "clips", "--clips", "2", "--crops", "3", "--flow-dir", tmp_path / "flow"]
    result = score(split.path, *weights, *options, "--out", tmp_path / "out")
    assert "2 clips x 3 crops, logits averaged, on cpu" in result.stderr
    protocol = i3dcli.data.views.Protocol(clips=2, crops=3)
    expected = [quick_model.predict(path, protocol=protocol) for path in split.videos]
    scores = read_scores(tmp_path / "out" / "scores.npz")
    np.testing.assert_array_equal(scores.logits["rgb"], [p.rgb_logits for p in expected])
    np.testing.assert_allclose(scores.logits["flow"], [p.flow_logits for p in expected], atol=0.01)


def test_the_python_api_gives_the_same(quick, quick_model, split, done, tmp_path):
    evaluation = evaluate_model(quick_model, load_dataset(split.path))
    assert evaluation_table(evaluation) + "\n" == done[0].stdout and evaluation.total == 6
    evaluation = i3dcli.evaluate(split.path, rgb=str(quick["rgb"]), flow=str(quick["flow"]), device="cpu", out=str(tmp_path))
    assert evaluation_table(evaluation) + "\n" == done[0].stdout
    assert (tmp_path / "metrics.json").read_bytes() == (done[1] / "metrics.json").read_bytes()


# Names of classes


def test_names_in_another_order_change_nothing_but_a_note(split, weights, done, tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"Action_{9 - i}\n" for i in range(10)))
    (tmp_path / "test.txt").write_text("".join(f"v{i}.mp4 {9 - label}\n" for i, label in enumerate(split.labels)))
    result = score(tmp_path / "test.txt", "--root", split.path.parent, *weights, "--out", tmp_path / "out")
    note = "Note: the model lists its classes in another order than the split; they are matched by name"
    assert note in result.stderr.splitlines() and result.stdout == done[0].stdout
    assert metrics(tmp_path / "out") == metrics(done[1])


def test_a_class_that_the_model_lacks_is_one_line(split, weights, tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"action {i}\n" for i in range(9)) + "juggling\n")
    result = score(split.path, "--classes", tmp_path / "classes.txt", *weights)
    text = "unknown class: the model's classes: got 'juggling', expected one of 10: action 0, action 1, action 2, …; "
    last_line(result, text + "mend the name, or give all classes with --classes")


def test_more_classes_than_the_model_has_are_one_line(split, weights, tmp_path):
    (tmp_path / "test.txt").write_text("v0.mp4 10\n")
    result = score(tmp_path / "test.txt", "--root", split.path.parent, *weights)
    text = "too many classes: list: 1 video, 11 classes: got 11 classes, the model knows 10; "
    last_line(result, text + "give weights that were trained on them")


# Videos that cannot be read


@pytest.fixture
def spoiled(split, tmp_path):
    """The split with two more videos that cannot be read."""
    for path in split.videos:
        shutil.copy(path, tmp_path)
    (tmp_path / "text.mp4").write_text("hello")
    write_audio(tmp_path / "sound.mp4")
    path = tmp_path / "test.txt"
    path.write_text("text.mp4 0\n" + split.path.read_text() + "sound.mp4 1\n")
    return path


def test_unreadable_videos_are_reported_and_the_others_measured(spoiled, weights, done, tmp_path):
    result = score(spoiled, *weights, "--out", tmp_path / "out")
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 1 and len(errors) == 2 and "text.mp4" in errors[0] and "sound.mp4" in errors[1]
    assert [line.split()[-3:] for line in result.stdout.splitlines()[1:4]] == [["6", "of", "8"]] * 3
    assert metrics(tmp_path / "out") == {stream: found | {"total": 8} for stream, found in metrics(done[1]).items()}
    unreadable = page(tmp_path / "out")["unreadable"]
    assert [Path(video).name for video, _ in unreadable] == ["text.mp4", "sound.mp4"]
    assert [f"Error: {reason}" for _, reason in unreadable] == errors


def test_missing_videos_count_as_videos_that_cannot_be_read(split, weights, done, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.txt").write_text(split.path.read_text() + "gone.mp4 0\nlost.mp4 1\n")
    shutil.copytree(split.path.parent, tmp_path / "videos")
    shutil.copy(tmp_path / "videos" / "v0.mp4", tmp_path / "videos" / "t.mp4")
    (tmp_path / "lists" / "train.txt").write_text("t.mp4 0\nelsewhere.mp4 0\n")
    result = score(tmp_path / "lists", "--root", tmp_path / "videos", *weights, "--out", tmp_path / "out")
    names = f"{tmp_path}/videos/gone.mp4, {tmp_path}/videos/lost.mp4"
    assert result.exit_code == 1 and result.stderr.splitlines()[0] == f"Note: 2 videos missing: {names}; left out"
    assert "list: 6 test videos, " in result.stderr and ", 2 missing; " in result.stderr
    assert [line.split()[-3:] for line in result.stdout.splitlines()[1:4]] == [["6", "of", "8"]] * 3
    assert metrics(tmp_path / "out") == {stream: found | {"total": 8} for stream, found in metrics(done[1]).items()}
    data = page(tmp_path / "out")
    assert (data["total"], data["missing"], data["unreadable"]) == (8, 2, [])


def test_strict_refuses_missing_videos_of_the_part_that_is_scored(split, weights, tmp_path):
    (tmp_path / "test.txt").write_text(split.path.read_text() + "gone.mp4 0\n")
    result = score(tmp_path / "test.txt", "--root", split.path.parent, *weights, "--strict")
    text = f"1 video missing: {split.path.parent}/gone.mp4: expected all that are listed; "
    one_line(result, 1, text + "leave --strict out to go on without them")


def test_strict_refuses_them(spoiled, weights, tmp_path):
    result = score(spoiled, *weights, "--strict", "--out", tmp_path / "out")
    last_line(
        result,
        f"not a video: {tmp_path}/text.mp4: invalid data found when processing input; "
        "expected a whole file that FFmpeg can read",
    )
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_nothing_readable_is_one_line_after_what_is_wrong_with_each(weights, tmp_path):
    write_audio(tmp_path / "sound.mp4")
    (tmp_path / "test.txt").write_text("sound.mp4 0\n")
    result = score(tmp_path / "test.txt", *weights)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 4)
    assert result.stderr.splitlines()[-1].startswith("Error: nothing could be scored: 1 video: the first said: no video in the")


# Several labels, several splits


def test_several_labels_are_measured_by_average_precision(split, weights, tmp_path):
    from sklearn.metrics import average_precision_score

    actions = [[[0, 0.0, 0.2], [i % 3, 0.1, 0.3]] for i in range(5)] + [[]]
    content = {f"v{i}": {"subset": "testing", "actions": spans} for i, spans in enumerate(actions)}
    (tmp_path / "charades.json").write_text(json.dumps(content))
    (tmp_path / "classes.txt").write_text("".join(f"action {i}\n" for i in range(10)))
    options = ["--root", split.path.parent, "--classes", tmp_path / "classes.txt", "--out", tmp_path / "out"]
    result = score(tmp_path / "charades.json", *options, *weights)
    targets = np.zeros((6, 10), int)
    for row, spans in zip(targets, actions, strict=True):
        row[[label for label, *_ in spans]] = 1
    expected = {
        stream: np.mean([average_precision_score(targets[:, k], rows[:, k]) for k in range(3)])
        for stream, rows in logits_of(split).items()
    }
    names = {"rgb": "RGB       ", "flow": "Flow      ", "two_stream": "Two-stream"}
    lines = [f"{names[stream]}  {value:.4f}  6" for stream, value in expected.items()]
    assert (result.exit_code, result.stdout.splitlines()) == (0, ["               mAP  n", *lines])
    found = metrics(tmp_path / "out")
    for stream, value in expected.items():
        rest = {"n": 6, "total": 6, "classes": 10, "absent_classes": 7}
        assert found[stream] == {**rest, "map": pytest.approx(value, abs=1e-12)}
    assert page(tmp_path / "out")["confusion"] is None and not (tmp_path / "out" / "confusion.csv").exists()
    assert read_scores(tmp_path / "out" / "scores.npz").labels.tolist() == targets.tolist()


def test_several_splits_are_printed_with_their_mean(split, quick, tmp_path):
    lists, videos = tmp_path / "ucfTrainTestlist", tmp_path / "UCF-101"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{i + 1} action_{i}\n" for i in range(10)))
    names = [f"action_{label}/v_{i}_g01_c01.avi" for i, label in enumerate(split.labels)]
    for name, path in zip(names, split.videos, strict=True):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, videos / name)
    parts = {1: names[:3], 2: names[3:], 3: names[1:4]}
    for number, test in parts.items():
        (lists / f"testlist0{number}.txt").write_text("".join(f"{name}\n" for name in test))
        rest = [name for name in names if name not in test]
        (lists / f"trainlist0{number}.txt").write_text("".join(f"{n} {int(n.split('/')[0][7:]) + 1}\n" for n in rest))
        for stream, path in quick.items():
            (tmp_path / f"{stream}-{number}.pt").symlink_to(path)
    flows = [str(videos)]
    list(extract_videos(flows, tmp_path / "flow-all", FlowOptions(short_side=64, format="npy")))
    for number in parts:
        (tmp_path / f"flow-{number}").symlink_to(tmp_path / "flow-all")
    options = ["--split", "1,2,3", "--root", videos, "--flow-dir", tmp_path / "flow-{split}", "--device", "cpu"]
    result = score(
        lists,
        "--rgb",
        tmp_path / "rgb-{split}.pt",
        "--flow",
        tmp_path / "flow-{split}.pt",
        *options,
        "--out",
        tmp_path / "out-{split}",
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if "split" in line] == ["split 1", "split 2", "split 3", "mean of 3 splits"]
    found = [metrics(tmp_path / f"out-{number}") for number in parts]
    for stream, line in zip(("rgb", "flow", "two_stream"), lines[-3:], strict=True):
        means = [np.mean([part[stream][name] for part in found]) for name in ("top1", "top5", "mean_class")]
        assert line.split()[1:] == [*(f"{mean:.4f}" for mean in means), "9"]
    assert [len(read_scores(tmp_path / f"out-{number}" / "scores.npz").paths) for number in parts] == [3, 3, 3]


@pytest.fixture
def two_splits(split, tmp_path):
    """The arguments that name two splits of a video each, of the first two classes."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for number in (1, 2):
        (lists / f"testlist0{number}.txt").write_text(f"action_0/v_{number}_g01_c01.mp4\n")
        (lists / f"trainlist0{number}.txt").write_text(f"action_1/v_{number}_g01_c01.mp4 2\n")
        for label in (0, 1):
            (tmp_path / "videos" / f"action_{label}").mkdir(parents=True, exist_ok=True)
            shutil.copy(split.videos[number], tmp_path / "videos" / f"action_{label}" / f"v_{number}_g01_c01.mp4")
    (lists / "classInd.txt").write_text("1 action_0\n2 action_1\n")
    return [lists, "--split", "1,2", "--root", tmp_path / "videos"]


def test_each_split_has_a_folder_of_its_own_and_their_mean_is_above(two_splits, weights, tmp_path):
    with open(two_splits[0] / "testlist02.txt", "a") as file:
        file.write("action_0/gone.mp4\n")
    result = score(*two_splits, *weights, "--stream", "rgb", "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.stdout.splitlines()[-1].endswith("  2 of 3")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "split1", "split2"]
    first, second = (metrics(tmp_path / "out" / name)["rgb"] for name in ("split1", "split2"))
    means = {name: (first[name] + second[name]) / 2 for name in ("top1", "top5", "mean_class")}
    assert metrics(tmp_path / "out") == {"rgb": {"splits": 2, "n": 2, "total": 3, **means}}


def test_the_weights_of_every_split_are_loaded_before_the_first_is_scored(two_splits, quick, tmp_path, monkeypatch):
    (tmp_path / "1.pt").symlink_to(quick["rgb"])
    monkeypatch.setattr("i3dcli.prediction.two_stream.TwoStream.see", None)
    result = score(*two_splits, "--rgb", tmp_path / "{split}.pt", "--device", "cpu", "--out", tmp_path / "out")
    text = f"cannot read weights: {tmp_path}/2.pt: No such file or directory"
    assert (result.exit_code, result.stdout) == (1, "") and result.stderr.startswith(f"Error: {text}")
    assert result.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


# Fusing saved scores


@pytest.fixture(scope="module")
def streams(done, tmp_path_factory):
    """Score files of the streams, the flow's videos in another order."""
    folder, whole = tmp_path_factory.mktemp("streams"), read_scores(done[1] / "scores.npz")
    order = np.array([3, 1, 5, 0, 4, 2])
    write_scores(folder / "rgb.npz", Scores(whole.paths, whole.classes, {"rgb": whole.logits["rgb"]}, whole.labels))
    paths = tuple(whole.paths[i] for i in order)
    write_scores(folder / "flow.npz", Scores(paths, whole.classes, {"flow": whole.logits["flow"][order]}, whole.labels[order]))
    return ["--scores", folder / "rgb.npz", "--scores", folder / "flow.npz"]


def test_fusing_saved_scores_equals_fusing_live(done, streams, tmp_path):
    result = score(*streams, "--out", tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, done[0].stdout, "")
    assert metrics(tmp_path) == metrics(done[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [name for name in OUTPUTS if name != "scores.0.jsonl"]
    live, saved = (read_scores(out / "scores.npz") for out in (done[1], tmp_path))
    for stream in ("rgb", "flow"):
        np.testing.assert_allclose(saved.logits[stream], live.logits[stream], atol=1e-6)
    assert page(tmp_path)["protocol"] == "saved scores"
    assert page(tmp_path)["mistakes"] == page(done[1])["mistakes"]  # thumbnails too, as the videos are where they were


def known(rgb, flow, labels, *, classes=3):
    """Scores of videos with these logits."""
    paths = tuple(f"{i}.mp4" for i in range(len(labels)))
    return Scores(paths, tuple("abcdefgh"[:classes]), {"rgb": np.float32(rgb), "flow": np.float32(flow)}, np.array(labels))


def test_logits_are_averaged_not_probabilities():
    rgb, flow = [[20.0, 0, -60]], [[-30.0, 0, 8]]  # the mean of the probabilities is near a half for the first and last class
    findings = assess(known(rgb, flow, [1]))
    np.testing.assert_array_equal(findings.logits["two_stream"], [[-5, 0, -26]])
    assert [findings.measured[stream].top1 for stream in ("rgb", "flow", "two_stream")] == [0, 0, 1]


def test_weights_are_those_of_the_logits():
    rgb, flow = [[4.0, 0, 0], [4, 0, 0]], [[0, 3.0, 0], [0, 5, 0]]
    scores = known(rgb, flow, [1, 1])
    accuracies = [assess(scores, weights=weights).measured["two_stream"].top1 for weights in ((1, 1), (1, 2), (1, 0))]
    assert accuracies == [0.5, 1.0, 0.0]
    np.testing.assert_allclose(assess(scores, weights=(1, 3)).logits["two_stream"][0], [1, 2.25, 0])


def test_the_table_is_printed_to_the_letter(tmp_path):
    rgb = [[2.0, 1, 0, 0, 0, 0]] * 4 + [[0, 0, 0, 0, 0, 2.0]] * 4
    flow = [[1, 3.0, 0, 0, 0, 0]] * 2 + [[20.0, 1, 0, 0, 0, 0]] * 4 + [[3.1, 1, 0, 0, 0, 0]] * 2
    write_scores(tmp_path / "s.npz", known(rgb, flow, [0] * 6 + [5, 5], classes=6))
    result = score("--scores", tmp_path / "s.npz", "--fusion-weights", "4,1", "--sweep-fusion")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == TABLE


TABLE = """\
             top-1         95 %   top-5         95 %  mean-class  n
RGB         0.7500  0.409–0.929  0.7500  0.409–0.929      0.8333  8
Flow        0.5000  0.215–0.785  1.0000  0.676–1.000      0.3333  8
Two-stream  1.0000  0.676–1.000  1.0000  0.676–1.000      1.0000  8
Two-stream and RGB do not differ significantly (McNemar’s exact test, p = 0.5): \
only Two-stream is right on 2, only RGB on 0.
rgb  flow   top-1
1.0   0.0  0.7500
0.9   0.1  1.0000
0.8   0.2  1.0000
0.7   0.3  1.0000
0.6   0.4  0.5000
0.5   0.5  0.5000
0.4   0.6  0.5000
0.3   0.7  0.5000
0.2   0.8  0.5000
0.1   0.9  0.5000
0.0   1.0  0.5000
"""


def test_the_ends_of_the_sweep_are_the_streams_alone(streams, done):
    lines = score(*streams, "--sweep-fusion").stdout.splitlines()
    assert lines[5].split() == ["rgb", "flow", "top-1"] and len(lines) == 17
    rows = [[float(cell) for cell in line.split()] for line in lines[6:]]
    assert [row[1] for row in rows] == pytest.approx(np.linspace(0, 1, 11)) and all(sum(row[:2]) == 1 for row in rows)
    found = metrics(done[1])
    for row, stream in ((0, "rgb"), (10, "flow"), (5, "two_stream")):
        assert rows[row][2] == pytest.approx(found[stream]["top1"], abs=5e-5)


def test_fusion_weights_of_zero_leave_a_stream_out(split, weights, tmp_path):
    score(split.path, *weights, "--fusion-weights", "0,2", "--out", tmp_path)
    found = metrics(tmp_path)
    assert found["two_stream"] == found["flow"]


def test_scores_of_other_videos_are_one_line(streams, tmp_path):
    other = read_scores(streams[3])
    write_scores(tmp_path / "f.npz", Scores(("x.mp4", *other.paths[1:]), other.classes, other.logits, other.labels))
    result = score(*streams[:2], "--scores", tmp_path / "f.npz")
    odd = sorted({"x.mp4", other.paths[0]})[0]
    text = f"scores of different videos: {tmp_path}/f.npz and {streams[1]}: got 2 videos in only one of them, the first {odd}; "
    one_line(result, 1, text + "score the same videos with both streams")


def test_scores_without_labels_are_one_line(split, quick, tmp_path):
    arguments = ["predict", str(split.videos[0]), "--rgb", str(quick["rgb"]), "--scores", str(tmp_path / "s.npz")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    one_line(
        score("--scores", tmp_path / "s.npz"),
        1,
        "scores without labels: nothing to compare them with; make them with i3d eval",
    )


def test_a_sweep_of_one_stream_is_one_line(streams):
    one_line(
        score(*streams[:2], "--sweep-fusion"),
        1,
        "nothing to fuse: --sweep-fusion: got one stream, expected the scores of both",
    )


def test_scores_that_are_not_finite_are_refused_with_their_first_video():
    with pytest.raises(DatasetError, match=r"no finite scores: rgb: got NaN or infinity for 1 of 2 videos, the first 1\.mp4;"):
        assess(known([[0, 0, 1], [np.nan, 0, 0]], np.eye(3)[:2], [0, 1]))


def test_no_label_in_any_video_is_refused():
    with pytest.raises(DatasetError, match=r"no labels: none of the 1 videos shows any class; give other videos"):
        assess(known(np.eye(3)[:1], np.eye(3)[:1], [[0, 0, 0]]))


# Several processes, and runs that were interrupted


def test_two_processes_equal_one_to_the_last_digit(spoiled, quick, weights, tmp_path):
    alone = score(spoiled, *weights, "--out", tmp_path / "one")
    options = ["eval", spoiled, *weights, "--out", tmp_path / "two"]
    (stdout, stderr), (nothing, more) = ends_of(start_ranks(*options))
    assert (stdout, nothing) == (alone.stdout, "")
    for line in alone.stderr.splitlines():
        assert (stderr + more).count(line) == 1
    assert (tmp_path / "two" / "metrics.json").read_bytes() == (tmp_path / "one" / "metrics.json").read_bytes()
    assert (tmp_path / "two" / "confusion.csv").read_bytes() == (tmp_path / "one" / "confusion.csv").read_bytes()
    assert sorted({path.name for path in (tmp_path / "two").iterdir()} - {*OUTPUTS}) == ["scores.1.jsonl"]
    one, two = (read_scores(tmp_path / name / "scores.npz") for name in ("one", "two"))
    for stream in ("rgb", "flow"):
        np.testing.assert_allclose(two.logits[stream], one.logits[stream], atol=1e-5)
    data = page(tmp_path / "two")
    assert data["command"] == f"i3d {' '.join(map(str, options))}"


DYING = """
import itertools, os, signal
from i3dcli.evaluation.score_log import ScoreLog
write, count = ScoreLog._write, itertools.count()

def write_and_die(self, record):
    write(self, record)
    if next(count) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

ScoreLog._write = write_and_die
"""


def test_killed_and_resumed_equals_uninterrupted(done, split, weights, tmp_path):
    arguments = [split.path, *weights, "--out", tmp_path / "out"]
    killed = start("eval", *arguments, before=DYING)
    log = tmp_path / "out" / "scores.0.jsonl"
    assert killed.wait() == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".i3d.lock", log.name]
    assert log.read_text().count('"video"') == 3
    log.write_bytes(log.read_bytes()[:-9])  # as if it had been killed while it wrote the third
    resumed = score(*arguments)
    assert (resumed.exit_code, resumed.stdout) == (0, done[0].stdout)
    scored = [json.loads(line)["video"] for line in log.read_text().splitlines() if re.fullmatch(r'{"video".*}}', line)]
    assert scored == [str(path) for path in split.videos]
    for name in ("metrics.json", "per_class.csv", "confusion.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (done[1] / name).read_bytes()


def test_ctrl_c_keeps_what_was_scored_and_ends_in_one_line(split, weights, tmp_path, monkeypatch):
    add, count = i3dcli.prediction.two_stream.PendingPrediction.add, []

    def interrupted(self, *arguments, **how):
        count.append(1)
        if len(count) > 2:
            raise KeyboardInterrupt
        return add(self, *arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(i3dcli.prediction.two_stream.PendingPrediction, "add", interrupted)
        result = score(split.path, *weights, "--out", tmp_path)
    assert result.exit_code == 130 and "Traceback" not in result.stderr
    assert result.stderr.endswith(f"\nInterrupted: what was scored is in {tmp_path}; run it again to go on\n")
    assert (tmp_path / "scores.0.jsonl").read_text().count('"video"') == 2
    assert score(split.path, *weights, "--out", tmp_path).exit_code == 0


# Bad input


def test_bad_input_is_one_line(split, quick, weights, streams, tmp_path):
    one_line(
        score(split.path, "--rgb", quick["flow"], "--device", "cpu"),
        1,
        f"wrong stream: {quick['flow']}: got flow weights, expected rgb; give rgb weights, or use these for the flow stream",
    )
    (tmp_path / "empty.txt").touch()
    result = score(tmp_path / "empty.txt", *weights)
    one_line(result, 1, f"not a list: {tmp_path}/empty.txt: it is empty; expected one entry per line")
    (tmp_path / "file").touch()
    one_line(
        score(split.path, *weights, "--out", tmp_path / "file"),
        1,
        f"cannot write: {tmp_path}/file: it is a file; give another --out",
    )
    last_line(
        score(split.path, *weights, "--flow-dir", tmp_path),
        f"no flow: {tmp_path}: none of the 6 videos has any there, that of the first would be in v0; "
        "make it with i3d extract-flow, or leave --flow-dir out",
    )
    result = score("--scores", split.path)
    one_line(result, 1, f"no scores: {split.path}: it is no .npz of numbers, or damaged; give a file of i3d eval")


def test_every_split_is_looked_at_before_the_first_is_scored(split, weights):
    text = f"option without use: {split.path}: got --split, but this is read as list; leave it out"
    one_line(score(split.path, *weights, "--split", "1,2"), 1, text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line(split, quick):
    one_line(
        score(split.path, "--rgb", quick["rgb"], "--device", "cuda"),
        1,
        "no such device: cuda: torch finds 0 CUDA devices; use --device cpu",
    )


def test_other_weights_in_the_same_folder_are_one_line(done, split, quick):
    last_line(
        score(split.path, "--rgb", quick["rgb"], "--device", "cpu", "--out", done[1]),
        f"scores of another making: {done[1]}: they were computed with other weights, flow or protocol; "
        "choose another --out, or --overwrite them",
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "No weights: give --rgb PATH, --flow PATH, --model NAME or --scores NPZ."),
        (["s.txt"], "No weights: give --rgb PATH, --flow PATH, --model NAME or --scores NPZ."),
        (["--rgb", "a.pt"], "Missing argument 'SPLIT', the videos to score."),
        (["s.txt", "--rgb", "a.pt", "--model", "x"], "--model and --rgb or --flow name weights twice; give one or the other."),
        (
            ["--scores", "a.npz", "--rgb", "a.pt"],
            "--scores are fused without a network; leave out --model, --rgb and --flow.",
        ),
        (["s.txt", "--scores", "a.npz"], "--scores hold the labels of their videos; leave out SPLIT."),
        (
            ["s.txt", "--rgb", "a.pt", "--protocol", "clips", "--clips", "0"],
            "Invalid value for '--clips': 0 is not in the range 1<=x<=1000.",
        ),
        (["s.txt", "--rgb", "a.pt", "--clips", "3"], "--clips and --crops are for --protocol clips."),
        (["s.txt", "--rgb", "a.pt", "--crops", "1"], "--clips and --crops are for --protocol clips."),
        (
            ["s.txt", "--rgb", "a.pt", "--protocol", "clips", "--max-frames", "9"],
            "--max-frames is for --protocol full.",
        ),
        (["s.txt", "--rgb", "a.pt", "--stream", "both"], "--stream both needs --flow PATH too."),
        (["s.txt", "--rgb", "a.pt", "--stream", "flow"], "--stream flow needs --flow PATH too."),
        (["s.txt", "--rgb", "a.pt", "--sweep-fusion"], "--sweep-fusion needs the weights of both streams."),
        (
            ["s.txt", "--model", "x", "--stream", "rgb", "--sweep-fusion"],
            "--sweep-fusion needs the weights of both streams.",
        ),
        (["s.txt", "--rgb", "a.pt", "--split", "1,2,1"], "--split names a split twice."),
        (["--scores", "a", "--fusion-weights", "1"], "--fusion-weights takes two numbers, of RGB and of flow."),
        (["--scores", "a", "--fusion-weights", "-1,2"], "--fusion-weights must be finite, not negative and not all zero."),
        (["--scores", "a", "--fusion-weights", "0,0"], "--fusion-weights must be finite, not negative and not all zero."),
        (["--scores", "a", "--fusion-weights", "1,inf"], "--fusion-weights must be finite, not negative and not all zero."),
        (["--scores", "a", "--fusion-weights", "1,nan"], "--fusion-weights must be finite, not negative and not all zero."),
        (
            ["--scores", "a", "--fusion-weights", "1;2"],
            "Invalid value for '--fusion-weights': '1;2' is not a list of numbers such as 1,1.",
        ),
        (
            ["s.txt", "--rgb", "a.pt", "--split", "1,x"],
            "Invalid value for '--split': '1,x' is not a list of numbers such as 1.",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, text):
    one_line(score(*arguments), 2, f"{text} See i3d eval -h.")


def test_results_of_others_are_replaced_only_where_it_is_asked_for(split, weights, streams, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    text = (
        f"files are there: {tmp_path}: got report.html, which are of no evaluation to go on with; "
        "choose another --out, or --overwrite to replace them"
    )
    for arguments in ((split.path, *weights), streams):
        one_line(score(*arguments, "--out", tmp_path), 1, text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"] and (tmp_path / "report.html").read_text() == "mine"
    assert score(*streams, "--out", tmp_path, "--overwrite").exit_code == 0
    assert "files are there" in score(*streams, "--out", tmp_path).stderr
    assert (tmp_path / "report.html").read_text() != "mine"


def test_results_are_not_written_over_what_they_are_made_from(split, weights, streams, tmp_path):
    assert score(*streams, "--out", tmp_path).exit_code == 0
    saved = tmp_path / "scores.npz"
    before = saved.read_bytes()
    text = f"cannot write: {saved}: it is what is read or written besides; give another name"
    one_line(score("--scores", saved, "--out", tmp_path, "--overwrite"), 1, text)
    (tmp_path / "metrics.json").write_text(split.path.read_text())
    result = score(
        tmp_path / "metrics.json", *weights, "--format", "list", "--root", split.path.parent, "--out", tmp_path, "--overwrite"
    )
    assert result.exit_code == 1 and "metrics.json: it is what is read or written besides" in result.stderr
    assert saved.read_bytes() == before
