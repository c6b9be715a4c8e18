"""Files that are no weights at all, such as web pages, archives and videos, told by their first bytes."""

from __future__ import annotations

PROTOBUF_MAKERS = (b"pytorch", b"onnx", b"tf2onnx", b"keras2onnx", b"skl2onnx")
FOREIGN = (  # how a file starts, leading space aside, and what it is then
    (b"<", "a web page"),
    (b"{", "JSON text"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x93NUMPY", "an array of NumPy (.npy)"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "an xz file; unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it, and name the file in it"),
    (b"Rar!", "a RAR archive; unpack it, and name the file in it"),
    (b"GGUF", "a GGUF file, of language models"),
    (b"\x08\x01\x12", "a TensorFlow SavedModel; name variables/variables.index beside it"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "a video"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89PNG", "a picture"),
)


def foreign(head: bytes) -> str | None:
    """What a file plainly is in place of weights, by its first bytes, 512 of them; None where these do not tell."""
    text = head.lstrip()
    kinds = (
        (not text, "an empty file"),
        (head[257:262] == b"ustar", "a tar archive; unpack it, and name the file in it"),
        (head[4:8] == b"TFL3", "a TensorFlow Lite model"),
        (head[4:8] == b"ftyp", "a video"),
        (head[:1] == b"\x08" and any(maker in head[:64] for maker in PROTOBUF_MAKERS), "an ONNX model"),
        *((text.startswith(start), what) for start, what in FOREIGN),
    )
    return next((what for found, what in kinds if found), None)
