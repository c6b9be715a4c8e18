"""DeepMind's TensorFlow checkpoints, as published and as people fine-tune them, become the same I3D."""

import dataclasses
import re
from collections import Counter

import bundles
import numpy as np
import oracle
import pytest
import torch

from i3dcli import I3D, CheckpointError, load_checkpoint
from i3dcli.checkpoints.tensorflow import TensorBundle

PUBLISHED = {  # index → stream, classes, scope; those from scratch are as those from ImageNet, see below
    "rgb_imagenet": ("rgb", 400, "RGB/inception_i3d/"),
    "flow_imagenet": ("flow", 400, "Flow/inception_i3d/"),
    "rgb_scratch_kin600": ("rgb", 600, ""),
}


def filled(name, tensors, folder):
    """A published checkpoint whose data are `tensors`; what an optimizer keeps in it is zero. The path of its index."""
    published = TensorBundle(bundles.INDEXES / f"{name}.index").entries
    values = {"": bundles.field(1, 1)}
    with open(folder / "model.ckpt.data-00000-of-00001", "wb") as shard:
        for key, entry in sorted(published.items(), key=lambda item: item[1].offset):
            array = tensors.pop(key) if key in tensors else np.zeros(entry.shape, np.float32)
            assert array.size == np.prod(entry.shape) and shard.tell() == entry.offset
            shard.write(array.tobytes())
            values[key] = bundles.entry(entry.shape, entry.offset, array.tobytes())
    assert not tensors
    (folder / "model.ckpt.index").write_bytes(bundles.table(values))
    return folder / "model.ckpt.index"


@pytest.mark.parametrize("name", PUBLISHED)
@torch.inference_mode()
def test_published_checkpoints_load_and_give_the_oracles_logits(tmp_path, name):
    stream, num_classes, scope = PUBLISHED[name]
    weights = oracle.weights(stream=stream, num_classes=num_classes)
    index = filled(name, bundles.deepmind(weights, scope), tmp_path)
    net = load_checkpoint(index)
    assert (net.stream, net.num_classes, net.width, net.training) == (stream, num_classes, 1.0, False)
    if num_classes == 400:
        record = next(record for record in oracle.RECORDS if record["stream"] == stream and record["seed"] == 0)
        logits = net(oracle.clip(**{key: record[key] for key in ("stream", "frames", "height", "width", "seed")}))[0]
        expected = torch.tensor(record["first8"][0])
        assert abs(float(logits.norm()) - record["norm"][0]) < 1e-4 * record["norm"][0]
        assert logits.topk(5).indices.tolist() == record["top5"][0]
    else:  # no oracle has that many; the same weights, loaded by PyTorch alone
        same = I3D(num_classes, oracle.CHANNELS[stream])
        same.load_state_dict(weights)
        clip = oracle.clip(stream=stream, frames=9, height=112, width=112)
        expected, logits = same.eval()(clip)[0], net(clip)[0]
    torch.testing.assert_close(logits[: len(expected)], expected, atol=1e-4 * float(logits.std()), rtol=0)


@pytest.mark.parametrize("stream", oracle.CHANNELS)
def test_published_indexes_of_a_stream_differ_in_the_checksums_of_their_tensors_alone(stream):
    imagenet, scratch = (TensorBundle(bundles.INDEXES / f"{stream}_{name}.index").entries for name in ("imagenet", "scratch"))
    assert imagenet != scratch
    assert imagenet == {name: dataclasses.replace(entry, crc=imagenet[name].crc) for name, entry in scratch.items()}


def narrow(stream="rgb", num_classes=5):
    return oracle.lively(I3D(num_classes, oracle.CHANNELS[stream], width=0.125))


def test_a_fine_tuned_checkpoint_with_slots_counters_and_other_classes_loads(tmp_path):
    net = narrow("flow", 7)
    scope = "my/model/Flow/inception_i3d/"
    tensors = bundles.deepmind(net.state_dict(), scope)
    clip = oracle.clip(stream="flow", frames=9, height=112, width=112)
    names = ("Adam", "Adam_1", "ExponentialMovingAverage", "optimizer/Momentum")
    slots = {f"{key}/{slot}": value * 0 for key, value in tensors.items() for slot in names}
    other = {"global_step": np.array(1000, np.int64), "beta1_power": np.float32(0.5), "learning/rate": np.float32(0.1)}
    bundles.write_bundle(tmp_path / "model-1000", tensors | slots | other, shards=2, snappy=True)
    (tmp_path / "._model-1000.index").write_bytes(b"what macOS leaves on other file systems")
    (tmp_path / "model-1000").mkdir()
    loaded = [
        load_checkpoint(tmp_path / name)
        for name in ("model-1000", "model-1000.index", "model-1000.meta", "model-1000.data-00001-of-00002", "")
    ]
    for same in loaded:
        assert (same.stream, same.num_classes, same.width) == ("flow", 7, 0.125)
        torch.testing.assert_close(same(clip), net(clip), rtol=1e-4, atol=1e-4)


