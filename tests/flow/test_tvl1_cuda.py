"""TV-L1's CUDA kernels against the CPU's: on a GPU, or else on small images in Triton's interpreter.

TRITON_INTERPRET=1 pytest tests/flow/test_tvl1_cuda.py     without a GPU: slow, tests everything but graphs and speed
pytest tests/flow/test_tvl1_cuda.py                        with Triton alone, compiles for a GPU; with a GPU, runs on it
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from i3dcli.defaults import TVL1
from i3dcli.flow import tvl1_cuda
from i3dcli.flow.compute import cuda_stream
from i3dcli.flow.tvl1 import tvl1
from i3dcli.flow.tvl1_cuda import pixel_iterations, tvl1_batch, tvl1_frames

triton = pytest.importorskip("triton", reason="the kernels need Triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="set TRITON_INTERPRET=1 to test the kernels without a GPU")
SHORT = TVL1(scales=2, warps=2, outer_iterations=2, inner_iterations=15)  # the interpreter takes seconds for it
HEIGHT, WIDTH = 37, 67  # three tiles by two of 16 x 64 pixels, none of the last full

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]


@pytest.fixture
def gpu() -> torch.device:
    if INTERPRETED or not torch.cuda.is_available():
        pytest.skip("no CUDA device, or TRITON_INTERPRET is set")
    return torch.device("cuda")


def moving_texture(count: int, dx: float, dy: float, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Frames:
    """Frames (T,H,W) of a smooth random texture whose content moves by (dx, dy) pixels per frame."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((height + 80, width + 80)), (0, 0), 2.5)
    canvas = 255 * (noise - noise.min()) / np.ptp(noise)
    shifts = [np.array([[1, 0, dx * t - 40], [0, 1, dy * t - 40]], float) for t in range(count)]
    frames = [cv2.warpAffine(canvas, shift, (width, height), flags=cv2.INTER_CUBIC) for shift in shifts]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def three_pairs(height: int = HEIGHT, width: int = WIDTH) -> tuple[Frames, Frames]:
    """One stops at once, one after a few iterations, one goes on for long."""
    pairs = [
        moving_texture(2, 0, 0, height, width),
        moving_texture(2, 0.2, 0.1, height, width, seed=1),
        moving_texture(2, 2.6, -1.3, height, width, seed=2),
    ]
    return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])


def on(device: torch.device | str, previous: Frames, following: Frames, params: TVL1) -> Flow:
    flow = tvl1_batch(torch.from_numpy(previous).to(device), torch.from_numpy(following).to(device), params)
    return flow.cpu().numpy()


def on_cpu(previous: Frames, following: Frames, params: TVL1) -> Flow:
    return np.stack([tvl1(a, b, params) for a, b in zip(previous, following, strict=True)])


@interpreted
@pytest.mark.parametrize("median", [0, 3, 5])
def test_equals_the_cpu(median: int) -> None:
    params = TVL1(scales=2, warps=2, outer_iterations=2, inner_iterations=15, median=median)
    difference = np.abs(on("cpu", *three_pairs(), params) - on_cpu(*three_pairs(), params))
    assert difference.max() < 1e-3


@interpreted
def test_iterations_stop_when_the_cpus_do() -> None:
    """With a great epsilon one iteration more or less moves the flow by far more than rounding."""
    params = TVL1(scales=1, warps=2, outer_iterations=2, inner_iterations=7, epsilon=0.1)  # odd: buffers end up swapped
    endless = TVL1(scales=1, warps=2, outer_iterations=2, inner_iterations=7, epsilon=0)
    expected = on_cpu(*three_pairs(), params)
    assert np.abs(expected - on_cpu(*three_pairs(), endless))[2].max() > 0.01
    assert np.abs(on("cpu", *three_pairs(), params) - expected).max() < 1e-4


@interpreted
def test_without_epsilon_every_iteration_is_done() -> None:
    params = TVL1(scales=1, warps=1, outer_iterations=3, inner_iterations=5, epsilon=0)
    assert np.abs(on("cpu", *three_pairs(), params) - on_cpu(*three_pairs(), params)).max() < 1e-4


