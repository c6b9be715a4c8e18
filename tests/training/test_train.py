import contextlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import cv2
import pytest
import torch
from media import cut, largest_file, write_audio
from processes import DEATHS, dying, wait_for
from runs import TINY, assert_same_weights, dying_at, invoke, resume, rows, start, train, trained, waiting, weights

import i3dcli
from i3dcli.data.chosen import video_numbers
from i3dcli.data.views import Protocol
from i3dcli.defaults import TVL1
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.flow.stored import FlowFolder
from i3dcli.training import train as verb
from i3dcli.training.options import TrainOptions
from i3dcli.training.run_folder import RunFolder

RANDOM = ("--dropout", "0.5", "--flip", "--batch-size", "1", "--accumulate", "2", "--lr", "0.05")  # 4 steps an epoch


def names(folder):
    """The files of a run; what TensorBoard adds where it is installed is its own."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("events."))


def one_line(result, exit_code, *texts):
    assert (result.exit_code, result.stdout) == (exit_code, "")
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ") and sum(text.startswith("Error: ") for text in result.stderr.splitlines()) == 1
    assert all(text in line for text in texts), line


# Learning


def test_eight_clips_are_learnt_by_heart(motions, tmp_path):
    out = trained(motions / "train", "--batch-size", "8", "--epochs", "28", tmp_path / "run")
    assert float(rows(out)[0]["top1"]) < 1.0 and [row["top1"] for row in rows(out)[-5:]] == ["1.0"] * 5
    model = i3dcli.load_model(rgb=out / "last.pt", device="cpu")
    for path in sorted((motions / "train").glob("*/*.mp4")):
        assert model.predict(path).top(1)[0][0] == path.parent.name


@pytest.mark.parametrize("format", ["jpg", "npy"])
def test_eight_clips_of_stored_flow_are_learnt_by_heart(motions, flows, tmp_path, format):
    arguments = (motions, "--stream", "flow", "--flow-dir", flows[format], "--batch-size", "8", "--epochs", "26", "--lr", "0.1")
    out = trained(*arguments, tmp_path / "run")
    assert [row["top1"] for row in rows(out)[-5:]] == ["1.0"] * 5
    assert rows(out)[-1]["val_top1"] == "1.0"  # motion, unlike looks, is the same in other videos


def test_a_run_leaves_checkpoints_log_curves_and_settings(motions, tmp_path):
    result = train(motions, "--out", tmp_path / "run", "--epochs", "3")
    expected = ["best.pt", "classes.txt", "config.json", "curves.png", "last.pt", "log.csv"]
    assert names(tmp_path / "run") == expected
    assert result.stderr == (
        "folder: 8 train, 4 val, 2 classes; rgb, 6 steps of 4 clips of 9 frames at 25 fps, 32 of 36 pixels, on cpu\n"
    )
    history = rows(tmp_path / "run")
    assert [(row["step"], row["epoch"], row["val_n"]) for row in history] == [
        ("2", "1.0", "4"),
        ("4", "2.0", "4"),
        ("6", "3.0", "4"),
    ]
    assert list(history[0]) == ["step", "epoch", "lr", "loss", "top1", "val_loss", "val_top1", "val_n"]
    best = max(history, key=lambda row: float(row["val_top1"]))
    assert result.stdout == (
        f"{tmp_path}/run/best.pt  top1 {float(best['val_top1']):.4f} of 4 videos, one clip each, at step {best['step']} of 6\n"
    )
    assert (tmp_path / "run" / "classes.txt").read_text() == "left\nright\n"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["preprocessing"]["clip_len"] == 9
    assert cv2.imread(str(tmp_path / "run" / "curves.png")) is not None


def test_the_best_weights_load_and_predict_as_they_validated(motions, tmp_path):
    out = trained(motions, "--epochs", "5", tmp_path / "run")
    best = max(rows(out), key=lambda row: float(row["val_top1"]))
    model = i3dcli.load_model(rgb=out / "best.pt", device="cpu")
    how = model.nets["rgb"].preprocessing
    assert (model.labels, how.crop, how.short_side, how.clip_len) == (("left", "right"), 32, 36, 9)
    videos = sorted((motions / "val").glob("*/*.mp4"))
    logits = torch.stack([model.predict(video, protocol=Protocol(clips=1)).logits for video in videos])
    labels = torch.tensor([model.labels.index(video.parent.name) for video in videos])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert float(loss) == pytest.approx(float(best["val_loss"]), rel=1e-4)
    assert float((logits.argmax(dim=1) == labels).float().mean()) == float(best["val_top1"])
    assert best["epoch"] == "4.0" and len({row["val_loss"] for row in rows(out)}) == 5  # other weights would be told apart


def test_without_validation_the_last_loss_is_printed_and_there_is_no_best(motions, tmp_path):
    result = train(motions / "train", "--out", tmp_path / "run", "--steps", "2")
    assert result.stdout == f"{tmp_path}/run/last.pt  loss {float(rows(tmp_path / 'run')[-1]['loss']):.4f}\n"
    assert not (tmp_path / "run" / "best.pt").exists()


def test_one_step_of_one_clip_is_said_so(motions, tmp_path):
    result = train(motions / "train", "--out", tmp_path / "run", "--steps", "1", "--batch-size", "1")
    assert "; rgb, 1 step of 1 clip of 9 frames at 25 fps, " in result.stderr


def test_classes_without_a_training_video_are_noted(motions, tmp_path):
    (tmp_path / "list.txt").write_text("left/left0.mp4 0\nright/right0.mp4 3\nright/absent.mp4 2\n")
    result = train(tmp_path / "list.txt", "--root", motions / "train", "--out", tmp_path / "run", "--steps", "1")
    assert result.exit_code == 0 and "Note: no video of 2 of 4 classes: class 1, class 2\n" in result.stderr


def test_rows_between_epochs_have_the_mean_since_the_last(motions, tmp_path):
    plain = trained(motions / "train", "--epochs", "2", tmp_path / "plain")
    often = trained(motions / "train", "--epochs", "2", "--log-every", "1", tmp_path / "often")
    losses = [float(row["loss"]) for row in rows(often)]
    assert [float(row["loss"]) for row in rows(plain)] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])
    assert_same_weights(plain / "last.pt", often / "last.pt")


def test_rows_between_epochs_are_in_the_log_at_once(motions, tmp_path, monkeypatch):
    seen, save = [], RunFolder.save

    def look_and_save(folder, *args, **options):
        seen.append(len(rows(folder.path)))
        save(folder, *args, **options)

    monkeypatch.setattr(RunFolder, "save", look_and_save)
    trained(motions / "train", "--epochs", "2", "--log-every", "1", tmp_path / "run")
    assert seen == [1, 3]  # that of the epoch's last step comes with the weights


def test_the_same_seed_gives_the_same_weights_and_another_one_others(motions, tmp_path):
    one, two = (trained(motions, *RANDOM, "--steps", "2", tmp_path / name) for name in ("one", "two"))
    assert_same_weights(one / "last.pt", two / "last.pt")
    other = trained(motions, *RANDOM, "--steps", "2", "--seed", "1", tmp_path / "other")
    assert not torch.equal(*(weights(out / "last.pt")["logits.conv3d.weight"] for out in (one, other)))


def test_the_rate_falls_when_validation_stops_improving(motions, tmp_path):
    arguments = ("--schedule", "plateau", "--patience", "1", "--lr", "0", "--epochs", "3")
    result = train(motions, *arguments, "--out", tmp_path / "zero")  # nothing is learnt at this rate
    assert result.exit_code == 0
    log = rows(trained(motions, *arguments, "--lr", "1e-30", tmp_path / "run"))
    assert [float(row["lr"]) for row in log] == pytest.approx([1e-30, 1e-30, 1e-31])


def charades(folder, paths):
    """Annotations as Charades publishes them: two actions in each video, the second one only late."""
    lines = [f'{path.stem},"c{path.parent.name == "right":03d} 0.0 9.0;c005 0.0 9.0;c100 8.0 9.0",9.0\n' for path in paths]
    folder.mkdir()
    for path in paths:
        (folder / path.name).symlink_to(path)
    (folder / "Charades_v1_train.csv").write_text("id,actions,length\n" + "".join(lines[:6]))
    (folder / "Charades_v1_test.csv").write_text("id,actions,length\n" + "".join(lines[6:]))
    return folder


def test_several_labels_are_learnt_and_validated_by_mean_average_precision(motions, tmp_path):
    source = charades(tmp_path / "charades", sorted((motions / "train").glob("*/*.mp4")))
    result = train(source, "--val", source, "--out", tmp_path / "run", "--epochs", "2", "--lr", "0.5")
    assert result.exit_code == 0, result.stderr
    assert "charades: 6 train, 2 val, 157 classes, multi-label" in result.stderr and "  map " in result.stdout
    history = rows(tmp_path / "run")
    assert list(history[0]) == ["step", "epoch", "lr", "loss", "val_loss", "val_map", "val_n"]
    assert 0 <= float(history[-1]["val_map"]) <= 1 and float(history[-1]["loss"]) < float(history[0]["loss"])


def test_validation_clips_that_show_no_action_are_one_line(motions, tmp_path):
    source = charades(tmp_path / "charades", sorted((motions / "train").glob("*/*.mp4")))
    test = source / "Charades_v1_test.csv"
    test.write_text(re.sub(r'"c.*"', '"c100 8.0 9.0"', test.read_text()))
    arguments = (source, "--val", source, "--out", tmp_path / "run", "--epochs", "1")
    one_line(train(*arguments), 1, "nothing to validate on: 2 clips, ", "--clip-len")


@pytest.fixture(scope="module")
def finished(motions, tmp_path_factory):
    """A short run that has ended."""
    return trained(motions, "--epochs", "2", tmp_path_factory.mktemp("finished") / "run")


# What is validated on


@pytest.fixture
def tested(motions, tmp_path):
    """Like `motions`, but that what is not to train on is called test, as in UCF-101 and HMDB-51."""
    (tmp_path / "tested").mkdir()
    for part, name in (("train", "train"), ("val", "test")):
        (tmp_path / "tested" / name).symlink_to(motions / part)
    return tmp_path / "tested"


def test_a_test_part_is_not_looked_at_in_training(tested, tmp_path):
    result = train(tested, "--out", tmp_path / "run", "--steps", "1")
    assert result.exit_code == 0, result.stderr
    said = "folder: 6 train, 2 val, 2 classes, val held out of train, test part not looked at; rgb, 1 step of "
    assert result.stderr.startswith(said) and [row["val_n"] for row in rows(tmp_path / "run")] == ["2"]
    assert result.stdout.startswith(f"{tmp_path}/run/best.pt  top1 ")


def test_the_best_weights_keep_what_they_were_chosen_on_and_the_last_nothing(motions, finished, tmp_path):
    best, last = (i3dcli.load_checkpoint(finished / name).chosen_on for name in ("best.pt", "last.pt"))
    assert best == video_numbers((motions / "val").glob("*/*.mp4")) and len(best) == 4 and last == frozenset()
    i3dcli.convert(finished / "best.pt", tmp_path / "copy.pt")
    assert i3dcli.load_checkpoint(tmp_path / "copy.pt").chosen_on == best
    again = trained(motions / "train", "--width", "1", "--init", finished / "best.pt", "--steps", "1", tmp_path / "run")
    assert i3dcli.load_checkpoint(again / "last.pt").chosen_on == frozenset()


def test_how_much_is_held_out_is_an_option_and_may_be_nothing(tested, tmp_path):
    for share, said in (("0.5", "4 train, 4 val, "), ("0", "8 train, 2 classes, test part not looked at")):
        result = train(tested, "--val-fraction", share, "--out", tmp_path / share, "--steps", "1")
        assert result.exit_code == 0 and result.stderr.startswith(f"folder: {said}"), result.stderr
    assert not (tmp_path / "0" / "best.pt").exists() and result.stdout.startswith(f"{tmp_path}/0/last.pt  loss ")


def test_a_folder_without_parts_is_validated_on_only_where_it_is_asked_for(motions, tmp_path):
    plain = train(motions / "train", "--out", tmp_path / "plain", "--steps", "1")
    assert plain.stderr.startswith("folder: 8 train, 2 classes; rgb, ") and plain.stderr.count("\n") == 1
    asked = train(motions / "train", "--val-fraction", "0.25", "--out", tmp_path / "asked", "--steps", "1")
    assert asked.stderr.startswith("folder: 6 train, 2 val, 2 classes, val held out of train; rgb, ")


def test_where_no_class_has_two_videos_nothing_is_held_out_and_it_is_said(motions, tmp_path):
    for part, i in (("train", 0), ("test", 1)):
        for name in ("left", "right"):
            (tmp_path / "v" / part / name).mkdir(parents=True)
            (tmp_path / "v" / part / name / "v.mp4").symlink_to(motions / "train" / name / f"{name}{i}.mp4")
    got = "2 training videos of folder: each class has one recording only"
    result = train(tmp_path / "v", "--out", tmp_path / "run", "--steps", "1")
    assert result.exit_code == 0 and f"Note: no validation, as nothing can be held out: {got}\n" in result.stderr
    result = train(tmp_path / "v", "--val-fraction", "0.2", "--out", tmp_path / "asked", "--steps", "1")
    one_line(result, 1, f"nothing to hold out: --val-fraction 0.2: got {got}; leave it out, or give --val")


def test_a_run_that_is_older_than_an_option_is_resumed_as_it_was(tested, tmp_path, monkeypatch):
    """Before --val-fraction the test part was validated on."""
    tiny = {"width": 0.125, "crop": 32, "short_side": 36, "clip_len": 9, "flip": False, "dropout": 0.0, "batch_size": 4}
    older = TrainOptions(str(tested), **tiny, epochs=2.0, val_fraction="test")
    for name in ("whole", "cut"):
        with contextlib.nullcontext() if name == "whole" else dying_at(monkeypatch, 3):
            verb.train_from(older, tmp_path / name, note=lambda text: None, device="cpu", workers=0)
    config = tmp_path / "cut" / "config.json"
    record = json.loads(config.read_text())
    del record["val_fraction"]
    config.write_text(json.dumps(record))
    last = torch.load(tmp_path / "cut" / "last.pt", weights_only=True)
    del last["training"]["options"]["val_fraction"]
    torch.save(last, tmp_path / "cut" / "last.pt")
    result = resume(tmp_path / "cut")
    assert result.exit_code == 0 and result.stderr.startswith("folder: 8 train, 4 test, 2 classes; rgb, "), result.stderr
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    one_line(resume(tmp_path / "cut", "--val-fraction", "0.1"), 1, "--val-fraction test then, 0.1 now")


# Weights to start from


def init(source, out, motions, *arguments):
    result = train(motions / "train", "--width", "1", "--init", source, "--out", out, "--steps", "1", "--lr", "0", *arguments)
    assert result.exit_code == 0, result.stderr
    return result


def test_weights_of_the_same_classes_keep_their_head(finished, motions, tmp_path):
    result = init(finished / "best.pt", tmp_path / "run", motions)
    assert "new head" not in result.stderr
    one, two = (weights(path)["logits.conv3d.weight"] for path in (finished / "best.pt", tmp_path / "run" / "last.pt"))
    assert torch.equal(one, two)


def test_weights_of_other_classes_get_a_new_head_and_it_is_said(checkpoints, motions, tmp_path):
    result = init(checkpoints["rgb"], tmp_path / "run", motions, "--freeze-bn")
    assert f"Note: new head: {checkpoints['rgb']} has 10 classes, other than these 2\n" in result.stderr
    before, after = weights(checkpoints["rgb"]), weights(tmp_path / "run" / "last.pt")
    assert after["logits.conv3d.weight"].shape[0] == 2
    assert all(torch.equal(after[key], value) for key, value in before.items() if not key.startswith("logits"))


def test_how_clips_are_made_comes_with_the_weights_unless_it_is_asked_otherwise(finished, motions, tmp_path):
    bare = (motions / "train", "--init", finished / "best.pt", "--steps", "1", "--batch-size", "2")
    for name, asked, crop in (("same", (), 32), ("other", ("--crop", "34"), 34)):
        assert invoke(*bare, *asked, "--out", tmp_path / name).exit_code == 0
        made = i3dcli.load_checkpoint(tmp_path / name / "last.pt").preprocessing
        assert (made.crop, made.short_side, made.clip_len) == (crop, 36, 9)


# Unreadable videos


@pytest.fixture
def spoilt(motions, tmp_path):
    """Like `motions`, but that one video of each part has no picture."""
    for path in motions.glob("*/*/*"):
        link = tmp_path / "spoilt" / path.relative_to(motions)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    for name in ("train/left/left0.mp4", "val/right/right1.mp4"):
        (tmp_path / "spoilt" / name).unlink()
        write_audio(tmp_path / "spoilt" / name)
    return tmp_path / "spoilt"


def test_an_unreadable_video_is_reported_once_and_replaced_or_left_out(spoilt, tmp_path):
    result = train(spoilt, "--out", tmp_path / "run", "--epochs", "3")
    assert result.exit_code == 0 and {row["val_n"] for row in rows(tmp_path / "run")} == {"3"}
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2 and "left0.mp4" in errors[0] and "right1.mp4" in errors[1]


def test_what_videos_lack_is_noted_once(motions, tmp_path):
    shutil.copytree(motions, tmp_path / "cut")
    for name in ("train/left/left0.mp4", "val/right/right1.mp4"):
        cut(tmp_path / "cut" / name, 0.3)
    result = train(tmp_path / "cut", "--out", tmp_path / "run", "--epochs", "3")
    assert result.exit_code == 0
    notes = [line for line in result.stderr.splitlines() if line.startswith("Note: damaged video: ")]
    assert sorted(Path(note.split(": ")[2]).name for note in notes) == ["left0.mp4", "right1.mp4"]


def test_strict_makes_it_an_error(spoilt, tmp_path):
    one_line(train(spoilt, "--out", tmp_path / "run", "--strict"), 1, "left0.mp4")
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_videos_of_which_none_can_be_read_are_one_line(tmp_path, workers):
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / "v.mp4").write_text("hello")
    result = train(tmp_path / "videos", "--out", tmp_path / "run", "--workers", workers)
    assert result.exit_code == 1 and result.stdout == ""
    assert re.fullmatch(r"Error: no readable video: 2 tried: the first said: .*v\.mp4.*", result.stderr.splitlines()[-1])


def test_videos_without_flow_are_left_out_and_counted(motions, flows, tmp_path):
    shutil.copytree(flows["npy"], tmp_path / "flow")
    shutil.rmtree(tmp_path / "flow" / "train" / "left" / "left0")
    arguments = (motions / "train", "--stream", "flow", "--flow-dir", tmp_path / "flow" / "train", "--steps", "1")
    result = train(*arguments, "--out", tmp_path / "run")
    text = f"no flow: {tmp_path}/flow/train: got none for 1 of 8 videos, the first {motions}/train/left/left0.mp4"
    assert result.exit_code == 0 and f"Note: {text}; make it with i3d extract-flow\n" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("folder: 7 train, 2 classes; flow, ")
    one_line(train(*arguments, "--strict", "--out", tmp_path / "strict"), 1, text)
    one_line(train(*arguments, "--flow-dir", tmp_path, "--out", tmp_path / "none"), 1, "got none for 8 of 8 videos")


def test_flow_of_videos_that_lack_frames_is_noted_once(motions, flows, tmp_path):
    shutil.copytree(flows["npy"], tmp_path / "flow")
    for name in ("left0", "left1"):
        sidecar = tmp_path / "flow" / "train" / "left" / name / "flow.json"
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "lost_frames": 3}))
    one = ("--stream", "flow", "--flow-dir", tmp_path / "flow", "--steps", "1", "--out", tmp_path / "run")
    result = train(motions, *one)
    text = f"Note: flow of videos that lack frames: {tmp_path}/flow: got 2 of 8, the first {motions}/train/left/left0.mp4; copy"
    assert result.exit_code == 0 and result.stderr.count(text) == result.stderr.count("lack frames") == 1


def test_a_class_whose_videos_all_lack_flow_is_one_line(motions, flows, tmp_path):
    shutil.copytree(flows["npy"] / "train" / "left", tmp_path / "flow" / "left")
    result = train(motions / "train", "--stream", "flow", "--flow-dir", tmp_path / "flow", "--out", tmp_path / "run")
    text = f"no flow of a class: {tmp_path}/flow: got none for any training video of 'right'; make it with i3d extract-flow, "
    one_line(result, 1, text)
    assert not (tmp_path / "run").exists()


# Interrupted


@pytest.fixture(scope="module")
def whole(motions, tmp_path_factory):
    """A run with everything random that nothing interrupted."""
    return trained(motions, *RANDOM, "--epochs", "6", tmp_path_factory.mktemp("whole") / "run")


def assert_same_run(out, whole):
    for name in ("last.pt", "best.pt"):
        assert_same_weights(out / name, whole / name)
    assert rows(out) == rows(whole)
    assert names(out) == names(whole)  # no temporary file is left


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such processes")
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(motions, whole, tmp_path):
    out = tmp_path / "run"
    first, again = (motions, *TINY, *RANDOM, "--epochs", "6", "--out", out), ("--resume", "--out", out)
    steps = []
    for arguments, moment in ((first, 12), (again, 40), (again, 59)):
        kill = dying(out, moment, after=out / "last.pt")
        process = start(*arguments, "--workers", "0", save_every=3, before=kill)
        assert process.wait() in DEATHS, process.stderr
        steps.append(torch.load(out / "last.pt", weights_only=True)["training"]["progress"]["step"])
    assert 0 < steps[0] < steps[-1] < 24  # each was killed after some had been saved, and before its end
    assert resume(out).exit_code == 0 and not list(out.glob(".*"))
    assert_same_run(out, whole)
    assert "; it was at its end, step " in resume(out).stderr


def test_resumed_from_the_middle_of_an_epoch_equals_uninterrupted(motions, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "SAVE_EVERY", 3)
    with dying_at(monkeypatch, 7):
        train(motions, *RANDOM, "--epochs", "6", "--out", tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["training"]["progress"]
    assert (state["step"], len(state["outcomes"])) == (6, 2)
    result = resume(tmp_path / "run")
    assert result.exit_code == 0 and "on cpu; going on after step 6\n" in result.stderr
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_saves_and_the_run_goes_on_as_if_there_had_been_none(motions, whole, tmp_path, number):
    out, gate = tmp_path / "run", tmp_path / "gate"
    arguments = (motions, *TINY, *RANDOM, "--epochs", "6", "--out", out, "--workers", "1")
    process = start(*arguments, before=waiting(out, gate))
    wait_for((out / "last.pt").exists, process)
    os.killpg(process.pid, number)
    gate.touch()
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (128 + number, "")
    line = stderr.splitlines()[-1]
    assert re.fullmatch(rf"Stopped after step \d+: {out}: go on with --resume", line) and stderr.count("\n") == 2
    state = torch.load(out / "last.pt", weights_only=True)["training"]["progress"]
    assert f"Stopped after step {state['step']}:" in line and state["step"] < 24
    assert resume(out).exit_code == 0
    assert_same_run(out, whole)


def test_a_finished_run_is_resumed_without_doing_anything(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    result = resume(out)
    assert result.exit_code == 0 and result.stdout.startswith(f"{out}/best.pt  top1 ")
    assert_same_weights(out / "last.pt", finished / "last.pt")


# Errors


def test_a_run_that_is_there_is_not_begun_again(finished, motions):
    text = f"a run is there: {finished}: got its last.pt; go on with --resume, or choose another --out"
    one_line(train(motions, "--epochs", "2", "--out", finished), 1, text)


def test_nothing_is_not_resumed(tmp_path):
    text = f"nothing to resume: {tmp_path}/absent: no config.json of a run in it; leave --resume out to start a run"
    one_line(resume(tmp_path / "absent"), 1, text)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (("--lr", "0.5"), "--lr 0.02 then, 0.5 now"),
        (("--freeze-bn", "--batch-size", "2"), "--batch-size 4 then, 2 now; --freeze-bn off then, on now"),
        (("--recipe", "ucf101"), "--lr 0.02 then, 0.01 now; --schedule cosine then, plateau now"),
    ],
)
def test_a_run_is_not_resumed_with_other_options(finished, changed, text):
    result = resume(finished, *changed)
    one_line(
        result, 1, f"not the same run: {finished}: ", text, "; resume it with its own options, or start another with --init"
    )
    assert resume(finished, "--lr", "0.02", "--crop", "32").exit_code == 0


def test_a_loss_that_is_not_finite_keeps_the_checkpoint_before(motions, tmp_path):
    options = ("--schedule", "step", "--lr-steps", "2:1e30", "--clip-grad", "1e-3", "--log-every", "1")
    result = train(motions / "train", "--out", tmp_path / "run", *options)
    one_line(result, 1, "not finite", "lower --lr, or add --warmup or --clip-grad; last.pt is of an earlier step")
    assert i3dcli.load_checkpoint(tmp_path / "run" / "last.pt").num_classes == 2
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["training"]["progress"]["step"] == 2


def test_a_loss_that_is_not_finite_names_the_videos(motions, tmp_path):
    result = train(motions / "train", "--out", tmp_path / "run", "--lr", "1e30")
    one_line(result, 1, "loss is not finite: step 1: got nan from ", f"{motions}/train/left/left", "look at these videos")
    assert result.stderr.splitlines()[-1].count(".mp4") == 4


def test_predictions_that_are_not_finite_are_one_line(motions, tmp_path):
    result = train(motions, "--out", tmp_path / "run", "--lr", "1e30", "--batch-size", "8")
    one_line(result, 1, "not finite", "lower --lr")
    assert not (tmp_path / "run" / "last.pt").exists()


LIST = "left/left0.mp4 {}\nright/right0.mp4 {}\n"


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        (
            LIST.format(0, 2),
            ("--classes", "names.txt"),
            "label too large: list.txt: line 2: got 2, expected 0 to 1",
        ),
        (
            LIST.format(1, 1),
            ("--first-label", "0"),
            "one class: list.txt: got 'class 1' for all 2 training videos, expected two classes or more; add videos of another",
        ),
        (LIST.format(1, 2), (), "labels start at 1: list.txt: got 1 to 2, expected ids from 0; give --first-label 1"),
        ("# nothing\n", (), "empty list: list.txt"),
        ("", (), "not a list: list.txt: it is empty"),
        (
            LIST.format(0, 1),
            ("--schedule", "plateau"),
            "no validation: --schedule plateau: list: 2 train, 2 classes; give --val",
        ),
        (
            LIST.format(0, 1),
            ("--freeze-until", "Mixed_9z"),
            "no such layer: --freeze-until Mixed_9z: expected one of Conv3d_1a",
        ),
        (LIST.format(0, 1), ("--sync-bn",), "no CUDA device: --sync-bn: "),
        (LIST.format(0, 1), ("--val", "absent.txt"), "no such path: absent.txt"),
        (LIST.format(0, 1), ("--width", "1", "--init", "absent.pt"), "cannot read weights: absent.pt: No such file"),
        (LIST.format(0, 1), ("--out", "list.txt"), "cannot write: list.txt: it is a file; give another --out"),
        (LIST.format(0, 1), ("--device", "cuda:99"), "no such device: cuda:99"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(motions, tmp_path, monkeypatch, text, options, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(text)
    (tmp_path / "names.txt").write_text("left\nright\n")
    one_line(train("list.txt", "--root", motions / "train", "--out", "run", *options), 1, error)
    assert not (tmp_path / "run" / "last.pt").exists()


def test_weights_of_the_other_stream_are_one_line(checkpoints, motions, tmp_path):
    result = train(motions, "--width", "1", "--init", checkpoints["flow"], "--out", tmp_path / "run")
    text = f"wrong stream: {checkpoints['flow']}: got flow weights, expected rgb; give rgb weights, or use these"
    one_line(result, 1, text)


def test_flow_of_another_making_is_one_line(motions, flows, tmp_path):
    arguments = (motions, "--stream", "flow", "--flow-dir", flows["jpg"], "--out", tmp_path / "run", "--bound", "15")
    one_line(
        train(*arguments), 1, "flow of another making: ", "bound 20.0, trained on 15.0; extract it as the weights want it, or"
    )


def test_weights_keep_how_their_flow_was_made_and_predict_computes_it_so(motions, tmp_path):
    """Also by another algorithm, or with other parameters than those of the weights that a run starts from."""
    dis = FlowOptions(format="npy", short_side=36, algorithm="dis", parameters=None)
    median0 = FlowOptions(format="npy", short_side=36, parameters=TVL1(median=0))
    for name, options in (("dis", dis), ("median0", median0)):
        assert all(outcome.status == "extracted" for outcome in extract_videos([str(motions)], tmp_path / name, options))
    one = ("--stream", "flow", "--steps", "1", "--workers", "0")
    result = train(motions, *one, "--flow-dir", tmp_path / "dis", "--out", tmp_path / "first")
    assert result.exit_code == 0 and "Note" not in result.stderr
    more = ("--flow-dir", tmp_path / "median0", "--width", "1", "--init", tmp_path / "first" / "last.pt")
    result = train(motions, *one, *more, "--out", tmp_path / "second")
    text = "algorithm tvl1, trained on dis"
    one_line(
        result, 1, f"flow of another making: {tmp_path}/median0/", f"{text}; extract it as the weights want it, or take it"
    )
    result = train(motions, *one, *more, "--any-flow", "--out", tmp_path / "second")
    text = f"Note: flow of another making: {tmp_path}/median0: {text}; the run is for it\n"
    assert result.exit_code == 0 and text in result.stderr
    video = next((motions / "val" / "right").iterdir())
    for run, flow in (("first", "dis"), ("second", "median0")):
        model = i3dcli.load_model(flow=tmp_path / run / "last.pt", device="cpu")
        key = video.relative_to(motions).with_suffix("")
        stored = model.predict(video, flow=FlowFolder(tmp_path / flow).open(key, video)).logits
        computed = model.predict(video).logits
        assert model.nets["flow"].preprocessing.flow_parameters == (None if flow == "dis" else TVL1(median=0))
        torch.testing.assert_close(computed, stored, atol=0.02, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Missing argument 'TRAIN', the training videos."),
        (("v", "--stream", "flow"), "--stream flow needs --flow-dir DIR, which i3d extract-flow writes."),
        (("v", "--flow-dir", "flow"), "--flow-dir is for --stream flow."),
        (("v", "--schedule", "step"), "--schedule step needs --lr-steps STEP:LR,..."),
        (("v", "--lr-steps", "5:0.1"), "--lr-steps is for --schedule step."),
        (("v", "--lr-steps", "5=0.1"), "--lr-steps '5=0.1' is not STEP:LR,STEP:LR,... such as 1000:0.01,2000:0.001."),
        (("v", "--lr-steps", "5:0.1:1"), "--lr-steps '5:0.1:1' is not STEP:LR"),
        (("v", "--lr-steps", "5:nan"), "--lr-steps '5:nan' is not STEP:LR"),
        (("v", "--lr-steps", "5:-1"), "--lr-steps '5:-1' is not STEP:LR"),
        (("v", "--lr", "nan"), "nan is no finite number."),
        (("v", "--epochs", "inf"), "inf is no finite number."),
        (("v", "--init", "x.pt", "--width", "0.5"), "--width is for fresh weights; --init brings its own."),
        (("v", "--val", "w", "--val-fraction", "0.1"), "--val names the videos to validate on, and --val-fraction takes them"),
        (("v", "--val-fraction", "1"), "1.0 is not in the range 0<=x<1"),
        (("v", "--stream", "sound"), "'sound' is not one of 'rgb', 'flow'"),
        (("v", "--batch-size", "0"), "0 is not in the range 1<=x<=100000"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, arguments, text):
    one_line(invoke("--out", tmp_path / "run", *arguments), 2, text)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_one_line(motions, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    one_line(train(motions, "--out", tmp_path / "run"), 1, "cannot write")


def test_a_disk_that_takes_no_more_ends_in_one_line_and_keeps_the_checkpoint_before(motions, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with dying_at(monkeypatch, 9):
        train(motions, *RANDOM, "--epochs", "6", "--out", out)
    before = (out / "last.pt").read_bytes()
    with largest_file(100_000):
        one_line(resume(out), 1, f"cannot write: {out}/", ": File too large")
    assert (out / "last.pt").read_bytes() == before and not list(out.glob(".*"))
    assert resume(out).exit_code == 0
    assert_same_run(out, whole)


def test_processes_that_read_ahead_end_with_a_run_that_fails(motions, tmp_path):
    process = start(motions, "--out", tmp_path / "run", *TINY, "--workers", "2", "--lr", "1e30")
    _, stderr = process.communicate()
    assert process.returncode == 1 and stderr.splitlines()[-1].startswith("Error: loss is not finite")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by RLIMIT_AS")
def test_memory_that_runs_out_is_one_line_that_says_what_to_lower(motions, tmp_path):
    code = "import resource; pages = int(open('/proc/self/statm').read().split()[0]); "
    code += "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 500_000_000,) * 2)"
    large = ("--clip-len", "250", "--crop", "224", "--short-side", "256", "--batch-size", "8")
    process = start(motions, "--out", tmp_path / "run", *TINY, *large, "--workers", "0", before=code)
    _, stderr = process.communicate()
    line = stderr.splitlines()[-1]
    assert (process.returncode, stderr.count("\n")) == (1, 2) and line.startswith("Error: out of memory: "), stderr
    assert line.endswith("; lower --batch-size (with --accumulate for the same step), --clip-len, --crop, --width or --workers")
