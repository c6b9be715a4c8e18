import csv
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import bundles
import numpy as np
import oracle
import pytest
from click.testing import CliRunner
from commands import one_line, predicting
from media import moving, write_audio, write_video

import i3dcli
from i3dcli.cli.main import main
from i3dcli.defaults import TVL1
from i3dcli.prediction import predict as verb
from i3dcli.scores import read_scores
from i3dcli.text import shown


@pytest.fixture
def run(quick):
    return predicting(quick)


def test_the_table_shows_file_duration_device_and_labels(run, video, quick_model):
    result = run(video, "--top-k", "3")
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0] == f"{video}  0.48 s, 12 frames at 25 fps  ({quick_model.name}, rgb + flow, cpu)"
    assert lines[1].split() == ["rgb", "flow", "fused", "label"]
    prediction = quick_model.predict(video)
    for line, (label, probability), index in zip(lines[2:], prediction.top(3), prediction.top_indices(3), strict=False):
        rgb, flow = (logits.softmax(0)[index] for logits in (prediction.rgb_logits, prediction.flow_logits))
        assert line == f"{rgb:8.4f}{flow:8.4f}{probability:8.4f}  {label}"
    assert len([line for line in lines if line]) == 5


def test_json_csv_and_scores_agree_with_the_python_api(run, video, quick_model, tmp_path):
    prediction = quick_model.predict(video)
    record = json.loads(run(video, "--json", "--top-k", "10", "--scores", tmp_path / "scores.npz").stdout)
    assert list(record) == ["video", "duration_seconds", "model", "streams", "device", "top"]
    assert (record["video"], record["duration_seconds"], record["streams"]) == (str(video), 0.48, ["rgb", "flow"])
    assert [entry["label"] for entry in record["top"]] == [label for label, _ in prediction.top(10)]
    for entry in record["top"]:
        for key, logits in (
            ("probability", prediction.logits),
            ("rgb", prediction.rgb_logits),
            ("flow", prediction.flow_logits),
        ):
            assert entry[key] == pytest.approx(float(logits.softmax(0)[entry["index"]]), abs=1e-6)
    rows = list(csv.DictReader(io.StringIO(run(video, "--csv", "--top-k", "10").stdout)))
    assert [row["label"] for row in rows] == [entry["label"] for entry in record["top"]]
    assert [float(row["flow"]) for row in rows] == pytest.approx([entry["flow"] for entry in record["top"]], abs=1e-6)
    assert rows[1]["rank"] == "2" and rows[0]["streams"] == "rgb+flow"
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["paths"].tolist() == [str(video)] and scores["classes"].tolist() == list(quick_model.classes)
        np.testing.assert_allclose(scores["rgb"][0], prediction.rgb_logits, atol=1e-6)
        np.testing.assert_allclose(scores["flow"][0], prediction.flow_logits, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="names are others there")
@pytest.mark.parametrize("name", [b"two\nlines.mp4", b"back\rspace.mp4", b"caf\xe9.mp4"])
def test_programs_get_the_path_itself_and_people_one_that_can_be_printed(run, video, tmp_path, name):
    path = os.path.join(tmp_path, os.fsdecode(name))
    shutil.copy(video, path)
    result = run(path, "--json", "--scores", tmp_path / "s.npz", "--features", tmp_path / "f.npz", weights=("rgb",))
    assert result.exit_code == 0 and json.loads(result.stdout)["video"] == path
    for file in ("s.npz", "f.npz"):
        with np.load(tmp_path / file) as arrays:
            assert arrays["paths"].tolist() == [path]
    printed = run(path, "--csv", "--top-k", "2", weights=("rgb",)).stdout_bytes.decode()
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    assert [row["video"] for row in rows] == [path.replace("\udce9", "\ufffd")] * 2
    assert run(path, weights=("rgb",)).stdout.startswith(f"{shown(path)}  0.48 s, ")


