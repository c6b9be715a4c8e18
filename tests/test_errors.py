"""Errors as one helpful line."""

import time

import cv2
import pytest

from i3dcli import I3DError
from i3dcli.errors import memory_errors
from i3dcli.text import counted, shown


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nMore."), "CUDA out of memory. Tried to allocate 2 GiB."),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "DataLoader worker (pid 7) is killed by"),
        (
            RuntimeError("Caught _ArrayMemoryError in worker.\nTrace\nE: Unable to allocate 9 GiB"),
            "E: Unable to allocate 9 GiB",
        ),
        (MemoryError(), "out of memory: lower --batch-size"),
        (MemoryError("Allocation failed (probably too large)."), "out of memory: Allocation failed (probably too large).;"),
        (cv2.error("error: (-4:Insufficient memory) Failed to allocate 9 bytes"), "(-4:Insufficient memory) Failed to"),
    ],
)
def test_memory_that_runs_out_elsewhere_is_told_likewise(error, line):
    with pytest.raises(I3DError) as caught, memory_errors("lower --batch-size"):
        raise error
    assert line in str(caught.value) and "\n" not in str(caught.value) and "lower --batch-size" in str(caught.value)


def test_a_long_line_is_searched_in_no_time():
    begun = time.process_time()
    with pytest.raises(RuntimeError), memory_errors("lower it"):
        raise RuntimeError("a" * 1_000_000)
    assert time.process_time() - begun < 1  # it was 20 seconds for 30 kB


def test_half_a_character_can_be_shown():
    assert shown("a\ud800b\udcff") == "a\ufffdb\ufffd"


def test_only_one_is_counted_in_the_singular():
    found = [counted(number, word) for number in (0, 1, 2) for word in ("video", "class")]
    assert found == ["0 videos", "0 classes", "1 video", "1 class", "2 videos", "2 classes"]


def test_other_faults_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("lower --batch-size"):
        raise RuntimeError("shapes do not fit")
