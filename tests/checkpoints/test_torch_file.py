"""torch's files without torch's reader: the same numbers, and nothing taken for what a file only claims to have."""

import collections
import io
import pickle
import struct
import warnings
import zipfile

import pytest
import torch

from i3dcli import CheckpointError
from i3dcli.checkpoints import torch_file
from i3dcli.checkpoints.pickles import HoldsCode
from i3dcli.checkpoints.tensors import Inert, Stored
from i3dcli.checkpoints.torch_file import read_old_torch, read_torch_zip
from i3dcli.errors import Malformed

KINDS = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
OTHERS = ("float8_e5m2", "float8_e4m3fn", "uint16", "uint32", "uint64")  # of storages that do not tell


def same(stored, tensor):
    read = stored.read()
    assert (read.shape, read.dtype, read.stride()) == (tensor.shape, tensor.dtype, tensor.stride())
    assert read.view(torch.uint8).equal(tensor.view(torch.uint8)) if tensor.is_contiguous() and tensor.ndim else True
    return read.equal(tensor) or "float8" in str(tensor.dtype)


@pytest.mark.parametrize("new_format", [True, False])
def test_tensors_of_every_kind_and_order_are_those_that_torch_reads(tmp_path, new_format):
    numbers = torch.arange(60).reshape(3, 4, 5)
    content = {kind: (numbers % 2 if kind == "bool" else numbers).to(getattr(torch, kind)) for kind in KINDS + OTHERS}
    content |= {
        "turned": numbers.permute(2, 0, 1),
        "part": numbers[1:, ::2],
        "expanded": torch.ones(()).expand(5, 6),
        "scalar": torch.tensor(7.0),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "channels last": torch.rand(2, 3, 2, 2, 2).contiguous(memory_format=torch.channels_last_3d),
    }
    torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=new_format)
    read = (read_torch_zip if new_format else read_old_torch)(tmp_path / "file.pt")
    assert read.keys() == content.keys()
    assert [key for key in content if not same(read[key], content[key].detach())] == []
    assert (read["expanded"].numbers, read["expanded"].is_whole, read["part"].is_whole) == (1, False, True)


def test_tensors_that_share_a_storage_in_an_old_file_are_read_from_it(tmp_path):
    whole = torch.arange(10.0)
    torch.save([whole[2:5], whole[5:]], tmp_path / "file.pt", _use_new_zipfile_serialization=False)
    parts = read_old_torch(tmp_path / "file.pt")
    assert [part.read().tolist() for part in parts] == [[2, 3, 4], [5, 6, 7, 8, 9]]


def test_numbers_of_a_machine_with_the_other_order_of_bytes_are_turned(tmp_path):
    torch.save({"a": torch.tensor([1.0, 2.0])}, tmp_path / "file.pt")
    members = {info.filename: data for info, data in members_of(tmp_path / "file.pt")}
    members["file/byteorder"] = b"big"
    members["file/data/0"] = struct.pack(">2f", 3.0, 4.0)
    pack(tmp_path / "file.pt", members)
    assert read_torch_zip(tmp_path / "file.pt")["a"].read().tolist() == [3.0, 4.0]


