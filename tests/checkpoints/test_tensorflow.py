import os
import tracemalloc
from collections import Counter

import bundles
import numpy as np
import pytest

from i3dcli import CheckpointError
from i3dcli.checkpoints.tensorflow import TensorBundle

PUBLISHED = {  # name → (tensors, bytes of data); from the files themselves
    "rgb_imagenet": (230, 50_818_176),
    "flow_imagenet": (230, 50_730_368),
    "rgb_scratch": (230, 50_818_176),
    "flow_scratch": (230, 50_730_368),
    "rgb_scratch_kin600": (346, 103_218_112),
}


def some_tensors():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4), "a/b": (5,), "a/b/c": (), "b": (2, 1, 3, 7, 1), "empty": (0, 3)}
    tensors = {name: np.asarray(rng.standard_normal(shape), np.float32) for name, shape in shapes.items()}
    long = {f"network/layer_{i:03d}/weights": rng.standard_normal(i + 1).astype(np.float64) for i in range(200)}
    return tensors | long | {"global_step": np.array(12345, np.int64), "half": np.ones((2, 2), np.float16)}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("snappy", [False, True])
def test_tensors_come_back_as_they_were(tmp_path, shards, snappy):
    tensors = some_tensors()
    index = bundles.write_bundle(tmp_path / "model.ckpt", tensors, shards=shards, snappy=snappy)
    bundle = TensorBundle(index)
    assert sorted(bundle.entries) == sorted(tensors) and bundle.num_shards == shards
    for name, array in tensors.items():
        tensor = bundle.read(name)
        assert (tensor.numpy().dtype, tuple(tensor.shape)) == (array.dtype, array.shape)
        assert np.array_equal(tensor.numpy(), array)


def test_snappy_made_the_index_smaller(tmp_path):
    sizes = [bundles.write_bundle(tmp_path / str(on), some_tensors(), snappy=on).stat().st_size for on in (True, False)]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_indexes_are_read(name):
    bundle = TensorBundle(bundles.INDEXES / f"{name}.index")
    assert (len(bundle.entries), sum(entry.size for entry in bundle.entries.values())) == PUBLISHED[name]
    assert bundle.shard(0).name == f"{name}.data-00000-of-00001" and bundle.num_shards == 1
    ends = 0
    for entry in sorted(bundle.entries.values(), key=lambda entry: entry.offset):
        assert entry.offset == ends and entry.size == 4 * np.prod(entry.shape) and entry.dtype == 1
        ends = entry.offset + entry.size


def written(tmp_path, **options):
    return bundles.write_bundle(tmp_path / "model.ckpt", some_tensors(), **options)


def refused(index, text, *, name=None):
    with pytest.raises(CheckpointError) as caught:
        bundle = TensorBundle(index)
        bundle.read(name)
    assert text in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flipped_bit_of_a_tensor_is_found_and_the_tensor_named(tmp_path):
    index = written(tmp_path)
    at = TensorBundle(index).entries["network/layer_007/weights"].offset
    shard = tmp_path / "model.ckpt.data-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[at + 9] ^= 4
    shard.write_bytes(data)
    refused(index, f"{shard}: the checksum of network/layer_007/weights is wrong", name="network/layer_007/weights")
    assert TensorBundle(index).read("network/layer_008/weights").numel() == 9


def test_truncated_data_are_found(tmp_path):
    index = written(tmp_path)
    shard = tmp_path / "model.ckpt.data-00000-of-00001"
    os.truncate(shard, 1000)
    refused(index, f"{shard}: it ends at byte 1000, network/layer_199/weights at ", name="network/layer_199/weights")
    os.truncate(shard, 0)
    refused(index, "it ends at byte 0, a at 48", name="a")


def test_a_missing_shard_is_named(tmp_path):
    index = written(tmp_path, shards=3)
    (tmp_path / "model.ckpt.data-00001-of-00003").unlink()
    bundle = TensorBundle(index)
    lost = next(name for name, entry in bundle.entries.items() if entry.shard == 1)
    refused(index, "model.ckpt.data-00001-of-00003: no such file; it belongs beside model.ckpt.index", name=lost)


@pytest.mark.parametrize("size", [0, 1, 47, 48, 1000, -1])
def test_a_truncated_index_is_refused(tmp_path, size):
    index = written(tmp_path)
    index.write_bytes(index.read_bytes()[:size])
    refused(index, f"damaged checkpoint: {index}: it {'is an empty file' if size == 0 else 'does not end as an index'}")


