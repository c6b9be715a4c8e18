"""Render labelled clips of ten camera motions, to train a network that tells them apart.

    python examples/camera_motion/make_dataset.py camera_motion/ --train 300 --val 40 --test 50

makes camera_motion/{train,val,test}/<class>/0000.mp4 …, H.264 files of about a second, 128 pixels on the short side. A pinhole
camera looks at planes of painted texture at two to four depths, with things that move by themselves between them. The label is
what the camera does, so a man who crosses a static shot leaves it static. Each clip comes from its own random numbers, seeded
by (seed, part, class, number): no scene is in two parts, and more clips of a class leave the first ones as they were.
"""

import argparse
import math
import multiprocessing
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scenery import cut_out, foreground, log_uniform, texture
from tqdm import tqdm

from i3dcli.files import atomic_write

CLASSES = {  # name → how the PICTURE moves: (right, down, grows, turns clockwise); the camera does the opposite
    "static": (0, 0, 0, 0),
    "pan_left": (1, 0, 0, 0),
    "pan_right": (-1, 0, 0, 0),
    "tilt_up": (0, 1, 0, 0),
    "tilt_down": (0, -1, 0, 0),
    "zoom_in": (0, 0, 1, 0),
    "zoom_out": (0, 0, -1, 0),
    "roll_clockwise": (0, 0, 0, -1),
    "roll_counter_clockwise": (0, 0, 0, 1),
    "shake": (0, 0, 0, 0),
}
PARTS = ("train", "val", "test")
SLOWEST = np.array([0.25, 0.25, 0.003, math.radians(0.2)])  # pixels, pixels, log of size, radians; per 1/25 s
FASTEST = np.array([4, 4, 0.03, math.radians(3)])
TICKS = 25.0  # per second; the unit of speed
GRID = 500.0  # steps per second on which paths are integrated
SIZES = ((228, 128), (170, 128), (128, 128), (128, 170), (128, 228))  # width, height
SIZE_ODDS = (0.55, 0.27, 0.04, 0.04, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for part, count in zip(PARTS, (300, 40, 50), strict=True):
        parser.add_argument(f"--{part}", type=int, default=count, help=f"clips per class (default: {count})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if min(getattr(args, part) for part in PARTS) < 0:
        parser.error("there cannot be fewer than no clips of a class")
    jobs = [(args.out, args.seed, part, name, i) for part in PARTS for name in CLASSES for i in range(getattr(args, part))]
    with multiprocessing.Pool(args.workers) as pool:
        size = sum(tqdm(pool.imap_unordered(make_clip, jobs, chunksize=4), total=len(jobs), unit="clip"))
    print(f"{len(jobs)} clips of {len(CLASSES)} classes, {size / 1e6:.1f} MB, in {args.out}")


def make_clip(job: tuple[Path, int, str, str, int]) -> int:
    """Render and write one clip; how many bytes it has."""
    out, seed, part, name, number = job
    cv2.setNumThreads(1)
    rng = clip_rng(seed, part, name, number)
    path = out / part / name / f"{number:04d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    pace = rng.uniform()
    frames, fps = render(rng, name, pace)
    preset = str(rng.choice(["ultrafast", "veryfast", "fast", "medium"]))
    crf = 18 + rng.uniform() * (8 + 9 * pace)  # a codec that saves more leaves nothing of a slow move
    options = {"crf": f"{crf:.0f}", "preset": preset, "g": str(rng.choice([10, 25, 250]))}
    write_clip(path, frames, fps, options)
    return path.stat().st_size


def clip_rng(seed: int, part: str, name: str, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, PARTS.index(part), list(CLASSES).index(name), number))


def write_clip(path: Path, frames: list[np.ndarray], fps: float, options: dict[str, str]) -> None:
    with atomic_write(path) as part, av.open(str(part), "w", format="mp4") as out:
        same_bytes = {"threads": "1", "x264-params": "mbtree=0"}  # mbtree's sums differ from run to run on some processors
        stream = out.add_stream("libx264", rate=Fraction(fps), options={**options, **same_bytes})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))


# How the camera moves


