"""The clips of examples/camera_motion: the picture moves as the class says, the same each time, and nothing is in two parts."""

import importlib
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import texture, write_video

from i3dcli import read_video
from i3dcli.data.dataset import load_dataset

FOLDER = Path(__file__).parents[2] / "examples" / "camera_motion"
EXPECTED = {  # how the picture moves: which number, which sign
    "pan_left": ("right", 1),
    "pan_right": ("right", -1),
    "tilt_up": ("down", 1),
    "tilt_down": ("down", -1),
    "zoom_in": ("grows", 1),
    "zoom_out": ("grows", -1),
    "roll_clockwise": ("clockwise", -1),
    "roll_counter_clockwise": ("clockwise", 1),
}


@pytest.fixture(scope="module")
def examples():
    """The scripts as modules; they import each other as they do when run."""
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in ("make_dataset", "real_footage", "baseline")}
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """A still video of 30 frames, 176x144 pixels."""
    return write_video(tmp_path_factory.mktemp("footage") / "still.mp4", [texture(144, 176)] * 30)


def motion(frames):
    """The picture's motion in pixels per frame, at 64 pixels from its middle, by matching corners of every second pair."""
    height, width = frames[0].shape[:2]
    shift = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    steps = []
    for first, second in zip(frames[:-1:2], frames[1::2], strict=False):
        first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
        corners = cv2.goodFeaturesToTrack(first, 200, 0.01, 5)
        tracked, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, winSize=(15, 15))
        matrix, _ = cv2.estimateAffinePartial2D(corners[found == 1], tracked[found == 1], ransacReprojThreshold=0.3)
        a, b, x = matrix[0] @ shift
        c, d, y = matrix[1] @ shift
        steps.append((x - width / 2, y - height / 2, 64 * math.log(math.hypot(a, c)), 64 * math.atan2(c - b, a + d)))
    steps = np.array(steps)
    return dict(zip(("right", "down", "grows", "clockwise"), steps.mean(0), strict=True)), steps.std(0)


def clip(examples, name, number, pace):
    make_dataset = examples["make_dataset"]
    return make_dataset.render(make_dataset.clip_rng(0, "test", name, number), name, pace)[0]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_rendered_picture_moves_as_its_class_says(examples, name):
    number, sign = EXPECTED[name]
    found = np.mean([motion(clip(examples, name, i, pace=0.6))[0][number] for i in range(2)])
    assert 0.5 < sign * found < 3


def test_a_rendered_static_shot_rests_and_a_shaken_one_does_not(examples):
    still, tremor = motion(clip(examples, "static", 0, pace=0.6))
    assert max(map(abs, still.values())) < 0.1 and max(tremor) < 0.2
    shaken, shake = motion(clip(examples, "shake", 0, pace=0.6))
    assert max(abs(shaken["right"]), abs(shaken["down"])) < 0.5 < max(shake[:2])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_window_on_real_footage_moves_as_its_class_says(examples, footage, name):
    real = examples["real_footage"]
    frames = real.middle_frames(footage)
    found, _ = motion(real.moved(frames, real.window_path(np.random.default_rng(0), name, len(frames))))
    number, sign = EXPECTED[name]
    assert sign * found.pop(number) > 0.3
    assert max(map(abs, found.values())) < 0.1


def test_the_baseline_reads_motion_in_the_same_directions(examples):
    y, x = np.mgrid[:128, :170].astype(np.float32)
    x, y = (x - 85) / 64, (y - 64) / 64
    flow = np.stack([1 + 0.5 * x - 0.25 * y, -2 + 0.5 * y + 0.25 * x])
    flow[:, :30, :30] = 9  # a thing on its own way
    assert np.allclose(examples["baseline"].global_motion(flow), (1, -2, 0.5, 0.25), atol=0.01)


def test_a_clip_is_the_same_each_time_and_no_two_are_alike(examples):
    make_dataset = examples["make_dataset"]
    seeds = [(0, "train", 0), (0, "val", 0), (0, "test", 0), (0, "train", 1), (1, "train", 0)]
    first = [make_dataset.clip_rng(seed, part, "static", i).bytes(16) for seed, part, i in seeds]
    assert len(set(first)) == len(seeds)
    once, again = clip(examples, "shake", 3, 0.2), clip(examples, "shake", 3, 0.2)
    assert np.array_equal(once, again)


def test_the_dataset_is_one_that_our_commands_read(examples, tmp_path):
    make_dataset = examples["make_dataset"]
    for part in ("train", "test"):
        for name in ("static", "zoom_in"):
            assert make_dataset.make_clip((tmp_path, 0, part, name, 0)) > 0
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "folder: 2 train, 2 test, 2 classes" and dataset.classes == ("static", "zoom_in")
    assert 24 <= len(read_video(dataset.eval[0].path)) <= 41
    before = dataset.eval[0].path.read_bytes()
    make_dataset.make_clip((tmp_path, 0, "test", "static", 0))
    assert dataset.eval[0].path.read_bytes() == before
