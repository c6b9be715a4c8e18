"""Weights on disk: our own self-describing files, and the layouts that others published, read to the same I3D.

A checkpoint of ours is a plain dict that `torch.load(weights_only=True)` reads:

    format "i3d" · version 1 · state_dict · stream "rgb" | "flow" · num_classes · classes (names or None) · width ·
    preprocessing (the fields of `Preprocessing`) · tool (name and version that wrote it) · training (what a run needs to
    go on, in the last.pt of a run; whoever loads the network ignores it) · chosen_on (the numbers of the videos that the
    weights are the best on, in the best.pt of a run)

Other files hold bare state_dicts, or dicts that hold one, in a layout that `layouts` knows, or are TensorFlow checkpoints,
which `tensor_bundle` reads. Nothing is executed, and nothing of a network is skipped silently. What is not of it in
TensorFlow's, such as an optimizer's slots, averages of the weights and counters, is passed over.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__
from .defaults import IN_CHANNELS, TVL1, Preprocessing
from .errors import CheckpointError, shown
from .files import atomic_write, check_is_file, foreign
from .i3d import I3D, LAYERS
from .layouts import FIRST_CONV, deepmind_names, deepmind_scopes, from_deepmind, from_pytorch, identify
from .tensor_bundle import TensorBundle

FORMAT, VERSION = "i3d", 1
CONTAINER_KEYS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights
TORCH_PICKLE = b"\x80\x02"  # the start of a file that torch wrote before its files were zip files
TENSORFLOW_PART = re.compile(r"\.(data-\d{5}-of-\d{5}|meta)$")  # beside the index


def load_checkpoint(path: str | Path) -> I3D:
    """The I3D stored at `path`, in any known layout, in evaluation mode on the CPU, float32.

    A TensorFlow checkpoint is named by its prefix (`model.ckpt`), any of its files, or the folder it is alone in. Classes,
    stream, width and preprocessing are read from the file; `net.classes` is None where it names none.
    Raises CheckpointError for anything that is not a whole I3D.
    """
    index = tensorflow_index(path)
    content = read_checkpoint(path) if index is None else {}
    own = content.get("format") == FORMAT
    if own:
        check_description(content, path)
    state_dict = normalised(find_state_dict(content), path) if index is None else read_tensorflow(index)
    first = state_dict[FIRST_CONV]
    if first.ndim != 5 or first.shape[1] not in IN_CHANNELS.values() or not first.numel():
        raise wrong(path, f"{FIRST_CONV} has shape {tuple(first.shape)}", "3 input channels (rgb) or 2 (flow)")
    width = float(content["width"]) if own else first.shape[0] / dict(LAYERS)["Conv3d_1a_7x7"][0]
    head = state_dict.get("logits.conv3d.weight")
    if head is None or head.ndim != 5 or not head.numel():
        found = "no tensor logits.conv3d.weight" if head is None else f"logits.conv3d.weight of shape {tuple(head.shape)}"
        raise wrong(path, found, "the whole network with its classifier")
    with torch.device("meta"):
        net = I3D(num_classes=head.shape[0], in_channels=first.shape[1], width=width)
    check_tensors(state_dict, net.state_dict(), path, network="I3D")
    net.load_state_dict(state_dict, strict=True, assign=True)
    if own:
        net.chosen_on = frozenset(content.get("chosen_on", ()))
        net.preprocessing = as_preprocessing(content["preprocessing"], path)
        net.classes = None if content["classes"] is None else tuple(content["classes"])
        if net.stream != content["stream"] or (net.classes is not None and len(net.classes) != net.num_classes):
            raise wrong(path, "a description that disagrees with its tensors", "a file written by i3d")
    return net.eval()


def save_checkpoint(
    net: I3D,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    training: Mapping[str, Any] | None = None,
    chosen_on: Iterable[int] = (),
    overwrite: bool = True,
) -> None:
    """Write `net` as a self-describing file, whole or not at all. `dtype` is that of the stored tensors.

    `training` is what a training run needs to go on, tensors and plain values; `chosen_on` are the numbers of the videos
    that the weights were chosen on. Without `overwrite` a file that is there
    stays, see `files.atomic_write`. Raises I3DError.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "state_dict": {
            k: v.detach().cpu().to(dtype) if v.is_floating_point() else v.cpu() for k, v in net.state_dict().items()
        },
        "stream": net.stream,
        "num_classes": net.num_classes,
        "classes": None if net.classes is None else list(net.classes),
        "width": net.width,
        "preprocessing": dataclasses.asdict(net.preprocessing),
        "tool": f"i3d {__version__}",
        **({} if training is None else {"training": dict(training)}),
        **({"chosen_on": sorted(chosen_on)} if chosen_on else {}),
    }
    write_torch(content, path, overwrite=overwrite)


