"""The package in Python: what the commands do, with their options as keywords."""

import inspect
from dataclasses import fields

import numpy as np
import pytest

import i3dcli
from i3dcli.evaluation.evaluate import EvalOptions
from i3dcli.training.options import TrainOptions

NAMES = {  # what notebooks and other packages import; nothing of it goes away
    *(
        "I3D",
        "create_model",
        "list_architectures",
        "load_checkpoint",
        "save_checkpoint",
        "convert",
        "list_models",
        "model_info",
    ),
    *(
        "inflate_googlenet",
        "inflate_state_dict",
        "load_model",
        "TwoStream",
        "Prediction",
        "Video",
        "read_video",
        "compute_flow",
    ),
    *("train", "evaluate", "extract_flow", "load_dataset", "__version__"),
    *("I3DError", "VideoError", "CheckpointError", "DatasetError", "VideoWarning"),
}


def test_every_name_is_there_and_documented():
    assert set(i3dcli.__all__) == NAMES and set(dir(i3dcli)) >= NAMES - {"__version__"}
    for name in NAMES - {"__version__"}:
        assert len(inspect.getdoc(getattr(i3dcli, name)).split()) > 5, name


def test_flow_a_run_and_an_evaluation_in_three_calls(motions, tmp_path):
    outcomes = i3dcli.extract_flow(motions, tmp_path / "flow", format="npy", short_side=36)
    assert {outcome.status for outcome in outcomes} == {"extracted"} and len(outcomes) == 12
    notes = []
    tiny = {"width": 0.125, "crop": 32, "clip_len": 9, "batch_size": 4, "flip": False, "steps": 2}
    where = {"stream": "flow", "flow_dir": str(tmp_path / "flow")}
    result = i3dcli.train(motions, tmp_path / "run", **tiny, **where, device="cpu", workers=0, note=notes.append)
    assert (result.step, result.metric) == (2, "top1") and any("16" not in note for note in notes)
    again = i3dcli.train(motions, tmp_path / "run", resume=True, device="cpu", workers=0)
    assert again.step == 2
    evaluation = i3dcli.evaluate(motions, flow=str(tmp_path / "run" / "last.pt"), flow_dir=str(tmp_path / "flow"), device="cpu")
    assert set(evaluation.findings.measured) == {"flow"} and evaluation.total == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stream": "flow"}, r"^stream='flow' needs flow_dir='DIR', which i3dcli.extract_flow writes\.$"),
        ({"schedule": "step"}, "^schedule='step' needs lr_steps="),
        ({"val": "v", "val_fraction": 0.1}, "^val names the videos to validate on, and val_fraction takes them from TRAIN"),
    ],
)
def test_options_that_contradict_each_other_are_named_as_python_does(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        i3dcli.train("videos", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_an_option_that_there_is_not_is_named(tmp_path):
    with pytest.raises(TypeError, match="'learning_rate'"):
        i3dcli.train("videos", tmp_path / "run", learning_rate=0.1)


def test_errors_give_advice_that_a_python_user_can_take(tmp_path, checkpoints, video):
    (tmp_path / "there.pt").touch()
    with pytest.raises(i3dcli.I3DError, match="or overwrite=True"):
        i3dcli.convert(checkpoints["rgb"], tmp_path / "there.pt")
    with pytest.raises(i3dcli.DatasetError, match=r"give the folder that the videos lie in, not .*, with root$"):
        (tmp_path / "list.txt").write_text("absent.mp4 0\n")
        i3dcli.load_dataset(tmp_path / "list.txt")
    i3dcli.extract_flow(video, tmp_path / "flow", short_side=32)
    with pytest.raises(i3dcli.DatasetError, match=r"use overwrite=True to redo it, or another out$"):
        i3dcli.extract_flow(video, tmp_path / "flow", short_side=40)


def test_a_dataset_says_what_is_evaluated_on(motions):
    dataset = i3dcli.load_dataset(motions)
    assert (len(dataset.train), len(dataset.eval), dataset.eval_part) == (8, 4, "val")


def test_a_video_is_an_iterable_of_frames(video):
    frames = np.stack(list(i3dcli.Video(video, short_side=48)))
    assert frames.shape == (12, 48, 64, 3) and frames.dtype == np.uint8


def test_models_are_told_by_name():
    assert "camera-motion" in i3dcli.list_models() and i3dcli.list_architectures() == ("i3d",)
    record = i3dcli.model_info("kinetics400")
    assert (record.num_classes, record.streams, record.classes[0]) == (400, ("rgb", "flow"), "abseiling")
    with pytest.raises(i3dcli.CheckpointError, match=r"unknown model: kinetics: .*; or give files with rgb and flow$"):
        i3dcli.model_info("kinetics")


def test_the_keywords_of_train_and_evaluate_are_the_options_of_the_commands():
    """So that help, notebooks and config.json share one vocabulary."""
    for function, options in ((i3dcli.train, TrainOptions), (i3dcli.evaluate, EvalOptions)):
        assert {field.name for field in fields(options)} & set(inspect.signature(function).parameters) <= {
            "device",
            "split",
            "source",
        }


def test_paths_are_welcome_wherever_a_path_is_meant(motions, flows, checkpoints, tmp_path):
    tiny = {"width": 0.125, "crop": 32, "clip_len": 9, "short_side": 36, "steps": 1, "device": "cpu", "workers": 0}
    i3dcli.train(motions, tmp_path / "run", stream="flow", flow_dir=flows["npy"], **tiny)
    last = tmp_path / "run" / "last.pt"
    evaluation = i3dcli.evaluate(motions, flow=last, flow_dir=flows["npy"], out=tmp_path / "out", device="cpu")
    assert evaluation.total == 4 and (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": "2"}, {"batch_size": 0}, {"lr": float("nan")}, {"schedule": "x"}, {"any_flow": True}]
)
def test_train_refuses_values_out_of_range(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        i3dcli.train("videos", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options", [{"protocol": "Full"}, {"clips": 2}, {"fusion_weights": (1, 2, 3)}, {"max_frames": 0}, {"scores": "s.npz"}]
)
def test_evaluate_refuses_what_the_command_refuses(checkpoints, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        i3dcli.evaluate("videos", rgb=checkpoints["rgb"], **options)
    with pytest.raises(ValueError, match="expected source and the weights"):
        i3dcli.evaluate()


@pytest.mark.parametrize(
    "options",
    [
        *({"format": "png"}, {"bound": 0}, {"quality": 0}, {"fps": "native"}, {"algorithm": "raft"}, {"shard": (2, 2)}),
        *({"threads": 0}, {"parameters": None}, {"parameters": {"median": 4}}, {"algorithm": "dis", "parameters": {}}),
    ],
)
def test_extract_flow_refuses_values_out_of_range(video, tmp_path, options):
    with pytest.raises(ValueError, match=r"expected|parameters"):
        i3dcli.extract_flow(video, tmp_path / "flow", **options)
    assert not (tmp_path / "flow").exists()


def test_classes_are_a_list_a_file_or_a_name(checkpoints, video, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"name {i}\n" for i in range(10)))
    for classes in (tmp_path / "names.txt", [f"name {i}" for i in range(10)]):
        assert i3dcli.load_model(**checkpoints, classes=classes, device="cpu").classes[9] == "name 9"
    with pytest.raises(i3dcli.DatasetError, match="got 400 names, expected 10"):
        i3dcli.load_model(**checkpoints, classes="kinetics400", device="cpu")
    with pytest.raises(i3dcli.DatasetError, match="no names of classes: kinetics: got no such file, expected one or a name of"):
        i3dcli.load_model(**checkpoints, classes="kinetics", device="cpu")
