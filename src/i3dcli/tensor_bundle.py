"""TensorFlow's checkpoint format, the tensor bundle, read without TensorFlow.

A bundle is an index, `model.ckpt.index`, and shards of raw little-endian tensors, `model.ckpt.data-00000-of-00001`.

The index is a LevelDB table. It ends in a footer of 48 bytes: where the metaindex and the index block are (two varints
each, offset and size; padded to 40 bytes), then a magic number of 8. The values of the index block are such pairs too, of
the data blocks. After each block come a byte, 0 or 1 if it is compressed with Snappy, and the masked CRC-32C of both. A
block is a list of entries and ends in the offsets of its restart points, uint32, and their number. An entry is three
varints, how many bytes its key shares with the key before, how many more the key has, how many the value has; then these.

The values are protocol buffers: under the key "" a BundleHeaderProto {1: number of shards, 2: endianness}, under the name of
each tensor a BundleEntryProto {1: dtype, 2: shape {2: dimension {1: size}}, 3: shard, 4: offset, 5: size, 6: masked CRC-32C,
7: slices}. The parts of a tensor in slices have keys that start with a zero byte. Sources:
tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/lib/io/table_format.txt, google/snappy's format_description.txt.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import CheckpointError, shown
from .files import foreign

FOOTER = 48  # bytes
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: kind of compression, CRC
LONGEST_NAME = 1024  # bytes
NAMES_LIMIT = 16  # times longer than the index, all names together; a name may repeat the one before at no cost
SNAPPY_LIMIT = 22  # times larger at most: a copy makes 64 bytes of 3
MAX_DIMENSIONS = 254  # tensorflow/core/framework/tensor_shape.h
DTYPES = {1: torch.float32, 2: torch.float64, 3: torch.int32, 9: torch.int64, 14: torch.bfloat16, 19: torch.float16}
STRING = 7  # a dtype; what the bundle itself stores of Python objects


@dataclass(frozen=True)
class Entry:
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

    def read(self, name: str) -> Tensor:
        """A tensor, in its own dtype and TensorFlow's order of axes; raises CheckpointError unless its checksum is right."""
        entry, path, named = self.entries[name], self.shard(self.entries[name].shard), shown(name)
        if entry.sliced or entry.dtype not in DTYPES:
            kind = "in slices" if entry.sliced else "of strings" if entry.dtype == STRING else f"of dtype {entry.dtype}"
            raise CheckpointError(
                f"unreadable tensor: {shown(self.index)}: {named} is stored {kind}; expected it whole, of numbers"
            )
        if math.prod(entry.shape) * DTYPES[entry.dtype].itemsize != entry.size:
            raise self.damaged(self.index, f"{named} has shape {entry.shape} in {entry.size} bytes")
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


class Malformed(Exception):
    """What is wrong with an index, without its name."""


def read_index(path: Path) -> tuple[int, dict[str, Entry]]:
    """The number of shards and every tensor of an index. Raises OSError and Malformed."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if found := foreign(file.read(512)):
            raise Malformed(f"it is {found}")
        file.seek(max(0, size - FOOTER))
        footer = file.read(FOOTER)
        if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:]) != (MAGIC,):
            raise Malformed("it does not end as an index of TensorFlow does")
        file.seek(0)
        table = file.read()
    header: dict[int, int] | None = None
    entries = {}
    for key, value in table_entries(table):
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


def parse_entry(data: bytes) -> Entry:
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
    return Entry(field.get(1, 0), tuple(shape), *sizes, field.get(6, 0), sliced=sliced)


def dimensions(data: bytes) -> list[int]:
    """The sizes in a TensorShapeProto."""
    shape = []
    for number, value in fields(data):
        if number == 2 and isinstance(value, bytes):
            shape.append(numbers(value).get(1, 0))
            if len(shape) > MAX_DIMENSIONS:
                raise Malformed("a tensor has too many dimensions")
    return shape


# The table


def table_entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of everything in a table, in order of the keys; blocks are where TensorFlow writes them, in this order."""
    _, at = handle(table[-FOOTER:-8], 0)
    index, _ = handle(table[-FOOTER:-8], at)
    last, end, total = None, 0, 0
    for _, value in block_entries(read_block(table, *index)):
        (offset, size), _ = handle(value, 0)
        if offset < end:
            raise Malformed("its blocks are not in order")
        end = offset + size + TRAILER
        for key, content in block_entries(read_block(table, offset, size)):
            if last is not None and key <= last:
                raise Malformed("its names are not in order")
            last, total = key, total + len(key)
            if total > NAMES_LIMIT * len(table):
                raise Malformed("its names are longer than it can hold")
            yield key, content


def handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where a block is, (offset, size), and where what follows this begins."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def read_block(table: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + TRAILER > len(table):
        raise Malformed("it is not whole")
    kind = table[end]
    (crc,) = struct.unpack_from("<I", table, end + 1)
    if masked(crc32c(np.frombuffer(table, np.uint8, size + 1, offset))) != crc:
        raise Malformed(f"the checksum of its block at byte {offset} is wrong")
    if kind not in (0, 1):
        raise Malformed(f"its compression {kind} is unknown")
    block = table[offset:end]
    return unsnappy(block) if kind else block


def block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise Malformed("a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise Malformed("a block has more restart points than bytes")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        more, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + more + length > end or shared + more > LONGEST_NAME:
            raise Malformed("an entry is longer than its block")
        key = key[:shared] + block[at : at + more]
        yield key, block[at + more : at + more + length]
        at += more + length


def unsnappy(data: bytes) -> bytes:
    """What Snappy compressed: literals, and copies of what came before."""
    size, at = varint(data, 0)
    if size > SNAPPY_LIMIT * len(data):
        raise Malformed("a block says that it is larger than it can be")
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, length = tag & 3, tag >> 2
        if kind == 0:  # a literal; its length is one more than what is written
            if length >= 60:
                length, at = little_endian(data, at, length - 59)
            out += data[at : at + length + 1]
            at += length + 1
            continue
        if kind == 1:
            low, at = little_endian(data, at, 1)
            length, back = 4 + (length & 7), (tag >> 5) << 8 | low
        else:
            back, at = little_endian(data, at, 2 if kind == 2 else 4)
            length += 1
        if not 0 < back <= len(out):
            raise Malformed("a block copies from before its start")
        part = bytes(out[-back:][:length])
        out += (part * -(-length // back))[:length]  # a copy may run into what it writes
    if at > len(data) or len(out) != size:
        raise Malformed("a block is not as long as it says")
    return bytes(out)


def little_endian(data: bytes, at: int, count: int) -> tuple[int, int]:
    return int.from_bytes(data[at : at + count], "little"), at + count


# Protocol buffers


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


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in a byte, and where what follows it begins."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value & (1 << 64) - 1, at + i + 1
    raise Malformed("a number is not whole")


# CRC-32C


def crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ np.uint32(0x82F63B78) * (table & np.uint32(1))
    return table


CRC_TABLE = crc_table()


def crc32c(data: NDArray[np.uint8]) -> int:
    """The Castagnoli checksum of some bytes.

    It is linear, so that the bytes are cut into rows, which are summed side by side, each from zero. A row is then put
    before the next by taking its sum through as many zero bytes as the next one has; 32 further rows, which start from
    one bit each and hold zeros only, tell what comes out of that.
    """
    width = math.isqrt(len(data)) + 4
    rows = -(-len(data) // width)
    grid = np.zeros((rows + 32, width), np.uint8)
    used = grid[:rows].reshape(-1)
    used[len(used) - len(data) :] = data  # zeros in front, and a start from zero, count for nothing
    ones = min(4, len(data))
    used[len(used) - len(data) :][:ones] ^= 255  # the same as to start from all ones
    state = np.zeros(rows + 32, np.uint32)
    state[rows:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for column in np.ascontiguousarray(grid.T):
        state = CRC_TABLE[(state ^ column) & np.uint32(255)] ^ state >> np.uint32(8)
    through = [int(bit) for bit in state[rows:]]
    total = 0
    for row in state[:rows].tolist():
        moved = 0
        for bit in range(32):
            if total >> bit & 1:
                moved ^= through[bit]
        total = moved ^ row
    short = (0xFFFFFFFF >> 8 * ones) if ones < 4 else 0  # of fewer than four bytes, the ones that are left over
    return total ^ short ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """As LevelDB stores a checksum, so that one of bytes that hold checksums is no special case."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
