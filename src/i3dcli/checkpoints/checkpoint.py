"""load_checkpoint and save_checkpoint: our self-describing files, and I3Ds of others, whose tensors `key_maps` knows.

A checkpoint of ours is a plain dict that `torch.load(weights_only=True)` reads, too:

    format "i3d" · version 2 · architecture (a name in ARCHITECTURES) · inputs (["rgb"] or ["flow"]) · width · num_classes ·
    classes (names or None) · state_dict · preprocessing (the fields of `Preprocessing`) · tool (name and version that wrote
    it) · training (the state of a run, only in its last.pt; loading the network ignores it) · chosen_on (the numbers of the
    videos that the weights were chosen on, only in the best.pt of a run)

Files of version 1 have `stream` ("rgb" or "flow") in place of architecture and inputs; all of them are I3Ds.

Other PyTorch files hold I3D's state_dict, bare, in containers or behind prefixes: `weight_files` reads them without
running any code, `networks` finds the state_dict, and `key_maps` knows the layout. `tensorflow` reads TensorFlow checkpoints
and passes over what is not of the network: an optimizer's slots, averages of weights, counters. No tensor of a network is
skipped silently.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..class_names import fault_in_names
from ..defaults import CLASSES, TVL1, WIDTHS
from ..files import atomic_write
from ..models import ARCHITECTURES, CHANNELS, I3D, LAYERS, Preprocessing, VideoNetwork
from ..text import briefly
from .key_maps import FIRST_CONV, FIRST_TENSOR, from_pytorch, identify
from .matching import read_tensors, wrong
from .networks import Network, find_network, split_key
from .tensorflow import tensorflow_index, tensorflow_tensors
from .tensors import Inert, Stored
from .weight_files import read_weights

FORMAT, VERSION = "i3d", 2
DESCRIPTION = {"state_dict", "width", "preprocessing"}  # a file with these keys is ours, whatever its format says
LAST_CONV = "logits.conv3d.weight"


def load_checkpoint(path: str | Path) -> VideoNetwork:
    """The network stored at `path`, in evaluation mode on the CPU, float32: a file of ours, or an I3D in any known layout.

    A TensorFlow checkpoint is named by its prefix (`model.ckpt`), any of its files, or its folder if that holds no other. In
    a file of several networks, `path#key` names one. Classes, inputs, width and preprocessing are read from the file;
    `net.classes` is None if it names none. Raises CheckpointError for anything that is not a whole network.
    """
    file, key = split_key(path)
    if index := tensorflow_index(file):
        return network_of(tensorflow_tensors(index, key), path).eval()
    content = read_weights(file)
    if content.get("format") == FORMAT or content.keys() >= DESCRIPTION:
        return described_network(content, path).eval()
    network = find_network(content, FIRST_TENSOR, file, key=key)
    return network_of(tensors_of(network), path, advice=network.advice).eval()


def described_network(content: Mapping[str, Any], path: str | Path) -> VideoNetwork:
    """The network in a file of ours. Raises CheckpointError if its description and its tensors disagree."""
    description = read_description(content, path)
    with torch.device("meta"):
        net = ARCHITECTURES[description.architecture].build(
            description.num_classes, inputs=description.inputs, width=description.width
        )
    file, key = split_key(path)
    first = re.compile(rf"(?:^|\.)({re.escape(next(iter(net.state_dict())))})$")
    tensors = tensors_of(find_network({"state_dict": content["state_dict"]}, first, file, key=key))
    load_tensors(net, tensors, path)
    net.preprocessing, net.classes, net.chosen_on = description.preprocessing, description.classes, description.chosen_on
    return net


def load_tensors(net: VideoNetwork, tensors: Mapping[str, Stored | Inert], path: str | Path, *, advice: str = "") -> None:
    """Assign tensors to a network on the meta device. Raises CheckpointError."""
    title = ARCHITECTURES[net.architecture].title
    net.load_state_dict(read_tensors(tensors, net.state_dict(), path, network=title, advice=advice), strict=True, assign=True)


def tensors_of(network: Network) -> dict[str, Stored | Inert]:
    """The tensors of a network in a PyTorch file, under our names if its layout is known."""
    return from_pytorch({name: value for name, value in network.entries.items() if isinstance(value, (Stored, Inert))})


def network_of(tensors: Mapping[str, Stored | Inert], path: str | Path, *, advice: str = "") -> I3D:
    """The I3D with these tensors, whose shapes give its input, width and classes. Raises CheckpointError."""
    if FIRST_CONV not in tensors:
        found = identify({name: value.shape for name, value in tensors.items() if isinstance(value, Stored)})
        raise wrong(path, found, "Inception-v1 I3D in pytorch-i3d's, hassony2's or our own layout")
    first, head = shape_of(tensors[FIRST_CONV]), shape_of(tensors.get(LAST_CONV))
    if first is None or len(first) != 5 or first[1] not in CHANNELS.values() or 0 in first:
        raise wrong(path, f"{FIRST_CONV} has shape {first}", "3 input channels (rgb) or 2 (flow)")
    if head is None or len(head) != 5 or 0 in head:
        found = f"no tensor {LAST_CONV}" if LAST_CONV not in tensors else f"{LAST_CONV} of shape {head}"
        raise wrong(path, found, "the whole network with its classifier")
    width = first[0] / dict(LAYERS)["Conv3d_1a_7x7"][0]
    if width not in WIDTHS or head[0] not in CLASSES:
        raise wrong(path, f"width {width:g} and {head[0]} classes", f"{WIDTHS} and {CLASSES}")
    with torch.device("meta"):
        net = I3D(num_classes=head[0], in_channels=first[1], width=width)
    load_tensors(net, tensors, path, advice=advice)
    return net


def shape_of(tensor: Stored | Inert | None) -> tuple[int, ...] | None:
    return tensor.shape if isinstance(tensor, Stored) else None


def save_checkpoint(
    net: VideoNetwork,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    training: Mapping[str, Any] | None = None,
    chosen_on: Iterable[int] = (),
    overwrite: bool = True,
) -> None:
    """Write `net` as a self-describing file, whole or not at all. `dtype` is that of the stored tensors.

    `training` is the state of a training run, tensors and plain values; `chosen_on` are the numbers of the videos that the
    weights were chosen on. Without `overwrite` an existing file stays, see `files.atomic_write`. Raises I3DError.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": net.architecture,
        "inputs": list(net.inputs),
        "width": net.width,
        "num_classes": net.num_classes,
        "classes": None if net.classes is None else list(net.classes),
        "state_dict": {
            k: v.detach().cpu().to(dtype) if v.is_floating_point() else v.cpu() for k, v in net.state_dict().items()
        },
        "preprocessing": dataclasses.asdict(net.preprocessing),
        "tool": f"i3d {__version__}",
        **({} if training is None else {"training": dict(training)}),
        **({"chosen_on": sorted(chosen_on)} if chosen_on else {}),
    }
    write_torch(content, path, overwrite=overwrite)


