import csv
import io
import itertools
import json
import math
import shutil
from collections import Counter
from dataclasses import fields, replace

import pytest
import torch

import i3dcli
from i3dcli import I3D, CheckpointError, I3DError, save_checkpoint
from i3dcli.checkpoints.tensors import Inert, Stored
from i3dcli.checkpoints.weight_files import read_weights
from i3dcli.distributed import Group
from i3dcli.training import run_folder
from i3dcli.training.options import BEFORE, TrainOptions
from i3dcli.training.run_folder import Progress, RunFolder, log_csv
from i3dcli.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

OPTIONS = TrainOptions(train="videos", dropout=0.0)
CPU = torch.device("cpu")


def trainer(seed=0, classes=("left", "right")):
    torch.manual_seed(seed)
    net = I3D(len(classes), 3, width=0.0625)
    net.classes = classes
    return Trainer(net, OPTIONS, group=Group(), device=CPU, multi_label=False, report=lambda batch: None)


def folder(path, options=OPTIONS, **changed):
    return RunFolder(path, options, Group(), **{"clips_per_step": 6} | changed)


def saved(path, progress=None):
    run = folder(path)
    with run.opened(resume=False):
        trained = trainer()
        run.open(trained)
        run.save(trained, progress or Progress(step=3), metric="top1")
    return trained


def opened(path, *, resume):
    """Open the folder of a run, and close it."""
    with folder(path).opened(resume=resume):
        pass


def test_a_run_is_opened_as_it_was_saved(tmp_path):
    row = {"step": 2, "epoch": 1.0, "lr": 0.1, "loss": 0.5, "val_loss": 0.25, "val_top1": 0.5, "val_n": 4}
    progress = Progress(3, [row], best=0.5, lowest_loss=0.25, validations_since=1, reductions=1, outcomes=[(0.5, math.nan)])
    trained = saved(tmp_path / "run", progress)
    again = trainer(seed=1)
    opened = folder(tmp_path / "run").open(again)
    assert replace(opened, outcomes=[]) == replace(progress, outcomes=[]) and str(opened.outcomes) == "[(0.5, nan)]"
    assert all(torch.equal(value, trained.net.state_dict()[key]) for key, value in again.net.state_dict().items())


def test_the_record_says_what_was_asked_and_how_clips_are_made(tmp_path):
    saved(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (record["train"], record["lr"], record["clips_per_step"], record["processes"]) == ("videos", 0.02, 6, 1)
    assert record["preprocessing"]["crop"] == 224 and record["tool"].startswith("i3d ") and record["device"] == "cpu"
    assert (tmp_path / "run" / "classes.txt").read_text() == "left\nright\n"
    assert RunFolder.recorded_options(tmp_path / "run") == OPTIONS
    assert sorted(path.name for path in (tmp_path / "run").glob("*.*")) == ["classes.txt", "config.json", "last.pt", "log.csv"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"options": replace(OPTIONS, lr=0.5)}, "--lr 0.02 then, 0.5 now"),
        ({"options": replace(OPTIONS, lr_steps=((5, 0.1),))}, "--lr-steps none then, 5:0.1 now"),
        ({"clips_per_step": 12}, "6 clips per step of all processes then, 12 now"),
    ],
)
def test_a_run_is_not_opened_with_other_options(tmp_path, changed, text):
    saved(tmp_path / "run")
    with pytest.raises(I3DError) as caught:
        folder(tmp_path / "run", **changed).open(trainer())
    assert str(caught.value) == (
        f"not the same run: {tmp_path}/run: {text}; resume it with its own options, or start another with --init"
    )


def test_no_odd_state_of_a_run_ends_otherwise_than_in_a_line(tmp_path, monkeypatch):
    row = {"step": 2, "lr": 0.1, "loss": 0.5}
    saved(tmp_path / "run", Progress(3, [row], best=0.5, outcomes=[(0.5, math.nan)]))
    content, again = read_weights(tmp_path / "run" / "last.pt"), trainer(seed=1)
    training = content["training"]
    places = [
        *(("training",), *(("training", key) for key in training)),
        *(("training", "options", key) for key in ("lr", "lr_steps", "train")),
        *(("training", "progress", key) for key in training["progress"]),
        *(
            ("training", "learner", "optimizer"),
            ("training", "learner", "optimizer", "state"),
            ("training", "learner", "scaler"),
        ),
    ]
    odd = (None, True, -1, 10**5000, math.nan, "x", b"x", [5], [[5]], [[[5]]], [{}], {"a": 1}, {-1: {}}, Inert("set"), Stored)
    outcomes = Counter()
    for place, value in itertools.product(places, odd):
        changed = replaced(content, place, value)
        monkeypatch.setattr(run_folder, "read_weights", lambda path, changed=changed: changed)
        try:
            folder(tmp_path / "run").open(again)
            outcomes["opened"] += 1
        except I3DError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            outcomes["refused"] += 1
    assert outcomes == {"refused": 281, "opened": 19}  # the scaler is for fp16