def test_a_stream_alone_says_nothing_of_the_other(run, video):
    result = run(video, "--json", weights=("rgb",))
    record = json.loads(result.stdout)
    assert record["streams"] == ["rgb"] and record["top"][0]["flow"] is None
    assert record["top"][0]["rgb"] == record["top"][0]["probability"]
    assert run(video, weights=("rgb",)).stdout.splitlines()[1].split() == ["rgb", "label"]
    assert json.loads(run(video, "--json", "--stream", "flow").stdout)["streams"] == ["flow"]


def test_features_of_several_videos_are_told_apart(run, video, tmp_path):
    other = write_video(tmp_path / "other.mp4", moving(20))
    assert run(video, other, "--features", tmp_path / "f.npz").exit_code == 0
    with np.load(tmp_path / "f.npz") as features:
        assert features["paths"].tolist() == [str(video), str(other)]
        assert features["rgb"].shape == (3, 128) and features["rgb_video"].tolist() == [0, 1, 1]
        np.testing.assert_allclose(features["rgb_start_seconds"], [0, 0, 0.32])
        np.testing.assert_allclose(features["flow_end_seconds"], [0.48, 0.64, 0.8])


def test_folders_and_lists_name_videos(run, tmp_path):
    (tmp_path / "a" / "b.mp4").mkdir(parents=True)
    for name in ("a/one.mp4", "a/b.mp4/two é.AVI", "a/note.txt"):
        write_video(tmp_path / name, moving(3, 32, 32), container="avi")
    (tmp_path / "list.txt").write_text("# comment\na/one.mp4\n\na/b.mp4\n")
    for argument in (tmp_path / "a", f"@{tmp_path / 'list.txt'}"):
        result = run(argument, "--json", weights=("rgb",))
        found = {os.path.relpath(json.loads(line)["video"], tmp_path) for line in result.stdout.splitlines()}
        assert (result.exit_code, found) == (0, {"a/one.mp4", "a/b.mp4/two é.AVI"})


def test_a_bad_video_is_one_line_and_the_rest_goes_on(run, video, tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty").mkdir()
    bad = [
        tmp_path / "text.mp4",
        tmp_path / "absent.mp4",
        tmp_path / "empty",
        f"@{tmp_path}/no.txt",
        write_audio(tmp_path / "sound.mp4"),
    ]
    result = run(*bad, video, "--json", "--scores", tmp_path / "scores.npz")
    errors = result.stderr.splitlines()
    assert result.exit_code == 1 and json.loads(result.stdout)["video"] == str(video)
    assert len(errors) == len(bad) and all(line.startswith("Error: ") for line in errors)
    assert all(
        name in line for name, line in zip(("text.mp4", "absent.mp4", "empty", "no.txt", "sound.mp4"), errors, strict=True)
    )
    assert len(np.load(tmp_path / "scores.npz")["paths"]) == 1


def test_of_many_videos_that_are_not_there_twenty_are_named_and_the_others_counted(run, video, tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"gone{i}.mp4\n" for i in range(1_050)))
    write_audio(tmp_path / "sound.mp4")
    result = run(f"@{tmp_path / 'list.txt'}", tmp_path / "sound.mp4", video)
    lines = result.stderr.splitlines()
    assert result.exit_code == 1 and result.stdout.startswith(f"{video}  ") and len(lines) == 22
    assert lines[19] == f"Error: cannot read video: {tmp_path}/gone19.mp4: No such file or directory; check the path"
    assert "sound.mp4" in lines[20]  # what is there and cannot be read is named, each one
    assert lines[21] == "Error: … and 1,030 more that are not there"


def test_damage_is_noted_beside_the_prediction(run, tmp_path):
    path = write_video(tmp_path / "clip.ts", moving(40), codec="mpeg2video")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    result = run(path, weights=("rgb",))
    assert result.exit_code == 0 and re.fullmatch(
        r"Note: damaged video: .*clip\.ts: [78] of the 40 frames that its duration claims are missing; .*\n", result.stderr
    )


def test_files_that_could_not_be_written_are_refused_before_the_work(run, video, tmp_path):
    one_line(run(video, "--scores", tmp_path / "no" / "scores.npz"), 1, "cannot write", "there is no folder")
    (tmp_path / "folder.npz").mkdir()
    one_line(run(video, "--features", tmp_path / "folder.npz"), 1, "cannot write", "it is a folder")


