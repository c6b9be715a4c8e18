import collections
import dataclasses
import os
import pickle
import re
import struct
from collections import Counter

import numpy as np
import oracle
import pytest
import torch

from i3dcli import I3D, CheckpointError, load_checkpoint, save_checkpoint
from i3dcli.defaults import TVL1
from i3dcli.models.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")


def hassony2_key(key):
    """piergiaj's key in hassony2's layout, written from his side to check ours."""
    branches = {
        "b0": "branch_0",
        "b1a": "branch_1.0",
        "b1b": "branch_1.1",
        "b2a": "branch_2.0",
        "b2b": "branch_2.1",
        "b3b": "branch_3.1",
    }
    key = re.sub(r"\.(b\d[ab]?)\.", lambda m: f".{branches[m[1]]}.", key).replace(".bn.", ".batch3d.")
    key = key.replace("logits.", "conv3d_0c_1x1.")
    return key[0].lower() + key[1:]


def narrow(stream="rgb", num_classes=5):
    torch.manual_seed(0)
    return I3D(num_classes, oracle.CHANNELS[stream], width=0.125).eval()


def save(tmp_path, content, name="weights.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def save_like_torch_0_3(state_dict, path):
    """The file torch 0.3 wrote: magic number, protocol, system, a pickle with _rebuild_tensor, then the storages."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, torch.storage.TypedStorage):
                return None
            key = str(len(storages))
            storages[key] = item._untyped_storage
            return ("storage", torch.FloatStorage, key, "cpu", storages[key].nbytes() // 4, None)

        def reducer_override(self, item):
            if not isinstance(item, torch.Tensor):
                return NotImplemented
            arguments = (torch.storage.TypedStorage(wrap_storage=item.untyped_storage(), dtype=item.dtype, _internal=True),)
            return torch._utils._rebuild_tensor, (*arguments, 0, tuple(item.shape), tuple(item.stride()))

    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
            pickle.dump(value, file, protocol=2)
        Pickler(file, protocol=2).dump(collections.OrderedDict(state_dict))
        pickle.dump(list(storages), file, protocol=2)
        for storage in storages.values():
            file.write(struct.pack("<q", storage.nbytes() // 4))
            file.write(torch.tensor([], dtype=torch.uint8).set_(storage).numpy().tobytes())
    return path


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_piergiajs_layout_loads_with_stream_and_classes_from_the_tensors(tmp_path, stream):
    net = load_checkpoint(save(tmp_path, oracle.weights(stream=stream, num_classes=157)))
    assert (net.stream, net.num_classes, net.width, net.classes, net.training) == (stream, 157, 1.0, None, False)


@torch.inference_mode()
def test_hassony2s_layout_gives_identical_logits(tmp_path):
    weights = oracle.weights(stream="rgb")
    renamed = {hassony2_key(key): value for key, value in weights.items()}
    assert "mixed_4b.branch_2.1.batch3d.running_var" in renamed and "conv3d_0c_1x1.conv3d.bias" in renamed
    clip = oracle.clip(stream="rgb", frames=9, height=112, width=112)
    ours, his = load_checkpoint(save(tmp_path, weights, "a.pt")), load_checkpoint(save(tmp_path, renamed, "b.pt"))
    assert torch.equal(ours(clip), his(clip))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_wrapped_weights_are_found(tmp_path, prefix, container):
    net = narrow()
    weights = {prefix + key: value for key, value in net.state_dict().items()}
    content = weights if container is None else {"epoch": 3, container: weights}
    loaded = load_checkpoint(save(tmp_path, content))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in net.state_dict().items())


def test_files_of_torch_0_3_load(tmp_path):
    weights = {key: value for key, value in narrow("flow").state_dict().items() if "num_batches" not in key}
    path = save_like_torch_0_3(weights, tmp_path / "old.pt")
    assert path.read_bytes()[:1] == b"\x80" and b"_rebuild_tensor\n" in path.read_bytes()
    loaded = load_checkpoint(path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_our_own_file_rebuilds_the_network_and_says_how_it_was_trained(tmp_path):
    net = narrow("flow")
    net.classes = ("a", "b", "c", "d", "é")
    net.preprocessing = Preprocessing(fps=12.5, crop=112, flow_parameters=TVL1(median=0), flow_bound=10.0)
    save_checkpoint(net, tmp_path / "own.pt")
    loaded = load_checkpoint(tmp_path / "own.pt")
    assert (loaded.stream, loaded.width, loaded.classes, loaded.preprocessing) == (
        "flow",
        0.125,
        net.classes,
        net.preprocessing,
    )
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in net.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["own.pt"]


def test_a_file_without_parameters_of_flow_had_the_defaults(tmp_path):
    save_checkpoint(narrow(), tmp_path / "new.pt")
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    del content["preprocessing"]["flow_parameters"]
    torch.save(content, tmp_path / "old.pt")
    assert load_checkpoint(tmp_path / "old.pt").preprocessing == Preprocessing()


@pytest.mark.parametrize("change", [{"fps": "abc"}, {"crop": 0}, {"more": 1}, {"flow_parameters": {"tau": -1.0}}])
def test_preprocessing_that_is_none_is_refused(tmp_path, change):
    save_checkpoint(narrow(), tmp_path / "own.pt")
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    content["preprocessing"] |= change
    torch.save(content, tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match=r"own.pt: got no usable 'preprocessing'.*, expected a file written by i3d$"):
        load_checkpoint(tmp_path / "own.pt")


@pytest.mark.parametrize("value", [{}, "abc", ["a"], [1.5], None])
def test_what_weights_were_chosen_on_is_numbers(tmp_path, value):
    path = tmp_path / "own.pt"
    save_checkpoint(I3D(2, 3, width=0.0625), path, chosen_on={5, 2**62, 7})
    assert load_checkpoint(path).chosen_on == {5, 7, 2**62}
    torch.save(torch.load(path, weights_only=True) | {"chosen_on": value}, path)
    with pytest.raises(CheckpointError, match=r"^wrong checkpoint: .*own\.pt: got no usable 'chosen_on' "):
        load_checkpoint(path)


def test_half_precision_files_load_as_float32(tmp_path):
    save_checkpoint(narrow(), tmp_path / "half.pt", dtype=torch.float16)
    save_checkpoint(narrow(), tmp_path / "full.pt")
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "full.pt").stat().st_size
    assert load_checkpoint(tmp_path / "half.pt").logits.conv3d.weight.dtype == torch.float32


class Mischief:
    def __reduce__(self):
        return open, ("pwned", "w")


def own_content(**changes):
    net = narrow()
    content = {
        "format": "i3d",
        "version": 1,
        "state_dict": net.state_dict(),
        "stream": "rgb",
        "num_classes": 5,
        "classes": None,
    }
    return {**content, "width": 0.125, "preprocessing": dataclasses.asdict(Preprocessing()), **changes}


def without(key):
    return {k: v for k, v in narrow().state_dict().items() if k != key}


CONTENTS = {
    "mmaction2": (
        {"state_dict": {"backbone.layer1.0.conv1.conv.weight": torch.ones(1, 1, 1, 1, 1)}},
        "mmaction2's I3D, an inflated ResNet",
    ),
    "googlenet": (
        {"inception3a.branch1.conv.weight": torch.ones(1, 1, 1, 1)},
        "the 2D network GoogLeNet (run i3d inflate on it first)",
    ),
    "2d": ({"conv1.weight": torch.ones(1, 1, 1, 1)}, "a 2D network of 1 tensors, the first conv1.weight"),
    "other": ({"stem.weight": torch.ones(1, 1, 1, 1, 1)}, "another network of 1 tensors, the first stem.weight"),
    "no tensors": ({"epoch": 3}, "got no tensors"),
    "a list": ([torch.ones(1)], "got a list"),
    "missing": (without("Mixed_5c.b0.bn.bias"), "1 missing (first Mixed_5c.b0.bn.bias)"),
    "no head": (without("logits.conv3d.weight"), "no tensor logits.conv3d.weight"),
    "unknown": ({**narrow().state_dict(), "extra": torch.ones(1)}, "1 unknown (first extra)"),
    "shape": (
        {**narrow().state_dict(), "logits.conv3d.bias": torch.ones(6)},
        "logits.conv3d.bias of shape (6,), expected (5,)",
    ),
    "nan": (
        {**narrow().state_dict(), "logits.conv3d.bias": torch.full((5,), torch.nan)},
        "NaN or infinity in logits.conv3d.bias",
    ),
    "sparse": (
        {**narrow().state_dict(), "logits.conv3d.bias": torch.ones(5).to_sparse()},
        "logits.conv3d.bias, a Tensor without plain numbers, expected a dense tensor",
    ),
    "integers": (
        {**narrow().state_dict(), "logits.conv3d.bias": torch.ones(5, dtype=torch.int8)},
        "logits.conv3d.bias of torch.int8, expected float weights and integer counters",
    ),
    "channels": (
        {**narrow().state_dict(), "Conv3d_1a_7x7.conv3d.weight": torch.ones(8, 4, 7, 7, 7)},
        "3 input channels (rgb) or 2 (flow)",
    ),
    "version": (own_content(version=3), "format version 3, expected version 1 or 2, which this i3d reads; upgrade i3d"),
    "architecture": (own_content(version=2, architecture="lstm"), "architecture 'lstm', expected one of i3d; upgrade i3d"),
    "inputs": (own_content(version=2, architecture="i3d", inputs=["rgb", "flow"]), "no usable 'inputs'"),
    "field": (own_content(preprocessing={"fps": 25}), "no usable 'preprocessing'"),
    "width": (own_content(width="wide"), "no usable 'width'"),
    "stream": (own_content(stream="flow"), "Conv3d_1a_7x7.conv3d.weight of shape (8, 3, 7, 7, 7), expected (8, 2, 7, 7, 7)"),
    "stream of none": (own_content(stream="sound"), "no usable 'stream' ('sound')"),
    "classes": (own_content(classes=["one"]), "disagrees with its tensors"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_other_content_is_refused_with_what_it_is(tmp_path, kind):
    content, text = CONTENTS[kind]
    refused(save(tmp_path, content), text)


BYTES = {
    "empty": (b"", "an empty file"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "text": (b"hello", "neither a torch zip file nor a pickle"),
    "zip start": (b"PK\x03\x04" + b"\0" * 100, "incomplete or corrupt"),
    "pickle start": (b"\x80\x02" + b"\xff" * 100, "damaged checkpoint"),
}


@pytest.mark.parametrize("kind", BYTES)
def test_other_files_are_refused_with_what_they_are(tmp_path, kind):
    content, text = BYTES[kind]
    (tmp_path / "file.pt").write_bytes(content)
    refused(tmp_path / "file.pt", text)


@pytest.mark.parametrize("new_format", [True, False])
def test_half_a_file_is_refused(tmp_path, new_format):
    path = tmp_path / "half.pt"
    torch.save(narrow().state_dict(), path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "damaged checkpoint")


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch, new_format):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Mischief()}, "evil.pt", _use_new_zipfile_serialization=new_format)
    refused(tmp_path / "evil.pt", "which could run code")
    assert not (tmp_path / "pwned").exists()


def test_missing_files_and_folders_are_named(tmp_path):
    refused(tmp_path / "absent.pt", "No such file")
    refused(tmp_path / ("a" * 252 + ".pt"), "No such file")  # its name cannot become longer, as that of an index
    refused(tmp_path / ("a" * 300 + ".pt"), "File name too long")
    with pytest.raises(CheckpointError, match=r"cannot read weights: a\\x00b\.pt: embedded null byte"):
        load_checkpoint("a\0b.pt")
    refused(tmp_path, "a folder without weights")
    (tmp_path / "model.ckpt.data-00000-of-00001").touch()
    refused(tmp_path, "a TensorFlow checkpoint whose .index is missing")
    (tmp_path / "best.pt").touch()
    (tmp_path / "last.pt").touch()
    refused(tmp_path, "a folder with best.pt and last.pt (name one)")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files there")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    for name in ("weights.pt", "model.ckpt.index"):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, "got a pipe, expected a regular file")
    refused("/dev/zero", "got a device, expected a regular file")


def test_a_pickle_of_python_is_no_checkpoint(tmp_path):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps({"a": [1, 2]}, protocol=4))
    refused(path, "a pickle that torch did not write")  # and no warning of torch's


def test_no_corruption_escapes_as_another_error(tmp_path):
    save_checkpoint(narrow(), tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    rng = np.random.default_rng(0)
    outcomes = Counter()
    for _ in range(40):
        data = bytearray(good[: rng.integers(1, len(good))] if rng.random() < 0.3 else good)
        for at in rng.integers(0, len(data), 8):
            data[at] = rng.integers(256)
        (tmp_path / "bad.pt").write_bytes(data)
        try:
            load_checkpoint(tmp_path / "bad.pt")
            outcomes["loaded"] += 1
        except CheckpointError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] >= 20 and outcomes["loaded"] >= 10, outcomes  # only some bytes are told by a checksum


def refused(path, text):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert text in message and str(path) in message and "\n" not in message
