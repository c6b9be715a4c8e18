"""Files that `torch.save` wrote, zip files and those from before torch 1.6, read without torch's own reader.

A zip file holds, in one folder, `data.pkl`, whose tensors refer to storages by key, each a member `data/KEY`, and from
torch 2.0 on `byteorder`. No member is compressed. An older file is five pickles, a magic number, the version of the
format, facts of the machine, the content and the keys of its storages, and then the storages, each after its length.

Nothing is read or allocated that a file only claims to have: members and storages must lie in it, tensors in their storage.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, Malformed
from ..text import shown
from .pickles import Name, load_pickle
from .tensors import Inert, Stored

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LONGEST_PICKLE = 1 << 27  # bytes; that of a network has a few hundred thousand
MOST_DIMENSIONS = 64
IN_ZIP = re.compile(r"[^/]+/data\.pkl")
OTHER_NUMBERS = re.compile(r"torch\.(float8_e\w+|uint(16|32|64))")  # no storage has a name for them
STORAGES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    **{"Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8},
    **{"QInt8": torch.int8, "QUInt8": torch.uint8, "QInt32": torch.int32, "QUInt4x2": torch.uint8, "QUInt2x4": torch.uint8},
}


@dataclass(frozen=True)
class Place:
    """Bytes of a file, and whether their numbers are of a machine with the other order of bytes."""

    path: Path
    start: int
    size: int
    swapped: bool = False


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, somewhere in a file. Where is asked when they are read: older files tell it at their end."""

    dtype: torch.dtype
    size: int  # bytes
    place: Callable[[], Place]

    def tensor(self, offset: Any, shape: Any, stride: Any) -> Stored:
        """A tensor of these numbers. Raises Malformed unless it lies within them."""
        if not are_sizes(shape) or not are_sizes(stride) or len(shape) != len(stride) or not are_sizes((offset,)):
            raise Malformed("a tensor has no shape")
        extent = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        first, count = offset * self.dtype.itemsize, extent * self.dtype.itemsize
        if first + count > self.size or math.prod(shape) >= 1 << 62:
            raise Malformed("a tensor is larger than what is stored of it")

        def read() -> Tensor:
            place = self.place()
            numbers = read_numbers(replace(place, start=place.start + first, size=count), self.dtype)
            return numbers.as_strided(shape, stride)

        return Stored(tuple(shape), self.dtype, extent, read)


def are_sizes(value: Any) -> bool:
    """Whether it is what a shape or a stride may be."""
    return (
        isinstance(value, (tuple, list))
        and len(value) <= MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 62 for n in value)
    )


def read_numbers(place: Place, dtype: torch.dtype) -> Tensor:
    """All numbers at a place, (N,). Raises CheckpointError where the file is no longer as it was."""
    if not place.size:
        return torch.empty(0, dtype=dtype)
    data = bytearray(place.size)
    try:
        with open(place.path, "rb") as file:
            file.seek(place.start)
            whole = file.readinto(data) == place.size
    except OSError as error:
        raise CheckpointError(f"cannot read weights: {shown(place.path)}: {error.strerror}; copy them again") from error
    if not whole:
        raise CheckpointError(f"cannot read weights: {shown(place.path)}: it became shorter; copy it again")
    if place.swapped:
        part = dtype.itemsize // (2 if dtype.is_complex else 1)
        np.frombuffer(data, f"u{part}").byteswap(inplace=True)
    return torch.frombuffer(data, dtype=dtype)


def storage_type(name: Any) -> torch.dtype:
    """The kind of numbers in a storage, by the name of its class, such as torch.FloatStorage. Raises Malformed."""
    kind = str(name.name).rpartition(".")[2].removesuffix("Storage") if isinstance(name, Name) else ""
    if kind not in STORAGES:
        raise Malformed("its numbers are of a kind that is unknown")
    return STORAGES[kind]


def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Stored | Inert:
    """A tensor; what else belongs to it may say that its numbers stand for others, negated or conjugated ones."""
    meaning = rest[2] if len(rest) > 2 else None  # after requires_grad and hooks
    plain = isinstance(storage, Storage) and not (isinstance(meaning, dict) and any(meaning.values()))
    return storage.tensor(offset, shape, stride) if plain else Inert("Tensor")


