"""A file of weights of any kind that people have → its content, without running any code in it; or what else it is."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError, Malformed
from ..files import check_is_file
from ..text import shown
from .not_weights import foreign
from .pickles import HoldsCode, load_pickle
from .tensors import Inert, Stored
from .torch_file import CALLS, IN_ZIP, MAGIC, directory, read_old_torch, read_torch_zip

ADVICE = "give the path of a .pt or .safetensors file, or of a TensorFlow checkpoint's .index"
EXPECTED = "expected a file written by torch.save"
LONGEST_HEADER = 1 << 24  # bytes, of a safetensors file; that of a network has some 40,000
SAFETENSORS = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
IN_ARCHIVES = (  # what a member of a zip file is called, what the file then is, and what to do
    (r"(.*/)?(constants\.pkl|code/.*)", "a TorchScript program", "save torch.jit.load(PATH).state_dict()"),
    (r"model\.weights\.h5", "a Keras model", ""),
    (r".*\.npy", "an .npz archive of NumPy arrays", ""),
)
WEIGHTS_IN_ZIP = re.compile(r".*\.(pt|pth|bin|ckpt|pkl|tar|safetensors|index)", re.IGNORECASE)


def read_weights(path: str | Path) -> dict[str, Any]:
    """What the file at `path` holds: plain values, `Stored` tensors that are read later, `Inert` others.

    Raises CheckpointError for whatever torch or safetensors did not write, and for what is damaged or holds code.
    """
    check_is_file(path, CheckpointError, what="weights", advice=ADVICE)
    try:
        with open(path, "rb") as file:
            head = file.read(512)
        content = reader_of(head, path)(Path(path))
    except OSError as error:
        raise CheckpointError(f"cannot read weights: {shown(path)}: {error.strerror}; {ADVICE}") from error
    except HoldsCode as error:
        raise CheckpointError(
            f"unsafe checkpoint: {shown(path)}: holds {shown(str(error)[:80])} besides tensors, which could run code; "
            "load it where you trust it and save its state_dict alone"
        ) from error
    except Malformed as error:
        raise CheckpointError(f"damaged checkpoint: {shown(path)}: {error}; copy or download it again") from error
    if not isinstance(content, Mapping):
        found = content.kind if isinstance(content, Inert) else type(content).__name__
        raise CheckpointError(f"wrong checkpoint: {shown(path)}: got a {shown(found)}, expected a state_dict")
    return dict(content)


def reader_of(head: bytes, path: str | Path) -> Callable[[Path], Any]:
    """What reads a file that starts so. Raises CheckpointError where no weights start so."""
    if head[5:9] == b"\0\0\0{":  # before it is taken for text: it starts with a length, which may look like any
        return read_safetensors
    if found := foreign(head):
        raise other_file(path, found)
    if head.startswith(b"PK"):
        return read_zip
    if head.startswith(b"\x80"):
        return read_pickle
    raise other_file(path, "neither a torch zip file nor a pickle")


def other_file(path: str | Path, found: str, advice: str = "") -> CheckpointError:
    return CheckpointError(f"not a checkpoint: {shown(path)}: got {found}; {EXPECTED}{advice and f'; {advice}'}")


def read_zip(path: Path) -> Any:
    """The content of a zip file. Raises Malformed, HoldsCode, and CheckpointError where it is not torch's."""
    with open(path, "rb") as file:
        names = [info.filename for info in directory(file)]
    for pattern, found, advice in IN_ARCHIVES:
        if any(re.fullmatch(pattern, name) for name in names):
            raise other_file(path, found, advice)
    if not any(IN_ZIP.fullmatch(name) for name in names):
        inside = [name for name in names if WEIGHTS_IN_ZIP.fullmatch(name)]
        found = f"a zip archive with {shown(inside[0][:80])} in it" if inside else "a zip archive of other files"
        raise other_file(path, found, "unzip it, and name the file in it" if inside else "")
    return read_torch_zip(path)


def read_pickle(path: Path) -> Any:
    """The content of a file from before torch 1.6. Raises Malformed, HoldsCode, and CheckpointError for other pickles."""

    def nothing(key: Any) -> NoReturn:
        raise Malformed("its pickle is not whole")

    with open(path, "rb") as file:
        first = load_pickle(io.BytesIO(file.read(1 << 24)), calls=CALLS, persistent=nothing)
    if first != MAGIC:
        raise other_file(path, "a pickle that torch did not write")
    return read_old_torch(path)


def read_safetensors(path: Path) -> dict[str, Stored | Inert]:
    """The tensors of a safetensors file by name, not yet read. Raises Malformed."""
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
            raise Malformed("it starts neither as a safetensors file nor as one of torch's")
    try:
        opened: Any = safe_open(path, framework="pt")
        return {name: lazily(opened, name, path) for name in list(opened.keys())}
    except SafetensorError as error:
        raise Malformed(f"its header is none of safetensors: {shown(str(error)[:80])}") from error


def lazily(opened: Any, name: str, path: Path) -> Stored | Inert:
    """A tensor of a safetensors file, which holds each whole and dense."""
    part = opened.get_slice(name)
    shape, kind = tuple(part.get_shape()), part.get_dtype()
    if kind not in SAFETENSORS:
        return Inert("Tensor")

    def read() -> Tensor:
        try:
            tensor: Tensor = opened.get_tensor(name).clone()  # else it were bytes of the file, mapped
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"cannot read weights: {shown(path)}: it has changed; copy it again") from error
        return tensor

    return Stored(shape, SAFETENSORS[kind], math.prod(shape), read)