def test_tensors_without_plain_numbers_are_inert(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to forget them
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    content = {"sparse": torch.ones(2, 2).to_sparse(), "quantized": quantized, "meta": torch.empty(10**6, 10**6, device="meta")}
    torch.save(content, tmp_path / "file.pt")
    assert {key: value.kind for key, value in read_torch_zip(tmp_path / "file.pt").items()} == dict.fromkeys(content, "Tensor")


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return [(info, archive.read(info)) for info in archive.infolist()]


def pack(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


class Reference:
    """Pickles as the storage `key` of so many numbers."""

    def __init__(self, key, count):
        self.key, self.count = key, count


class Call:
    """Pickles as the call of a function of torch's, whatever its arguments."""

    def __init__(self, *arguments, function=torch._utils._rebuild_tensor_v2):
        self.arguments, self.function = arguments, function

    def __reduce__(self):
        return self.function, self.arguments


def claiming(path, content, *, data=b"\0" * 64):
    """A zip file with one storage, 0, of `data`, and any content."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Reference):
                return "storage", torch.FloatStorage, item.key, "cpu", item.count
            return None

    file = io.BytesIO()
    Pickler(file, 2).dump(content)
    return pack(path, {"x/data.pkl": file.getvalue(), "x/data/0": data, "x/version": b"3\n"})


LARGER = {
    "shape": Call(Reference("0", 16), 0, (17,), (1,), False, None),
    "offset": Call(Reference("0", 16), 1, (16,), (1,), False, None),
    "stride": Call(Reference("0", 16), 0, (2,), (16,), False, None),
    "storage": Call(Reference("0", 17), 0, (1,), (1,), False, None),
    "product": Call(Reference("0", 16), 0, (1 << 40, 1 << 40), (0, 0), False, None),
}
SHAPELESS = {
    "negative shape": Call(Reference("0", 16), 0, (-1,), (1,), False, None),
    "negative stride": Call(Reference("0", 16), 8, (3,), (-1,), False, None),
    "negative offset": Call(Reference("0", 16), -1, (3,), (1,), False, None),
    "huge offset": Call(Reference("0", 16), 1 << 80, (3,), (1,), False, None),
    "two lengths": Call(Reference("0", 16), 0, (3,), (1, 1), False, None),
    "fraction": Call(Reference("0", 16), 0, (1.5,), (1,), False, None),
    "boolean": Call(Reference("0", 16), 0, (True,), (1,), False, None),
    "dimensions": Call(Reference("0", 16), 0, (1,) * 65, (1,) * 65, False, None),
}


@pytest.mark.parametrize("kind", [*LARGER, *SHAPELESS])
def test_a_tensor_must_lie_in_its_storage_and_that_in_the_file(tmp_path, kind):
    path = claiming(tmp_path / "file.pt", {"a": (LARGER | SHAPELESS)[kind]})
    text = "a tensor is larger than what is stored of it" if kind in LARGER else "a tensor has no shape"
    with pytest.raises(Malformed, match=f"^{text}$"):
        read_torch_zip(path)


@pytest.mark.parametrize(
    "content",
    [
        Call(Reference("1", 16), 0, (1,), (1,), False, None),  # there is none
        Call(Reference(None, 16), 0, (1,), (1,), False, None),
        Call(Reference("0", -1), 0, (1,), (1,), False, None),
        Call(1),
    ],
)
def test_references_and_calls_that_cannot_be_are_malformed(tmp_path, content):
    with pytest.raises(Malformed):
        read_torch_zip(claiming(tmp_path / "file.pt", content))


def test_a_whole_tensor_is_read_where_it_is(tmp_path):
    data = struct.pack("<16f", *range(16))
    path = claiming(tmp_path / "file.pt", Call(Reference("0", 16), 4, (2, 3), (3, 1), False, None), data=data)
    assert read_torch_zip(path).read().tolist() == [[4, 5, 6], [7, 8, 9]]


def test_a_tensor_of_no_storage_is_inert(tmp_path):
    assert isinstance(read_torch_zip(claiming(tmp_path / "file.pt", Call(None, 0, (10**9,), (0,), False, None))), Inert)


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "large.pt")
    members = {info.filename: data for info, data in members_of(tmp_path / "large.pt")}
    small = pack(tmp_path / "small.pt", members, zipfile.ZIP_DEFLATED)
    assert small.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match=r"^compressed checkpoint: .*small\.pt: .* pack it with zip -0$"):
        read_torch_zip(small)


def test_members_that_lie_outside_of_the_file_are_refused(tmp_path):
    torch.save({"a": torch.zeros(100)}, tmp_path / "file.pt")
    whole = (tmp_path / "file.pt").read_bytes()
    entry = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"file/data/0"))  # of the tensor, in the directory
    for place, value in ((42, 1 << 30), (42, 10), (20, 1 << 30)):  # offset; offset; sizes
        data = bytearray(whole)
        data[entry + place : entry + place + 4] = struct.pack("<I", value)
        if place == 20:
            data[entry + 24 : entry + 28] = struct.pack("<I", value)
        (tmp_path / "bad.pt").write_bytes(data)
        with pytest.raises(Malformed):
            read_torch_zip(tmp_path / "bad.pt")


def test_a_pickle_that_is_far_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "LONGEST_PICKLE", 1000)
    with pytest.raises(Malformed, match="what should be small has"):
        read_torch_zip(claiming(tmp_path / "file.pt", "x" * 1000))


@pytest.mark.parametrize(
    ("place", "value"), [("count", 1 << 40), ("count", 3), ("keys", ["0", "1"]), ("keys", []), ("keys", 5), ("end", None)]
)
def test_an_old_file_must_have_what_it_claims(tmp_path, place, value):
    path = tmp_path / "file.pt"
    torch.save(torch.zeros(4), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    storage = len(data) - 16 - 8
    assert struct.unpack("<q", data[storage : storage + 8]) == (4,)
    if place == "count":
        data = data[:storage] + struct.pack("<q", value) + data[storage + 8 :]
    elif place == "keys":
        keys = data.rindex(b"\x80\x02]")
        data = data[:keys] + pickle.dumps(value, 2) + data[storage:]
    else:
        data = data[:-1]
    path.write_bytes(data)
    with pytest.raises(Malformed):
        read_old_torch(path)


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(torch.zeros(100), path)
    tensor = read_torch_zip(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="it became shorter"):
        tensor.read()
    path.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        tensor.read()


@pytest.mark.parametrize("new_format", [True, False])
def test_no_mutation_escapes_as_another_error(tmp_path, new_format):
    path, rng = tmp_path / "file.pt", torch.Generator().manual_seed(0)
    torch.save({"a": torch.zeros(3, 2), "b": [torch.ones(2)[1:]]}, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    read, outcomes = (read_torch_zip if new_format else read_old_torch), collections.Counter()
    for _ in range(300):
        data = bytearray(whole)
        for at in torch.randint(len(data), (2,), generator=rng).tolist():
            data[at] = int(torch.randint(256, (), generator=rng))
        path.write_bytes(data)
        try:
            content = read(path)
        except (Malformed, CheckpointError, HoldsCode) as error:
            outcomes[type(error).__name__] += 1
            continue
        outcomes["read"] += 1
        tensors = [value for value in content.values() if isinstance(value, Stored)] if isinstance(content, dict) else []
        assert all(tensor.numbers * tensor.dtype.itemsize < len(data) for tensor in tensors)
    assert outcomes["Malformed"] > 50 and outcomes["read"] > 10
