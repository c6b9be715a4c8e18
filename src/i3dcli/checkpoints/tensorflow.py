"""TensorFlow's checkpoint format, the tensor bundle, read without TensorFlow.

A bundle is an index, `model.ckpt.index`, and shards of raw little-endian tensors, `model.ckpt.data-00000-of-00001`.

The index is a table, which `_leveldb` reads. Its values are protocol buffers: under the key "" a BundleHeaderProto {1: number
of shards, 2: endianness}, under the name of each tensor a BundleEntryProto {1: dtype, 2: shape {2: dimension {1: size}},
3: shard, 4: offset, 5: size, 6: masked CRC-32C, 7: slices}. The parts of a tensor in slices have keys that start with a zero
byte. Source: tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, Malformed
from ..files import check_is_file
from ..text import shown
from ._leveldb import crc32c, masked, read_table, table_entries, varint
from .key_maps import deepmind_names, deepmind_scopes, from_deepmind, identify
from .matching import wrong
from .tensors import Inert, Stored

MAX_DIMENSIONS = 254  # tensorflow/core/framework/tensor_shape.h
DTYPES = {1: torch.float32, 2: torch.float64, 3: torch.int32, 9: torch.int64, 14: torch.bfloat16, 19: torch.float16}
STRING = 7  # a dtype; what the bundle itself stores of Python objects


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: what it is, and which bytes of which shard it has."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool  # its parts are tensors of their own


class TensorBundle:
    """The tensors below a prefix such as `model.ckpt`, by name. Raises CheckpointError for an index that is not whole."""

    def __init__(self, index: str | Path):
        self.index = Path(index)
        check_is_file(index, CheckpointError, what="weights", advice="give the path of an .index")
        try:
            self.num_shards, self.entries = read_index(self.index)
        except OSError as error:
            raise CheckpointError(
                f"cannot read weights: {shown(index)}: {error.strerror}; give the path of an .index"
            ) from error
        except Malformed as error:
            raise CheckpointError(
                f"damaged checkpoint: {shown(index)}: {error}; copy or download the TensorFlow checkpoint again"
            ) from error

    def shard(self, number: int) -> Path:
        return self.index.with_name(f"{self.index.name.removesuffix('.index')}.data-{number:05d}-of-{self.num_shards:05d}")

    def stored(self, name: str) -> Stored:
        """A tensor in its own dtype and TensorFlow's order of axes, not yet read. Raises CheckpointError for text."""
        entry, named = self.entries[name], shown(name)
        if entry.sliced or entry.dtype not in DTYPES:
            kind = "in slices" if entry.sliced else "of strings" if entry.dtype == STRING else f"of dtype {entry.dtype}"
            raise CheckpointError(
                f"unreadable tensor: {shown(self.index)}: {named} is stored {kind}; expected it whole, of numbers"
            )
        dtype, count = DTYPES[entry.dtype], math.prod(entry.shape)
        if count * dtype.itemsize != entry.size:
            raise self.damaged(self.index, f"{named} has shape {entry.shape} in {entry.size} bytes")
        return Stored(entry.shape, dtype, count, lambda: self._numbers(name))

    def read(self, name: str) -> Tensor:
        """Likewise, read; raises CheckpointError unless its checksum is right."""
        return self.stored(name).read()

    def _numbers(self, name: str) -> Tensor:
        entry, path, named = self.entries[name], self.shard(self.entries[name].shard), shown(name)
        if not entry.size:
            return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        if not os.path.isfile(path):
            raise CheckpointError(
                f"missing part of a checkpoint: {shown(path)}: no such file; it belongs beside {shown(self.index.name)}"
            )
        try:
            length = path.stat().st_size
            if entry.offset + entry.size > length:
                raise self.damaged(path, f"it ends at byte {length}, {named} at {entry.offset + entry.size}")
            data = np.memmap(path, np.uint8, mode="r")[entry.offset : entry.offset + entry.size]
            if masked(crc32c(data)) != entry.crc:
                raise self.damaged(path, f"the checksum of {named} is wrong")
        except OSError as error:
            raise CheckpointError(f"cannot read weights: {shown(path)}: {error.strerror}; copy or download it again") from error
        return torch.from_numpy(np.array(data)).view(DTYPES[entry.dtype]).reshape(entry.shape)

    def damaged(self, path: Path, found: str) -> CheckpointError:
        return CheckpointError(f"damaged checkpoint: {shown(path)}: {found}; copy or download the TensorFlow checkpoint again")


def read_index(path: Path) -> tuple[int, dict[str, TensorEntry]]:
    """The number of shards and every tensor of an index. Raises OSError and Malformed."""
    header: dict[int, int] | None = None
    entries = {}
    for key, value in table_entries(read_table(path)):
        if not key:
            header = numbers(value)
        elif not key.startswith(b"\0"):
            entries[decoded(key)] = parse_entry(value)
    if header is None:
        raise Malformed("it has no header")
    if header.get(2, 0):
        raise Malformed("its tensors are big-endian")
    num_shards = header.get(1, 0)
    if any(entry.shard >= num_shards for entry in entries.values()):
        raise Malformed(f"a tensor is in a shard after the last one, of {num_shards}")
    return num_shards, entries


