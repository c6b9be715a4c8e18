"""The network in whatever containers and prefixes people keep it in; of several, the one that is named."""

import pytest
import torch

import i3dcli
from i3dcli import I3D, CheckpointError, load_checkpoint
from i3dcli.checkpoints.key_maps import FIRST_TENSOR
from i3dcli.checkpoints.networks import find_network, split_key
from i3dcli.checkpoints.tensors import Stored

KEYS = ("Conv3d_1a_7x7.conv3d.weight", "Mixed_3b.b0.bn.weight", "logits.conv3d.bias")


def weights(prefix="", value=0.0):
    return {prefix + key: Stored.of(torch.tensor(value)) for key in KEYS}


def values(content, key=None):
    """The number in each tensor of the network that was found, by name."""
    found = find_network(content, FIRST_TENSOR, "w.pt", key=key)
    return {name: value.read().item() for name, value in found.entries.items() if isinstance(value, Stored)}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "net.", "backbone.", "encoder.", "i3d.", "module.model.", "a.b-c.3.d.", "_orig_mod.x."]
)
@pytest.mark.parametrize(
    "path",
    [
        *((), ("state_dict",), ("model_state_dict",), ("model_state",), ("model",), ("net",), ("params",), ("weights",)),
        *(("ema",), ("ema_model",), ("model_ema",), ("generator",), ("checkpoint", "trainer", "model", "state_dict")),
    ],
)
def test_a_network_is_found_wherever_it_is(prefix, path):
    content = weights(prefix)
    for key in reversed(path):
        content = {"epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": Stored.of(torch.ones(2))}}}, key: content}
    assert values(content) == dict.fromkeys(KEYS, 0.0)
    name = ".".join([*path, *([prefix.rstrip(".")] if prefix else [])])
    assert values(content, name) == values(content)


SEVERAL = {"epoch": 3, "model": weights(), "ema": {"shadow": weights("module.", 1.0)}}


def test_several_networks_are_named_and_refused():
    with pytest.raises(CheckpointError) as caught:
        values(SEVERAL)
    assert str(caught.value) == (
        "wrong checkpoint: w.pt: got 2 networks, model and ema.shadow.module, expected one; "
        "name it as in w.pt#ema.shadow.module"
    )


@pytest.mark.parametrize(("key", "value"), [("model", 0.0), ("ema.shadow.module", 1.0), ("ema.shadow", 1.0), ("ema", 1.0)])
def test_one_of_several_is_chosen_by_its_key_whole_or_begun(key, value):
    assert values(SEVERAL, key) == dict.fromkeys(KEYS, value)


@pytest.mark.parametrize("key", ["", "mod", "shadow", "ema.", "epoch", "\n\x1b"])
def test_a_key_of_none_of_them_is_refused_with_those_there_are(key):
    with pytest.raises(
        CheckpointError, match=r"got no network '.*', but model and ema\.shadow\.module, expected one"
    ) as caught:
        values(SEVERAL, key)
    assert str(caught.value).isprintable()


def test_two_streams_in_one_state_dict_are_two_networks():
    content = {"state_dict": weights("rgb.") | weights("flow.", 1.0)}
    with pytest.raises(CheckpointError, match=r"got 2 networks, state_dict\.rgb and state_dict\.flow, expected one"):
        values(content)
    assert values(content, "state_dict.flow") == dict.fromkeys(KEYS, 1.0)


def test_the_same_weights_under_two_keys_are_one_network():
    same = weights()
    assert values({"model": same, "state_dict": same}) == dict.fromkeys(KEYS, 0.0)


def test_what_is_beside_a_network_is_part_of_it_unless_it_is_named():
    content = weights("net.") | {"criterion.weight": Stored.of(torch.tensor(2.0))}
    assert values(content) == {**dict.fromkeys(KEYS, 0.0), "criterion.weight": 2.0}
    assert values(content, "net") == dict.fromkeys(KEYS, 0.0)


def test_containers_within_each_other_and_themselves_come_to_an_end():
    content = {}
    content["a"] = content["b"] = content
    wide = {str(i): {"x": {}} for i in range(11_000)}
    deep = {}
    for _ in range(5_000):
        deep = {"a": deep}
    for bomb in (content, wide, deep):
        assert values(bomb) == {}


def test_a_file_that_is_called_so_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_key("a.pt#ema") == (split_key("a.pt")[0], "ema") and split_key("a.pt") == (split_key("a.pt")[0], None)
    (tmp_path / "a.pt#ema").touch()
    assert [str(part) for part in split_key("a.pt#ema")] == ["a.pt#ema", "None"]
    assert split_key("#ema")[1] is None and str(split_key("a#b#c.d")[0]) == "a#b" and split_key("a#b#c.d")[1] == "c.d"


def test_a_network_is_chosen_wherever_weights_are_named(tmp_path):
    nets = {name: I3D(5, 3, width=1 / 64).eval() for name in ("model", "ema")}
    torch.save({"epoch": 3, **{name: net.state_dict() for name, net in nets.items()}}, tmp_path / "both.pt")
    bias = nets["ema"].logits.conv3d.bias
    assert torch.equal(load_checkpoint(f"{tmp_path}/both.pt#ema").logits.conv3d.bias, bias)
    model = i3dcli.load_model(rgb=f"{tmp_path}/both.pt#ema", device="cpu")
    assert torch.equal(model.nets["rgb"].logits.conv3d.bias, bias) and model.name == f"{tmp_path}/both.pt#ema"
    i3dcli.convert(f"{tmp_path}/both.pt#ema", tmp_path / "one.pt")
    assert torch.equal(load_checkpoint(tmp_path / "one.pt").logits.conv3d.bias, bias)
    with pytest.raises(i3dcli.I3DError, match="it is what is read or written besides"):
        i3dcli.convert(f"{tmp_path}/both.pt#ema", tmp_path / "both.pt")
