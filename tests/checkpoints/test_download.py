"""Downloads arrive whole and verified, or leave nothing that looks finished."""

import threading
import time

import pytest
from hosts import CONTENT

from i3dcli import CheckpointError
from i3dcli.checkpoints.download import download


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_arrives_whole_and_alone(host, tmp_path):
    path = download(host.file, tmp_path / "new")
    assert path.read_bytes() == CONTENT and names(path.parent) == ["weights.pt"]


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_broken_transfer_goes_on_where_it_broke(host, tmp_path, fault):
    host.faults = [fault]
    path = download(host.file, tmp_path, timeout=0.5)
    assert path.read_bytes() == CONTENT and host.starts == [0, 300_000]


def test_what_an_earlier_run_left_is_resumed(host, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:500_000])
    assert download(host.file, tmp_path).read_bytes() == CONTENT
    assert host.starts == [500_000]


def test_a_host_without_ranges_sends_everything_again(host, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(b"junk" * 1000)
    host.faults = ["no ranges"]
    assert download(host.file, tmp_path).read_bytes() == CONTENT


def test_a_rest_that_is_too_long_is_thrown_away(host, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT + b"more")
    assert download(host.file, tmp_path).read_bytes() == CONTENT


def test_a_wrong_byte_is_refused_and_leaves_nothing(host, tmp_path):
    host.faults = ["corrupt"]
    with pytest.raises(CheckpointError, match=f"expected {host.file.blob_id}"):
        download(host.file, tmp_path)
    assert names(tmp_path) == []


def test_processes_that_start_together_download_once(host, tmp_path):
    threads = [threading.Thread(target=download, args=(host.file, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.starts == [0] and names(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize("fault", ["odd length", "odd redirect"])
def test_answers_that_make_no_sense_are_no_traceback(host, tmp_path, fault):
    host.faults = [fault] * 3
    if fault == "odd length":
        assert download(host.file, tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(OSError, match="makes no sense"):
            download(host.file, tmp_path)


def test_a_stalling_host_is_given_up(host, tmp_path):
    host.faults = ["stall"] * 3
    start = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        download(host.file, tmp_path, timeout=0.2)
    assert time.monotonic() - start < 5
