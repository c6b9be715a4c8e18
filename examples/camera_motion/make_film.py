"""Render a film of one or more shots whose camera moves are known, cut one after the other.

    python examples/camera_motion/make_film.py film.mp4 pan_left zoom_in roll_clockwise

Each move is a class of make_dataset.py. film.mp4 and pan_left.mp4 beside this file were made so.
"""

import argparse
from pathlib import Path

import numpy as np
from make_dataset import CLASSES, shoot, write_clip

SIZE = 456, 256  # width, height in pixels
FPS = 25.0
FRAMES = 60  # of a shot
PACE = 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("moves", nargs="+", choices=list(CLASSES), metavar="MOVE")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_clip(args.out, film(args.moves, args.seed), FPS, {"crf": "30", "preset": "slow"})
    for i, move in enumerate(args.moves):
        print(f"{i * FRAMES / FPS:6.2f} to {(i + 1) * FRAMES / FPS:5.2f} s  {move}")


def film(moves: list[str], seed: int = 0) -> list[np.ndarray]:
    """The frames (H,W,3) uint8 RGB of one shot for each move."""
    shots = [
        shoot(np.random.default_rng((seed, i)), move, PACE, size=SIZE, fps=FPS, count=FRAMES) for i, move in enumerate(moves)
    ]
    return [frame for shot in shots for frame in shot]


if __name__ == "__main__":
    main()
