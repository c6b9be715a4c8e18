"""Fixtures that several modules share: checkpoints with known random weights, and the rule for tests that need a GPU."""

import os
from types import SimpleNamespace

import oracle
import pytest
import torch
from media import moving, write_video

import i3dcli
from i3dcli.defaults import Preprocessing


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        reason = "needs a CUDA device"
        pytest.fail(reason) if os.environ.get("FAIL_WITHOUT_CUDA") == "1" else pytest.skip(reason)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Paths of an RGB and a flow checkpoint, narrow, of random weights, with ten named classes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for stream, channels in (("rgb", 3), ("flow", 2)):
        net = oracle.lively(i3dcli.I3D(num_classes=10, in_channels=channels, width=0.125), seed=channels)
        net.classes = tuple(f"action {i}" for i in range(10))
        paths[stream] = folder / f"{stream}.pt"
        i3dcli.save_checkpoint(net, paths[stream])
    return paths


@pytest.fixture(scope="session")
def model(checkpoints):
    return i3dcli.load_model(**checkpoints, device="cpu")


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A texture of 12 frames that moves, 96x128 pixels."""
    return write_video(tmp_path_factory.mktemp("video") / "moving.mp4", moving(12))


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """Paths of checkpoints with the same ten classes that see clips of 16 frames of 48x48 pixels."""
    folder = tmp_path_factory.mktemp("quick")
    paths = {}
    for stream, channels in oracle.CHANNELS.items():
        net = oracle.lively(i3dcli.I3D(num_classes=10, in_channels=channels, width=0.125), seed=channels)
        net.classes = tuple(f"action {i}" for i in range(10))
        net.preprocessing = Preprocessing(short_side=64, crop=48, clip_len=16)
        paths[stream] = folder / f"{stream}.pt"
        i3dcli.save_checkpoint(net, paths[stream])
    return paths


@pytest.fixture(scope="session")
def quick_model(quick):
    return i3dcli.load_model(**quick, device="cpu")


@pytest.fixture(scope="session")
def split(tmp_path_factory, quick_model):
    """A list of six videos with labels, half of them those that `quick_model` gives; their paths, labels and predictions."""
    folder = tmp_path_factory.mktemp("split")
    paths = [write_video(folder / f"v{i}.mp4", moving(12 + i, 64, 80, step=(i % 3, 2 - i), seed=i)) for i in range(6)]
    predictions = [quick_model.predict(path) for path in paths]
    labels = [(prediction.top_indices(1)[0] + i % 2) % 10 for i, prediction in enumerate(predictions)]
    path = folder / "test.txt"
    path.write_text("".join(f"v{i}.mp4 {label}\n" for i, label in enumerate(labels)))
    return SimpleNamespace(path=path, videos=paths, labels=labels, predictions=predictions)