def test_a_scale_in_batch_norm_is_kept(tmp_path):
    weights = {key: value for key, value in narrow().state_dict().items() if key in oracle.SHAPES}
    plain = {key: torch.ones_like(value) if key.endswith("bn.weight") else value for key, value in weights.items()}
    scales = {
        f"{name.removesuffix('/beta')}/gamma": np.full(array.shape, 3, np.float32)
        for name, array in bundles.deepmind(plain, "RGB/").items()
        if name.endswith("/beta")
    }
    assert len(scales) == 57
    loaded = load_checkpoint(bundles.write_bundle(tmp_path / "model.ckpt", bundles.deepmind(plain, "RGB/") | scales))
    for key, value in loaded.state_dict().items():
        if key.endswith("bn.weight"):
            assert torch.equal(value, torch.full_like(value, 3))
        elif key in plain:
            assert torch.equal(value, plain[key])


def refused(path, text):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert re.search(text, str(caught.value)) and "\n" not in str(caught.value)


def test_other_networks_two_networks_and_parts_of_one_are_refused(tmp_path):
    tensors = bundles.deepmind(narrow().state_dict(), "RGB/")
    cases = {
        "resnet": (
            {"resnet/conv1/kernel": np.ones((7, 7, 3, 64), np.float32)},
            "a 2D network of 1 tensors, the first resnet/conv1",
        ),
        "both": (tensors | {key.replace("RGB", "Flow"): value for key, value in tensors.items()}, "2 networks, Flow/ and RGB/"),
        "part": ({k: v for k, v in tensors.items() if "5c/Branch_0" not in k}, r"5 missing \(first Mixed_5c\.b0\.bn\.bias\)"),
        "more": (tensors | {"RGB/Mixed_9z/w": np.ones(1, np.float32)}, r"1 unknown \(first Mixed_9z\.w\)"),
        "scopes": (
            tensors | {key.replace("RGB/", ""): value for key, value in tensors.items()},
            "2 networks, one without a scope and RGB/, expected one",
        ),
        "twice": (
            tensors | {k.replace("0b_3x3", "0a_3x3"): v for k, v in tensors.items() if "Mixed_3b/Branch_1" in k},
            r"2 tensors for one place, RGB/Mixed_3b/Branch_1/Conv3d_0a_3x3/",
        ),
        "added": (tensors | {"RGB/NonLocal_1/theta/w": np.ones(1, np.float32)}, r"1 unknown \(first NonLocal_1\.theta\.w\)"),
        "hollow": (
            tensors | {"RGB/Conv3d_1a_7x7/conv_3d/w": np.ones((7, 7, 7, 3, 0), np.float32)},
            r"Conv3d_1a_7x7\.conv3d\.weight has shape \(0, 3, 7, 7, 7\)",
        ),
        "classless": (
            tensors | {"RGB/Logits/Conv3d_0c_1x1/conv_3d/w": np.ones((1, 1, 1, 128, 0), np.float32)},
            r"logits\.conv3d\.weight of shape \(0, 128, 1, 1, 1\)",
        ),
        "line\nbreak": ({"a\nb": np.ones((2, 2), np.float32)}, r"the first a\\nb"),
        "headless": ({k: v for k, v in tensors.items() if "Logits" not in k}, "the whole network with its classifier"),
    }
    for name, (content, text) in cases.items():
        refused(bundles.write_bundle(tmp_path / name, content), text)
    refused(tmp_path, r"got a folder with 11 files \.index, added\.index and both\.index and others, expected a file, or a")
    refused(tmp_path / "none.index", "cannot read weights: .*none.index: No such file")


def test_no_mutation_of_a_checkpoint_escapes_as_another_error(tmp_path):
    """Mutated indexes with data beside them, as `load_checkpoint` reads them; most are found by a checksum."""
    rng = np.random.default_rng(0)
    small = oracle.lively(I3D(2, 3, width=0.02))
    tensors = bundles.deepmind(small.state_dict(), "RGB/")
    index = bundles.write_bundle(tmp_path / "model.ckpt", tensors)
    source = index.read_bytes()
    spans = list(bundles.spans(source))
    outcomes = Counter()
    for _ in range(100):
        data = bytearray(source)
        for at in rng.integers(0, spans[-1][0], 2):
            data[at] = rng.choice([10, 27, 0, 255, data[at] ^ 1 << rng.integers(8)])
        index.write_bytes(bundles.with_right_checksums(data, spans))
        try:
            load_checkpoint(index)
            outcomes["loaded"] += 1
        except CheckpointError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 60, outcomes
