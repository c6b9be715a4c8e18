"""Known weights and clips, drawn from seeds, for which the logits of the published implementation are written down.

`data/i3d_logits.json` holds what piergiaj/pytorch-i3d computes in float64 from them; `data/i3d_keys.json` its tensors.
"""

import json
from pathlib import Path

import numpy as np
import torch

from i3dcli import I3D, save_checkpoint
from i3dcli.models.preprocessing import Preprocessing

DATA = Path(__file__).with_name("reference")
SHAPES = json.loads((DATA / "i3d_keys.json").read_text())
RECORDS = json.loads((DATA / "i3d_logits.json").read_text())
GOOGLENET = json.loads((DATA / "googlenet_keys.json").read_text())  # torchvision.models.googlenet, auxiliary heads too
HEADS = ("aux1.", "aux2.", "fc.")
CHANNELS = {"rgb": 3, "flow": 2}


def weights(*, stream: str, seed: int = 0, num_classes: int = 400) -> dict[str, torch.Tensor]:
    """Every tensor of a state_dict in pytorch-i3d's layout, drawn key by key in sorted order."""
    rng = np.random.default_rng(seed)
    shapes = {key: list(shape) for key, shape in SHAPES.items()}
    shapes["Conv3d_1a_7x7.conv3d.weight"][1] = CHANNELS[stream]
    shapes["logits.conv3d.weight"][0] = shapes["logits.conv3d.bias"][0] = num_classes
    return {key: torch.from_numpy(draw(rng, key, shapes[key]).astype(np.float32)) for key in sorted(SHAPES)}


def lively(net, *, seed=0):
    """Give a network of any width such weights in place: unlike fresh ones, they let the logits depend on the input."""
    rng = np.random.default_rng(seed)
    state = {key: value for key, value in net.state_dict().items() if key in SHAPES}
    net.load_state_dict({key: torch.from_numpy(draw(rng, key, value.shape)) for key, value in state.items()})
    return net.eval()


def save_streams(folder, **preprocessing):
    """Write a narrow network of such weights for each stream, with ten named classes; their paths by stream."""
    paths = {stream: folder / f"{stream}.pt" for stream in CHANNELS}
    for stream, channels in CHANNELS.items():
        net = lively(I3D(num_classes=10, in_channels=channels, width=0.125), seed=channels)
        net.classes = tuple(f"action {i}" for i in range(10))
        net.preprocessing = Preprocessing(**preprocessing)
        save_checkpoint(net, paths[stream])
    return paths


def draw(rng, key, shape):
    if key.endswith("conv3d.weight"):
        return rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    if key.endswith(("bn.weight", "running_var")):
        return rng.uniform(0.5, 1.5, shape)
    return rng.standard_normal(shape) * 0.1


def clip(*, stream: str, frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A (1,C,T,H,W) float32 clip, uniform in [-1, 1]."""
    rng = np.random.default_rng([seed, frames, height, width])
    return torch.from_numpy(rng.uniform(-1, 1, (1, CHANNELS[stream], frames, height, width)).astype(np.float32))


def googlenet() -> dict[str, torch.Tensor]:
    """A state_dict of torchvision's GoogLeNet, random; auxiliary heads and fc take no room."""
    rng = np.random.default_rng(0)
    return {k: torch.zeros(()).expand(s) if k.startswith(HEADS) else draw_2d(rng, k, s) for k, s in GOOGLENET.items()}


def draw_2d(rng, key, shape):
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 4:
        return torch.from_numpy(values * np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32))
    return torch.from_numpy(abs(values) / 2 + 0.5 if key.endswith(("bn.weight", "running_var")) else values / 10)
