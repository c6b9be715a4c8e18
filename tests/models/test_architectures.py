"""Networks of ARCHITECTURES, by the same commands: I3D, and one that a test adds."""

import csv
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy import ROW, Toy

import i3dcli
from i3dcli import CheckpointError
from i3dcli.cli.main import main
from i3dcli.models.architectures import ARCHITECTURES


def run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", ROW)


TRAIN = (
    "--architecture",
    "toy",
    "--short-side",
    36,
    "--crop",
    32,
    "--batch-size",
    4,
    "--no-flip",
    "--device",
    "cpu",
    "--workers",
    0,
)


@pytest.mark.usefixtures("toy")
def test_a_network_that_is_added_trains_resumes_evaluates_predicts_and_makes_a_timeline(motions, flows, tmp_path):
    for stream, more in (("rgb", ()), ("flow", ("--stream", "flow", "--flow-dir", flows["npy"]))):
        run("train", motions, *TRAIN, *more, "--lr", 0.1, "--steps", 6, "--out", tmp_path / stream)
    assert json.loads((tmp_path / "rgb" / "config.json").read_text())["architecture"] == "toy"
    net = i3dcli.load_checkpoint(tmp_path / "rgb" / "last.pt")
    assert isinstance(net, Toy) and net.inputs == ("rgb",) and net.preprocessing.clip_len == 8
    weights = ("--rgb", tmp_path / "rgb" / "last.pt", "--flow", tmp_path / "flow" / "last.pt", "--device", "cpu")
    table = run("eval", motions, *weights, "--out", tmp_path / "results")
    assert [line.split()[0] for line in table.splitlines()[1:4]] == ["RGB", "Flow", "Two-stream"]
    video = next((motions / "val" / "left").iterdir())
    record = json.loads(run("predict", video, *weights, "--json", "--features", tmp_path / "f.npz"))
    assert {label["label"] for label in record["top"]} == {"left", "right"}
    with np.load(tmp_path / "f.npz") as features:
        assert features["rgb"].shape == (3, 16)  # 14 frames are three steps of four
        np.testing.assert_allclose(features["rgb_end_seconds"], [4 / 25, 8 / 25, 12 / 25])
    windows = run("predict", video, *weights, "--timeline", "--window", 4, "--csv", "--top-k", 1)
    assert [row["start_seconds"] for row in csv.DictReader(windows.splitlines())] == ["0.0", "0.16", "0.32"]


@pytest.mark.usefixtures("toy")
def test_a_run_of_it_that_is_resumed_ends_with_the_same_weights(motions, tmp_path, monkeypatch):
    run("train", motions, *TRAIN, "--steps", 4, "--out", tmp_path / "whole")
    step = i3dcli.training.trainer.Trainer.step

    def dying(self, batches, *, number, lr):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batches, number=number, lr=lr)

    monkeypatch.setattr("i3dcli.training.train.SAVE_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr("i3dcli.training.trainer.Trainer.step", dying)
        arguments = ["train", motions, *TRAIN, "--steps", 4, "--out", tmp_path / "cut"]
        assert CliRunner().invoke(main, list(map(str, arguments))).exit_code == 130
    run("train", "--resume", "--out", tmp_path / "cut", "--device", "cpu", "--workers", 0)
    one, two = (i3dcli.load_checkpoint(tmp_path / name / "last.pt").state_dict() for name in ("whole", "cut"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_checkpoint_of_an_architecture_that_is_not_known_is_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(ARCHITECTURES, "toy", ROW)
        i3dcli.save_checkpoint(Toy(3, inputs=("rgb",)), tmp_path / "toy.pt")
    with pytest.raises(CheckpointError, match=r"toy\.pt: got architecture 'toy', expected one of i3d; upgrade i3d$"):
        i3dcli.load_checkpoint(tmp_path / "toy.pt")


@pytest.mark.usefixtures("toy")
def test_streams_of_different_architectures_are_not_fused(tmp_path):
    i3dcli.save_checkpoint(Toy(3, inputs=("rgb",)), tmp_path / "rgb.pt")
    i3dcli.save_checkpoint(i3dcli.create_model(num_classes=3, stream="flow", width=0.02), tmp_path / "flow.pt")
    with pytest.raises(CheckpointError, match=r"streams do not match: .*: got toy and i3d; expected one architecture"):
        i3dcli.load_model(rgb=tmp_path / "rgb.pt", flow=tmp_path / "flow.pt")


def test_i3d_is_the_papers():
    row = ARCHITECTURES["i3d"]
    assert (row.clip_len, row.test_clip_len, row.min_clip_len) == (64, 250, 9)
    with torch.device("meta"):
        nets = [row.build(400, inputs=inputs) for inputs in row.networks]
    count = sum(parameter.numel() for net in nets for parameter in net.parameters()) / 1e6
    assert count == pytest.approx(25.3, abs=0.1) and row.parameters == pytest.approx(count, rel=0.02)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.inference_mode()
def test_every_network_keeps_the_contract(name):
    row = ARCHITECTURES[name]
    for inputs in row.networks:
        net = i3dcli.create_model(name, num_classes=5, stream="+".join(inputs), width=1 / 16).eval()
        assert ARCHITECTURES[net.architecture] is row and net.inputs == inputs and net.preprocessing.clip_len == row.clip_len
        clips = [torch.rand(2, 3 if input == "rgb" else 2, 16, 40, 48) * 2 - 1 for input in inputs]
        pooled = net.forward_head(net.forward_features(*clips), pre_logits=True)
        torch.testing.assert_close(net.classify(pooled), net(*clips))
        assert net(*clips).shape == (2, 5) and net.frames_of_step(0).start == 0
        assert net.classifier.weight.shape[0] == len(net.classifier.bias) == 5
        assert all(isinstance(layer, torch.nn.Module) for layer in net.layers().values())
        net.classes = tuple("abcde")
        before = net(*clips)
        net.reorder_classes("ecadb")
        torch.testing.assert_close(net(*clips), before[:, [4, 2, 0, 3, 1]])
        net.replace_head(3)
        assert (net(*clips).shape, net.num_classes, net.classes) == ((2, 3), 3, None)


def test_a_stack_of_flows_is_flow_and_other_channels_need_a_name():
    assert i3dcli.I3D(3, 20, inputs=("flow",), width=0.02).stream == "flow"
    with pytest.raises(ValueError, match="or inputs of one name, got in_channels = 20"):
        i3dcli.I3D(3, 20)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"architecture": "lstm"}, "unknown architecture: got name = 'lstm', expected one of i3d"),
        ({"stream": "sound"}, "no such stream: i3d: got stream = 'sound', expected rgb or flow"),
        ({"num_classes": 0}, "expected at least one class"),
    ],
)
def test_what_cannot_be_created_is_said(arguments, text):
    with pytest.raises(ValueError, match=text):
        i3dcli.create_model(**arguments)


def test_an_unknown_architecture_is_one_line(motions, tmp_path):
    result = CliRunner().invoke(main, ["train", str(motions), "--architecture", "lstm", "--out", str(tmp_path / "run")])
    assert (result.exit_code, result.stdout) == (1, "") and result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: unknown architecture: lstm: expected one of i3d")
