import json
import random
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from media import cut, largest_file, moving, write_audio, write_video
from processes import DEATHS, dying, ends_of, start, start_ranks, wait_for

import i3dcli
from i3dcli.cli.main import main
from i3dcli.flow.compute import FlowMethod
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.flow.stored import FlowReader
from i3dcli.video.reader import Video

SMALL = ("--short-side", "32")


def extract(*arguments):
    return CliRunner().invoke(main, ["extract-flow", *SMALL, *map(str, arguments)], catch_exceptions=False)


def files(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def videos(folder, count, frames=12):
    folder.mkdir()
    for i in range(count):
        (folder / f"class {i % 2}").mkdir(exist_ok=True)
        write_video(folder / f"class {i % 2}" / f"v{i}.mp4", moving(frames, 32, 40, seed=i))
    return folder


def test_flow_on_disk_is_the_flow_of_the_python_api(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(6, 64, 80))
    result = extract(path, "--out", tmp_path / "out", "--format", "npy")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path}/out/clip\n", "1 extracted\n")
    expected = i3dcli.compute_flow(i3dcli.read_video(path, short_side=32)).numpy()
    np.testing.assert_allclose(np.stack(list(FlowReader(tmp_path / "out" / "clip"))), expected, atol=0.002)


@pytest.mark.parametrize("count", [2, 3, 255, 256, 257, 1025])
def test_n_frames_give_n_minus_1_flows(tmp_path, count):
    path = write_video(tmp_path / "clip.mp4", moving(count, 16, 20, step=(0, 1)))
    list(extract_videos([str(path)], tmp_path / "out", FlowOptions(format="zip", short_side=16)))
    reader = FlowReader(tmp_path / "out" / "clip")
    assert len(list(reader)) == count - 1 == reader.sidecar["num_frames"] - 1


