"""Files of every kind that people take for weights: those that hold some are read, of the others it is said what they are."""

import argparse
import datetime
import io
import json
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from i3dcli import I3D, CheckpointError, load_checkpoint
from i3dcli.checkpoints.tensors import Inert
from i3dcli.checkpoints.weight_files import read_weights


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return I3D(5, 2, width=1 / 64).eval()


@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_safetensors_are_read(net, tmp_path, prefix):
    weights = {prefix + key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors", metadata={"format": "pt"})
    loaded = load_checkpoint(tmp_path / "w.safetensors")
    assert (loaded.stream, loaded.num_classes, loaded.classes) == ("flow", 5, None)
    for key, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().to(value.dtype) if value.is_floating_point() else value)


@pytest.mark.parametrize("length", [0x3C20, 0x7B20, 0x4B50, 0x80])
def test_safetensors_whose_length_looks_like_text_or_a_zip_are_read(tmp_path, length):
    header = json.dumps({"a": entry()}).encode().ljust(length)
    (tmp_path / "w.safetensors").write_bytes(safetensors(header, struct.pack("<2f", 1, 2)))
    assert read_weights(tmp_path / "w.safetensors")["a"].read().tolist() == [1, 2]


def test_kinds_of_numbers_that_nobody_knows_are_inert(tmp_path):
    save_file({"a": torch.ones(2), "b": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "w.safetensors")
    content = read_weights(tmp_path / "w.safetensors")
    assert content["a"].read().tolist() == [1, 1] and isinstance(content["b"], Inert)


def safetensors(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


BROKEN = {
    "header longer than the file": struct.pack("<Q", 1 << 20) + b"{}",
    "header of 4 GB": struct.pack("<Q", 1 << 32) + b"{" * 100,
    "shape": safetensors({"a": entry(shape=[3])}),
    "huge shape": safetensors({"a": entry(shape=[1 << 40, 1 << 40])}),
    "offsets": safetensors({"a": entry(data_offsets=[0, 1 << 40])}),
    "twice the same numbers": safetensors({"a": entry(), "b": entry()}),
    "no shape": safetensors({"a": {"dtype": "F32"}}),
    "no JSON": safetensors(b"{" * 64),
    "nested": safetensors(b'{"a":' * 20_000),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_damaged_safetensors_are_refused(tmp_path, kind):
    (tmp_path / "w.safetensors").write_bytes(BROKEN[kind])
    refused(tmp_path / "w.safetensors", "damaged checkpoint: ")


def torch_bytes(content=None):
    data = io.BytesIO()
    torch.save({"a": torch.ones(2)} if content is None else content, data)
    return data.getvalue()


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return data.getvalue()


def tarred():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("best.pt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    return data.getvalue()


def arrays(save):
    data = io.BytesIO()
    save(data, np.ones(2))
    return data.getvalue()


KINDS = {
    "npz": (arrays(np.savez), "an .npz archive of NumPy arrays"),
    "npy": (arrays(np.save), "an array of NumPy (.npy)"),
    "script": (
        zipped(w__data_dot_pkl=b"x", w__constants_dot_pkl=b"x", w__code____torch____dot_py="def forward(self): ..."),
        "a TorchScript program; expected a file written by torch.save; save torch.jit.load(PATH).state_dict()",
    ),
    "keras": (zipped(config_dot_json="{}", model_dot_weights_dot_h5=b"\x89HDF"), "a Keras model"),
    "h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "an HDF5 file (Keras)"),
    "zip": (
        zipped(README="x", runs__best_dot_pt=b"x"),
        "a zip archive with runs/best.pt in it; expected a file written by torch.save",
    ),
    "other zip": (zipped(a_dot_txt="x"), "a zip archive of other files"),
    "tar": (tarred(), "a tar archive; unpack it, and name the file in it"),
    "gzip": (b"\x1f\x8b\x08\0" + b"\0" * 20, "a gzip file; unpack it"),
    "xz": (b"\xfd7zXZ\0" + b"\0" * 20, "an xz file; unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\0" * 20, "a zstd file; unpack it"),
    "bzip2": (b"BZh91AY&SY", "a bzip2 file; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 20, "a 7z archive"),
    "rar": (b"Rar!\x1a\x07" + b"\0" * 20, "a RAR archive"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x031.9" + b"\0" * 20, "an ONNX model"),
    "tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 20, "a TensorFlow Lite model"),
    "saved model": (b"\x08\x01\x12\xa0\x01" + b"\0" * 20, "a TensorFlow SavedModel; name variables/variables.index"),
    "json": (b'{"a": 1}', "JSON text"),
    "picture": (b"\xff\xd8\xff\xe0" + b"\0" * 20, "a picture"),
    "video": (b"\0\0\0\x18ftypmp42" + b"\0" * 20, "a video"),
    "pickle": (pickle.dumps({"a": [1]}, 4), "a pickle that torch did not write"),
    "bytes": (bytes(range(100, 228)), "neither a torch zip file nor a pickle"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_kinds_are_named(tmp_path, kind):
    data, text = KINDS[kind]
    (tmp_path / "w.pt").write_bytes(data)
    refused(tmp_path / "w.pt", f"not a checkpoint: {tmp_path}/w.pt: got {text}")


def test_a_zip_around_weights_says_to_unzip_it(tmp_path):
    (tmp_path / "w.zip").write_bytes(zipped(best_dot_pt=b"x"))
    refused(
        tmp_path / "w.zip", "got a zip archive with best.pt in it; expected a file written by torch.save; unzip it, and name "
    )


class Mischief:
    def __reduce__(self):
        return print, ("pwned",)


@pytest.mark.parametrize("form", ["zip", "old", "pickle", "pickle of today"])
def test_code_is_called_code_in_every_form(tmp_path, form, capsys):
    path = tmp_path / "w.pt"
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps({"a": Mischief()}, 2 if form == "pickle" else 5))
    else:
        torch.save({"a": Mischief()}, path, _use_new_zipfile_serialization=form == "zip")
    name = "__builtin__.print" if form != "pickle of today" else "builtins.print"
    refused(path, f"unsafe checkpoint: {path}: holds {name} besides tensors, which could run code; load it where you trust it")
    assert capsys.readouterr().out == ""


def test_harmless_values_beside_weights_do_no_harm(net, tmp_path):
    beside = {
        "args": argparse.Namespace(lr=1),
        "best": np.float64(0.5),
        "when": datetime.datetime.now(),
        "at": pathlib.Path("x"),
    }
    torch.save({**beside, "dtype": torch.float32, "names": {1, 2}, "state_dict": net.state_dict()}, tmp_path / "w.pt")
    assert load_checkpoint(tmp_path / "w.pt").num_classes == 5


def test_a_network_far_larger_than_its_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with torch.device("meta"):
        wide = I3D(400, 3, width=10).state_dict()
    one = {torch.float32: torch.ones(()), torch.int64: torch.tensor(1)}
    torch.save({key: one[value.dtype].expand(value.shape) for key, value in wide.items()}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 200_000
    monkeypatch.setattr("i3dcli.checkpoints.torch_file.read_numbers", None)
    refused(tmp_path / "w.pt", "got tensors of 1", " numbers, of which it has 344, expected a number for each place")


def refused(path, *texts):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert all(text in message for text in texts) and str(path) in message and message.isprintable()