def camera_path(rng: np.random.Generator, name: str, pace: float, times: np.ndarray) -> np.ndarray:
    """Where the picture is at each of `times` in seconds: (T,4) of right, down, log of size, clockwise turn.

    `pace` is from 0, just noticeable, to 1, fast.
    """
    sway = wobble(rng, times)
    if name == "static":
        return sway / np.abs(sway).max(0) * rng.uniform(0, rng.choice([0, 0.15, 0.35])) * (1, 1, 0, 0.004)  # a tripod, pixels
    if name == "shake":
        return sway * 0.5 * 8**pace * (1, rng.uniform(0.5, 1), 0, rng.uniform(0, 1) / 128)
    speed = SLOWEST * (FASTEST / SLOWEST) ** pace
    velocity = speed * CLASSES[name]
    velocity[:2] += velocity[1::-1] * rng.uniform(-0.2, 0.2)  # nobody pans along a ruler
    path = np.outer(easing(rng, times), velocity * TICKS)
    path -= (path.max(0) + path.min(0)) / 2  # the middle of the move sees the middle of the scene
    tremor = rng.choice([0, rng.uniform(0, 0.4) * min(speed[0], 0.6)])
    return path + sway * tremor * (1, 1, 0, 0.003)


def easing(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Seconds of full speed behind each time: constant, or eased, from a late start or to an early end."""
    length = times[-1] - times[0]
    still = min(0.2 * length, 8 / TICKS) * rng.uniform(0, 1, 2) * rng.integers(0, 2, 2)
    ramps = np.maximum(0.5 * length * rng.uniform(0, 0.6, 2) * rng.integers(0, 2, 2), 1 / GRID)
    start, end = (times - times[0] - still[0]) / ramps[0], (times[-1] - still[1] - times) / ramps[1]
    speed = np.prod([0.5 - 0.5 * np.cos(np.pi * np.clip(u, 0, 1)) for u in (start, end)], axis=0)
    speed *= 1 + rng.uniform(0, 0.3) * np.sin(2 * np.pi * (rng.uniform(0.5, 2) * times + rng.uniform()))
    return np.cumsum(speed) / GRID


def wobble(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Hand-held motion (T,4) of 1.5 to 8 Hz in each direction, its root mean square speed 1 per tick, going nowhere."""
    frequency, phase = log_uniform(rng, 1.5, 8, (6, 4)), rng.uniform(0, 2 * np.pi, (6, 4))
    sway = (np.sin(2 * np.pi * frequency * times[:, None, None] + phase) * rng.uniform(0.2, 1, (6, 4)) / frequency).sum(1)
    sway -= np.linspace(sway[0], sway[-1], len(times))
    return sway / (np.sqrt((np.diff(sway, axis=0) ** 2).mean(0)) * GRID / TICKS)


class Camera:
    """A pinhole camera in front of planes: where each plane is in the picture, at any time."""

    def __init__(self, rng: np.random.Generator, name: str, pace: float, size: tuple[int, int], seconds: float):
        self.times = np.arange(-0.1, seconds + 0.1, 1 / GRID)
        self.path = camera_path(rng, name, pace, self.times)
        self.focal = log_uniform(rng, 0.9, 4) * max(size)
        self.centre = np.array(size) / 2 + rng.uniform(-0.2, 0.2, 2) * min(size)  # of zoom and roll
        self.truck = rng.choice([0, rng.uniform(0, 1)])  # how much of a pan or tilt is a walk sideways: parallax
        self.dolly = rng.choice([0, rng.uniform(0, 0.4)])  # how much of a zoom is a walk forwards
        self.unlens = np.linalg.inv(self.lens(1))

    def look(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Its lens and rotation K R, and where it is, at a time."""
        right, down, zoom, turn = (np.interp(seconds, self.times, column) for column in self.path.T)
        angle, walk = (1 - self.truck) / self.focal, -self.truck / self.focal
        rotation, _ = cv2.Rodrigues(np.array([-down * angle, right * angle, turn]))
        position = np.array([right * walk, down * walk, 1 - math.exp(-zoom * self.dolly)])
        return self.lens(math.exp(zoom * (1 - self.dolly))) @ rotation, position

    def plane(self, view: tuple[np.ndarray, np.ndarray], depth: float) -> np.ndarray:
        """From pixels of a plane, as the first lens would show it, to pixels of the picture: K R (K₁⁻¹ - c eᵀ / depth)."""
        return view[0] @ (self.unlens - np.outer(view[1], [0, 0, 1 / depth]))

    def lens(self, zoom: float) -> np.ndarray:
        return np.array([[self.focal * zoom, 0, self.centre[0]], [0, self.focal * zoom, self.centre[1]], [0, 0, 1]])


class Thing:
    """Something that moves by itself: a ball, a box or a figure; some stay where the camera looks."""

    def __init__(self, rng: np.random.Generator, width: int, height: int, seconds: float, area: float):
        side = math.sqrt(area * width * height)
        stretch = rng.uniform(1, 1.8)
        w, h = int(side / stretch) + 6, int(side * stretch) + 6
        mask, kind = np.zeros((h, w), np.uint8), rng.integers(3)
        if kind == 0:
            cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 2, h // 2 - 2), 0, 0, 360, 1, -1)
        elif kind == 1:
            mask[2:-2, 2:-2] = 1
        else:
            cv2.circle(mask, (w // 2, h // 7 + 2), h // 8, 1, -1)
            cv2.rectangle(mask, (w // 5, h // 4), (w * 4 // 5, h * 3 // 5), 1, -1)
            for hip, foot in ((w * 2 // 5, w // 5), (w * 3 // 5, w * 4 // 5)):
                cv2.line(mask, (hip, h // 2), (foot, h - 3), 1, max(2, w // 6))
        self.picture = cut_out(texture(rng, w, h), mask)
        self.depth = rng.uniform(0.5, 1)
        self.followed = rng.uniform() < 0.15
        self.middle, self.half = rng.uniform(0, 1, 2) * (width, height), seconds / 2
        heading = rng.choice([0, np.pi]) + rng.normal(0, 0.5)
        speed = log_uniform(rng, 0.2, 6) * TICKS * (0.1 if self.followed else 1)
        self.velocity = speed * np.array([math.cos(heading), math.sin(heading)])
        liveliness = log_uniform(rng, 0.5, 4)
        self.sway = liveliness * rng.uniform(0, [3, 3, 0.15, 0.2]), rng.uniform(0.5, 3, 4), rng.uniform(0, 6.3, 4)
        self.growth = rng.normal(0, 0.15)

    def place(self, seconds: float) -> np.ndarray:
        """From pixels of its own to those of its plane, or of the picture where it is followed."""
        size, rate, phase = self.sway
        right, down, grows, turn = size * np.sin(2 * np.pi * rate * seconds + phase)
        x, y = self.middle + self.velocity * (seconds - self.half) + (right, down)
        h, w = self.picture.shape[:2]
        turned = cv2.getRotationMatrix2D(
            (w / 2, h / 2), math.degrees(turn), math.exp(grows + self.growth * (seconds - self.half))
        )
        return np.array([[1, 0, x - w / 2], [0, 1, y - h / 2], [0, 0, 1]]) @ [*turned, [0, 0, 1]]


# What it sees


def render(rng: np.random.Generator, name: str, pace: float) -> tuple[list[np.ndarray], float]:
    """A clip of the class `name` at a `pace` from 0 to 1: its frames (H,W,3) uint8 RGB, and frames per second."""
    width, height = SIZES[rng.choice(len(SIZES), p=SIZE_ODDS)]
    fps = float(rng.choice([24, 25, 30, 50], p=[0.1, 0.7, 0.15, 0.05]))
    count = round(rng.integers(24, 41) / TICKS * fps)
    return shoot(rng, name, pace, size=(width, height), fps=fps, count=count), fps


def shoot(
    rng: np.random.Generator, name: str, pace: float, *, size: tuple[int, int], fps: float, count: int
) -> list[np.ndarray]:
    """`count` frames (H,W,3) uint8 RGB of a scene in which the camera makes the move `name`; `size` is (width, height)."""
    (width, height), seconds = size, count / fps
    camera = Camera(rng, name, pace, (width, height), seconds)
    planes = [(1.0, texture(rng, 2 * width, 2 * height))]
    for depth in rng.uniform(0.5, 0.95, rng.integers(1, 4)):
        planes.append((depth, foreground(rng, 2 * width, 2 * height)))
    crowd = rng.uniform(0.02, rng.choice([0.25, 0.9])) * (rng.uniform() < 0.7)  # of the picture, that moves by itself
    shares = crowd * rng.dirichlet(np.ones(rng.integers(1, 9)))
    things = [Thing(rng, width, height, seconds, share) for share in shares if share > 0.001]
    scene = sorted([*planes, *((thing.depth, thing) for thing in things)], key=lambda item: -item[0])
    shutter = float(rng.choice([0, rng.uniform(0, 0.7)]))  # of the time between two frames; the picture blurs in it
    instants = (0, shutter / 3, shutter * 2 / 3) if shutter else (0,)
    film = Film(rng, width, height)
    exposures = ([expose(camera, scene, (i + u) / fps, width, height) for u in instants] for i in range(count))
    return [film.develop(np.mean(pictures, 0, np.float32), i / count) for i, pictures in enumerate(exposures)]


def expose(camera: Camera, scene: list, seconds: float, width: int, height: int) -> np.ndarray:
    """What is seen in an instant: the scene from back to front."""
    view, canvas = camera.look(seconds), np.zeros((height, width, 3), np.uint8)
    for depth, item in scene:
        plane = camera.plane(view, depth)
        if isinstance(item, Thing):
            paste(canvas, item.picture, (np.eye(3) if item.followed else plane) @ item.place(seconds))
            continue
        plane = plane @ [[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]]
        seen = cv2.warpPerspective(item, plane, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if item.shape[2] == 3:
            canvas = seen
        else:
            cover(canvas, seen)
    return canvas


def paste(canvas: np.ndarray, picture: np.ndarray, matrix: np.ndarray) -> None:
    """Draw a thing where `matrix` puts it, touching only the box around it."""
    h, w = picture.shape[:2]
    corners = cv2.perspectiveTransform(np.array([[[0, 0], [w, 0], [w, h], [0, h]]], np.float64), matrix)[0]
    left, top = np.clip(np.floor(corners.min(0)), 0, canvas.shape[1::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, canvas.shape[1::-1]).astype(int).tolist()
    if left < right and top < bottom:
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]])
        cover(canvas[top:bottom, left:right], cv2.warpPerspective(picture, shift @ matrix, (right - left, bottom - top)))


def cover(canvas: np.ndarray, picture: np.ndarray) -> None:
    """Lay (H,W,4) over (H,W,3), in place."""
    clear = cv2.bitwise_not(picture[..., 3])
    canvas[:] = cv2.add(cv2.multiply(canvas, cv2.merge([clear] * 3), scale=1 / 255), picture[..., :3])


class Film:
    """What makes a picture of light: lens and sensor, their faults, and black bars."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        vignette = 1 - rng.choice([0, rng.uniform(0, 0.35)]) * (x**2 + y**2)
        cast = 1 + rng.uniform(-0.15, 0.15, 3)
        self.contrast = (log_uniform(rng, 0.5, 1.1) * vignette[..., None] * cast).astype(np.float32)
        self.black = rng.uniform(0, 60)
        self.drift, self.flicker = rng.choice([0, rng.normal(0, 0.25)]), rng.choice([0, 0.02], p=[0.8, 0.2])
        self.softness = rng.choice([0, rng.uniform(0.3, 1.1)])
        self.grey = rng.uniform() < 0.12
        self.noise = rng.standard_normal((height + 16, width + 16, 3), np.float32) * rng.choice([0, rng.uniform(0, 9)])
        self.bars = int(rng.choice([0, rng.uniform(0.05, 0.14) * height], p=[0.94, 0.06]))
        self.rng = rng

    def develop(self, light: np.ndarray, progress: float) -> np.ndarray:
        """A frame (H,W,3) uint8 of light (H,W,3) float32, at `progress` of the clip."""
        if self.softness:
            light = cv2.GaussianBlur(light, (0, 0), self.softness)
        gain = math.exp(self.drift * (progress - 0.5) + self.rng.normal(0, 1) * self.flicker)
        height, width = light.shape[:2]
        top, left = self.rng.integers(0, 17, 2)
        frame = light * self.contrast * np.float32(gain) + self.noise[top : top + height, left : left + width]
        frame = cv2.convertScaleAbs(cv2.max(frame + np.float32(self.black), 0))
        if self.grey:
            frame[:] = frame.mean(2, keepdims=True)
        if self.bars:
            frame[: self.bars] = frame[-self.bars :] = 0
        return frame


if __name__ == "__main__":
    main()
