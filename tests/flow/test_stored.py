import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from i3dcli import VideoError
from i3dcli.defaults import FLOW_FORMATS
from i3dcli.flow.formats import FORMATS, Flo, dequantise, flow_files, quantise
from i3dcli.flow.stored import FlowFolder, FlowReader
from i3dcli.flow.visualize import flow_picture
from i3dcli.flow.writer import FlowWriter


def smooth_flows(count=3, height=40, width=56):
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.stack([8 * np.sin(columns / 9 + t), 5 * np.cos(rows / 7 - t)]) for t in range(count)]
    return [wave.astype(np.float32) for wave in waves]


def make(folder):
    folder.mkdir(parents=True)
    return folder


def stored(folder, flows, *, format, bound=20.0, **sidecar):
    writer = FlowWriter(folder, format=format, bound=bound)
    for flow in flows:
        writer.write_flow(flow)
    writer.close()
    record = {"format": format, "bound": bound, "num_flows": writer.num_flows, **sidecar}
    (folder / "flow.json").write_text(json.dumps(record))
    return folder


def test_levels_are_those_of_denseflow():
    flow = np.array([0, 20, -20, 25, -25, 20 / 255, 0.2], np.float32)
    assert quantise(flow, 20.0).tolist() == [128, 255, 0, 255, 0, 128, 129]
    np.testing.assert_allclose(dequantise(np.array([0, 255, 128], np.uint8), 20.0), [-20, 20, 20 / 255], atol=1e-5)


@pytest.mark.parametrize(("format", "tolerance"), [("jpg", 0.15), ("zip", 0.15), ("npy", 0.002), ("flo", 0.0)])
def test_flow_comes_back_from_every_format_with_x_first(tmp_path, format, tolerance):
    flows = smooth_flows()
    reader = FlowReader(stored(tmp_path, flows, format=format))
    assert len(reader) == 3 and reader[2].dtype == np.float32 and reader[2].shape == (2, 40, 56)
    for flow, read in zip(flows, reader, strict=True):
        assert np.abs(flow - read).mean(axis=(1, 2)).max() <= tolerance