def replaced(content, path, value):
    """A copy of nested dicts in which one place has another value."""
    first, *rest = path
    return {**content, first: replaced(content[first], rest, value) if rest else value}


def test_a_run_is_not_opened_with_other_classes(tmp_path):
    saved(tmp_path / "run")
    with pytest.raises(I3DError, match="other classes"):
        folder(tmp_path / "run").open(trainer(classes=("left", "up")))


def test_a_checkpoint_of_no_run_is_not_opened(tmp_path):
    save_checkpoint(trainer().net, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="a checkpoint without the state of a run"):
        folder(tmp_path).open(trainer())


def test_a_run_that_is_there_is_not_begun_again_and_none_is_not_resumed(tmp_path):
    with pytest.raises(I3DError, match=r"nothing to resume: .*run: no last\.pt in it; leave --resume out"):
        opened(tmp_path / "run", resume=True)
    saved(tmp_path / "run")
    with pytest.raises(I3DError, match=r"a run is there: .*run: got its last\.pt; go on with --resume, or choose another"):
        opened(tmp_path / "run", resume=False)
    opened(tmp_path / "run", resume=True)


def test_torchrun_resumes_by_itself_when_it_starts_a_run_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    opened(tmp_path / "run", resume=False)
    saved(tmp_path / "run")
    opened(tmp_path / "run", resume=False)


def test_two_runs_are_not_in_one_folder_at_a_time(tmp_path):
    text = r"^in use: .*/run: another process is writing to it; wait for its end, or choose"
    with folder(tmp_path / "run").opened(resume=False), pytest.raises(I3DError, match=text):
        opened(tmp_path / "run", resume=False)
    opened(tmp_path / "run", resume=False)


@pytest.mark.parametrize("name", ["config.json", "log.csv", "classes.txt", "best.pt", "curves.png"])
def test_files_of_others_under_the_names_of_a_run_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text('{"tool": "another"}')
    with pytest.raises(
        I3DError, match=rf"^files are there: {tmp_path}: got {name} and no last.pt to go on from; choose another"
    ):
        opened(tmp_path, resume=False)
    assert (tmp_path / name).read_text() == '{"tool": "another"}' and len(list(tmp_path.iterdir())) == 1


def test_the_best_weights_of_a_run_whose_last_were_removed_are_not_replaced(tmp_path):
    trained = saved(tmp_path)
    folder(tmp_path).keep_best(trained, chosen_on=())
    (tmp_path / "last.pt").unlink()
    with pytest.raises(I3DError, match=r"^files are there: .*: got best.pt, config.json, log.csv, .* and no last.pt to go on"):
        opened(tmp_path, resume=False)


def test_a_run_that_was_killed_before_its_first_save_is_begun_again_in_its_folder(tmp_path):
    run, trained = folder(tmp_path), trainer()
    with run.opened(resume=False):
        run.open(trained)
        run.log(Progress(history=[{"step": 1}]))
        run.keep_best(trained, chosen_on=())
    (tmp_path / ".last.pt.i3d.tmp").write_text("half")
    opened(tmp_path, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "classes.txt", "config.json", "log.csv"]


def test_a_record_that_is_none_is_an_error(tmp_path):
    for text in ("{", "{}", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"nothing to resume: .*: no config\.json of a run in it"):
            RunFolder.recorded_options(tmp_path)