def test_nothing_is_written_over_what_is_read_or_written_already(run, video, tmp_path):
    shutil.copy(video, tmp_path / "video.npz")
    (tmp_path / "list.npz").write_text(f"{video}\n")
    for source, out in ((tmp_path / "video.npz", "video.npz"), (f"@{tmp_path / 'list.npz'}", "list.npz")):
        one_line(run(source, "--scores", tmp_path / out), 1, f"cannot write: {tmp_path / out}: it is what is read")
    same = tmp_path / "both.npz"
    one_line(run(video, "--scores", same, "--features", same), 1, f"cannot write: {same}: it is what is read or written")


def test_what_was_done_before_an_interruption_is_kept_and_said(run, video, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        yield from itertools.islice(whole(*arguments, **options), 1)
        raise KeyboardInterrupt

    whole = verb.predict_videos
    monkeypatch.setattr(verb, "predict_videos", interrupted)
    result = run(video, video, "--scores", tmp_path / "scores.npz")
    assert (result.exit_code, result.stderr) == (130, f"Interrupted: 1 video, kept in {tmp_path}/scores.npz\n")
    assert len(read_scores(tmp_path / "scores.npz").paths) == 1


def test_what_was_done_before_memory_ran_out_is_kept_and_said(run, video, tmp_path, monkeypatch):
    def scarce(net, clips):
        if next(calls):
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return whole(net, clips)

    whole, calls = i3dcli.I3D.forward_features, itertools.count()
    monkeypatch.setattr(i3dcli.I3D, "forward_features", scarce)
    result = run(video, video, video, "--scores", tmp_path / "scores.npz", weights=("rgb",))
    note, error = result.stderr.splitlines()
    assert result.exit_code == 1 and note == f"Note: interrupted after 1 video, kept in {tmp_path}/scores.npz"
    assert error.startswith("Error: out of memory: CUDA out of memory. Tried to allocate 1 GiB; use --device cpu")
    assert len(read_scores(tmp_path / "scores.npz").paths) == 1


def test_wrong_weights_and_labels_are_one_line(run, quick, video, tmp_path):
    (tmp_path / "page.pt").write_text("<html>")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    one_line(run(video, "--rgb", tmp_path / "page.pt", weights=()), 1, "page.pt", "a web page")
    one_line(run(video, "--flow", quick["rgb"], weights=()), 1, "wrong stream")
    one_line(run(video, "--classes", tmp_path / "labels.txt"), 1, "got 2 names, expected 10")
    one_line(run(video, "--classes", tmp_path / "absent.txt"), 1, "absent.txt")
    (tmp_path / "labels.txt").write_text("a\n" * 10)
    one_line(run(video, "--classes", tmp_path / "labels.txt"), 1, "duplicate class name: ", "got 'a' twice")
    one_line(run(video, "--device", "cuda:99"), 1, "no such device: cuda:99")
    one_line(run(video, "--model", "nothing", weights=()), 1, "unknown model: nothing")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["predict"], "Missing argument 'VIDEO...'"),
        (["predict", "x", "--top-k", "0"], "0 is not in the range x>=1"),
        (["predict", "x", "--stream", "audio"], "'audio' is not one of"),
        (["predict", "x", "--rgb", "a.pt", "--model", "kinetics400"], "--model and --rgb or --flow name weights twice"),
        (["predict", "x", "--rgb", "a.pt", "--stream", "both"], "--stream both needs --flow PATH too"),
        (["predict", ""], "Invalid value for 'VIDEO...': it is empty."),
        (["predict", "x", "--rgb", ""], "Invalid value for '--rgb': it is empty."),
        (["train", "x", "--out", ""], "Invalid value for '--out': it is empty."),
        (["predict", "x", "--scores", "scores.npy"], "--scores 'scores.npy' is not .npz."),
        (["extract-flow", "x", "--out", "y", "--short-side", "1000000000"], "is not in the range 1<=x<=8192"),
        (["extract-flow", "x", "--out", "y", "--bound", "1e-300"], "is not in the range 0.01<=x<=10000"),
        (["inflate", "x", "--out", "y", "--num-classes", "999999999999"], "is not in the range 1<=x<=100000"),
        (["train", "x", "--out", "y", "--seed", str(2**64)], "is not in the range 0<=x<="),
        (["train", "x", "--out", "y", "--workers", "1000"], "is not in the range 0<=x<=256"),
        (["predict", "x", "--json", "--csv"], "--json and --csv are two forms"),
        (["predict", "x", "--frobnicate"], "No such option '--frobnicate'"),
        (["predct"], "No such command 'predct'"),
        (["--frobnicate"], "No such option '--frobnicate'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, text):
    one_line(CliRunner().invoke(main, arguments), 2, text)


def stored(video, out, *options):
    arguments = ["extract-flow", str(video), "--out", str(out), "--short-side", "64", *options]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    return out


def test_stored_flow_gives_the_prediction_of_computed_flow(run, video, quick_model, tmp_path):
    out = stored(video, tmp_path / "flow", "--format", "flo")
    run(video, "--flow-dir", out, "--scores", tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as scores:
        np.testing.assert_allclose(scores["flow"][0], quick_model.predict(video).flow_logits, atol=1e-5)
    result = run(video, "--flow-dir", stored(video, tmp_path / "jpg"))
    assert (result.exit_code, result.stderr) == (0, "")


def test_stored_flow_is_found_by_the_path_of_a_single_video(run, video, tmp_path):
    folder = tmp_path / "videos" / "test" / "run"
    folder.mkdir(parents=True)
    path = write_video(folder / "v.mp4", moving(12))
    stored(path.parents[2], tmp_path / "flow")
    result = run(path, "--flow-dir", tmp_path / "flow")
    assert (result.exit_code, result.stderr) == (0, "")
    one_line(run(video, "--flow-dir", tmp_path / "flow"), 1, f"no flow: {tmp_path / 'flow' / video.stem}: no flow.json in it")


def test_stored_flow_of_other_making_is_refused_or_noted_once(run, video, tmp_path):
    other = write_video(tmp_path / "other.mp4", moving(5))
    out = stored(video, tmp_path / "flow", "--algorithm", "dis", "--bound", "32")
    stored(other, out, "--algorithm", "dis", "--bound", "32")
    text = "algorithm dis, trained on tvl1; bound 32.0, trained on 20.0"
    one_line(run(video, other, "--flow-dir", out), 1, "flow of another making: ", f"{text}; extract it as the weights want it")
    result = run(video, other, "--flow-dir", out, "--any-flow")
    assert (result.exit_code, result.stderr) == (0, f"Note: flow of another making: {out}: {text}\n")


def test_stored_flow_of_another_video_or_size_or_none_is_one_line(run, video, tmp_path):
    one_line(run(video, "--flow-dir", tmp_path), 1, "no flow.json in it; make it with i3d extract-flow")
    longer = write_video(tmp_path / video.name, moving(20))
    flow = stored(longer, tmp_path / "longer") / video.stem / "flow.json"
    sizes = f"made from {video.name} of {longer.stat().st_size} bytes, {video} has {video.stat().st_size}; extract it again"
    one_line(run(video, "--flow-dir", tmp_path / "longer"), 1, f"flow of another video: {flow.parent}: {sizes}")
    record = {key: value for key, value in json.loads(flow.read_text()).items() if key != "source_digest"}
    flow.write_text(json.dumps(record | {"source_bytes": video.stat().st_size}))
    one_line(run(video, "--flow-dir", tmp_path / "longer"), 1, "got 19 flows for 12 frames")
    small = stored(video, tmp_path / "small", "--short-side", "32")
    one_line(run(video, "--flow-dir", small), 1, "flow of another making", "short_side 32, trained on 64")
    result = run(video, "--flow-dir", small, "--any-flow")
    assert result.exit_code == 1 and "flow of another size" in result.stderr and "short_side 32" in result.stderr
    assert result.stderr.endswith("; extract it again with --fps 25 --short-side 64 --bound 20 --overwrite\n")


def test_stored_flow_without_a_flow_stream_is_wrong_usage(run, video, tmp_path):
    stored(video, tmp_path)
    for options, weights in ((["--stream", "rgb"], ("rgb", "flow")), ([], ("rgb",))):
        one_line(run(video, "--flow-dir", tmp_path, *options, weights=weights), 2, "--flow-dir needs the flow stream; give its")


def test_labels_may_come_from_a_file(run, video, tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"Etikett {i}\n" for i in range(10)), "utf-8")
    assert json.loads(run(video, "--json", "--classes", tmp_path / "labels.txt").stdout)["top"][0]["label"].startswith(
        "Etikett "
    )


def test_a_tensorflow_checkpoint_predicts_with_the_labels_of_a_named_model(video, tmp_path):
    net = oracle.lively(i3dcli.I3D(600, 3, width=0.0625))
    bundles.write_bundle(tmp_path / "model.ckpt", bundles.deepmind(net.state_dict()))
    for path in (tmp_path, tmp_path / "model.ckpt", tmp_path / "model.ckpt.index"):
        command = ["predict", "--rgb", path, "--classes", "kinetics600", "--json", "--top-k", "600", video]
        result = CliRunner().invoke(main, list(map(str, command)))
        assert result.exit_code == 0, result.stderr
        labels = {label["label"] for label in json.loads(result.stdout)["top"]}
        assert labels == set(i3dcli.checkpoints.zoo.find_model("kinetics600").classes)


def test_help_of_every_command_loads_no_heavy_library():
    code = """
import sys
from i3dcli.cli.main import main
for command in ([], *([name] for name in main.commands)):
    main([*command, "-h"], standalone_mode=False)
    loaded = {"torch", "av", "cv2", "numba", "numpy"} & {*sys.modules}
    print("loaded:", *command, *loaded)
"""
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.findall("^loaded: ?(.*)$", text, re.MULTILINE) == ["", *main.commands]
    assert {"predict", "extract-flow", "inflate", "train", "eval"} <= set(main.commands)


def test_help_names_every_option_and_its_default():
    text = CliRunner().invoke(main, ["predict", "-h"]).stdout
    assert all(option in text for option in ("--model", "--json", "--scores", "default: 5", "Examples:"))
    text = " ".join(CliRunner().invoke(main, ["extract-flow", "-h"]).stdout.split())
    for field in dataclasses.fields(TVL1):
        option = f"--{field.name.rstrip('_').replace('_', '-')} "
        assert re.search(rf"{option}[^[]+\[[^]]*default: {field.default}[;\]]", text.replace("[0|3|5]", "")), option


def test_python_m_is_the_command():
    result = subprocess.run([sys.executable, "-m", "i3dcli", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"i3d, version {i3dcli.__version__}\n"


OUTPUTS = {"--scores": "o.npz", "--features": "o.npz", "--plot": "o.svg", "--annotate": "o.mp4"}


@pytest.mark.parametrize("option", OUTPUTS)
def test_a_file_that_is_there_is_replaced_only_where_it_is_asked_for(run, video, tmp_path, option):
    path = tmp_path / OUTPUTS[option]
    path.write_text("mine")
    one_line(
        run(video, option, path), 1, f"cannot write: {path}: a file is there; give another name, or --overwrite to replace"
    )
    assert path.read_text() == "mine"
    assert run(video, option, path, "--overwrite").exit_code == 0 and path.read_bytes() != b"mine"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_run_does_not_replace_the_results_of_a_whole_one(run, video, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        yield from itertools.islice(whole(*arguments, **options), 1)
        raise KeyboardInterrupt

    scores = tmp_path / "scores.npz"
    assert run(video, "--scores", scores).exit_code == 0
    before, whole = scores.read_bytes(), verb.predict_videos
    monkeypatch.setattr(verb, "predict_videos", interrupted)
    result = run(video, "--scores", scores, "--overwrite")
    assert result.stderr == "Interrupted: 1 video, not kept, as the files of before are left as they are\n"
    assert scores.read_bytes() == before and list(tmp_path.iterdir()) == [scores]