def test_class_folders_are_kept_and_the_sidecar_says_how_it_was_made(tmp_path):
    source = videos(tmp_path / "in", 2)
    assert extract(source, "--out", tmp_path / "out", "--frames", "--bound", "10", "--tau", "0.2").exit_code == 0
    folder = tmp_path / "out" / "class 1" / "v1"
    names = {f"{kind}_{t:05d}.jpg" for kind in ("flow_x", "flow_y") for t in range(1, 12)} | {
        f"img_{t:05d}.jpg" for t in range(1, 13)
    }
    assert {path.name for path in folder.iterdir()} == names | {"flow.json"}
    record = json.loads((folder / "flow.json").read_text())
    expected = {"algorithm": "tvl1", "bound": 10.0, "fps": 25.0, "short_side": 32, "height": 32, "width": 40, "zero_level": 128}
    expected |= {
        "num_frames": 12,
        "num_flows": 11,
        "source": "v1.mp4",
        "source_bytes": (source / "class 1" / "v1.mp4").stat().st_size,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["parameters"] | {"tau": 0.2, "lambda_": 0.15, "median": 5} == record["parameters"]
    assert record["tool"] == f"i3d {i3dcli.__version__}"


def test_what_is_there_is_kept_and_what_was_made_otherwise_is_an_error(tmp_path):
    source = videos(tmp_path / "in", 2)
    extract(source, "--out", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = extract(source, "--out", tmp_path / "out")
    assert (again.stdout.count("\n"), again.stderr) == (2, "2 kept\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    other = extract(source, "--out", tmp_path / "out", "--bound", "32")
    assert (other.exit_code, other.stdout, other.stderr.count("\n")) == (1, "", 1)
    assert "bound 20.0 there, 32.0 asked; use --overwrite" in other.stderr
    assert extract(source, "--out", tmp_path / "out", "--bound", "32", "--overwrite").exit_code == 0
    assert FlowReader(tmp_path / "out" / "class 0" / "v0").bound == 32.0
    write_video(source / "class 0" / "v0.mp4", moving(20, 32, 40))
    assert "flow of another video" in extract(source, "--out", tmp_path / "out", "--bound", "32").stderr


def test_bad_videos_are_recorded_and_the_rest_goes_on(tmp_path):
    source = videos(tmp_path / "in", 2)
    (source / "text.mp4").write_text("hello")
    write_audio(source / "sound.mp4")
    write_video(source / "one.mp4", moving(1, 32, 40))
    result = extract(source, tmp_path / "absent.mp4", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout.count("\n"), result.stderr.count("\n")) == (1, 2, 5)
    assert result.stderr.endswith("\n2 extracted, 4 failed\n")
    recorded = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert sorted(Path(entry["file"]).name for entry in recorded) == ["absent.mp4", "one.mp4", "sound.mp4", "text.mp4"]
    assert all(entry["reason"] in result.stderr for entry in recorded)
    for name in ("text.mp4", "sound.mp4", "one.mp4"):
        write_video(source / name, moving(3, 32, 40))
    write_video(tmp_path / "absent.mp4", moving(3, 32, 40))
    assert extract(source, tmp_path / "absent.mp4", "--out", tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_missing_frames_are_said_and_recorded(tmp_path):
    path = cut(write_video(tmp_path / "v.webm", moving(40, 32, 40), codec="libvpx"))
    frames = list(video := Video(path, short_side=32))
    result = extract(path, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "v" / "flow.json").read_text())
    assert (result.exit_code, result.stderr) == (0, f"Note: {video.loss()}\n1 extracted\n")
    assert (record["num_frames"], record["lost_frames"]) == (len(frames), 40 - len(frames))


def test_a_folder_of_pictures_is_a_video(tmp_path):
    pictures = tmp_path / "frames"
    pictures.mkdir()
    for t, frame in enumerate(moving(11, 32, 40), start=1):
        cv2.imwrite(str(pictures / f"img_{t}.png"), frame[..., ::-1])  # 10 comes after 9, not after 1
    assert extract(pictures, "--out", tmp_path / "out", "--format", "npy").exit_code == 0
    flow = np.stack(list(FlowReader(tmp_path / "out" / "frames")))
    assert flow.shape == (10, 2, 32, 40)
    np.testing.assert_allclose(np.median(flow, axis=(2, 3)), np.tile([2, 1], (10, 1)), atol=0.3)  # right and down


def test_shards_together_write_what_one_process_writes(tmp_path):
    source = videos(tmp_path / "in", 5, frames=4)
    extract(source, "--out", tmp_path / "whole")
    for shard in ("0/2", "1/2"):
        extract(source, "--out", tmp_path / "parts", "--shard", shard)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


SECOND_WAITS = """
import os, time
from i3dcli.flow import extract

def extract_video(*arguments, usual=extract.extract_video, **options):
    while os.environ["RANK"] == "1" and not os.path.exists({gate!r}):
        time.sleep(0.005)
    return usual(*arguments, **options)

extract.extract_video = extract_video
"""


def test_torchruns_ranks_share_the_list_and_wait_for_each_other(tmp_path):
    """The first has an error at once, and torchrun would end the second if it ended then."""
    source, gate = videos(tmp_path / "in", 3, frames=4), tmp_path / "gate"
    (source / "a.mp4").write_bytes(b"")
    extract(source, "--out", tmp_path / "whole")
    command = ("extract-flow", source, "--out", tmp_path / "parts", *SMALL)
    ranks = start_ranks(*command, before=SECOND_WAITS.format(gate=str(gate)))
    wait_for(lambda: "extracted" in ranks[0].stderr, *ranks)
    time.sleep(0.3)  # in which it would end
    assert [process.poll() for process in ranks] == [None, None]
    gate.touch()
    (stdout, stderr), (more, silent) = ends_of(ranks)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert [process.returncode for process in ranks] == [1, 1] and (stdout + more).count("\n") == 3
    assert stderr.count("Error: not a video") == 1 and "Error" not in silent


def test_torchrun_and_shard_together_are_wrong_usage(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    result = extract("x", "--out", "y", "--shard", "0/2")
    assert result.exit_code == 2 and "torchrun shares the videos by itself" in result.stderr


def test_flow_of_another_video_is_told_of_it_alone(tmp_path):
    source = videos(tmp_path / "in", 2, frames=3)
    extract(source, "--out", tmp_path / "out")
    changed = write_video(source / "class 0" / "v0.mp4", moving(5, 32, 40))
    write_video(source / "class 0" / "new.mp4", moving(3, 32, 40))
    result = extract(source, "--out", tmp_path / "out")
    assert result.exit_code == 1 and f"Error: flow of another video: {tmp_path}/out/class 0/v0: " in result.stderr
    assert f"{changed} has {changed.stat().st_size}; choose another --out, or --overwrite if" in result.stderr
    assert result.stderr.endswith("1 extracted, 1 kept, 1 failed\n")


def test_a_damaged_sidecar_is_no_finished_flow(tmp_path):
    source = videos(tmp_path / "in", 2, frames=3)
    extract(source, "--out", tmp_path / "out")
    whole = files(tmp_path / "out")
    (tmp_path / "out" / "class 0" / "v0" / "flow.json").write_text("{")
    assert extract(source, "--out", tmp_path / "out").stderr == "1 extracted, 1 kept\n"
    assert files(tmp_path / "out") == whole


def test_what_makes_no_difference_is_not_asked_for(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(3, 32, 40))
    npy = (path, "--out", tmp_path / "npy", "--format", "npy")
    extract(*npy)
    assert extract(*npy, "--bound", "10", "--quality", "50").stderr == "1 kept\n"
    assert "viz False there, True asked" in extract(*npy, "--viz").stderr
    extract(path, "--out", tmp_path / "jpg", "--viz", "--frames")
    assert extract(path, "--out", tmp_path / "jpg").stderr == "1 kept\n"
    assert "quality 95 there, 50 asked" in extract(path, "--out", tmp_path / "jpg", "--quality", "50").stderr


def test_flow_that_overflows_is_not_kept(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(3, 32, 40))
    result = extract(path, "--out", tmp_path / "out", "--theta", "1e6", "--lambda", "1e6", "--format", "npy")
    assert result.exit_code == 1 and re.search(rf"Error: flow without bounds: {path}: got \d{{5}}\.\d+ pixels", result.stderr)
    assert not (tmp_path / "out" / "clip").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_signal_ends_even_the_longest_flow_with_what_was_done_and_leaves_no_half_folder(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(200, 64, 80))
    hours = ("--epsilon", "0", "--warps", "100", "--inner-iterations", "1000", "--outer-iterations", "1000")
    process = start("extract-flow", path, "--out", tmp_path / "out", "--threads", "1", *hours)
    wait_for((tmp_path / "out" / ".clip.partial").exists, process)
    process.terminate()
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (143, "Interrupted: 0 extracted; run it again to go on\n")
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_at_any_moment_and_resumed_equals_uninterrupted(tmp_path):
    source, out = videos(tmp_path / "in", 3, frames=4), tmp_path / "cut"
    assert extract(source, "--out", tmp_path / "whole").exit_code == 0
    finished = Counter()
    for moment in random.Random(0).sample(range(1, 72), 8):
        process = start("extract-flow", source, *SMALL, "--out", out, before=dying(out, moment))
        assert process.wait() in DEATHS and process.stderr == ""
        done = list(out.glob("*/v*/flow.json"))
        assert all(len(list(FlowReader(sidecar.parent))) == 3 for sidecar in done)
        finished[len(done)] += 1
        assert extract(source, "--out", out).exit_code == 0
        assert files(out) == files(tmp_path / "whole")
        shutil.rmtree(out)
    assert len(finished) == 3  # of three videos


def test_viz_writes_a_video_of_the_flow(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(8, 32, 41, step=(0, 3)))
    assert extract(path, "--out", tmp_path / "out", "--viz").exit_code == 0
    picture = i3dcli.read_video(tmp_path / "out" / "clip" / "flow.mp4", short_side=32)
    assert picture.shape == (7, 3, 32, 40)
    red, green, blue = picture.float().mean(dim=(0, 2, 3))
    assert red > green and red > blue  # the picture moves right, which is red


@pytest.mark.parametrize("algorithm", ["dis", "farneback"])
def test_quick_algorithms_see_the_motion_and_are_recorded(tmp_path, algorithm):
    path = write_video(tmp_path / "clip.mp4", moving(4, 64, 80))
    assert (
        extract(path, "--out", tmp_path / "out", "--format", "npy", "--algorithm", algorithm, "--short-side", "64").exit_code
        == 0
    )
    reader = FlowReader(tmp_path / "out" / "clip")
    assert (reader.sidecar["algorithm"], reader.sidecar["parameters"]) == (algorithm, None)


def test_median_and_rates_are_options(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(10, 32, 40), fps=50)
    extract(path, "--out", tmp_path / "out", "--fps", "native", "--median", "0")
    record = FlowReader(tmp_path / "out" / "clip").sidecar
    assert (record["fps"], record["num_frames"], record["parameters"]["median"]) == (50.0, 10, 0)
    assert extract(path, "--out", tmp_path / "out", "--fps", "native", "--median", "0").exit_code == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fps", "0"], "--fps '0' is neither"),
        (["--shard", "2/2"], "'2/2' is not I/N"),
        (["--bound", "0"], "0"),
        (["--algorithm", "dis", "--tau", "0.1"], "--tau is of TV-L1"),
        (["--scale-step", "1"], "is not in the range"),
    ],
)
def test_absurd_options_are_one_line(tmp_path, options, text):
    result = extract(tmp_path / "clip.mp4", "--out", tmp_path / "out", *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1) and text in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "out").touch()
    result = extract(write_video(tmp_path / "clip.mp4", moving(3, 32, 40)), "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1) and "cannot write" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files by RLIMIT_FSIZE")
def test_a_disk_that_takes_no_more_ends_in_one_line_and_keeps_what_is_finished(tmp_path):
    source = videos(tmp_path / "in", 2, frames=4)
    write_video(source / "class 1" / "z.mp4", moving(200, 32, 40))
    extract(source / "class 0", "--out", tmp_path / "warm")  # keeps numba's compiled code, which is larger than the limit
    with largest_file(100_000):
        result = extract(source, "--out", tmp_path / "out", "--format", "npy")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and "File too large" in result.stderr
    assert {path.parent.name for path in (tmp_path / "out").rglob("flow.json")} == {"v0", "v1"}
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files by RLIMIT_FSIZE")
def test_a_disk_that_takes_no_record_of_a_failure_ends_in_one_line_and_keeps_those_before(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("hello")
    extract(tmp_path / "a.mp4", "--out", tmp_path / "out")
    before = files(tmp_path / "out")
    (tmp_path / "out" / ".failures.jsonl.i3d.tmp").touch()  # of a process that was killed
    with largest_file(10):
        result = extract(tmp_path / "b.mp4", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1) and "failures.jsonl: File too large" in result.stderr
    assert files(tmp_path / "out") == before


def test_a_source_that_is_removed_meanwhile_is_extracted_all_the_same(tmp_path, monkeypatch):
    source = write_video(tmp_path / "gone.mp4", moving(12, 40, 48))
    size, compute = source.stat().st_size, FlowMethod.moments

    def compute_and_remove(*args, **options):
        for moment in compute(*args, **options):
            source.unlink(missing_ok=True)
            yield moment

    monkeypatch.setattr(FlowMethod, "moments", compute_and_remove)
    (outcome,) = extract_videos([str(source)], tmp_path / "flow", FlowOptions(short_side=40))
    sidecar = json.loads((outcome.folder / "flow.json").read_text())
    assert (outcome.status, outcome.num_flows, sidecar["source_bytes"]) == ("extracted", 11, size)


def test_a_video_named_twice_is_extracted_once(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", moving(3, 32, 40))
    monkeypatch.chdir(tmp_path)
    result = extract("clip.mp4", path, "--out", "out")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "out/clip\n", "1 extracted\n")


@pytest.mark.parametrize("algorithm", ["tvl1", "dis", "farneback"])
def test_the_smallest_videos_have_flow(tmp_path, algorithm):
    path = write_video(tmp_path / "clip.mp4", moving(4, 16, 16))
    result = extract(path, "--out", tmp_path / "out", "--format", "npy", "--short-side", "4", "--algorithm", algorithm)
    assert (result.exit_code, result.stderr) == (0, "1 extracted\n")
    assert FlowReader(tmp_path / "out" / "clip")[0].shape == (2, 4, 4)


def test_of_thousands_of_videos_that_are_not_there_twenty_are_named_and_all_recorded(tmp_path):
    write_video(tmp_path / "a.mp4", moving(3))
    names = ["a.mp4", *(f"gone/{i}.mp4" for i in range(3_000))]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    begun = time.process_time()
    result = extract(f"@{tmp_path / 'list.txt'}", "--out", tmp_path / "out")
    lines = result.stderr.splitlines()
    assert (
        result.exit_code == 1
        and len(lines) == 22
        and lines[20:]
        == [
            "Error: … and 2,980 more that are not there",
            "1 extracted, 3000 failed",
        ]
    )
    assert lines[0] == f"Error: cannot read video: {tmp_path}/gone/0.mp4: No such file or directory; check the path"
    recorded = [json.loads(line)["file"] for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert sorted(recorded) == sorted(f"{tmp_path}/{name}" for name in names[1:])
    assert time.process_time() - begun < 10  # it was minutes, as each failure wrote all those before it again