def rewritten(path, part, change):
    """Change what config.json or a part of the state in last.pt holds."""
    if part == "config.json":
        record = json.loads((path / "config.json").read_text())
        change(record)
        (path / "config.json").write_text(json.dumps(record))
        return
    content = torch.load(path / "last.pt", weights_only=True)
    change(content["training"][part])
    torch.save(content, path / "last.pt")


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The folder of a run that did what runs do which are older than all options."""
    path = tmp_path_factory.mktemp("older") / "run"
    run = folder(path, replace(OPTIONS, **BEFORE))
    with run.opened(resume=False):
        trained = trainer()
        run.open(trained)
        run.save(trained, Progress(step=3), metric="top1")
    return path


def test_an_option_that_a_run_lacks_has_the_value_that_reproduces_it(older, tmp_path):
    """Each option in turn, also those that later work adds; but for "train", which makes it a run."""
    path, again = shutil.copytree(older, tmp_path / "run"), trainer()
    for name in (field.name for field in fields(TrainOptions) if field.name not in ("train", "dropout")):
        for part in ("config.json", "options"):
            rewritten(path, part, lambda record, name=name: record.pop(name))
        recorded = RunFolder.recorded_options(path)
        assert recorded == replace(OPTIONS, **BEFORE)
        assert folder(path, recorded).open(again).step == 3


@pytest.mark.parametrize("name", [field.name for field in fields(Progress) if field.name != "step"])
def test_what_the_state_of_a_run_lacks_begins_anew(older, tmp_path, name):
    path = shutil.copytree(older, tmp_path / "run")
    rewritten(path, "progress", lambda record: record.pop(name))
    assert folder(path, RunFolder.recorded_options(path)).open(trainer()) == Progress(step=3)


@pytest.mark.parametrize(("part", "file"), [("config.json", "config.json"), ("options", "last.pt"), ("progress", "last.pt")])
def test_an_option_of_another_i3d_is_one_line(older, tmp_path, part, file):
    path = shutil.copytree(older, tmp_path / "run")
    rewritten(path, part, lambda record: record.update(mixup=0.5))
    with pytest.raises(CheckpointError) as caught:
        folder(path, RunFolder.recorded_options(path)).open(trainer())
    assert str(caught.value) == (
        f"run of another i3d: {path}/{file}: got 'mixup', which this i3d {i3dcli.__version__} does not know; "
        f"resume it with i3d {i3dcli.__version__}, which wrote it"
    )


@pytest.mark.parametrize("name", ["options", "clips_per_step", "classes", "learner", "progress"])
def test_a_state_without_one_of_its_parts_is_one_line(older, tmp_path, name):
    path = shutil.copytree(older, tmp_path / "run")
    content = torch.load(path / "last.pt", weights_only=True)
    del content["training"][name]
    torch.save(content, path / "last.pt")
    with pytest.raises(CheckpointError, match="a checkpoint without the state of a run"):
        folder(path, replace(OPTIONS, **BEFORE)).open(trainer())


def test_the_best_accuracy_is_kept_and_the_first_of_equals():
    progress = Progress()
    accuracies = [0.25, 0.5, 0.5, 0.25, 0.75]
    better = [progress.follow({"val_loss": 1.0, "val_top1": a}, "top1", patience=9) for a in accuracies]
    assert better == [True, True, False, False, True] and progress.best == 0.75


def test_a_plateau_is_as_many_validations_without_a_lower_loss():
    progress, reductions = Progress(), []
    for loss in (1.0, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7, 0.7):
        progress.follow({"val_loss": loss, "val_top1": 0.0}, "top1", patience=2)
        reductions.append(progress.reductions)
    assert reductions == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]


def test_rows_of_different_columns_share_one_header():
    text = log_csv([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "val_n": 3}])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"step": "1", "loss": "0.5", "val_n": ""},
        {"step": "2", "loss": "0.25", "val_n": "3"},
    ]


def test_what_goes_with_the_last_weights_is_written_where_it_is_resumed_from(tmp_path):
    row = {"step": 3, "epoch": 1.0, "lr": 0.1, "loss": 0.5}
    trained = saved(tmp_path, Progress(step=3, history=[row]))
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    record = json.loads(whole["config.json"])
    for name in ("curves.png", "log.csv"):  # killed right after it had written last.pt for the first time
        (tmp_path / name).unlink()
    (tmp_path / "config.json").write_text(json.dumps({**record, "saved": False}))
    run = folder(tmp_path)
    run.write_beside_last(trained, run.open(trained), metric="top1")
    assert record["saved"] and {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == whole


def test_a_run_is_not_resumed_on_other_videos(tmp_path):
    with folder(tmp_path, videos="one").opened(resume=False):
        trained = trainer()
        folder(tmp_path, videos="one").save(trained, Progress(step=3), metric="top1")
    assert folder(tmp_path, videos="one").open(trainer()).step == 3
    with pytest.raises(
        I3DError, match=r"^not the same run: .*: other videos; resume it with its own options, or start another"
    ):
        folder(tmp_path, videos="two").open(trainer())
