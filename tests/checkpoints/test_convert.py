"""Checkpoints of every kind become our own file, or pytorch-i3d's layout."""

import bundles
import oracle
import pytest
import torch

from i3dcli import I3D, CheckpointError, convert, load_checkpoint
from i3dcli.checkpoints import zoo
from i3dcli.errors import I3DError


def narrow(num_classes=3, stream="rgb", width=0.0625):
    return oracle.lively(I3D(num_classes, oracle.CHANNELS[stream], width=width))


def tensorflow(net, folder, scope="RGB/inception_i3d/"):
    tensors = bundles.deepmind(net.state_dict(), scope)
    return bundles.write_bundle(folder / "model.ckpt", tensors)


def test_a_tensorflow_checkpoint_becomes_a_file_that_describes_itself(tmp_path):
    net, clip = narrow(), oracle.clip(stream="rgb", frames=9, height=64, width=64)
    convert(tensorflow(net, tmp_path), tmp_path / "own.pt", classes=["a", "b", "c"])
    own = load_checkpoint(tmp_path / "own.pt")
    assert (own.classes, own.stream, own.width) == (("a", "b", "c"), "rgb", 0.0625)
    torch.testing.assert_close(own(clip), net(clip), rtol=1e-4, atol=1e-4)
    convert(tmp_path / "own.pt", tmp_path / "again.pt", half=True)
    assert load_checkpoint(tmp_path / "again.pt").classes == ("a", "b", "c")
    tensors = torch.load(tmp_path / "again.pt", weights_only=True)["state_dict"]
    assert torch.equal(tensors["logits.conv3d.weight"], own.state_dict()["logits.conv3d.weight"].half())


def test_the_layout_of_pytorch_i3d_has_just_its_tensors(tmp_path):
    net = narrow(400, "flow", width=1.0)
    convert(tensorflow(net, tmp_path, "Flow/inception_i3d/"), tmp_path / "flow.pt", layout="pytorch-i3d")
    published = torch.load(tmp_path / "flow.pt", weights_only=True)
    assert type(published) is dict and len(published) == 287 and set(published) == set(oracle.SHAPES)
    assert all(tensor.dtype == torch.float32 for tensor in published.values())
    own = load_checkpoint(tmp_path / "model.ckpt").state_dict()
    assert all(torch.equal(own[key], value) for key, value in published.items())


def test_a_name_of_the_zoo_is_converted_with_its_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(zoo, "verify", lambda path, file: None)  # the published bytes are not to be had here
    (tmp_path / "rgb_scratch_kin600").mkdir()
    tensorflow(narrow(600), tmp_path / "rgb_scratch_kin600", scope="")
    convert("kinetics600", tmp_path / "own.pt")
    assert load_checkpoint(tmp_path / "own.pt").classes == zoo.find_model("kinetics600").classes


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("model.ckpt", {"classes": ["a"]}, "got 1 name, expected 3"),
        ("model.ckpt", {"stream": "flow"}, "got rgb weights, expected flow"),
        ("model.ckpt", {"layout": "pytorch-i3d"}, "got width 0.0625"),
        ("kinetics400", {}, "two streams: kinetics400"),
        ("kinetics600", {"stream": "flow"}, "no flow stream: kinetics600"),
        ("absent", {}, "No such file"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, source, options, text):
    monkeypatch.chdir(tmp_path)
    tensorflow(narrow(), tmp_path)
    with pytest.raises(CheckpointError) as caught:
        convert(source, "own.pt", **options)
    assert text in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "own.pt").exists()


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(I3DError, match=r"cannot write: .*none/own\.pt: there is no folder"):
        convert(tensorflow(narrow(), tmp_path), tmp_path / "none" / "own.pt")


def test_unknown_layouts_are_a_mistake_in_the_program(tmp_path):
    with pytest.raises(ValueError, match="layout = 'onnx'"):
        convert("model.ckpt", tmp_path / "own.pt", layout="onnx")


def test_a_file_that_is_there_is_replaced_only_where_it_is_asked_for(tmp_path):
    source = tensorflow(narrow(), tmp_path)
    (tmp_path / "own.pt").write_text("mine")
    with pytest.raises(I3DError, match=r"^cannot write: .*own.pt: a file is there; give another name, or overwrite=True$"):
        convert(source, tmp_path / "own.pt")
    assert (tmp_path / "own.pt").read_text() == "mine"
    convert(source, tmp_path / "own.pt", overwrite=True)
    assert load_checkpoint(tmp_path / "own.pt").stream == "rgb"
