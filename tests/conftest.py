"""Fixtures that several modules share: checkpoints with known random weights, clips to train on; how the tests are shared among
processes, and the rule for those that need a GPU."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

# Before torch and OpenCV, here and in processes: where cores are shared, as among workers, more threads wait for each other.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
# Before numba: kernels are compiled once, for all workers, for the processes that tests start, and for the next run.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "numba"))

import compiled
import hosts
import oracle
import processes
import pytest
import torch
from media import moving, write_video

import i3dcli
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.flow.stored import FlowReader
from i3dcli.flow.writer import FlowWriter
from i3dcli.text import worded_for_the_command_line
from i3dcli.threads import available_cores

sys.meta_path.insert(0, compiled.Finder)


LONGEST = (  # the files that take longest, by what they took; begun first, none of them keeps the others waiting at the end
    "training/test_train.py",
    "test_distributed.py",
    "flow/test_extract.py",
    "checkpoints/test_key_maps.py",
    "checkpoints/test_inflate.py",
    "evaluation/test_evaluate.py",
)
MOST_WORKERS = 8  # more would have nothing to do while the longest file runs


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """As many as there are cores; a single file, which is one worker's anyway, needs none."""
    files = {Path(arg.split("::")[0]) for arg in config.args}
    if len(files) == 1 and files.pop().is_file():
        return 0
    return min(available_cores(), MOST_WORKERS)


def pytest_collection_modifyitems(items):
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """A name that is no UTF-8 in the report of a failure must not end the worker that sends it."""
    return in_utf8((yield))


def in_utf8(value):
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: in_utf8(part) for key, part in value.items()}
    return type(value)(map(in_utf8, value)) if isinstance(value, (list, tuple)) else value


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        reason = "needs a CUDA device"
        pytest.fail(reason) if os.environ.get("FAIL_WITHOUT_CUDA") == "1" else pytest.skip(reason)


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    processes.close_all()


@pytest.fixture
def as_on_the_command_line():
    """Advice in errors names options as the command line does, `--overwrite`, and not as Python does, `overwrite=True`."""
    with worded_for_the_command_line():
        yield


@pytest.fixture
def host():
    with hosts.running() as server:
        yield server


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Paths of an RGB and a flow checkpoint, narrow, of random weights, with ten named classes."""
    return oracle.save_streams(tmp_path_factory.mktemp("checkpoints"))


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
    return oracle.save_streams(tmp_path_factory.mktemp("quick"), short_side=64, crop=48, clip_len=16)


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


@pytest.fixture(scope="session")
def motions(tmp_path_factory):
    """Clips of textures that move left or right, 14 frames of 36x48 pixels: train/<class>/ has four, val/<class>/ two."""
    root = tmp_path_factory.mktemp("motions")
    for part, count in (("train", 4), ("val", 2)):
        for name, step in (("left", (0, -2)), ("right", (0, 2))):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                frames = moving(14, 36, 48, step=step, seed=10 * len(part) + i)
                write_video(root / part / name / f"{name}{i}.mp4", frames, codec="ffv1", pix_fmt="bgr0", container="matroska")
    return root


@pytest.fixture(scope="session")
def flows(motions, tmp_path_factory):
    """The flow of `motions`, by format, each a folder as extract-flow leaves it."""
    root = tmp_path_factory.mktemp("flows")
    for _ in extract_videos([str(motions)], root / "npy", FlowOptions(format="npy", short_side=36)):
        pass
    for sidecar in (root / "npy").rglob("flow.json"):
        flow = FlowReader(sidecar.parent)
        for format in ("jpg", "zip", "flo"):
            folder = root / format / sidecar.parent.relative_to(root / "npy")
            folder.mkdir(parents=True)
            writer = FlowWriter(folder, format=format, bound=flow.bound)
            for field in flow:
                writer.write_flow(field)
            writer.close()
            (folder / "flow.json").write_text(json.dumps(flow.sidecar | {"format": format}))
    return {format: root / format for format in ("jpg", "zip", "npy", "flo")}
