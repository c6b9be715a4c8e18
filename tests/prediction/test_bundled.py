"""The model in the box: it is there, also in an installed wheel, and tells how a camera moves."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from media import moving, write_video

import i3dcli
from i3dcli import CheckpointError
from i3dcli.checkpoints import zoo
from i3dcli.cli.main import main
from i3dcli.models.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]
NAME = "camera-motion"
STEPS = {"pan_left": (0, 2), "pan_right": (0, -2), "tilt_up": (2, 0), "tilt_down": (-2, 0), "static": (0, 0)}  # down, right


GOLDEN = {  # logits of the clip pan_left below, by the files that were released
    "rgb": [5.162, -2.611, -1.913, 0.158, 2.245, 0.221, 1.754, -4.366, -0.661, -0.964],
    "flow": [9.243, -2.788, -1.433, -1.467, 0.22, -0.331, -3.438, -2.311, 1.021, 1.404],
}


@pytest.fixture(scope="module")
def model():
    return i3dcli.load_model(NAME, device="cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Lossless clips of 24 frames of a texture that moves as the picture does when the camera makes each move."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        name: write_video(folder / f"{name}.mkv", moving(24, 128, 160, step=step), codec="ffv1", pix_fmt="bgr0")
        for name, step in STEPS.items()
    }


@pytest.mark.parametrize("name", STEPS)
def test_moves_are_told(model, clips, name):
    prediction = model.predict(clips[name])
    (label, probability), *_ = prediction.top(1)
    assert label == name and probability > 0.5


def test_the_logits_are_those_of_the_weights_that_were_released(model, clips):
    """Two-sided, to 0.05: other processors differ in the last digits of flow."""
    prediction = model.predict(clips["pan_left"])
    for stream, expected in GOLDEN.items():
        torch.testing.assert_close(prediction.stream_logits[stream], torch.tensor(expected), atol=0.05, rtol=0)


def test_a_film_changes_its_label_where_its_shots_are_cut(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "camera_motion"))
    from make_film import FRAMES, film

    moves = ["pan_left", "zoom_in", "roll_clockwise"]
    path = write_video(tmp_path / "film.mp4", film(moves, seed=3))
    command = ["predict", "--model", NAME, "--timeline", "--window", "1s", "--stride", "0.24s", "--json", str(path)]
    result = CliRunner().invoke(main, command)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    cuts = [i * FRAMES / 25 for i in range(1, len(moves))]
    whole = [row for row in rows if not any(row["start_seconds"] < cut < row["end_seconds"] for cut in cuts)]
    assert len(rows) == 27 and len(whole) == 21  # of a cut, the windows with their middle within half a window see both shots
    assert [label for label, _ in groupby(row["top"][0]["label"] for row in rows)] == moves
    for row in whole:
        assert row["top"][0]["label"] == moves[sum(row["start_seconds"] >= cut for cut in cuts)]


def test_it_needs_no_weights_folder_and_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("I3D_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    model = zoo.find_model(NAME)
    assert model.present and set(zoo.fetch(model)) == {"rgb", "flow"}
    assert not (tmp_path / "none").exists()


def test_its_files_are_small_and_say_what_they_were_trained_on(model):
    paths = zoo.fetch(zoo.find_model(NAME))
    for stream, path in paths.items():
        assert path.stat().st_size < 3e6
        content = torch.load(path, weights_only=True)
        assert content["stream"] == stream and "training" not in content
        assert {tensor.dtype for tensor in content["state_dict"].values() if tensor.is_floating_point()} == {torch.float16}
    how = Preprocessing(fps=12.5, short_side=128, crop=112, clip_len=12, flow_bound=10.0)
    assert model.nets["flow"].preprocessing == how
    assert dataclasses.replace(model.nets["rgb"].preprocessing, flow_bound=10.0) == how
    assert model.classes == tuple(sorted(model.classes)) and len(model.classes) == zoo.find_model(NAME).num_classes


def test_an_incomplete_installation_is_one_line(monkeypatch):
    model = zoo.find_model(NAME)
    lost = dataclasses.replace(model.files["rgb"][0], name="lost.pt")
    monkeypatch.setitem(zoo.MODELS, NAME, dataclasses.replace(model, files={"rgb": (lost,)}))
    with pytest.raises(CheckpointError, match=r"missing weights: lost\.pt: it comes with the package .* install i3d again"):
        i3dcli.load_model(NAME)


def test_an_installed_wheel_holds_the_weights_the_labels_and_the_report(tmp_path):
    """Built from a copy, since a build leaves files in the source tree."""
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("src", "weights"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", site, *tmp_path.glob("*.whl")], check=True)
    code = """
import i3dcli
from i3dcli.checkpoints.zoo import find_model
from i3dcli.evaluation.report import asset
assert all(map(asset, ("report.html", "report.css", "report.js")))
print(i3dcli.__file__, *i3dcli.load_model("camera-motion").labels, len(find_model("kinetics600").classes))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith(str(site)) and "zoom_out" in result.stdout and result.stdout.endswith(" 600\n")


def test_a_checkout_that_is_not_installed_finds_the_weights(tmp_path):
    """As with `PYTHONPATH=src python -m i3dcli`; what leads to an installed copy of this package is left out."""
    for name in ("src", "weights"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    code = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "Editable" not in repr(finder)]
import i3dcli
print(i3dcli.__file__, i3dcli.model_info("camera-motion").present, *i3dcli.load_model("camera-motion", device="cpu").nets)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "src", env=environment, capture_output=True, text=True)
    assert result.stdout.startswith(str(tmp_path)) and result.stdout.endswith(" True rgb flow\n"), result.stderr