def write_torch(content: Mapping[str, Any], path: str | Path, *, overwrite: bool = True) -> None:
    """`torch.save`, whole or not at all. Raises I3DError."""
    data = io.BytesIO()  # torch itself says nothing helpful about a disk that is full
    torch.save(content, data)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data.getbuffer())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, read without running any code in it."""
    refuse_other_files(path)
    try:
        # torch 0.3 wrote tensors through this constructor, which is as harmless as the one that replaced it.
        with torch.serialization.safe_globals([torch._utils._rebuild_tensor]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol, before the error that is raised here
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"Unsupported (global|class)|Trying to (call|instantiate)", str(error)):
            raise CheckpointError(
                f"unsafe checkpoint: {shown(path)}: holds Python objects besides tensors, which could run code; "
                "load it where you trust it and save its state_dict alone"
            ) from error
        with open(path, "rb") as file:
            head = file.read(2)
        if "Unsupported operand" in str(error) and head not in (b"PK", TORCH_PICKLE):
            raise CheckpointError(
                f"not a checkpoint: {shown(path)}: got a pickle that torch did not write; expected a file written by torch.save"
            ) from error
        raise CheckpointError(
            f"damaged checkpoint: {shown(path)}: it cannot be unpickled; copy or download it again"
        ) from error
    except Exception as error:  # a broken file fails in torch in a dozen ways, none of them documented
        raise CheckpointError(
            f"damaged checkpoint: {shown(path)}: the file is incomplete or corrupt; copy or download it again"
        ) from error
    if not isinstance(content, Mapping):
        raise wrong(path, f"a {type(content).__name__}", "a state_dict")
    return dict(content)


def refuse_other_files(path: str | Path) -> None:
    """Raise CheckpointError for what is plainly no torch file, by its first bytes."""
    advice = "give the path of a .pt file, or of a TensorFlow checkpoint's .index"
    check_is_file(path, CheckpointError, what="weights", advice=advice)
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot read weights: {shown(path)}: {error.strerror}; {advice}") from error
    found = foreign(head) or (None if head.startswith((b"PK", b"\x80")) else "neither a torch zip file nor a pickle")
    if found:
        raise CheckpointError(f"not a checkpoint: {shown(path)}: got {found}; expected a file written by torch.save")


def find_state_dict(content: dict[str, Any]) -> Mapping[str, Any]:
    """The state_dict in a file of somebody else's: the dict itself, or what a training script put it under."""
    return next((content[key] for key in CONTAINER_KEYS if isinstance(content.get(key), Mapping)), content)


