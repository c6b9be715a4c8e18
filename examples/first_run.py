"""Make a clip and a pair of checkpoints with random weights, and predict: a dry run that needs no download.

The labels mean nothing, since the weights are random; what is shown is that decoding, flow, both networks and fusion work.
Everything is written into the folder given, or `first_run`.
"""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import torch

import i3dcli


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "first_run")
    folder.mkdir(exist_ok=True)
    write_clip(folder / "pan.mp4")
    torch.manual_seed(0)
    for stream, channels in (("rgb", 3), ("flow", 2)):
        net = i3dcli.I3D(num_classes=3, in_channels=channels, width=0.25)
        net.classes = ("random label a", "random label b", "random label c")
        i3dcli.save_checkpoint(net, folder / f"{stream}.pt")
    weights = ["--rgb", str(folder / "rgb.pt"), "--flow", str(folder / "flow.pt")]
    command = ["-m", "i3dcli", "predict", *weights, str(folder / "pan.mp4")]
    print("i3d", *command[2:])
    sys.exit(subprocess.run([sys.executable, *command], check=False).returncode)


def write_clip(path: Path) -> None:
    """Two seconds of a camera that pans over a random landscape."""
    rng = np.random.default_rng(0)
    world = np.kron(rng.integers(0, 255, (16, 40, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 256, "yuv420p"
        for t in range(50):
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(world[:, 4 * t : 4 * t + 320]), format="rgb24"))
            )
        out.mux(stream.encode(None))


if __name__ == "__main__":
    main()