def tensor_of_any_type(storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Any:
    """A tensor whose storage does not tell its kind of numbers, such as torch.float8_e5m2."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Name) or not OTHER_NUMBERS.fullmatch(dtype.name):
        return Inert("Tensor")
    return replace(storage, dtype=getattr(torch, dtype.name.removeprefix("torch."))).tensor(offset, shape, stride)


def of_a_subclass(function: Any, kind: Any, arguments: Any, *state: Any) -> Any:
    """A tensor of a class of its own, which is what `function` returns."""
    calls = {name: call for name, call in CALLS.items() if call is not of_a_subclass}
    made = calls.get(function.name) if isinstance(function, Name) else None
    return Inert("Tensor") if made is None else made(*arguments)


CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,  # torch 0.3
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": tensor_of_any_type,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": of_a_subclass,
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
    "torch.Size": lambda shape=(): shape,
    **{
        f"torch._utils._rebuild_{kind}": lambda *_: Inert("Tensor")
        for kind in (
            *("sparse_tensor", "qtensor", "meta_tensor_no_storage", "nested_tensor", "wrapper_subclass"),
            *("device_tensor_from_numpy", "device_tensor_from_cpu_tensor"),
        )
    },
}


def read_torch_zip(path: Path) -> Any:
    """The content of a zip file of torch's, its tensors not yet read. Raises Malformed, HoldsCode and OSError."""
    with open(path, "rb") as file:
        places = {info.filename: member(file, path, info) for info in directory(file)}
        root = next((name.removesuffix("data.pkl") for name in places if IN_ZIP.fullmatch(name)), None)
        if root is None:
            raise Malformed("the zip file has no data.pkl")
        order = places.get(f"{root}byteorder")
        swapped = order is not None and content_of(file, order, 16).decode("ascii", "replace") != sys.byteorder
        data = content_of(file, places[f"{root}data.pkl"], LONGEST_PICKLE)

    def persistent(key: Any) -> Storage:
        _, kind, name, _, count = key
        place, dtype = places[f"{root}data/{name}"] if isinstance(name, str) else None, storage_type(kind)
        if place is None or not are_sizes((count,)) or count * dtype.itemsize > place.size:
            raise Malformed("a tensor is larger than what is stored of it")
        return Storage(dtype, count * dtype.itemsize, lambda: replace(place, swapped=swapped))

    return load_pickle(io.BytesIO(data), calls=CALLS, persistent=persistent)


def directory(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The members of a zip file. Raises Malformed."""
    try:
        return zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OverflowError, EOFError, OSError) as error:
        raise Malformed("the zip file is incomplete or corrupt") from error


def member(file: IO[bytes], path: Path, info: zipfile.ZipInfo) -> Place:
    """Where the bytes of a member of a zip file are. Raises Malformed, and CheckpointError for compressed ones."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(
            f"compressed checkpoint: {shown(path)}: another program than torch packed it; unpack it, and pack it with zip -0"
        )
    length, header = os.fstat(file.fileno()).st_size, b""
    if 0 <= info.header_offset < length:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04" or info.file_size != info.compress_size:
        raise Malformed("a member of the zip file is not where it should be")
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if start + info.file_size > length:
        raise Malformed("a member of the zip file is not whole")
    return Place(path, start, info.file_size)


def content_of(file: IO[bytes], place: Place, most: int) -> bytes:
    """The bytes at a place, if there are not more than `most`."""
    if place.size > most:
        raise Malformed(f"what should be small has {place.size} bytes")
    file.seek(place.start)
    return file.read(place.size)


def read_old_torch(path: Path) -> Any:
    """The content of a file of torch before 1.6, its tensors not yet read. Raises Malformed, HoldsCode and OSError."""
    storages: dict[str, Storage] = {}
    places: dict[str, Place] = {}

    def persistent(key: Any) -> Storage:
        _, kind, root, _, count, view = key
        dtype = storage_type(kind)
        if not isinstance(root, str) or not are_sizes((count,)):
            raise Malformed("a storage has no key")
        whole = storages.setdefault(root, Storage(dtype, count * dtype.itemsize, lambda: places[root]))
        if whole.dtype != dtype or whole.size != count * dtype.itemsize:
            raise Malformed("a storage has two sizes")
        return whole if view is None else part_of(whole, view)

    with open(path, "rb") as file:
        head = io.BytesIO(file.read(LONGEST_PICKLE))
        magic, protocol, _, content, keys = (load_pickle(head, calls=CALLS, persistent=persistent) for _ in range(5))
        if magic != MAGIC or protocol != PROTOCOL or not isinstance(keys, list):
            raise Malformed("its pickle is not whole")
        at, length = head.tell(), os.fstat(file.fileno()).st_size
        for key in keys:
            storage = storages.get(key) if isinstance(key, str) else None
            file.seek(at)
            count = int.from_bytes(file.read(8), "little")
            if storage is None or count * storage.dtype.itemsize != storage.size or at + 8 + storage.size > length:
                raise Malformed("a tensor is larger than what is stored of it")
            places[key] = Place(path, at + 8, storage.size, swapped=sys.byteorder != "little")  # whatever machine wrote it
            at += 8 + storage.size
    if storages.keys() - places.keys():
        raise Malformed("a tensor is not stored")
    return content


def part_of(storage: Storage, view: Any) -> Storage:
    """What another storage is, which has some of the numbers of this one: (key, offset, count)."""
    _, offset, count = view
    if not are_sizes((offset, count)) or (offset + count) * storage.dtype.itemsize > storage.size:
        raise Malformed("a tensor is larger than what is stored of it")
    first, size = offset * storage.dtype.itemsize, count * storage.dtype.itemsize

    def place() -> Place:
        whole = storage.place()
        return replace(whole, start=whole.start + first, size=size)

    return Storage(storage.dtype, size, place)