def normalised(state_dict: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """A state_dict with our keys and float32 tensors, from any layout; raises CheckpointError naming what else it is."""
    tensors = from_pytorch({str(key): value for key, value in state_dict.items() if isinstance(value, Tensor)})
    if FIRST_CONV not in tensors:
        found = identify({key: tensor.shape for key, tensor in tensors.items()})
        raise wrong(path, found, "Inception-v1 I3D in pytorch-i3d's, hassony2's or our own layout")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


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
    weights = [name for name in names if name.endswith((".pt", ".pth"))]
    if weights:
        return f"a folder with {' and '.join(weights[:2])}{' and others' * (len(weights) > 2)} (name one)"
    if any(TENSORFLOW_PART.search(name) for name in names):
        return "a folder with a TensorFlow checkpoint whose .index is missing"
    return "a folder without weights"


def read_tensorflow(index: Path) -> dict[str, Tensor]:
    """A state_dict with our keys and float32 tensors from a TensorFlow checkpoint of DeepMind's network, fine-tuned or not."""
    bundle = TensorBundle(index)
    scopes = deepmind_scopes(bundle.entries)
    if not scopes:
        found = identify({name: entry.shape for name, entry in bundle.entries.items()})
        raise wrong(index, found, "DeepMind's Inception-v1 I3D")
    if len(scopes) > 1:
        shown_scopes = " and ".join(scope or "one without a scope" for scope in scopes)
        raise wrong(index, f"{len(scopes)} networks, {shown_scopes}", "one", "save each stream by itself")
    names = deepmind_names(bundle.entries, scopes[0])
    for ours, count in Counter(names.values()).items():
        if count > 1:
            twice = " and ".join(name for name, key in names.items() if key == ours)
            raise wrong(index, f"{count} tensors for one place, {twice}", "one")
    tensors = from_deepmind({ours: bundle.read(name) for name, ours in names.items()})
    return {key: tensor.float() for key, tensor in tensors.items()}


def check_tensors(
    tensors: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    path: str | Path,
    *,
    network: str,
    names: Mapping[str, str] | None = None,
    advice: str = "",
) -> None:
    """Raise CheckpointError unless `tensors` are just the `expected` ones, by name, shape and kind of numbers, all finite.

    `names` are what they are called in the file, where that is not what we call them.
    """
    names = names or {}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}  # absent before torch 0.4.1
    missing = sorted(expected.keys() - optional - tensors.keys())
    unknown = sorted(names.get(key, key) for key in tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(keys)} {what} (first {keys[0]})" for keys, what in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise wrong(path, "tensors " + " and ".join(parts), f"exactly those of {network}", advice)
    for key, tensor in tensors.items():
        name = names.get(key, key)
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise wrong(path, f"{name}, a {type(tensor).__name__} without plain numbers", "a dense tensor", advice)
        if tensor.shape != expected[key].shape:
            raise wrong(path, f"{name} of shape {tuple(tensor.shape)}", str(tuple(expected[key].shape)), advice)
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise wrong(path, f"{name} of {tensor.dtype}", "float weights and integer counters", advice)
        if not torch.isfinite(tensor.float()).all():  # of float64, what float32 cannot hold is infinite
            raise wrong(path, f"NaN or infinity in {name}", "finite weights", "copy or download the file again")


def check_description(content: Mapping[str, Any], path: str | Path) -> None:
    """Raise CheckpointError unless a file of ours is of a version we know and has every field, of its type."""
    if content.get("version") != VERSION:
        raise wrong(path, f"format version {content.get('version')}", f"version {VERSION}, which this i3d reads", "upgrade i3d")
    checks: dict[str, Callable[[Any], bool]] = {
        "state_dict": lambda value: isinstance(value, Mapping),
        "stream": lambda value: value in IN_CHANNELS,
        "classes": lambda value: value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value)),
        "width": lambda value: isinstance(value, (int, float)) and value > 0,
        "preprocessing": lambda value: isinstance(value, Mapping),
    }
    numbers = content.get("chosen_on", [])
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise wrong(path, "no usable 'chosen_on'", "a file written by i3d")
    for key, holds in checks.items():
        if key not in content or not holds(content[key]):
            raise wrong(path, f"no usable {key!r}", "a file written by i3d")


def as_preprocessing(record: Mapping[str, Any], path: str | Path) -> Preprocessing:
    """The fields in a file of ours; where it has no parameters of TV-L1, it is older than they, and had the defaults."""
    default = dataclasses.asdict(Preprocessing())
    parameters = record.get("flow_parameters", default["flow_parameters"])
    try:
        found = Preprocessing(**{**record, "flow_parameters": None if parameters is None else TVL1(**parameters)})
    except (TypeError, ValueError) as error:
        raise wrong(path, f"no usable 'preprocessing' ({error})", "a file written by i3d") from error
    if missing := default.keys() - record.keys() - {"flow_parameters"}:
        raise wrong(path, f"no usable 'preprocessing' (no {min(missing)})", "a file written by i3d")
    return found


def wrong(path: str | Path, got: str, expected: str, advice: str = "") -> CheckpointError:
    return CheckpointError(f"wrong checkpoint: {shown(path)}: got {shown(got)}, expected {expected}{advice and f'; {advice}'}")