def decoded(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("a tensor's name is not UTF-8") from error


def parse_entry(data: bytes) -> TensorEntry:
    field: dict[int, int] = {}
    shape: list[int] = []
    sliced = False
    for number, value in fields(data):
        if isinstance(value, int):
            field[number] = value
        elif number == 2:
            shape = dimensions(value)
        sliced |= number == 7
    sizes = (field.get(3, 0), field.get(4, 0), field.get(5, 0))
    if math.prod(max(1, size) for size in (*shape, 8)) >= 1 << 63 or max(sizes) >= 1 << 63:
        raise Malformed("a tensor has a size that cannot be")
    return TensorEntry(field.get(1, 0), tuple(shape), *sizes, field.get(6, 0), sliced=sliced)


def dimensions(data: bytes) -> list[int]:
    """The sizes in a TensorShapeProto."""
    shape = []
    for number, value in fields(data):
        if number == 2 and isinstance(value, bytes):
            shape.append(numbers(value).get(1, 0))
            if len(shape) > MAX_DIMENSIONS:
                raise Malformed("a tensor has too many dimensions")
    return shape


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and value of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind, value = tag & 7, 0
        if kind == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Malformed(f"a message has a field of unknown kind {kind}")
        if at + length > len(data):
            raise Malformed("a message is not whole")
        content, at = data[at : at + length], at + length
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")


def numbers(data: bytes) -> dict[int, int]:
    return {number: value for number, value in fields(data) if isinstance(value, int)}


TENSORFLOW_PART = re.compile(r"\.(data-\d{5}-of-\d{5}|meta)$")  # beside the index


def tensorflow_index(path: str | Path) -> Path | None:
    """The index of the TensorFlow checkpoint at `path`: its prefix, its .index, .meta or a shard, or the folder it is alone in.

    None where `path` is none of these. Raises CheckpointError for a folder that does not hold just one.
    """
    path = Path(path)
    prefix, is_part = TENSORFLOW_PART.subn("", path.name)
    if path.name.endswith(".index"):
        return path
    if is_part:
        return path.with_name(f"{prefix}.index")
    if os.path.isfile(f"{path}.index") and not os.path.isfile(path):
        return Path(f"{path}.index")
    if not os.path.isdir(path):
        return None
    found = sorted(index for index in path.glob("*.index") if index.is_file() and not index.name.startswith("._"))
    if not found:
        raise wrong(path, what_a_folder_holds(path), "a checkpoint file, or a folder with one TensorFlow checkpoint")
    if len(found) > 1:
        names = f"{' and '.join(index.name for index in found[:2])}{' and others' * (len(found) > 2)}"
        raise wrong(
            path, f"a folder with {len(found)} files .index, {names}", "a file, or a folder with one TensorFlow checkpoint"
        )
    return found[0]


def what_a_folder_holds(path: Path) -> str:
    """In place of an index, for an error message."""
    names = sorted(os.listdir(path))
    weights = [name for name in names if name.endswith((".pt", ".pth", ".safetensors"))]
    if weights:
        return f"a folder with {' and '.join(weights[:2])}{' and others' * (len(weights) > 2)} (name one)"
    if any(TENSORFLOW_PART.search(name) for name in names):
        return "a folder with a TensorFlow checkpoint whose .index is missing"
    if "saved_model.pb" in names:
        return "a TensorFlow SavedModel (name variables/variables.index in it)"
    return "a folder without weights"


def tensorflow_tensors(index: Path, key: str | None) -> Mapping[str, Stored | Inert]:
    """The tensors of DeepMind's network in a TensorFlow checkpoint, fine-tuned or not, under our names; not yet read.

    Of several networks, `key` names the scope of one, or how it begins. Raises CheckpointError.
    """
    bundle = TensorBundle(index)
    scopes = [scope for scope in deepmind_scopes(bundle.entries) if key is None or scope.startswith(key)]
    if not scopes:
        found = identify({name: entry.shape for name, entry in bundle.entries.items()})
        raise wrong(index, found if key is None else f"no network {key!r}", "DeepMind's Inception-v1 I3D")
    if len(scopes) > 1:
        listed = " and ".join(scope or "one without a scope" for scope in scopes)
        raise wrong(index, f"{len(scopes)} networks, {listed}", "one", f"name it as in {index}#{scopes[-1].rstrip('/')}")
    names = deepmind_names(bundle.entries, scopes[0])
    for ours, count in Counter(names.values()).items():
        if count > 1:
            twice = " and ".join(name for name, key in names.items() if key == ours)
            raise wrong(index, f"{count} tensors for one place, {twice}", "one")
    return from_deepmind({ours: bundle.stored(name) for name, ours in names.items()})