@interpreted
def test_flow_follows_the_texture_in_x_and_y() -> None:
    flow = on("cpu", *three_pairs(), TVL1(scales=2, warps=3, outer_iterations=3))[2]
    assert np.median(flow[0]) == pytest.approx(2.6, abs=0.1)
    assert np.median(flow[1]) == pytest.approx(-1.3, abs=0.1)


@interpreted
def test_a_batch_equals_its_pairs_one_by_one() -> None:
    previous, following = three_pairs()
    together = on("cpu", previous, following, SHORT)
    for i in range(3):
        np.testing.assert_array_equal(together[i : i + 1], on("cpu", previous[i : i + 1], following[i : i + 1], SHORT))


@interpreted
def test_frames_equal_their_pairs() -> None:
    frames = moving_texture(4, 1.5, 0.5)
    expected = on("cpu", frames[:-1], frames[1:], SHORT)
    np.testing.assert_array_equal(tvl1_frames(torch.from_numpy(frames), SHORT).numpy(), expected)


@interpreted
def test_batches_are_split_to_fit_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.from_numpy(moving_texture(6, 1.5, 0.5))
    params = TVL1(scales=1, warps=1, outer_iterations=1, inner_iterations=3)
    expected = tvl1_frames(frames, params)
    monkeypatch.setattr(tvl1_cuda, "_memory", lambda device: 0)  # two pairs at a time
    assert torch.equal(tvl1_frames(frames, params), expected)
    assert torch.equal(tvl1_batch(frames[:-1], frames[1:], params), expected)


@interpreted
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 3), (16, 64), (17, 65)])
def test_any_size(size: tuple[int, int]) -> None:
    previous, following = three_pairs(*size)
    params = TVL1(warps=2, outer_iterations=2, inner_iterations=5)
    assert np.abs(on("cpu", previous, following, params) - on_cpu(previous, following, params)).max() < 1e-3


@interpreted
def test_flow_is_computed_whoever_called_first() -> None:
    """What a batch keeps from a call in inference mode serves one outside."""
    frames = torch.from_numpy(moving_texture(3, 1.5, 0.5, 9, 13))
    params = TVL1(scales=1, warps=1, outer_iterations=1, inner_iterations=2, tau=0.2)
    with torch.inference_mode():
        first = tvl1_frames(frames, params)
    assert torch.equal(tvl1_frames(frames, params), first)


@interpreted
def test_a_stream_computes_batches_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    params = TVL1(scales=1, warps=1, outer_iterations=1, inner_iterations=2)
    frames = moving_texture(8, 1.5, 0.5, 9, 13)
    monkeypatch.setattr("i3dcli.flow.compute.CUDA_PAIRS", 3)
    found = np.stack(list(cuda_stream(iter(frames), params, device="cpu")))
    np.testing.assert_array_equal(found, tvl1_frames(torch.from_numpy(frames), params).numpy())


@interpreted
def test_the_pixels_of_all_iterations_are_counted() -> None:
    frames = torch.from_numpy(moving_texture(4, 1.5, 0.5, 40, 67))
    endless = TVL1(scales=2, warps=2, outer_iterations=2, inner_iterations=3, epsilon=0, median=0)
    assert pixel_iterations(frames, endless) == 3 * 2 * 2 * 3 * (40 * 96 + 32 * 64)  # rows are padded to cache lines
    still = torch.zeros((4, 40, 67), dtype=torch.uint8)
    assert pixel_iterations(still, replace(endless, epsilon=0.01)) == 3 * 2 * (40 * 96 + 32 * 64)  # one, to see it


@interpreted
def test_float_frames_are_grey_levels() -> None:
    frames = torch.from_numpy(moving_texture(2, 1.5, 0.5))
    assert torch.equal(tvl1_frames(frames, SHORT), tvl1_frames(frames.float(), SHORT))


@interpreted
def test_one_frame_has_no_flow() -> None:
    assert tvl1_frames(torch.zeros((1, 20, 30), dtype=torch.uint8)).shape == (0, 2, 20, 30)


@interpreted
@pytest.mark.parametrize(
    "frames", [torch.zeros((20, 30)), torch.zeros((2, 20, 30), dtype=torch.int32), torch.zeros((2, 0, 30))]
)
def test_refuses_what_is_not_grey_frames(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected grey frames"):
        tvl1_frames(frames)


@interpreted
def test_refuses_frames_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="frames differ"):
        tvl1_batch(torch.zeros((1, 20, 30)), torch.zeros((1, 20, 31)))


