"""Peak memory of `i3d predict` on a long video against a short one: the ratio is 1 if memory does not grow with length.

    python benchmarks/memory.py

Makes its videos (1280x720, 25 fps) and weights (width 0.25, random) in a temporary folder; RGB on 10 minutes against 1,
both streams on 2 minutes against 20 seconds. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

import i3dcli

RUN = """
import resource, sys
from i3dcli.cli.main import main
main(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stream, channels in (("rgb", 3), ("flow", 2)):
            i3dcli.save_checkpoint(i3dcli.I3D(num_classes=10, in_channels=channels, width=0.25), folder / f"{stream}.pt")
        for streams, long, short in ((["rgb"], 600, 60), (["rgb", "flow"], 120, 20)):
            peaks = [peak_megabytes(folder, streams, seconds) for seconds in (long, short)]
            ratio = peaks[0] / peaks[1]
            print(
                f"{'+'.join(streams)}: {long} s {peaks[0]:.0f} MB, {short} s {peaks[1]:.0f} MB, ratio {ratio:.3f}",
                flush=True,
            )


def peak_megabytes(folder: Path, streams: list[str], seconds: int) -> float:
    video = folder / f"{seconds}.mp4"
    if not video.exists():
        write_video(video, seconds)
    weights = [part for stream in streams for part in (f"--{stream}", str(folder / f"{stream}.pt"))]
    command = [sys.executable, "-c", RUN, "predict", "--device", "cpu", "--json", *weights, str(video)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) / 1024


def write_video(path: Path, seconds: int) -> None:
    """A slow pan over a random landscape."""
    world = np.kron(np.random.default_rng(0).integers(0, 255, (45, 160, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for t in range(seconds * 25):
            left = abs(t % 2560 - 1280)
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(world[:, left : left + 1280]), format="rgb24"))
            )
        out.mux(stream.encode(None))


if __name__ == "__main__":
    main()
