"""LevelDB's table file, in which TensorFlow keeps the index of a checkpoint: values by key, read without LevelDB.

A table ends in a footer of 48 bytes: where the metaindex and the index block are (two varints each, offset and size; padded
to 40 bytes), then a magic number of 8. The values of the index block are such pairs too, of the data blocks. After each
block come a byte, 0 or 1 if it is compressed with Snappy, and the masked CRC-32C of both. A block is a list of entries and
ends in the offsets of its restart points, uint32, and their number. An entry is three varints, how many bytes its key shares
with the key before, how many more the key has, how many the value has; then these. Sources:
tensorflow/core/lib/io/table_format.txt, google/snappy's format_description.txt.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import Malformed
from .not_weights import foreign

FOOTER = 48  # bytes
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: kind of compression, CRC
LONGEST_NAME = 1024  # bytes
LARGEST_TABLE = 1 << 26  # bytes; that of a network with its optimizer has some 50,000
NAMES_LIMIT = 16  # times longer than the table, all names together; a name may repeat the one before at no cost
SNAPPY_LIMIT = 22  # times larger at most: a copy makes 64 bytes of 3


def read_table(path: Path) -> bytes:
    """A whole file, once its end is seen to be that of a table. Raises OSError and Malformed."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(max(0, size - FOOTER))
        footer = file.read(FOOTER)
        if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:]) != (MAGIC,):
            found = foreign(head)
            raise Malformed(f"it is {found}" if found else "it does not end as an index of TensorFlow does")
        if size > LARGEST_TABLE:
            raise Malformed(f"it has {size} bytes, far more than an index of tensors")
        file.seek(0)
        return file.read()


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


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in a byte, and where what follows it begins."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value & (1 << 64) - 1, at + i + 1
    raise Malformed("a number is not whole")


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
