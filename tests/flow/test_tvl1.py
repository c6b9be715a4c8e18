"""TV-L1 against OpenCV's, on moving textures made here and on a video encoded here."""

import importlib
import itertools
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import compiled
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from patience import gone

from i3dcli import I3DError
from i3dcli.defaults import TVL1
from i3dcli.flow import tvl1 as module
from i3dcli.flow.compute import FlowMethod
from i3dcli.flow.tvl1 import tvl1, tvl1_stream

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]
HEIGHT, WIDTH = 97, 131  # odd, so that every level of the pyramid is rounded


def moving_texture(count: int, dx: float, dy: float, height: int = HEIGHT, width: int = WIDTH) -> list[Frame]:
    """A smooth random texture whose content moves by (dx, dy) pixels per frame."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((height + 80, width + 80)), (0, 0), 2.5)
    canvas = 255 * (noise - noise.min()) / np.ptp(noise)
    frames = []
    for t in range(count):
        shift = np.array([[1, 0, dx * t - 40], [0, 1, dy * t - 40]], float)
        frame = cv2.warpAffine(canvas, shift, (width, height), flags=cv2.INTER_CUBIC)
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return frames


def opposed_textures() -> list[Frame]:
    """Two frames whose left half moves right and whose right half moves down: a motion edge and occlusions."""
    left, right = moving_texture(2, 3, 0), moving_texture(2, 0, 2)
    return [np.hstack([a[:, : WIDTH // 2], b[:, WIDTH // 2 :]]) for a, b in zip(left, right, strict=True)]


def opencv(previous: Frame, following: Frame, median: int = 5, **options: int) -> Flow:
    algorithm = cv2.optflow.DualTVL1OpticalFlow_create(medianFiltering=max(median, 1), **options)  # type: ignore[attr-defined]
    return np.asarray(algorithm.calc(previous, following, None).transpose(2, 0, 1), np.float32)


def difference(a: Flow, b: Flow) -> NDArray[np.float32]:
    return np.asarray(np.hypot(*(a - b)), np.float32)


@pytest.mark.parametrize("median", [0, 1, 3, 5])
def test_translation_equals_opencv(median: int) -> None:
    previous, following = moving_texture(2, 3.3, -1.6)
    error = difference(tvl1(previous, following, TVL1(median=median)), opencv(previous, following, median))
    assert error.mean() < 0.005
    assert error.max() < 0.2


@pytest.mark.parametrize("median", [0, 3, 5])
def test_motion_edge_equals_opencv(median: int) -> None:
    """Less closely: what becomes visible has no counterpart, and its flow hangs on the last bit of every rounding."""
    previous, following = opposed_textures()
    error = difference(tvl1(previous, following, TVL1(median=median)), opencv(previous, following, median))
    assert error.mean() < 0.05
    assert np.quantile(error, 0.9) < 0.1


@pytest.mark.parametrize("scales", [1, 3])
def test_one_warp_equals_opencv_in_every_pixel(scales: int) -> None:
    previous, following = opposed_textures()
    expected = opencv(previous, following, warps=1, nscales=scales)
    assert difference(tvl1(previous, following, TVL1(warps=1, scales=scales)), expected).max() < 0.01


def test_equals_opencv_on_encoded_video(tmp_path: Path) -> None:
    path = tmp_path / "moving.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 128, 96
        for image in moving_texture(4, 2, 1, 96, 128):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        frames = [np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in container.decode(video=0)]
    flows = list(tvl1_stream(frames))
    assert len(flows) == 3
    for flow, (previous, following) in zip(flows, itertools.pairwise(frames), strict=True):
        assert difference(flow, opencv(previous, following)).mean() < 0.01


def test_channel_0_is_right_and_channel_1_is_down() -> None:
    previous, following = moving_texture(2, 3, -2)
    flow = tvl1(previous, following)
    assert flow.shape == (2, HEIGHT, WIDTH)
    assert flow.dtype == np.float32
    assert np.median(flow[0]) == pytest.approx(3, abs=0.05)
    assert np.median(flow[1]) == pytest.approx(-2, abs=0.05)


def test_stream_equals_pairs_bit_for_bit_on_any_number_of_threads() -> None:
    frames = moving_texture(9, 1.5, 0.5)
    pairs = [tvl1(a, b) for a, b in itertools.pairwise(frames)]
    for threads in (1, 2, 5):
        flows = list(tvl1_stream(iter(frames), threads=threads))
        assert all(np.array_equal(flow, pair) for flow, pair in zip(flows, pairs, strict=True))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_n_frames_give_n_minus_1_flows(count: int) -> None:
    assert len(list(tvl1_stream(moving_texture(count, 1, 0, 24, 24)))) == max(count - 1, 0)


def endless(taken: list[int]) -> Iterator[Frame]:
    frame = moving_texture(1, 0, 0, 24, 24)[0]
    for index in itertools.count():
        taken.append(index)
        yield frame


def test_stream_takes_few_frames_ahead_and_stops_when_closed() -> None:
    taken: list[int] = []
    flows = tvl1_stream(endless(taken), threads=2)
    for _ in range(20):
        next(flows)
    assert len(taken) <= 20 + 4
    flows.close()  # type: ignore[attr-defined]
    assert gone("flow")


def test_source_errors_reach_the_caller() -> None:
    def broken() -> Iterator[Frame]:
        yield from moving_texture(3, 1, 0, 24, 24)
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        list(tvl1_stream(broken()))


def test_hours_of_iterations_end_when_the_stream_does() -> None:
    def interrupted() -> Iterator[Frame]:
        yield from moving_texture(3, 1, 0)
        raise KeyboardInterrupt

    longest = TVL1(epsilon=0.0, warps=100, inner_iterations=1000, outer_iterations=1000)
    with pytest.raises(KeyboardInterrupt):
        list(tvl1_stream(interrupted(), longest, threads=2))
    assert gone("flow")


@pytest.mark.parametrize("median", [0, 3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5), (15, 16), (16, 17), (20, 1500)])
def test_any_size_gives_finite_flow(shape: tuple[int, int], median: int) -> None:
    previous, following = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    flow = tvl1(previous, following, TVL1(median=median))
    assert flow.shape == (2, *shape)
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() < 100


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images_do_not_move(value: int) -> None:
    assert not tvl1(*np.full((2, 50, 60), value, np.uint8)).any()


def test_memory_layout_does_not_matter() -> None:
    previous, following = moving_texture(2, 2, 1)
    wide = np.dstack([previous, following])
    expected = tvl1(previous, following)
    assert np.array_equal(tvl1(wide[..., 0], wide[..., 1]), expected)
    assert np.array_equal(tvl1(np.asfortranarray(previous), following), expected)


@pytest.mark.parametrize(
    "wrong", [{"tau": 0}, {"lambda_": -1}, {"theta": np.nan}, {"warps": 0}, {"scale_step": 1}, {"epsilon": -1}, {"median": 4}]
)
def test_wrong_parameters_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"TVL1: {next(iter(wrong))}: got"):
        TVL1(**wrong)  # type: ignore[arg-type]


def test_wrong_frames_are_refused() -> None:
    grey = np.zeros((20, 20), np.uint8)
    wrongs: list[NDArray[Any]] = [np.zeros((20, 20, 3), np.uint8), grey.astype(np.float64), grey[:0]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="expected a grey frame"):
            tvl1(wrong, wrong)
    with pytest.raises(ValueError, match="differ in size"):
        tvl1(grey, grey[:19])


def test_the_process_that_compiles_computes_what_later_ones_do() -> None:
    """The code that tests run was compiled by another process, which kept the flow that it computed."""
    previous, following = np.random.default_rng(0).integers(0, 256, (2, *compiled.SIZE), np.uint8)
    assert np.array_equal(tvl1(previous, following), compiled.first_flow())
    for kernel in (module.cpu._solve, module.cpu.texture, module.cpu.resize):
        assert kernel.stats.cache_hits and not kernel.stats.cache_misses


def test_compiled_code_that_is_cut_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*arguments: Any) -> None:
        raise pickle.UnpicklingError("pickle data was truncated")

    monkeypatch.setattr(module.cpu, "resize", cut_off)
    with pytest.raises(I3DError, match=r"cannot load compiled code: .*remove them$"):
        tvl1(*moving_texture(2, 1, 0))


def test_a_switched_off_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(I3DError, match=r"NUMBA_DISABLE_JIT is set: .*; unset it"):
        importlib.reload(module.cpu)


def test_an_environment_that_numba_cannot_start_in_is_named() -> None:
    code = "import i3dcli.flow._tvl1_cpu"
    environment = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "I3DError: cannot compile TV-L1: " in result.stderr and "NUMBA_NUM_THREADS=0" in result.stderr.splitlines()[-1]


def test_memory_that_runs_out_in_a_thread_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*arguments: Any, **options: Any) -> None:
        raise MemoryError("Allocation failed (probably too large).")

    monkeypatch.setattr(module.cpu, "solve", large)
    frames = [np.zeros((20, 20, 3), np.uint8)] * 3
    with pytest.raises(I3DError, match=r"^out of memory: Allocation failed .*; compute flow with i3d extract-flow"):
        list(FlowMethod().flows(frames))


def test_works_where_no_compiled_code_can_be_kept(tmp_path: Path) -> None:
    """Such as a read-only container: files stand where numba would make its folders."""
    package = tmp_path / "i3dcli"
    shutil.copytree(Path(module.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "flow" / "__pycache__").touch()
    (tmp_path / "home").touch()
    environment = {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", "import i3dcli.flow.tvl1"], env=environment, cwd=tmp_path, check=True)