def test_other_files_are_no_index(tmp_path):
    index = tmp_path / "page.index"
    index.write_bytes(b"<!DOCTYPE html>" + b"x" * 4000)
    refused(index, "it is a web page")
    refused(tmp_path / "absent.index", "No such file")
    refused(tmp_path, "got a folder")
    with open(index, "wb") as file:  # of zeros, but for what an index ends with
        file.seek(1 << 27)
        file.write(bundles.MAGIC.to_bytes(8, "little"))
    refused(index, f"it has {(1 << 27) + 8} bytes, far more than an index of tensors")


def test_what_no_network_needs_is_said_to_be_unreadable(tmp_path):
    parts = {
        "": bundles.field(1, 1),
        "text": bundles.entry((), 0, b"ab", dtype=7),
        "odd": bundles.entry((), 0, b"ab", dtype=23),
    }
    parts["slices"] = bundles.entry((2,), 0, b"") + bundles.field(7, bundles.field(1, 1))
    parts["\0slices\0\1\0x"] = bundles.entry((2,), 0, b"abcdefgh")  # as TensorFlow names a part, but for what is no text
    parts["shape"] = bundles.entry((1 << 20, 1 << 20), 0, b"abcd")
    index = tmp_path / "model.ckpt.index"
    index.write_bytes(bundles.table(parts))
    refused(index, "text is stored of strings", name="text")
    refused(index, "odd is stored of dtype 23", name="odd")
    refused(index, "slices is stored in slices", name="slices")
    refused(index, "in 4 bytes", name="shape")
    assert sorted(TensorBundle(index).entries) == ["odd", "shape", "slices", "text"]


@pytest.mark.parametrize("shape", [(0, 1 << 62, 1 << 62), (1 << 40, 1 << 40), (1,) * 255])
def test_shapes_that_cannot_be_are_refused(tmp_path, shape):
    (tmp_path / "odd.index").write_bytes(bundles.table({"": bundles.field(1, 1), "a": bundles.entry(shape, 0, b"")}))
    refused(tmp_path / "odd.index", "a tensor has", name="a")


def test_an_index_without_a_header_or_of_too_few_shards_is_refused(tmp_path):
    (tmp_path / "none.index").write_bytes(bundles.table({"a": bundles.entry((), 0, b"abcd")}))
    refused(tmp_path / "none.index", "it has no header")
    (tmp_path / "few.index").write_bytes(bundles.table({"": bundles.field(1, 2), "a": bundles.entry((), 0, b"abcd", shard=2)}))
    refused(tmp_path / "few.index", "in a shard after the last one, of 2")


def test_names_are_shown_on_one_line(tmp_path):
    index = bundles.write_bundle(tmp_path / "model.ckpt", {"a\nb\x1b[31m": np.ones(3, np.float32)})
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(b"twelve bytes")
    refused(index, r"the checksum of a\nb\x1b[31m is wrong", name="a\nb\x1b[31m")


def test_big_endian_checkpoints_are_refused(tmp_path):
    (tmp_path / "big.index").write_bytes(bundles.table({"": bundles.field(1, 1) + bundles.field(2, 1)}))
    refused(tmp_path / "big.index", "big-endian")


SOURCE = (bundles.INDEXES / "rgb_imagenet.index").read_bytes()
BLOCKS = list(bundles.spans(SOURCE))


def mutated(rng, source):
    data = bytearray(source)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        at, size = rng.integers(0, len(data), 2)
        del data[at : at + size % 50]
        return bytes(data)
    for at in rng.integers(0, len(data), rng.integers(1, 4)):
        data[at] = rng.choice([rng.integers(256), 0, 255, 127, 128, data[at] ^ 1 << rng.integers(8)])
    return bytes(data) if kind == 2 else bundles.with_right_checksums(data, BLOCKS)


def outcome(index, content):
    index.write_bytes(content)
    try:
        bundle = TensorBundle(index)
        for name in list(bundle.entries)[:3]:
            bundle.read(name)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return "read" if "missing part" in str(error) else "refused"


def test_no_mutation_of_an_index_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    counts = Counter(outcome(tmp_path / "model.ckpt.index", mutated(rng, SOURCE)) for _ in range(2000))
    assert min(counts["read"], counts["refused"]) > 100, counts  # some pass the checksums, some do not


def test_no_mutation_of_an_index_takes_much_memory(tmp_path):
    rng = np.random.default_rng(1)
    tracemalloc.start()
    try:
        for _ in range(100):
            outcome(tmp_path / "model.ckpt.index", mutated(rng, SOURCE))
        assert tracemalloc.get_traced_memory()[1] < 64 * len(SOURCE)
    finally:
        tracemalloc.stop()
