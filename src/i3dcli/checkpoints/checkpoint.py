"""Weights on disk: our own self-describing files, and the layouts that others published, read to the same I3D.

A checkpoint of ours is a plain dict that `torch.load(weights_only=True)` reads, too:

    format "i3d" · version 1 · state_dict · stream "rgb" | "flow" · num_classes · classes (names or None) · width ·
    preprocessing (the fields of `Preprocessing`) · tool (name and version that wrote it) · training (what a run needs to
    go on, in the last.pt of a run; whoever loads the network ignores it) · chosen_on (the numbers of the videos that the
    weights are the best on, in the best.pt of a run)

Other files hold state_dicts, bare, in containers or behind prefixes, which `networks` finds, in a layout that `layouts`
knows; `weight_files` reads them, without running any code. Or they are TensorFlow checkpoints, which `tensor_bundle` reads.
Nothing of a network is skipped silently. What is not of it in TensorFlow's, such as an optimizer's slots, averages of the
weights and counters, is passed over.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..class_names import fault_in_names
from ..defaults import CLASSES, IN_CHANNELS, TVL1, WIDTHS, Preprocessing
from ..errors import CheckpointError
from ..files import atomic_write
from ..models import I3D, LAYERS
from ..text import briefly, shown
from .key_maps import FIRST_CONV, FIRST_TENSOR, deepmind_names, deepmind_scopes, from_deepmind, from_pytorch, identify
from .networks import Network, find_network, split_key
from .tensorflow import TensorBundle
from .tensors import Inert, Stored
from .weight_files import read_weights

FORMAT, VERSION = "i3d", 1
DESCRIPTION = {"state_dict", "stream", "preprocessing"}  # whoever has these is a file of ours, whatever its format says
LAST_CONV = "logits.conv3d.weight"
VARIANCES = "running_var"
MOST_REPEATED = 1 << 25  # numbers in the tensors of a network, where it has them not all by itself; the paper's has 13 million
TENSORFLOW_PART = re.compile(r"\.(data-\d{5}-of-\d{5}|meta)$")  # beside the index


def load_checkpoint(path: str | Path) -> I3D:
    """The I3D stored at `path`, in any known layout, in evaluation mode on the CPU, float32.

    A TensorFlow checkpoint is named by its prefix (`model.ckpt`), any of its files, or the folder it is alone in. Of
    several networks in one file, `path#key` names one. Classes, stream, width and preprocessing are read from the file;
    `net.classes` is None where it names none. Raises CheckpointError for anything that is not a whole I3D.
    """
    file, key = split_key(path)
    if index := tensorflow_index(file):
        return network_of(tensorflow_tensors(index, key), path).eval()
    content = read_weights(file)
    if content.get("format") == FORMAT or content.keys() >= DESCRIPTION:
        description = read_description(content, path)
        network = find_network({"state_dict": content["state_dict"]}, FIRST_TENSOR, file, key=key)
        return described(network_of(tensors_of(network), path, width=description.width), description, path).eval()
    network = find_network(content, FIRST_TENSOR, file, key=key)
    return network_of(tensors_of(network), path, advice=network.advice).eval()


def tensors_of(network: Network) -> dict[str, Stored | Inert]:
    """The tensors of what was found in a file of PyTorch's, under our names where they are in a layout that we know."""
    return from_pytorch({name: value for name, value in network.entries.items() if isinstance(value, (Stored, Inert))})


def network_of(tensors: Mapping[str, Stored | Inert], path: str | Path, *, width: float | None = None, advice: str = "") -> I3D:
    """The I3D that has these tensors, as wide as they are unless `width` says how wide. Raises CheckpointError."""
    if FIRST_CONV not in tensors:
        found = identify({name: value.shape for name, value in tensors.items() if isinstance(value, Stored)})
        raise wrong(path, found, "Inception-v1 I3D in pytorch-i3d's, hassony2's or our own layout")
    first, head = shape_of(tensors[FIRST_CONV]), shape_of(tensors.get(LAST_CONV))
    if first is None or len(first) != 5 or first[1] not in IN_CHANNELS.values() or 0 in first:
        raise wrong(path, f"{FIRST_CONV} has shape {first}", "3 input channels (rgb) or 2 (flow)")
    if head is None or len(head) != 5 or 0 in head:
        found = f"no tensor {LAST_CONV}" if LAST_CONV not in tensors else f"{LAST_CONV} of shape {head}"
        raise wrong(path, found, "the whole network with its classifier")
    width = first[0] / dict(LAYERS)["Conv3d_1a_7x7"][0] if width is None else width
    if width not in WIDTHS or head[0] not in CLASSES:
        raise wrong(path, f"width {width:g} and {head[0]} classes", f"{WIDTHS} and {CLASSES}")
    with torch.device("meta"):
        net = I3D(num_classes=head[0], in_channels=first[1], width=width)
    net.load_state_dict(read_tensors(tensors, net.state_dict(), path, network="I3D", advice=advice), strict=True, assign=True)
    return net


def shape_of(tensor: Stored | Inert | None) -> tuple[int, ...] | None:
    return tensor.shape if isinstance(tensor, Stored) else None


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
    that the weights were chosen on. Without `overwrite` a file that is there stays, see `files.atomic_write`. Raises I3DError.
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


