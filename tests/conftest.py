"""Fixtures that several modules share: checkpoints with known random weights, and the rule for tests that need a GPU."""

import os

import oracle
import pytest
import torch
from media import moving, write_video

import i3dcli


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
