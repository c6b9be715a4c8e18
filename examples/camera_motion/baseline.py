"""The plain baseline: what the camera does, read off the average optical flow by a linear rule.

    python examples/camera_motion/baseline.py camera_motion/train camera_motion/test real_footage/test

Each folder holds <class>/<clip>; the rule is fitted on the first and scored on the others. Of each TV-L1 flow (25 frames per
second, 128 pixels on the short side), a robust affine fit gives how the whole picture shifts, grows, and turns. A clip is
described by the mean of these four numbers over time and by how much they vary; a logistic regression does the rest.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from i3dcli import compute_flow, read_video

UNIT = 0.1  # pixels per frame; motion far above it counts by its logarithm
STRIDE = 4  # pixels between the points that the fit looks at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, help="clips per class to fit on (default: all)")
    args = parser.parse_args()
    for folder in (args.train, *args.test):
        if not any(folder.glob("*/*.mp4")):
            parser.error(f"no clips: {folder}: expected <class>/<clip>.mp4 in it")
    classes = sorted(path.name for path in args.train.iterdir() if path.is_dir())
    features, labels = described(args.train, classes, args.limit)
    rule = fit(features, labels, len(classes))
    print(f"{args.train}: {np.mean(rule(features) == labels):.3f} of {len(labels)} clips, which it was fitted on")
    for folder in args.test:
        features, labels = described(folder, classes)
        found = rule(features)
        print(f"{folder}: {np.mean(found == labels):.3f} of {len(labels)} clips")
        table = np.zeros((len(classes), len(classes)), int)
        np.add.at(table, (labels, found), 1)
        for name, row in zip(classes, table, strict=True):
            print(f"  {name:24}", *(f"{n or '·':>4}" for n in row))


def described(folder: Path, classes: list[str], limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The description (N,8) and the class (N,) of each clip in a folder of classes."""
    clips = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / name).glob("*.mp4"))[:limit]]
    bar = tqdm(clips, desc=folder.name, unit="clip")
    return np.stack([describe(path) for path, _ in bar]), np.array([i for _, i in clips])


def describe(path: Path) -> np.ndarray:
    """Mean and standard deviation over time of the picture's motion: (8,), in units, as signed logarithms."""
    flow = compute_flow(read_video(path, short_side=128)).numpy()
    moves = np.stack([global_motion(pair) for pair in flow])  # T,4
    both = np.concatenate([moves.mean(0), moves.std(0)]) / UNIT
    return np.sign(both) * np.log1p(np.abs(both))


def global_motion(flow: np.ndarray) -> np.ndarray:
    """(right, down, grows, turns clockwise) of a flow (2,H,W), in pixels per frame; the last two 64 pixels from the middle."""
    _, height, width = flow.shape
    y, x = np.mgrid[:height:STRIDE, :width:STRIDE].reshape(2, -1).astype(np.float64)
    x, y = (x - width / 2) / 64, (y - height / 2) / 64
    points = np.stack([np.ones_like(x), x, y], 1)
    seen = flow[:, ::STRIDE, ::STRIDE].reshape(2, -1).T.astype(np.float64)  # points,2
    plane = np.zeros((3, 2))
    plane[0] = np.median(seen, 0)
    for _ in range(10):  # weighted least squares: what moves by itself loses its say
        error = np.square(seen - points @ plane).sum(1)
        weights = (1 / (error + 0.5 * np.median(error) + 1e-4))[:, None]
        plane = np.linalg.solve(points.T @ (weights * points), points.T @ (weights * seen))
    return np.array([*plane[0], (plane[1, 0] + plane[2, 1]) / 2, (plane[1, 1] - plane[2, 0]) / 2])


def fit(features: np.ndarray, labels: np.ndarray, num_classes: int):
    """A multinomial logistic regression from (N,8) to class ids (N,)."""
    mean, scale = features.mean(0), features.std(0)
    inputs, targets = torch.from_numpy((features - mean) / scale), torch.from_numpy(labels)
    linear = torch.nn.Linear(features.shape[1], num_classes).double()
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = torch.nn.functional.cross_entropy(linear(inputs), targets) + 1e-3 * linear.weight.square().sum()
        total.backward()
        return total

    torch.manual_seed(0)
    linear.reset_parameters()
    optimizer.step(loss)
    return lambda new: linear(torch.from_numpy((new - mean) / scale)).argmax(1).numpy()


if __name__ == "__main__":
    main()
