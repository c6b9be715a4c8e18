"""Scores that are kept as they come."""

import json
import os
import re

import numpy as np
import pytest

from i3dcli import I3DError
from i3dcli.distributed import ALONE, Group
from i3dcli.evaluation.score_log import ScoreLog

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

ROWS = {"rgb": np.float32([0.1, -2.5e-8, 3e30]), "flow": np.float32([1, 2, 3])}


def kept(out, *videos, fingerprint="f", rank=0):
    """A log with some videos."""
    log = ScoreLog(out, fingerprint, Group(rank, 2) if rank else ALONE)
    with log:
        for video in videos:
            log.add(video, ROWS)
    return log


def read(out, fingerprint="f"):
    return ScoreLog(out, fingerprint, ALONE).read()


def test_logits_are_read_to_the_last_bit(tmp_path):
    kept(tmp_path / "out", "ü\\n.mp4")
    [(video, logits)] = read(tmp_path / "out").items()
    assert video == "ü\\n.mp4" and list(logits) == ["rgb", "flow"]
    for stream, row in logits.items():
        assert row.dtype == np.float32
        np.testing.assert_array_equal(row, ROWS[stream])


def test_each_line_is_there_when_it_was_added(tmp_path):
    log = ScoreLog(tmp_path, "f", ALONE)
    with log:
        for i in range(3):
            log.add(f"{i}.mp4", ROWS)
            assert list(read(tmp_path)) == [f"{j}.mp4" for j in range(i + 1)]


def test_the_logs_of_all_processes_are_read(tmp_path):
    kept(tmp_path, "a", "b")
    kept(tmp_path, "c", rank=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.0.jsonl", "scores.1.jsonl"]
    assert sorted(read(tmp_path)) == ["a", "b", "c"]


def test_a_later_run_goes_on_in_the_same_file(tmp_path):
    kept(tmp_path, "a")
    kept(tmp_path, "b")
    assert sorted(read(tmp_path)) == ["a", "b"]


def test_a_line_that_was_cut_off_anywhere_is_passed_over_and_does_not_spoil_the_next(tmp_path):
    whole = (kept(tmp_path, "a", "b").path).read_bytes()
    second = whole.index(b'{"video": "b"')
    for end in range(second, len(whole) - 1, 7):
        (tmp_path / "scores.0.jsonl").write_bytes(whole[:end])
        assert list(read(tmp_path)) == ["a"]
        kept(tmp_path, "c")
        assert sorted(read(tmp_path)) == ["a", "c"]


def test_scores_of_other_weights_are_refused_even_where_the_first_line_was_cut_off(tmp_path):
    (tmp_path / "scores.0.jsonl").write_text('{"fingerpr')
    kept(tmp_path, "a")
    assert list(read(tmp_path)) == ["a"]
    with pytest.raises(I3DError) as caught:
        read(tmp_path, fingerprint="g")
    assert str(caught.value) == (
        f"scores of another making: {tmp_path}: they were computed with other weights, flow or protocol; "
        "choose another --out, or --overwrite them"
    )


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    with open(kept(tmp_path, "a").path, "ab") as file:
        file.write(b"\xff\xfe\x00{\n")
    assert list(read(tmp_path)) == ["a"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(I3DError, match=r"cannot write: .*: the folder is not writable; give another --out"):
        ScoreLog(tmp_path, "f", ALONE)
    tmp_path.chmod(0o700)


def test_logs_that_cannot_be_read_or_written_are_an_error(tmp_path):
    (tmp_path / "scores.0.jsonl").mkdir()
    log = ScoreLog(tmp_path, "f", ALONE)
    for function, verb in ((log.read, "read"), (log.__enter__, "write")):
        with pytest.raises(
            I3DError, match=re.escape(f"cannot {verb}: {tmp_path}/scores.0.jsonl: Is a directory; choose another")
        ):
            function()


def test_a_line_is_json(tmp_path):
    lines = [json.loads(line) for line in kept(tmp_path, "a").path.read_text("ascii").splitlines()]
    assert lines[0] == {"fingerprint": "f"} and lines[1]["video"] == "a"


def test_scores_of_a_video_that_has_other_bytes_now_are_passed_over(tmp_path):
    with ScoreLog(tmp_path, "f", ALONE) as log:
        log.add("a", ROWS, size=5)
        log.add("b", ROWS, size=5)
        log.add("c", ROWS)
    assert list(ScoreLog(tmp_path, "f", ALONE).read({"a": 5, "b": 6, "c": 7}.get)) == ["a", "c"]


def test_results_of_other_videos_are_not_replaced(tmp_path):
    for videos in ("one", "two"):  # an interrupted evaluation may go on with others
        with ScoreLog(tmp_path, "f", ALONE, videos=videos) as log:
            assert log.read() == {}
    (tmp_path / "metrics.json").touch()
    with pytest.raises(
        I3DError, match=r"^results of other videos: .*: they would be replaced; choose another --out, or --over"
    ):
        ScoreLog(tmp_path, "f", ALONE, videos="two").read()
