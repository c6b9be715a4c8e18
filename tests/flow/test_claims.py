import contextlib
import json
import operator
import os
import shutil
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from media import moving, write_video

from i3dcli import VideoError
from i3dcli.cli.main import main
from i3dcli.flow import claims
from i3dcli.flow.claims import MARK, Claims, is_ours, remove
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.flow.places import candidates, places
from i3dcli.flow.stored import FlowFolder, FlowReader
from i3dcli.video.find import Found


def extract(*arguments):
    arguments = ["extract-flow", "--short-side", "16", "--algorithm", "dis", *map(str, arguments)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def clip(path, frames=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, moving(frames, 16, 20, seed=seed), container="mp4")


def contents(folder):
    """Every file and folder below a folder, with the bytes of files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_none_in_another(out):
    """No folder of flow lies in another one."""
    folders = [path.parent for path in out.rglob("flow.json")]
    assert folders and not [(one, two) for one in folders for two in folders if one in two.parents]


def flow_of(out, key, path):
    """How many flows a reader of the output folder finds for a video."""
    return len(FlowFolder(out).open(Path(key), path))


def strangers(folder):
    """A folder with somebody's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("mine")
    return folder


def claiming(out, video, key=None):
    found = Found(video, key or Path(video.stem))
    os.makedirs(out, exist_ok=True)
    return Claims(out).claimed(found, places([found])[found])


def test_a_video_beside_a_folder_of_its_name_takes_nothing_from_it(tmp_path):
    clip(tmp_path / "in" / "film" / "scene1.mp4", 4)
    clip(tmp_path / "in" / "film" / "scene2.mp4", 5)
    assert extract(tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    film = clip(tmp_path / "in" / "film.mp4", 6)
    result = extract(tmp_path / "in", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "1 extracted, 2 kept\n")
    after = contents(tmp_path / "out")
    assert_none_in_another(tmp_path / "out")
    assert before.items() <= after.items() and flow_of(tmp_path / "out", "film", film) == 5
    for name, count in (("scene1", 3), ("scene2", 4)):
        assert flow_of(tmp_path / "out", f"film/{name}", tmp_path / "in" / "film" / f"{name}.mp4") == count
    assert extract(tmp_path / "in", "--out", tmp_path / "out").stderr == "3 kept\n"
    assert contents(tmp_path / "out") == after


NAMES = ("one/film.mp4", "one/film.avi", "one/film/a.mp4", "one/film/..mp4", "two/film.mp4/b.mp4", "two/film.mp4.mp4")


@pytest.mark.parametrize("shards", [["0/2", "1/2"], ["2/3", "0/3", "1/3"]])
def test_neither_shards_nor_the_order_of_inputs_change_a_place(tmp_path, shards):
    for seed, name in enumerate(NAMES):
        clip(tmp_path / name, seed=seed)
    inputs = (tmp_path / "one", tmp_path / "two")
    assert extract(*inputs, "--out", tmp_path / "whole").stderr == "6 extracted\n"
    for shard in shards:
        assert extract(*inputs[::-1], "--out", tmp_path / "parts", "--shard", shard).exit_code == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    sources = [json.loads(path.read_text())["source_digest"] for path in (tmp_path / "whole").rglob("flow.json")]
    assert len(sources) == len(set(sources)) == 6


def test_a_video_whose_name_is_dots_takes_no_folder_but_its_own(tmp_path):
    strangers(tmp_path / "out")
    strangers(tmp_path / "out" / "a")
    for name in ("..mp4", "...mp4", "a/..mp4", "a/...mp4", "b.mp4"):
        clip(tmp_path / "in" / name, 4)
    before = contents(tmp_path)
    result = extract(tmp_path / "in", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "5 extracted\n")
    assert before.items() <= contents(tmp_path).items()
    assert sorted(contents(tmp_path / "out").keys() & {"..mp4", "...mp4", "a/..mp4", "a/...mp4", "b"}) == [
        *("...mp4", "..mp4", "a/...mp4", "a/..mp4", "b")
    ]
    assert extract(tmp_path / "in", "--out", tmp_path / "out").stderr == "5 kept\n"


def test_a_video_named_as_the_record_of_failures_is_extracted_beside_it(tmp_path):
    clip(tmp_path / "in" / "failures.jsonl.mp4")
    (tmp_path / "in" / "bad.mp4").write_text("hello")
    for status in ("1 extracted, 1 failed", "1 kept, 1 failed"):
        assert extract(tmp_path / "in", "--out", tmp_path / "out").stderr.splitlines()[-1] == status
    assert (tmp_path / "out" / "failures.jsonl").is_file() and (tmp_path / "out" / "failures.jsonl.mp4" / "flow.json").exists()


@pytest.mark.parametrize("name", [".x.partial.mp4", ".x.old.mp4", ".X.PARTIAL.mp4", "x.avi", "X.mp4", "flow.json.mp4"])
def test_a_video_with_a_name_of_ours_or_anothers_loses_nothing(tmp_path, name):
    videos = [clip(tmp_path / "in" / "x.mp4", 4), clip(tmp_path / "in" / name, 5)]
    for _ in range(2):
        assert extract(*videos, "--out", tmp_path / "out", "--overwrite").stderr == "2 extracted\n"
    for count, video in enumerate(videos, start=3):
        assert flow_of(tmp_path / "out", Path(video.name).stem, video) == count


@pytest.mark.parametrize("length", [237, 242, 247, 251])
def test_a_name_too_long_for_a_folder_to_work_in_is_shortened(tmp_path, length):
    video = clip(tmp_path / f"{'x' * length}.mp4")
    other = clip(tmp_path / f"{'x' * (length - 1)}y.mp4")
    assert extract(video, other, "--out", tmp_path / "out").stderr == "2 extracted\n"
    assert extract(video, other, "--out", tmp_path / "out").stderr == "2 kept\n"
    assert flow_of(tmp_path / "out", "x" * length, video) == flow_of(tmp_path / "out", "x" * (length - 1) + "y", other) == 2


def test_two_videos_of_one_name_both_have_flow_in_whatever_order_they_come(tmp_path):
    first, second = clip(tmp_path / "a" / "x.mp4", 4), clip(tmp_path / "b" / "x.mp4", 5)
    assert extract(first, "--out", tmp_path / "out").stdout == f"{tmp_path}/out/x\n"
    result = extract(second, first, "--out", tmp_path / "out")
    assert result.stderr == "1 extracted, 1 kept\n"
    assert [flow_of(tmp_path / "out", "x", video) for video in (first, second)] == [3, 4]


def test_two_copies_of_a_video_have_a_place_each_and_keep_it(tmp_path):
    first = clip(tmp_path / "a" / "x.mp4", 4)
    (tmp_path / "b").mkdir()
    second = Path(shutil.copy(first, tmp_path / "b" / "x.mp4"))
    assert extract(second, "--out", tmp_path / "out").stdout == f"{tmp_path}/out/x\n"
    result = extract(first, second, "--out", tmp_path / "out")
    assert result.stderr == "1 extracted, 1 kept\n" and len(set(result.stdout.splitlines())) == 2
    assert extract(second, first, "--out", tmp_path / "out").stderr == "2 kept\n"
    assert extract(second, "--out", tmp_path / "out").stdout == f"{tmp_path}/out/x\n"


def test_flow_of_a_video_that_lies_elsewhere_now_is_kept_and_that_of_another_of_its_size_is_not_taken(tmp_path):
    path = clip(tmp_path / "a" / "x.mp4", 4)
    assert extract(path, "--out", tmp_path / "out").exit_code == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert extract(tmp_path / "b" / "x.mp4", "--out", tmp_path / "out").stderr == "1 kept\n"
    data = bytearray((tmp_path / "b" / "x.mp4").read_bytes())
    data[-1] ^= 1
    clip(tmp_path / "c" / "x.mp4", 4).write_bytes(data)
    with pytest.raises(
        VideoError, match=r"^flow of another video: .*/out/x: made from x.mp4 of \d+ bytes, .* of another content"
    ):
        flow_of(tmp_path / "out", "x", tmp_path / "c" / "x.mp4")
    assert extract(tmp_path / "c" / "x.mp4", "--out", tmp_path / "out").stdout == f"{tmp_path}/out/x.mp4\n"


def test_flow_of_the_version_before_is_found_where_it_is(tmp_path):
    path = clip(tmp_path / "in" / "x.mp4", 4)
    clip(tmp_path / "in" / "x" / "y.mp4", 5)
    assert extract(path, "--out", tmp_path / "out").stdout == f"{tmp_path}/out/x\n"
    sidecar = tmp_path / "out" / "x" / "flow.json"
    record = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({key: record[key] for key in record if key not in ("source_path_hash", "source_digest")}))
    result = extract(tmp_path / "in", "--out", tmp_path / "out")
    assert result.stderr == "1 extracted, 1 kept\n" and f"{tmp_path}/out/x\n" in result.stdout
    assert_none_in_another(tmp_path / "out")
    assert flow_of(tmp_path / "out", "x/y", tmp_path / "in" / "x" / "y.mp4") == 4


def test_what_others_left_in_the_place_of_a_video_stays(tmp_path):
    out, video = tmp_path / "out", clip(tmp_path / "x.mp4")
    for name in ("x", ".x.mp4.partial", ".x.mp4.old"):
        strangers(out / name)
    before = contents(out)
    result = extract(video, "--out", out)
    assert result.exit_code == 0 and Path(result.stdout.strip()).name.startswith("x~")
    strangers(Path(result.stdout.strip()))
    before |= contents(out)
    again = extract(video, "--out", out, "--overwrite")
    assert (
        again.exit_code == 1
        and "Error: files of others: " in again.stderr
        and "got notes.txt, which i3d did not write" in again.stderr
    )
    assert contents(out) == before | contents(out) and set(before) == set(contents(out)) - {"failures.jsonl"}


@pytest.mark.parametrize("kind", ["file", "empty", "link", "json", "pictures"])
def test_nothing_else_is_taken_for_flow_of_ours(tmp_path, kind):
    out, video = strangers(tmp_path / "out"), clip(tmp_path / "x.mp4")
    if kind == "file":
        (out / "x").write_text("mine")
    elif kind == "link":
        (out / "x").symlink_to("nowhere")
    else:
        (out / "x").mkdir()
    if kind == "json":
        (out / "x" / "flow.json").write_text('[{"id": "a flow of another program"}]')
    elif kind == "pictures":
        (out / "x" / "img_00001.jpg").write_text("mine")
    before = contents(out)
    for _ in range(2):
        assert extract(video, "--out", out, "--overwrite").stdout == f"{out}/x.mp4\n"
    assert before.items() <= contents(out).items() and (out / "x").is_symlink() == (kind == "link")


@pytest.mark.parametrize("sidecar", ["whole", "damaged"])
def test_pictures_and_films_of_others_beside_flow_stay(tmp_path, sidecar):
    video, out = clip(tmp_path / "t.mp4", 4), tmp_path / "out"
    extract(video, "--out", out)
    mine = [out / "t" / name for name in ("img_00001.jpg", "flow.mp4", "flow_x_00009.jpg")][: 2 + (sidecar == "whole")]
    for path in mine:
        path.write_text("mine")
    if sidecar == "damaged":
        (out / "t" / "flow.json").write_text("")
    extract(video, "--out", out, "--overwrite", "--bound", "15")
    assert [path.read_text() for path in mine] == ["mine"] * len(mine)
    for path in mine:
        path.unlink()
    assert extract(video, "--out", out, "--overwrite", "--bound", "15", "--frames", "--viz").exit_code == 0
    assert extract(video, "--out", out, "--overwrite", "--bound", "15").exit_code == 0
    assert flow_of(out, "t", video) == 3


def test_a_video_that_changed_is_replaced_only_where_it_is_asked_for(tmp_path):
    video = clip(tmp_path / "x.mp4", 3)
    extract(video, "--out", tmp_path / "out")
    before = contents(tmp_path / "out")
    clip(video, 6)
    result = extract(video, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "or --overwrite if the video has changed" in result.stderr
    assert before.items() <= contents(tmp_path / "out").items()
    assert extract(video, "--out", tmp_path / "out", "--overwrite").stdout == f"{tmp_path}/out/x\n"
    assert flow_of(tmp_path / "out", "x", video) == 5


def test_the_flow_of_a_video_is_no_output_folder(tmp_path):
    video = clip(tmp_path / "x.mp4")
    extract(video, "--out", tmp_path / "out")
    result = extract(clip(tmp_path / "y.mp4"), "--out", tmp_path / "out" / "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: cannot write: {tmp_path}/out/x: it is the flow of one video; give the folder above it, or another --out\n"
    )


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_with_a_sidecar_of_others_is_an_output_folder(tmp_path, kind):
    out = strangers(tmp_path / "out")
    strangers(out / "flow.json") if kind == "folder" else (out / "flow.json").write_text(
        '[{"id": "a flow of another program"}]'
    )
    before = contents(out)
    assert extract(clip(tmp_path / "x.mp4"), "--out", out).stderr == "1 extracted\n"
    assert before.items() <= contents(out).items()


def test_a_video_that_changed_without_another_size_is_not_taken_for_the_same(tmp_path):
    video = clip(tmp_path / "x.mp4", 4)
    extract(video, "--out", tmp_path / "out")
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(data)
    assert "or --overwrite if the video has changed" in extract(video, "--out", tmp_path / "out").stderr


def test_folders_of_pictures_of_one_size_are_told_apart(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name / "seq").mkdir(parents=True)
        for i, frame in enumerate(moving(3, 16, 20, seed=seed)):
            cv2.imwrite(str(tmp_path / name / "seq" / f"{i}.bmp"), frame)
    first, second = (extract(tmp_path / name / "seq", "--out", tmp_path / "out").stdout for name in "ab")
    assert first == f"{tmp_path}/out/seq\n" and "seq~" in second


def test_a_linked_place_stays_a_link(tmp_path):
    video = clip(tmp_path / "x.mp4")
    extract(video, "--out", tmp_path / "out")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out" / "x").rename(tmp_path / "disk" / "x")
    (tmp_path / "out" / "x").symlink_to(tmp_path / "disk" / "x")
    assert extract(video, "--out", tmp_path / "out").stderr == "1 kept\n"
    assert extract(video, "--out", tmp_path / "out", "--overwrite", "--bound", "9").exit_code == 0
    assert (tmp_path / "out" / "x").is_symlink() and FlowReader(tmp_path / "disk" / "x").bound == 9


def test_a_video_that_another_process_works_on_is_left_to_it(tmp_path):
    path = clip(tmp_path / "clip.mp4")
    with claiming(tmp_path / "out", path) as claim:
        assert claim is not None
        result = extract(path, "--out", tmp_path / "out")
        assert result.exit_code == 0 and result.stderr == f"Note: left to another process: {path}\n1 elsewhere\n"
    assert list((tmp_path / "out").iterdir()) == []
    assert extract(path, "--out", tmp_path / "out").stdout.count("\n") == 1


@pytest.mark.parametrize("step", ["Path.mkdir", "Claims._clear_other_leftovers", "Claim.clear"])
def test_an_interruption_while_work_begins_leaves_no_folder(tmp_path, monkeypatch, step):
    def interrupted(*arguments, **options):
        usual(*arguments, **options)
        raise KeyboardInterrupt

    video = clip(tmp_path / "in" / "a" / "clip.mp4")
    usual = operator.attrgetter(step)(claims)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(f"i3dcli.flow.claims.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt), claiming(tmp_path / "out", video, Path("a/clip")):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interruption_leaves_what_another_process_works_on(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    path = clip(tmp_path / "clip.mp4")
    with claiming(tmp_path / "out", path) as claim:
        (claim.work / "flow.json").touch()
        monkeypatch.setattr(Claims, "_clear_other_leftovers", interrupted)
        with pytest.raises(KeyboardInterrupt), claiming(tmp_path / "out", path):
            pass
    assert (tmp_path / "out" / "clip" / "flow.json").exists()


def test_the_work_of_a_process_that_begins_meanwhile_is_left_alone(tmp_path, monkeypatch):
    def renamed(path, target, rename=Path.rename):
        rename(path, target)
        path.mkdir()  # by another process, with --overwrite
        (path / "flow.npy").touch()

    with claiming(tmp_path / "out", clip(tmp_path / "clip.mp4")) as claim:
        (claim.work / "flow.json").touch()
        monkeypatch.setattr(Path, "rename", renamed)
    assert [path.name for path in claim.work.iterdir()] == ["flow.npy"]
    assert (tmp_path / "out" / "clip" / "flow.json").exists() and claim.folder == tmp_path / "out" / "clip"


def test_what_came_into_the_way_meanwhile_stays_there(tmp_path):
    out, video = tmp_path / "out", clip(tmp_path / "x.mp4", 5)
    for outcome in extract_videos(
        [str(video)], tmp_path / "other", FlowOptions(short_side=16, algorithm="dis", parameters=None)
    ):
        finished = outcome.folder
    with claiming(out, video) as claim:
        for path in finished.iterdir():
            shutil.copy(path, claim.work)
        strangers(out / "x")
    assert claim.folder == out / "x.mp4" and flow_of(out, "x", video) == 4
    assert (out / "x" / "notes.txt").read_text() == "mine"


def test_what_a_killed_overwrite_left_is_cleared_away(tmp_path):
    source = tmp_path / "in"
    clip(source / "a" / "v0.mp4")
    clip(source / "a" / "v1.mp4")
    extract(source, "--out", tmp_path / "out")
    whole = contents(tmp_path / "out")
    folder = tmp_path / "out" / "a" / "v0"
    shutil.copytree(folder, folder.with_name(".v0.old"))  # before the last step
    folder.with_name(".v0.partial").mkdir()  # at work
    for name in (MARK, "flow_x_00001.jpg"):
        (folder.with_name(".v0.partial") / name).touch()
    result = extract(source, "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "2 kept\n")
    assert contents(tmp_path / "out") == whole


class Death(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("count", range(6))
def test_what_is_removed_is_known_as_ours_to_the_end(tmp_path, monkeypatch, count):
    """Killed after so many of the five files of a folder that was replaced."""

    def unlink(path, unlink=Path.unlink):
        if next(files, None) is None:
            raise Death
        unlink(path)

    video, out, files = clip(tmp_path / "v.mp4"), tmp_path / "out", iter(range(count))
    extract(video, "--out", out)
    whole = contents(out)
    shutil.copytree(out / "v", out / ".v.old")
    with monkeypatch.context() as patch, contextlib.suppress(Death):
        patch.setattr(Path, "unlink", unlink)
        remove(out / ".v.old")
    assert extract(video, "--out", out).stderr == "1 kept\n"
    assert contents(out) == whole


def test_what_was_left_of_work_on_a_place_that_is_another_now_is_cleared_away(tmp_path):
    film = clip(tmp_path / "in" / "film.mp4")
    for rest in (".film.partial", ".film.old"):
        (tmp_path / "out" / rest).mkdir(parents=True)
        (tmp_path / "out" / rest / MARK).touch()
    strangers(tmp_path / "out" / ".film~0.partial")
    clip(tmp_path / "in" / "film" / "scene.mp4")
    assert extract(tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"film", "film.mp4", ".film~0.partial"}
    assert flow_of(tmp_path / "out", "film", film) == 2


def test_folders_that_were_made_for_what_failed_go_again(tmp_path):
    clip(tmp_path / "in" / "a" / "b" / "one.mp4", 1)
    assert "too short for flow" in extract(tmp_path / "in", "--out", tmp_path / "out").stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures.jsonl"]


def test_a_cut_line_in_the_record_of_failures_is_passed_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "failures.jsonl").write_bytes(b'{"file": "a.mp4", "reason": "no"}\n{"file": "cl\xe9')
    path = clip(tmp_path / "clip.mp4")
    assert extract(path, "--out", tmp_path / "out").exit_code == 0
    assert extract(tmp_path / "b.mp4", "--out", tmp_path / "out").exit_code == 1
    lines = (tmp_path / "out" / "failures.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["file"] for line in (lines[0], lines[-1])] == ["a.mp4", str(tmp_path / "b.mp4")]
    assert lines[1] == b'{"file": "cl\xe9'


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_the_record_of_failures_is_no_file_of_others(tmp_path, kind):
    out, name = strangers(tmp_path / "out"), "failures.jsonl"
    if kind == "folder":
        strangers(out / name)
    elif kind == "file":
        (out / name).write_text('{"mine": 1}\n')
    else:
        (out / name).symlink_to("nowhere")
    before = contents(out)
    for _ in range(2):
        assert extract(clip(tmp_path / "x.mp4"), tmp_path / "absent.mp4", "--out", out).exit_code == 1
    lines = (out / "failures-2.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == [str(tmp_path / "absent.mp4")]
    assert before.items() <= contents(out).items() and (out / name).is_symlink() == (kind == "link")


def test_a_reader_looks_where_a_writer_may_have_put_it(tmp_path):
    video = clip(tmp_path / "videos" / "run" / "v.mp4")
    for place in candidates(Path("run/v"), video):
        out = tmp_path / "out" / place.name
        for outcome in extract_videos([str(video)], out, FlowOptions(short_side=16, algorithm="dis", parameters=None)):
            (out / place).parent.mkdir(exist_ok=True)
            outcome.folder.rename(out / place)
        assert FlowFolder(out).find(Path("run/v"), video) == out / place


@pytest.mark.parametrize("format", ["jpg", "flo", "zip", "npy"])
def test_flow_is_known_as_ours_to_the_last_file_whatever_its_sidecar_counts(tmp_path, format):
    video = clip(tmp_path / "in" / "a.mp4", 3)
    (outcome,) = extract_videos(
        [str(video)], tmp_path / "out", FlowOptions(algorithm="dis", format=format, frames=True, viz=True)
    )
    sidecar = outcome.folder / "flow.json"
    assert is_ours(outcome.folder)
    record = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**record, "num_flows": 10**15}))
    assert is_ours(outcome.folder)
    sidecar.write_text(json.dumps({**record, "num_flows": 0}))
    assert is_ours(outcome.folder) == (format == "zip")  # which has the frames in it, too
    sidecar.write_text(json.dumps(record))
    (outcome.folder / "img_00004.jpg").touch()
    assert not is_ours(outcome.folder)
