"""TensorFlow checkpoints, written as TensorFlow writes them, of any tensors; the published indexes are in `data/tf_index`."""

import re
import struct
from pathlib import Path

import numpy as np

from i3dcli.checkpoints import _leveldb as leveldb
from i3dcli.checkpoints._leveldb import crc32c, masked

INDEXES = Path(__file__).with_name("reference") / "tf_index"
MAGIC = 0xDB4775248B80FB57
CODES = {"float32": 1, "float64": 2, "int32": 3, "object": 7, "int64": 9, "float16": 19}
RESTART = 16  # entries between keys that are written whole
UNITS = {"b0": "Branch_0/Conv3d_0a_1x1", "b1a": "Branch_1/Conv3d_0a_1x1", "b1b": "Branch_1/Conv3d_0b_3x3"} | {
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}


def deepmind(state_dict, scope=""):
    """The same network under DeepMind's names: the scale of batch norm, which his has not, goes into the filters."""
    tensors = {}
    for key, tensor in state_dict.items():
        if key.endswith("num_batches_tracked"):  # PyTorch's alone
            continue
        unit, part = re.fullmatch(r"(.+?)\.(conv3d\.\w+|bn\.\w+)", key).groups()
        name = scope + re.sub(r"\.(b\w+)$", lambda match: "/" + UNITS[match[1]], unit).replace("logits", "Logits/Conv3d_0c_1x1")
        name = name.replace("Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3")
        value, scale = tensor.double().numpy(), state_dict.get(f"{unit}.bn.weight")
        scale = 1.0 if scale is None else scale.double().numpy()
        if part == "conv3d.weight":
            tensors[f"{name}/conv_3d/w"] = (value.T * scale).transpose(2, 1, 0, 3, 4)
        elif part == "bn.running_mean":
            tensors[f"{name}/batch_norm/moving_mean"] = value * scale
        elif part != "bn.weight":
            theirs = {"conv3d.bias": "conv_3d/b", "bn.bias": "batch_norm/beta", "bn.running_var": "batch_norm/moving_variance"}
            tensors[f"{name}/{theirs[part]}"] = value
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def write_bundle(prefix, tensors, *, shards=1, snappy=False):
    """Write arrays as a bundle with these options; the path of its index."""
    entries, files = {}, [bytearray() for _ in range(shards)]
    for number, (name, array) in enumerate(sorted(tensors.items())):
        data, shard = np.asarray(array).tobytes(), number % shards
        entries[name] = entry(array.shape, len(files[shard]), data, dtype=CODES[array.dtype.name], shard=shard)
        files[shard] += data
    for shard, data in enumerate(files):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(data)
    index = Path(f"{prefix}.index")
    index.write_bytes(table({"": field(1, shards) + field(3, field(1, 1)), **entries}, snappy=snappy))
    return index


def entry(shape, offset, data, *, dtype=1, shard=0):
    """A BundleEntryProto; fields that are zero are left out, as protocol buffers do."""
    dimensions = b"".join(field(2, field(1, size)) for size in shape)
    parts = [field(1, dtype), field(2, dimensions), field(3, shard), field(4, offset), field(5, len(data))]
    checksum = masked(crc32c(np.frombuffer(data, np.uint8)))
    return b"".join(parts) + varint(6 << 3 | 5) + struct.pack("<I", checksum)


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def varint(value):
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def table(values, *, snappy=False, block_size=4096):
    """A LevelDB table of values by key."""
    out, handles, pending = bytearray(), [], []
    for i, (key, value) in enumerate(items := sorted((key.encode(), value) for key, value in values.items())):
        pending.append((key, value))
        if sum(len(k) + len(v) for k, v in pending) >= block_size or i == len(items) - 1:
            handles.append((key, append_block(out, block(pending), snappy=snappy)))
            pending = []
    meta = append_block(out, block([]))
    index = append_block(out, block(handles))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(items):
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(items):
        shared = 0
        if i % RESTART == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))


def append_block(out, data, *, snappy=False):
    """Append a block and its trailer; its handle."""
    data = compressed(data) if snappy else data
    kind = bytes([int(snappy)])
    handle = varint(len(out)) + varint(len(data))
    out += data + kind + struct.pack("<I", masked(crc32c(np.frombuffer(data + kind, np.uint8))))
    return handle


def spans(index):
    """Offset and size of the data blocks of an index, in order, and of its index block, the last."""
    _, at = leveldb.handle(index[-48:-8], 0)
    last, _ = leveldb.handle(index[-48:-8], at)
    for _, value in leveldb.block_entries(leveldb.read_block(index, *last)):
        yield leveldb.handle(value, 0)[0]
    yield last


def with_right_checksums(index, spans):
    """Mutated bytes of an index whose blocks are where they were, each with the checksum of what is in it now."""
    data = bytearray(index)
    for offset, size in spans:
        body = np.frombuffer(bytes(data[offset : offset + size + 1]), np.uint8)
        data[offset + size + 1 : offset + size + 5] = struct.pack("<I", masked(crc32c(body)))
    return bytes(data)


def compressed(data):
    """Snappy, with literals of every form of length, and copies of every kind where four bytes come again."""
    out, at, literal, seen, forms = bytearray(varint(len(data))), 0, bytearray(), {}, 0

    def flush():
        while literal:
            part = bytes(literal[:300])
            del literal[:300]
            size = len(part) - 1
            count = 0 if size < 60 else 1 if size < 256 else 2
            out.extend(bytes([(59 + count if count else size) << 2]) + (size.to_bytes(count, "little") if count else b""))
            out.extend(part)

    while at < len(data):
        back = at - seen.get(data[at : at + 4], at)
        seen[data[at : at + 4]] = at
        if not back or len(data) - at < 4:
            literal.append(data[at])
            at += 1
            continue
        length = 4
        while length < 60 and at + length < len(data) and data[at + length] == data[at + length - back]:
            length += 1
        flush()
        forms += 1
        if length < 12 and back < 2048:
            out.extend([back >> 8 << 5 | length - 4 << 2 | 1, back & 255])
        elif forms % 2 and back < 65536:
            out.extend(bytes([length - 1 << 2 | 2]) + back.to_bytes(2, "little"))
        else:
            out.extend(bytes([length - 1 << 2 | 3]) + back.to_bytes(4, "little"))
        at += length
    flush()
    return bytes(out)