def write_torch(content: Mapping[str, Any], path: str | Path, *, overwrite: bool = True) -> None:
    """`torch.save`, whole or not at all. Raises I3DError."""
    data = io.BytesIO()  # torch's own error for a full disk is no help
    torch.save(content, data)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data.getbuffer())


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of a network in a file of ours."""

    architecture: str
    inputs: tuple[str, ...]
    width: float
    num_classes: int
    classes: tuple[str, ...] | None
    preprocessing: Preprocessing
    chosen_on: frozenset[int]


def read_description(content: Mapping[str, Any], path: str | Path) -> Description:
    """The description in a file of ours. Raises CheckpointError unless its version is known and all values are in range."""
    if content.get("format") != FORMAT:
        raise wrong(path, f"format {briefly(content.get('format'))}", f"{FORMAT!r}", "write it with i3d again")
    version = content.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise wrong(path, f"format version {briefly(version)}", f"version 1 or {VERSION}, which this i3d reads", "upgrade i3d")
    if version == 1:
        content = from_version_1(content, path)
    name = content.get("architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise wrong(path, f"architecture {briefly(name)}", f"one of {', '.join(ARCHITECTURES)}", "upgrade i3d")
    checks: dict[str, Callable[[Any], bool]] = {
        "inputs": lambda value: isinstance(value, list) and tuple(value) in ARCHITECTURES[name].networks,
        "width": lambda value: value in WIDTHS,
        "num_classes": lambda value: value in CLASSES,
        "classes": lambda value: value is None or fault_in_names(value) is None,
        "state_dict": lambda value: isinstance(value, dict),
        "preprocessing": lambda value: isinstance(value, dict),
        "chosen_on": lambda value: isinstance(value, list) and all(isinstance(number, int) for number in value),
    }
    content = {"chosen_on": [], **content}
    for key, holds in checks.items():
        if key not in content or not holds(content[key]):
            fault = fault_in_names(content[key]) if key == "classes" and key in content else None
            raise wrong(path, f"no usable {key!r} ({fault or briefly(content.get(key))})", "a file written by i3d")
    classes = None if content["classes"] is None else tuple(content["classes"])
    if classes is not None and len(classes) != content["num_classes"]:
        raise wrong(path, "a description that disagrees with its tensors", "a file written by i3d")
    return Description(
        architecture=name,
        inputs=tuple(content["inputs"]),
        width=float(content["width"]),
        num_classes=content["num_classes"],
        classes=classes,
        preprocessing=as_preprocessing(content["preprocessing"], path),
        chosen_on=frozenset(content["chosen_on"]),
    )


def from_version_1(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The content of a version 1 file as version 2; if it lacks the number of classes, their names or the tensors give it."""
    stream, classes, tensors = content.get("stream"), content.get("classes"), content.get("state_dict")
    if not isinstance(stream, str) or stream not in CHANNELS:
        raise wrong(path, f"no usable 'stream' ({briefly(stream)})", "a file written by i3d")
    head = shape_of(tensors.get(LAST_CONV)) if isinstance(tensors, dict) else None
    count = len(classes) if isinstance(classes, list) else head[0] if head else None
    return {"num_classes": count, **content, "architecture": "i3d", "inputs": [stream]}


def as_preprocessing(record: Mapping[str, Any], path: str | Path) -> Preprocessing:
    """The preprocessing in a file of ours; an old file without parameters of TV-L1 had the defaults."""
    default = dataclasses.asdict(Preprocessing())
    parameters = record.get("flow_parameters", default["flow_parameters"])
    try:
        found = Preprocessing(**{**record, "flow_parameters": None if parameters is None else TVL1(**parameters)})
    except (TypeError, ValueError) as error:
        raise wrong(path, f"no usable 'preprocessing' ({error})", "a file written by i3d") from error
    if missing := default.keys() - record.keys() - {"flow_parameters"}:
        raise wrong(path, f"no usable 'preprocessing' (no {min(missing)})", "a file written by i3d")
    return found
