"""A few hundred damaged and hostile inputs, drawn from a seed; `benchmarks/fuzz.py` tries thousands."""

import signal
from collections import Counter

import mutations
import numpy as np
import pytest
import trials
import verdicts

KINDS = (  # of each container, and those that need no encoder that is slow
    *("mp4 mpeg4", "mp4 h264 B", "mp4 fragmented", "mov mpeg4", "3gp mpeg4", "mkv mpeg4", "mkv live", "webm vp8"),
    *("avi mpeg4", "avi mjpeg", "flv flv1", "ts mpeg2", "ts h264", "mpg mpeg1", "wmv wmv2", "asf msmpeg4", "ogv vp8", "gif"),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return trials.make_inputs(tmp_path_factory.mktemp("inputs"), kinds=KINDS)


class TooLong(BaseException):
    """What nobody catches."""


def at_once(function, inputs, number, **options):
    """What became of a case that may take some seconds, and not for ever."""

    def end(number, frame):
        raise TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(5)
    told = [trials.Found("?")]
    try:
        return function(inputs, number, **options, tell=told.append)
    except TooLong:
        told[-1].verdict = "hang"
        return told[-1]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(function, inputs, count, **options):
    """How often each verdict was given, and what was wrong."""
    found = [at_once(function, inputs, number, **options) for number in range(count)]
    wrong = [f"{number}: {one.verdict}: {one.text}" for number, one in enumerate(found) if one.verdict not in verdicts.FINE]
    wrong += [f"{number}: of others: {one.disturbed}: {one.text}" for number, one in enumerate(found) if one.disturbed]
    return Counter(one.verdict for one in found), wrong


def test_a_damaged_video_is_read_whole_or_noted_or_refused_in_one_line(inputs):
    outcomes, wrong = tried(trials.video, inputs, 216, ways=["the path of predict"], shares=[1])
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 60 and outcomes["noted"] >= 40 and outcomes["refused"] >= 30
    assert outcomes["traceless"] <= 5 and outcomes["inflated"] <= 5


def test_nothing_is_said_of_whole_videos(inputs, tmp_path):
    for original in inputs.originals:
        path = tmp_path / f"whole{original.suffix}"
        path.write_bytes(original.data)
        seen = verdicts.looked(inputs.model, path)
        assert (seen.frames, seen.notes, seen.errors) == (24, [], []), original.kind


def test_extract_flow_tells_of_damage_and_leaves_what_is_not_its_own(inputs):
    outcomes, wrong = tried(trials.video, inputs, 18, seed=1, ways=["i3d extract-flow"], shares=[1])
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 3 and outcomes["refused"] >= 2


def test_a_hostile_checkpoint_gives_finite_numbers_or_is_refused_in_one_line(inputs):
    outcomes, wrong = tried(trials.checkpoint, inputs, 70)
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 7 and outcomes["refused"] >= 40


def test_a_hostile_list_is_read_or_refused_in_one_line(inputs):
    outcomes, wrong = tried(trials.labels, inputs, 80, ways=["dataset"])
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 25 and outcomes["refused"] >= 20


def test_names_of_classes_are_read_or_refused_in_one_line(inputs):
    outcomes, wrong = tried(trials.labels, inputs, 20, ways=["labels"])
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 4 and outcomes["refused"] >= 6


def test_no_name_of_a_video_costs_anybody_a_file(inputs):
    outcomes, wrong = tried(trials.names, inputs, 8)
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 4


def test_the_same_seed_makes_the_same_input(inputs):
    made = [mutations.mutant(np.random.default_rng(5), inputs.originals[0], inputs.originals).data for _ in range(2)]
    assert made[0] == made[1] != inputs.originals[0].data
