"""Put known camera moves on real footage, to test what was trained on rendered clips.

    python examples/camera_motion/real_footage.py videos/*.mp4 --out real_footage/

makes real_footage/test/<class>/<video>.mp4, ten clips of each video: a window of half its height pans, tilts, zooms, rolls,
shakes, or rests over the frames, resampled to 128 pixels on the short side. What the footage does by itself stays in it, people
and camera alike: the window of "static" rests, but where the cameraman's hand shook, it shakes. Seeded by the video's name.
"""

import argparse
import math
import zlib
from pathlib import Path

import cv2
import numpy as np
from make_dataset import CLASSES, write_clip
from tqdm import tqdm

from i3dcli import VideoError
from i3dcli.video.reader import Video

SHORT_SIDE = 128  # pixels of the window; the frames have twice as many
FPS = 25.0
FRAMES = 40  # of a clip, where the video has them
LEAST_FRAMES = 16
SPEEDS = (0.4, 2.8)  # pixels per frame, slowest and fastest; of zoom and roll, at RADIUS from the middle
RADIUS = 80.0
SHAKES = (0.7, 3.0)  # pixels per frame, root mean square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if len({path.stem for path in args.videos}) < len(args.videos):
        parser.error("two videos have one name; rename one")
    count = 0
    for path in tqdm(args.videos, unit="video"):
        try:
            frames = middle_frames(path)
        except VideoError as error:
            parser.error(str(error))
        if len(frames) < LEAST_FRAMES:
            tqdm.write(f"left out: {path}: got {len(frames)} frames, expected at least {LEAST_FRAMES}")
            continue
        for i, name in enumerate(CLASSES):
            rng = np.random.default_rng((args.seed, zlib.crc32(path.stem.encode()), i))
            clip = args.out / "test" / name / f"{path.stem}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            options = {"crf": str(rng.integers(18, 27)), "preset": "medium"}
            write_clip(clip, moved(frames, window_path(rng, name, len(frames))), FPS, options)
            count += 1
    print(f"{count} clips of {len(CLASSES)} classes in {args.out}")


def middle_frames(path: Path) -> list[np.ndarray]:
    video = Video(path, fps=FPS, short_side=2 * SHORT_SIDE)
    start = max(0, ((video.estimated_frames or 0) - FRAMES) // 2)
    return video.read(start, FRAMES) or video.read(0, FRAMES)


def window_path(rng: np.random.Generator, name: str, count: int) -> np.ndarray:
    """How the picture has moved in each frame: (T,4) of right, down, log of size, clockwise turn, around its middle."""
    if name == "shake":  # noise between about 1 and 6 Hz, less its trend
        kernel = np.exp(-0.5 * (np.arange(-12, 13) / rng.uniform(1, 2.5)) ** 2)
        path = np.stack([np.convolve(rng.standard_normal(count + 24), kernel, "valid") for _ in range(4)], 1)
        path -= np.linspace(path[0], path[-1], count)
        path /= np.sqrt(np.mean(np.diff(path, axis=0) ** 2, axis=0))
        return path * rng.uniform(*SHAKES) * (1, rng.uniform(0.5, 1), 0, rng.uniform(0, 0.7) / RADIUS)
    speed = math.exp(rng.uniform(*np.log(SPEEDS)))
    ramp = rng.choice([1, rng.integers(2, 10)])  # frames until full speed, and back to rest
    steps = np.arange(count)
    pace = np.clip((np.minimum(steps, count - 1 - steps) + 1) / ramp, 0, 1)
    path = np.outer(np.cumsum(pace), CLASSES[name]) * speed / (1, 1, RADIUS, RADIUS)
    return path - path[[0, -1]].mean(0)


def moved(frames: list[np.ndarray], path: np.ndarray) -> list[np.ndarray]:
    """What a window of half the frames' size sees."""
    height, width = frames[0].shape[:2]
    size = width // 4 * 2, height // 4 * 2
    clip = []
    for frame, (right, down, grows, turn) in zip(frames, path, strict=True):
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -math.degrees(turn), math.exp(grows))
        matrix[:, 2] += right + size[0] / 2 - width / 2, down + size[1] / 2 - height / 2
        clip.append(cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))
    return clip


if __name__ == "__main__":
    main()