def test_refuses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="expected frames on a CUDA device"):
        tvl1_frames(torch.zeros((2, 20, 30)))


def test_says_that_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "i3dcli.flow._tvl1_triton", raising=False)
    monkeypatch.delattr("i3dcli.flow._tvl1_triton", raising=False)
    with pytest.raises(ImportError, match="Triton is missing"):
        tvl1_cuda._kernels.__wrapped__()


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(
    ("kernel", "pairs", "launch", "registers", "spilled"),
    [
        ("iterate", 256, tvl1_cuda.ITERATE, 64, 16),
        ("iterate", 4, tvl1_cuda.ITERATE, 64, 64),
        ("median", 256, tvl1_cuda.LAUNCH, 128, 0),
    ],
)
def test_programs_fit_in_the_registers_of_a_multiprocessor(
    kernel: str,
    pairs: int,
    launch: dict[str, object],
    registers: int,
    spilled: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled for compute capability 9.0: of 65536 registers, 512 threads may have 64 each twice, or 128 once."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from i3dcli.flow import _tvl1_triton as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    function = getattr(kernels, kernel)
    sizes = dict.fromkeys(("height", "width", "stride"), "i32")
    types = {"errors": "*i64", "threshold": "i64", **sizes, **dict.fromkeys(("theta", "limit", "step"), "fp32")}
    constants = {"SIZE": 5, "PAIRS": pairs}
    names = function.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
    aligned = [name for name in names if signature[name].startswith("*") or name == "stride"]
    source = ASTSource(
        function,
        signature,
        {(names.index(name),): value for name, value in constants.items() if name in names},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=launch)
    (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([reader, "-res-usage", tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True)
    found = {name: int(count) for name, count in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage.stdout + usage.stderr)}
    assert found["REG"] <= registers and found["STACK"] + found["LOCAL"] <= spilled, found


@pytest.mark.cuda
@pytest.mark.parametrize("median", [0, 3, 5])
def test_gpu_equals_the_cpu(gpu: torch.device, median: int) -> None:
    params = TVL1(median=median)
    difference = np.abs(on(gpu, *three_pairs(256, 340), params) - on_cpu(*three_pairs(256, 340), params))
    assert difference.mean() < 0.01
    assert np.quantile(difference, 0.999) < 0.1


@pytest.mark.cuda
@pytest.mark.parametrize("size", [(1, 1), (9, 1), (5, 3), (17, 65), (239, 317)])
def test_gpu_takes_any_size(gpu: torch.device, size: tuple[int, int]) -> None:
    difference = np.abs(on(gpu, *three_pairs(*size), TVL1()) - on_cpu(*three_pairs(*size), TVL1()))
    assert difference.mean() < 0.01


@pytest.mark.cuda
def test_gpu_batch_equals_its_pairs_and_itself(gpu: torch.device) -> None:
    previous, following = three_pairs(256, 340)
    together = on(gpu, previous, following, TVL1())
    np.testing.assert_array_equal(together, on(gpu, previous, following, TVL1()))
    for i in range(3):
        np.testing.assert_array_equal(together[i : i + 1], on(gpu, previous[i : i + 1], following[i : i + 1], TVL1()))


@pytest.mark.cuda
def test_gpu_frames_equal_their_pairs(gpu: torch.device) -> None:
    frames = moving_texture(20, 1.5, 0.5, 256, 340)
    flow = tvl1_frames(torch.from_numpy(frames).to(gpu)).cpu().numpy()
    np.testing.assert_array_equal(flow, on(gpu, frames[:-1], frames[1:], TVL1()))


@pytest.mark.cuda
def test_gpu_graph_takes_new_frames(gpu: torch.device) -> None:
    """The second batch runs the graph of the first; its short rest is filled up."""
    fast = torch.from_numpy(moving_texture(9, 3, 1, 256, 340)).to(gpu)
    slow = torch.from_numpy(moving_texture(6, 0.4, 0.8, 256, 340, seed=3)).to(gpu)
    tvl1_frames(fast)
    flow = tvl1_frames(slow)
    tvl1_cuda._batch.cache_clear()
    assert torch.equal(tvl1_frames(slow), flow)
