import struct

import bundles
import numpy as np
import pytest

from i3dcli.checkpoints._leveldb import CRC_TABLE, Malformed, crc32c, masked, table_entries, unsnappy


def test_checksums_are_those_of_the_standard():
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # the check value of CRC-32C
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA and crc32c(np.full(32, 255, np.uint8)) == 0x62A8AB43  # RFC 3720
    assert masked(0) == 0xA282EAD8
    rng = np.random.default_rng(0)
    for size in (*range(20), 1000, 4097):
        data, expected = rng.integers(0, 256, size).astype(np.uint8), 0xFFFFFFFF
        for byte in data.tolist():
            expected = int(CRC_TABLE[(expected ^ byte) & 255]) ^ expected >> 8
        assert crc32c(data) == expected ^ 0xFFFFFFFF, size


def footer(meta, index):
    return (meta + index).ljust(40, b"\0") + struct.pack("<Q", bundles.MAGIC)


def refused(table, text):
    with pytest.raises(Malformed, match=text):
        list(table_entries(table))


def test_a_table_cannot_have_one_block_read_many_times():
    """Nor ask for much time with few bytes: blocks are read once, in their order."""
    out = bytearray()
    handle = bundles.append_block(out, bytes(8000) + struct.pack("<I", 2000))  # restart points alone
    index = bundles.append_block(out, bundles.block([(b"%05d" % i, handle) for i in range(2000)]))
    refused(bytes(out) + footer(handle, index), "its blocks are not in order")


def test_names_that_repeat_each_other_cannot_ask_for_much_memory():
    out = bytearray()
    name = b"a" * 1000
    entries = bundles.varint(0) + bundles.varint(len(name)) + bundles.varint(0) + name
    entries += b"".join(bundles.varint(len(name) + i) + b"\1\0" + b"a" for i in range(20))
    entries += b"".join(bundles.varint(1019) + b"\1\0" + bytes([98 + i % 150]) for i in range(150))
    handle = bundles.append_block(out, entries + struct.pack("<II", 0, 1))
    index = bundles.append_block(out, bundles.block([(b"z", handle)]))
    refused(bytes(out) + footer(handle, index), "its names are longer than it can hold")


def test_compressed_blocks_cannot_ask_for_more_memory_than_they_can_fill():
    for data in (bundles.varint(1 << 40) + b"\0a", b"\x05\0a", b"\x04\x01\x00", b"\x04\x01\x05", b"\x09\x20abc", b"\xff" * 3):
        with pytest.raises(Malformed):
            unsnappy(data)
    assert unsnappy(bundles.compressed(b"abcd" * 30)) == b"abcd" * 30
    table = bundles.table({"a": bytes(5000)}, snappy=True)
    assert len(table) < 1000 and dict(table_entries(table)) == {b"a": bytes(5000)}