def test_pictures_have_the_names_and_size_that_mmaction2_reads(tmp_path):
    stored(tmp_path, smooth_flows(), format="jpg")
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == [
        f"flow_{axis}_{t:05d}.jpg" for axis in "xy" for t in (1, 2, 3)
    ]
    picture = cv2.imread(str(tmp_path / "flow_x_00001.jpg"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (40, 56) and abs(int(picture[0, 0]) - 128) <= 2


def test_a_zip_holds_the_same_pictures_byte_for_byte(tmp_path):
    for format in ("jpg", "zip"):
        (tmp_path / format).mkdir()
        stored(tmp_path / format, smooth_flows(), format=format)
    with zipfile.ZipFile(tmp_path / "zip" / "flow.zip") as archive:
        assert all(archive.read(name) == (tmp_path / "jpg" / name).read_bytes() for name in archive.namelist())
        assert len(archive.namelist()) == 6


def test_numpy_and_opencv_read_what_we_write(tmp_path):
    flows = smooth_flows()
    for format in ("npy", "flo"):
        (tmp_path / format).mkdir()
        stored(tmp_path / format, flows, format=format)
    array = np.load(tmp_path / "npy" / "flow.npy")
    assert array.shape == (3, 2, 40, 56) and array.dtype == np.float16
    theirs = cv2.readOpticalFlow(str(tmp_path / "flo" / "flow_00003.flo"))
    assert np.array_equal(theirs.transpose(2, 0, 1), flows[2])


def test_frames_are_written_in_their_colours(tmp_path):
    writer = FlowWriter(tmp_path, format="jpg", bound=20.0)
    writer.write_frame(np.full((32, 32, 3), (250, 120, 10), np.uint8))
    writer.close()
    picture = cv2.imread(str(tmp_path / "img_00001.jpg"))[..., ::-1]
    assert np.abs(picture.astype(int) - (250, 120, 10)).max() <= 3


def test_damage_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"no flow\.json in it"):
        FlowReader(tmp_path)
    stored(tmp_path, smooth_flows(), format="jpg")
    (tmp_path / "flow_y_00002.jpg").write_bytes(b"no picture")
    with pytest.raises(VideoError, match="damaged flow"):
        list(FlowReader(tmp_path))
    (tmp_path / "flow.json").write_text("{")
    with pytest.raises(VideoError, match="no JSON"):
        FlowReader(tmp_path)
    stored(tmp_path, smooth_flows(2), format="npy", num_flows=3)
    with pytest.raises(VideoError, match="holds 2 flows"):
        FlowReader(tmp_path)


def test_the_colour_wheel_tells_directions_apart_and_leaves_stillness_white():
    right, left, still = (np.full((2, 1, 1), 0, np.float32) for _ in range(3))
    right[0], left[0] = 20, -20
    colours = [flow_picture(flow, 20.0)[0, 0].tolist() for flow in (right, left, still)]
    assert colours == [[255, 0, 0], [0, 255, 255], [255, 255, 255]]


def test_flow_is_found_under_a_part_of_its_path_only_where_its_source_is_of_that_size(tmp_path):
    videos = {name: tmp_path / "videos" / name / "v1.mp4" for name in ("run", "walk")}
    for size, path in enumerate(videos.values(), start=5):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    folder = FlowFolder(tmp_path / "flow")
    flow = stored(make(folder.path / "v1"), smooth_flows(), format="npy", source="v1.mp4", source_bytes=5)
    assert folder.find(Path("run/v1"), videos["run"]) == flow and folder.holds(Path("run/v1"), videos["run"])
    assert folder.find(Path("walk/v1"), videos["walk"]) == folder.path / "walk" / "v1"
    assert not folder.holds(Path("walk/v1"), videos["walk"])
    with pytest.raises(VideoError, match=r"^flow of another video: .*/flow/v1: made from v1.mp4 of 5 bytes, .* has 6; extract"):
        folder.open(Path("v1"), videos["walk"])
    videos["walk"].unlink()  # of a video that is gone, flow is taken by its name
    assert len(folder.open(Path("walk/v1"), videos["walk"])) == 3


def test_damaged_flow_under_a_part_of_the_path_is_passed_over(tmp_path):
    (make(tmp_path / "flow" / "v1") / "flow.json").write_text("{")
    flow = stored(make(tmp_path / "flow" / "run" / "v1"), smooth_flows(), format="npy")
    assert FlowFolder(tmp_path / "flow").find(Path("test/run/v1"), Path("/videos/test/run/v1.mp4")) == flow
    assert not FlowFolder(tmp_path / "flow").holds(Path("test/walk/v1"), Path("/videos/test/walk/v1.mp4"))


class Halves(Flo):
    """A format as somebody would add it: float16 in a file for each flow."""

    @staticmethod
    def names(number):
        return (f"flow_{number:05d}.f16",)

    def encoders(self, flow):
        return (flow.astype("<f2").tobytes,)

    @staticmethod
    def reader(folder, num_flows, bound):
        return lambda index: np.fromfile(folder / Halves.names(index + 1)[0], "<f2").reshape(2, 3, 4).astype(np.float32)


def test_a_format_that_is_added_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "f16", Halves)
    flows = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float16).astype(np.float32)
    writer = FlowWriter(tmp_path, format="f16", bound=20.0)
    for flow in flows:
        writer.write_flow(flow)
    writer.close()
    (tmp_path / "flow.json").write_text(json.dumps({"format": "f16", "bound": 20.0, "num_flows": 3}))
    reader = FlowReader(tmp_path)
    np.testing.assert_array_equal(np.stack(list(reader)), flows)
    assert not reader.is_clamped and flow_files().fullmatch("flow_00001.f16")


def test_every_format_of_the_command_has_its_class():
    assert tuple(FORMATS) == FLOW_FORMATS