def read_tensors(
    tensors: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    path: str | Path,
    *,
    network: str,
    names: Mapping[str, str] | None = None,
    advice: str = "",
) -> dict[str, Tensor]:
    """The `tensors`, if they are just the `expected` ones, by name, shape and kind of numbers, and all are finite.

    What they are is judged before any is read; then they are float32, and counters int64. `names` are what they are
    called in the file, where that is not what we call them. Raises CheckpointError.
    """
    names = names or {}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}  # absent before torch 0.4.1
    missing = sorted(expected.keys() - optional - tensors.keys())
    unknown = sorted(names.get(key, key) for key in tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(keys)} {what} (first {keys[0]})" for keys, what in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise wrong(path, "tensors " + " and ".join(parts), f"exactly those of {network}", advice)
    for key, tensor in tensors.items():
        name, like = names.get(key, key), expected[key]
        if not isinstance(tensor, Stored):
            kind = tensor.kind if isinstance(tensor, Inert) else type(tensor).__name__
            raise wrong(path, f"{name}, a {kind} without plain numbers", "a dense tensor", advice)
        if tensor.shape != like.shape:
            raise wrong(path, f"{name} of shape {tensor.shape}", str(tuple(like.shape)), advice)
        if tensor.dtype.is_floating_point != like.dtype.is_floating_point or tensor.dtype.is_complex:
            raise wrong(path, f"{name} of {tensor.dtype}", "float weights and integer counters", advice)
    check_volume(tensors.values(), path, advice)
    return {key: finite(read_as(tensor, expected[key].dtype), names.get(key, key), path) for key, tensor in tensors.items()}


def read_as(tensor: Stored, dtype: torch.dtype) -> Tensor:
    """The numbers of a tensor as another type, each in a place of its own, so that they can be changed in training."""
    numbers = tensor.read().to(dtype)
    return numbers if tensor.is_whole else numbers.contiguous()


def check_volume(tensors: Collection[Stored], path: str | Path, advice: str) -> None:
    """Raise CheckpointError for tensors that are far larger than what a file has of them, as a stride of zero makes them."""
    claimed, there = sum(math.prod(tensor.shape) for tensor in tensors), sum(tensor.numbers for tensor in tensors)
    if claimed > max(there, MOST_REPEATED):
        raise wrong(path, f"tensors of {claimed} numbers, of which it has {there}", "a number for each place", advice)


def finite(tensor: Tensor, name: str, path: str | Path) -> Tensor:
    """The tensor, if all its numbers are finite, and none is negative where they are variances. Raises CheckpointError."""
    if not torch.isfinite(tensor).all():  # of float64, what float32 cannot hold is infinite
        raise wrong(path, f"NaN or infinity in {name}", "finite weights", "copy or download the file again")
    if name.endswith(VARIANCES) and tensor.numel() and tensor.min() < 0:
        raise wrong(path, f"a negative variance in {name}", "variances from 0 on", "copy or download the file again")
    return tensor


@dataclasses.dataclass(frozen=True)
class Description:
    """What a file of ours says of its network."""

    stream: str
    classes: tuple[str, ...] | None
    num_classes: int | None  # None where it does not say
    width: float
    preprocessing: Preprocessing
    chosen_on: frozenset[int]


def read_description(content: Mapping[str, Any], path: str | Path) -> Description:
    """The description in a file of ours. Raises CheckpointError unless its version is known and all of it in range."""
    if content.get("format") != FORMAT:
        raise wrong(path, f"format {briefly(content.get('format'))}", f"{FORMAT!r}", "write it with i3d again")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise wrong(path, f"format version {briefly(version)}", f"version {VERSION}, which this i3d reads", "upgrade i3d")
    checks: dict[str, Callable[[Any], bool]] = {
        "state_dict": lambda value: isinstance(value, dict),
        "stream": lambda value: isinstance(value, str) and value in IN_CHANNELS,
        "classes": lambda value: value is None or fault_in_names(value) is None,
        "width": lambda value: value in WIDTHS,
        "preprocessing": lambda value: isinstance(value, dict),
    }
    numbers = content.get("chosen_on", [])
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise wrong(path, "no usable 'chosen_on'", "a file written by i3d")
    for key, holds in checks.items():
        if key not in content or not holds(content[key]):
            fault = fault_in_names(content[key]) if key == "classes" and key in content else None
            raise wrong(path, f"no usable {key!r} ({fault or briefly(content.get(key))})", "a file written by i3d")
    count = content.get("num_classes")
    if count is not None and count not in CLASSES:
        raise wrong(path, f"no usable 'num_classes' ({briefly(count)})", "a file written by i3d")
    classes = None if content["classes"] is None else tuple(content["classes"])
    preprocessing = as_preprocessing(content["preprocessing"], path)
    return Description(content["stream"], classes, count, float(content["width"]), preprocessing, frozenset(numbers))


def described(net: I3D, description: Description, path: str | Path) -> I3D:
    """The network with what a file of ours says of it. Raises CheckpointError where its tensors say something else."""
    net.preprocessing, net.classes = description.preprocessing, description.classes
    net.chosen_on = description.chosen_on
    names = range(net.num_classes) if net.classes is None else net.classes
    if (net.stream, len(names)) != (description.stream, net.num_classes) or description.num_classes not in (None, len(names)):
        raise wrong(path, "a description that disagrees with its tensors", "a file written by i3d")
    return net


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
