"""Checkpoints that are damaged, absurd or hostile, made on the spot from small whole ones."""

import functools
import io
import math
import os
import pickle
import re
import shutil
import struct
import subprocess
import warnings
import zipfile
import zlib
from pathlib import Path

import bundles
import numpy as np
import oracle
import torch
from mutations import CHANGES, WEIGHTS

from i3dcli import I3D, save_checkpoint
from i3dcli.models.preprocessing import Preprocessing

WIDTH = 2 / 64  # of the first layer, two channels
SEEN = {"short_side": 36, "crop": 32, "clip_len": 9}  # the preprocessing of small networks, for speed
BOMB = 7 * 2**29  # bytes that a small zip file unpacks to
BLANK = bytes(2**26)


class Call:
    """What calls a function with these arguments where it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def write_wholes(folder):
    """A whole checkpoint of each layout, narrow: path and stream by name. Both streams have three classes of the same names."""
    folder = Path(folder)
    wholes = {}
    for stream, channels in oracle.CHANNELS.items():
        net = oracle.lively(I3D(num_classes=3, in_channels=channels, width=WIDTH), seed=channels)
        net.classes = ("run", "jump", "sit")
        net.preprocessing = Preprocessing(**SEEN, flow_algorithm="dis", flow_parameters=None)
        wholes[f"ours, {stream}"] = folder / f"ours_{stream}.pt", stream
        save_checkpoint(net, folder / f"ours_{stream}.pt")
    content = torch.load(folder / "ours_flow.pt", weights_only=True)
    torch.save(content, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    content["preprocessing"] |= {"flow_algorithm": "tvl1", "flow_parameters": vars(Preprocessing().flow_parameters)}
    torch.save(content, folder / "tvl1.pt")
    state = torch.load(folder / "ours_rgb.pt", weights_only=True)["state_dict"]
    torch.save(state, folder / "bare.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "wrapped.pt")
    wholes |= {"legacy": (folder / "legacy.pt", "flow"), "tvl1": (folder / "tvl1.pt", "flow")}
    wholes |= {"bare": (folder / "bare.pt", "rgb"), "wrapped": (folder / "wrapped.pt", "rgb")}
    (folder / "tf").mkdir(exist_ok=True)
    bundles.write_bundle(folder / "tf" / "model.ckpt", bundles.deepmind(state, "RGB/inception_i3d/"))
    return wholes | {"tensorflow": (folder / "tf" / "model.ckpt.index", "rgb")}


def changed_bytes(rng, path, wholes):
    """The file's bytes in one or two of the ways in which videos are changed."""
    if path.suffix == ".index" and rng.random() < 0.5:
        path = path.with_name("model.ckpt.data-00000-of-00001")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    others = [Bytes(whole.read_bytes()) for whole, _ in wholes.values()]
    names = []
    for _ in range(rng.choice([1, 1, 2])):
        names.append(str(rng.choice(list(CHANGES), p=WEIGHTS)))
        data, _ = CHANGES[names[-1]](rng, data, np.zeros(len(data), int), others)
        if len(data) < 2:
            break
    path.write_bytes(data.tobytes())
    return f"{path.name}: {', '.join(names)}"


class Bytes:
    def __init__(self, data):
        self.data = data


def changed_index(rng, path, wholes):
    """Bytes of the blocks of a TensorFlow index, each block with the checksum of what it holds now."""
    data = bytearray(path.read_bytes())
    spans = list(bundles.spans(bytes(data)))
    for _ in range(rng.choice([1, 2, 8])):
        offset, size = spans[int(rng.integers(len(spans)))]
        data[offset + int(rng.integers(size))] = int(rng.integers(256))
    path.write_bytes(bundles.with_right_checksums(bytes(data), spans))
    return "index with right checksums"


def changed_member(rng, path, wholes):
    """One file in torch's zip file: gone, empty, twice, renamed, packed or with other bytes, its checksum right."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = int(rng.integers(len(members)))
    if rng.random() < 0.4:  # where there is more to break
        at = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    name, data = members[at]
    change = str(rng.choice(["gone", "empty", "twice", "renamed", "packed", "other", "swapped", "up"]))
    if change == "gone":
        del members[at]
    elif change in ("renamed", "up"):
        members[at] = (name + "x" if change == "renamed" else "../../" + name, data)
    elif change == "twice":
        members.append((name, data[: len(data) // 2]))
    elif change == "swapped":
        other = int(rng.integers(len(members)))
        members[at], members[other] = (name, members[other][1]), (members[other][0], data)
    elif change in ("empty", "other"):
        array = np.frombuffer(data, np.uint8).copy()
        kind = rng.choice(["flip_bytes", "zero_range", "remove_range", "insert", "truncate"])
        array = array[:0] if change == "empty" else CHANGES[str(kind)](rng, array, np.zeros(len(array), int), [])[0]
        members[at] = (name, array.tobytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if change == "packed" else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return f"member {name}: {change}"


def doubled(depth):
    """A list that is small where it is stored, and 2**depth items when it is printed."""
    value = ["a"]
    for _ in range(depth):
        value = [value, value]
    return value


DOUBLED = doubled(40)
NUMBERS = (0, -1, 1e-9, 1e9, math.inf, -math.inf, math.nan, 1e308, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0)
OTHERS = (
    *(True, None, "25", "", [], {}, b"x", (1,), "a\nError: all is well", "\x1b[31mred", "\u202egnp", "x" * 10**6, "\ud800"),
    *(torch.ones(3), {"a": {"b": []}}, ["run", "run", "run"], ["a\nb", "\x1b[2J", "\u202ec"], ["a"] * 10**5, [1, 2, 3]),
    *(DOUBLED, ["", " ", "\0"], ["=1+1", "@x", "-y"], {1: 2}, 1 + 2j),
)
FIELDS = ("version", "stream", "num_classes", "classes", "width", "preprocessing", "tool", "training", "format", "state_dict")
TVL1_FIELDS = tuple(vars(Preprocessing().flow_parameters))
SENSIBLE = (1e-3, 1e5)  # every number of the preprocessing, and the width


def changed_metadata(rng, path, wholes):
    """One value beside the weights is of another type, out of range, or made to be printed."""
    content = torch.load(path, weights_only=True)
    where, keys = content, FIELDS
    if rng.random() < 0.7:
        where = content["preprocessing"]
        keys = tuple(where)
        if isinstance(where["flow_parameters"], dict) and rng.random() < 0.5:
            where, keys = where["flow_parameters"], TVL1_FIELDS
    key = str(rng.choice(keys))
    values = NUMBERS if rng.random() < 0.6 and key != "classes" else OTHERS
    value = values[int(rng.integers(len(values)))]
    what = f"{key} = {'a doubled list' if value is DOUBLED else repr(value)[:40]}"
    if rng.random() < 0.1:
        what = f"no {key}"
        where.pop(key, None)
    else:
        where[key] = value
    torch.save(content, path)
    return what


def is_absurd(path):
    """Whether a file of ours has a number of its preprocessing, or a width, that no network was ever trained with."""
    content = torch.load(path, weights_only=True)
    found = [value for key, value in content["preprocessing"].items() if not key.startswith("flow_")]
    found += [content["width"], content["preprocessing"]["flow_bound"]]
    found += [value for key, value in (content["preprocessing"].get("flow_parameters") or {}).items() if key != "median"]
    return any(type(value) not in (int, float) or not SENSIBLE[0] <= value <= SENSIBLE[1] for value in found)


def changed_weights(rng, path, wholes):
    """One tensor holds what no training leaves in it, or is of another kind, shape or name."""
    content = torch.load(path, weights_only=True)
    state = content["state_dict"]
    key = str(rng.choice([name for name in state if state[name].is_floating_point()]))
    tensor = state[key]
    changes = {
        "nan": lambda: torch.full_like(tensor, torch.nan),
        "infinity": lambda: torch.full_like(tensor, torch.inf),
        "3e38": lambda: torch.full_like(tensor, 3e38),
        "-3e38": lambda: torch.full_like(tensor, -3e38),
        "negated": lambda: -tensor,
        "zero": lambda: torch.zeros_like(tensor),
        "1e30": lambda: tensor * 1e30,
        "double": lambda: tensor.double() * 1e200,
        "complex": lambda: tensor.to(torch.complex64),
        "bool": lambda: tensor > 0,
        "float8": lambda: tensor.to(torch.float8_e4m3fn),
        "bfloat16": lambda: tensor.bfloat16(),
        "quantized": lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "sparse": lambda: tensor.to_sparse(),
        "meta": lambda: tensor.to("meta"),
        "flat": lambda: tensor.flatten(),
        "empty": lambda: tensor[:0],
        "larger": lambda: torch.cat([tensor, tensor]),
        "no strides": lambda: tensor.flatten()[:1].expand(tensor.shape),
        "transposed": lambda: tensor.T.contiguous().T,
        "parameter": lambda: torch.nn.Parameter(tensor),
        "a list": lambda: tensor.flatten()[:10].tolist(),
    }
    change = str(rng.choice([*changes, "gone", "more", "odd name"]))
    if change == "gone":
        del state[key]
    elif change == "more":
        state["\x1b[31mmore\nError: x"] = tensor
    elif change == "odd name":
        names = (3, None, b"x", (1, 2), "", "\ud800", "x" * 10**5)
        state[names[int(rng.integers(len(names)))]] = state.pop(key)
    else:
        state[key] = changes[change]()
    torch.save(content, path)
    return f"{key}: {change}"


def hostile_pickle(rng, path, wholes):
    """A pickle that runs code where it may, writing the file `canary` beside it; or one that no reader gets to the end of."""
    canary = str(path.with_name("canary"))
    code = f"open({canary!r}, 'w').close()"
    nested = io.BytesIO()
    torch.save(Call(exec, code), nested)
    calls = {
        "open": Call(open, canary, "w"),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "system": Call(os.system, f"touch '{canary}'"),
        "subprocess": Call(subprocess.call, ["touch", canary]),
        "copy": Call(shutil.copy, "/dev/null", canary),
        "loads": Call(pickle.loads, pickle.dumps(Call(exec, code))),
        "torch.load": Call(torch.load, io.BytesIO(nested.getvalue())),
        "storage": Call(torch.storage._load_from_bytes, nested.getvalue()),
        "rebuild": Call(torch._utils._rebuild_tensor, torch.ones(1).untyped_storage(), 0, (10**12,), (1,)),
        "getattr": Call(getattr, "", "__class__"),
        "numpy": Call(np.memmap, canary, "uint8", "w+", 0, (1,)),
    }
    kind = str(rng.choice(list(calls)))
    content = torch.load(wholes["ours, rgb"][0], weights_only=True)
    place = str(rng.choice(["alone", "tool", "training", "state_dict", "classes"]))
    value = {"alone": calls[kind]}.get(place, {**content, place: calls[kind]})
    form = str(rng.choice(["zip", "legacy", "pickle"]))
    if form == "pickle":
        path.write_bytes(pickle.dumps(calls[kind], protocol=int(rng.choice([2, 3, 4, 5]))))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
    return f"{kind} as {place} in a {form}"


def endless_pickle(rng, path, wholes):
    """A pickle whose numbers are out of all proportion to its size."""
    data = {
        "deep": b"\x80\x02" + b"(" * 10**6,
        "nested": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        "long text": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
        "long bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",
        "long number": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"\xff" * 10,
        "memo": b"\x80\x02]r" + b"\xff" * 4 + b".",
        "no end": b"\x80\x02" + b"N" * 10**5,
        "repeated": b"\x80\x02]q\x00" + b"h\x00" * 10**5 + b".",
        "size of tuple": b"\x80\x02" + b"N" * 10 + b"\x87" * 20 + b".",
    }
    kind = str(rng.choice(list(data)))
    if rng.random() < 0.5:
        write_zip(path, {"archive/data.pkl": data[kind], "archive/version": b"3\n", "archive/byteorder": b"little"})
    else:
        path.write_bytes(data[kind])
    return kind


def bomb(rng, path, wholes):
    """A small file that wants gigabytes: packed zeros, or tensors whose numbers are all the same one."""
    kind = str(rng.choice(["packed storage", "packed pickle", "packed member", "many classes", "wide", "claimed storage"]))
    content = torch.load(wholes["ours, rgb"][0], weights_only=True)
    one, state = torch.zeros(1), content["state_dict"]
    if kind.startswith("packed"):
        state["more"] = torch.zeros(10**6)  # which are claimed to be as many as are unpacked
        torch.save(content, path)
        write_bomb(path, kind.split()[1])
        return kind
    if kind == "many classes":
        head = state["logits.conv3d.weight"].shape
        state["logits.conv3d.weight"] = one.expand(5 * 10**7, *head[1:])
        state["logits.conv3d.bias"] = one.expand(5 * 10**7)
        content |= {"classes": None, "num_classes": 5 * 10**7}
    elif kind == "wide":
        content["width"] = 20.0
        content["state_dict"] = {
            key: one.expand(shape) if shape else torch.tensor(0) for key, shape in shapes_of_i3d(20.0).items()
        }
    else:
        state["logits.conv3d.bias"] = torch.zeros(10**6)
    torch.save(content, path)
    if kind == "claimed storage":  # a million numbers become two billion, in the same bytes
        data = path.read_bytes()
        path.write_bytes(data.replace((10**6).to_bytes(4, "little"), (2 * 10**9).to_bytes(4, "little")))
    return kind


def shapes_of_i3d(width):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in I3D(num_classes=3, in_channels=3, width=width).state_dict().items()}


def write_bomb(path, what):
    """Change the zip file of a checkpoint so that one of its files unpacks to gigabytes of zeros."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(members)).split("/")[0]
    largest = max((name for name in members if "/data/" in name), key=lambda name: len(members[name]))
    target = {"storage": largest, "pickle": f"{root}/data.pkl", "member": f"{root}/more"}[what]
    if what == "storage":
        claim, claimed = (count.to_bytes(4, "little") for count in (10**6, BOMB // 4))
        members[f"{root}/data.pkl"] = members[f"{root}/data.pkl"].replace(claim, claimed)
    write_zip(path, {name: data for name, data in members.items() if name != target})
    packed, crc = packed_zeros()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:  # as a stored file, whose records are then changed
        archive.writestr(target, packed)
    data = bytearray(path.read_bytes())
    record = struct.pack("<III", zlib.crc32(packed), len(packed), len(packed))
    for at in [
        match.start() for match in re.finditer(re.escape(record), data, re.DOTALL)
    ]:  # the local one, and the central one
        data[at - 6 : at - 4] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        data[at : at + 12] = struct.pack("<III", crc, len(packed), BOMB)
    path.write_bytes(data)


@functools.cache
def packed_zeros():
    """So many zeros as deflate packs them, and their checksum."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = squeeze.compress(BLANK) + squeeze.flush(zlib.Z_FULL_FLUSH)  # from there on, it starts anew
    crc, count = 0, BOMB // len(BLANK)
    for _ in range(count):
        crc = zlib.crc32(BLANK, crc)
    return part * count + squeeze.flush(zlib.Z_FINISH), crc


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


CHANGES_OF = {  # function: its share, and the whole ones that it changes, all if none are named
    changed_bytes: (0.28, None),
    changed_index: (0.08, ("tensorflow",)),
    changed_member: (0.14, ("ours, rgb", "ours, flow", "bare", "wrapped")),
    changed_metadata: (0.25, ("ours, rgb", "ours, flow", "tvl1")),
    changed_weights: (0.14, ("ours, rgb", "ours, flow")),
    hostile_pickle: (0.07, ("ours, rgb",)),
    endless_pickle: (0.03, ("ours, rgb",)),
    bomb: (0.01, ("ours, rgb",)),
}


def hostile_checkpoint(rng, folder, wholes, *, perils=True):
    """Write a checkpoint drawn from `rng` into an empty folder: its path, its stream, what was done, and to which."""
    kinds = [change for change in CHANGES_OF if perils or change is not bomb]
    shares = np.array([CHANGES_OF[change][0] for change in kinds])
    change = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    name = str(rng.choice(CHANGES_OF[change][1] or list(wholes)))
    whole, stream = wholes[name]
    for part in whole.parent.iterdir() if whole.suffix == ".index" else [whole]:
        shutil.copy(part, folder)
    path = Path(folder, whole.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zip files with two of a name, of kinds of tensors that will go
        what = change(rng, path, wholes)
    return path, stream, f"{name}: {what}", change.__name__
