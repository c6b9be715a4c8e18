import numpy as np
import pytest
import torch

from i3dcli.data.clips import (
    as_clip,
    as_input,
    centre_crop,
    looped,
    mirrored,
    padded,
    random_crop,
    random_start,
    sliding,
    windows,
)


@pytest.mark.parametrize(
    ("count", "lengths"),
    [
        (0, []),
        (1, [1]),
        (250, [250]),
        (258, [258]),
        (259, [250, 9]),
        (500, [250, 250]),
        (508, [250, 258]),
        (760, [250, 250, 260 - 250 + 250]),
    ],
)
def test_windows_cover_everything_once_and_leave_no_short_rest(count, lengths):
    found = list(windows(range(count), length=250, shortest=9))
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True] * bool(found)
    found = [window for window, _ in found]
    assert [item for window in found for item in window] == list(range(count))
    if count != 760:
        assert [len(window) for window in found] == lengths
    assert all(len(window) >= 9 for window in found[1:]) and all(len(window) <= 258 for window in found)


def test_windows_take_no_more_from_the_source_than_they_need():
    taken = []
    source = (taken.append(i) or i for i in range(10**9))
    next(windows(source, length=4, shortest=2))
    assert len(taken) == 6


def test_short_clips_are_looped_from_the_start():
    assert looped([0, 1, 2, 3], shortest=9) == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert looped([7], shortest=3) == [7, 7, 7] and looped([1, 2, 3], shortest=2) == [1, 2, 3]


def test_the_centre_crop_is_in_the_middle():
    assert centre_crop(256, 341, 224) == (slice(16, 240), slice(58, 282))
    assert centre_crop(100, 341, 224)[0] == slice(0, 224)


def test_rgb_goes_from_bytes_to_minus_one_and_one_in_channel_order():
    frames = [np.full((2, 3, 3), (0, 51, 255), np.uint8), np.full((2, 3, 3), (255, 0, 0), np.uint8)]
    clip = as_clip("rgb", frames, bound=20.0)
    assert clip.shape == (3, 2, 2, 3) and clip.dtype == torch.uint8
    clip = as_input(clip[None])
    assert clip.shape == (1, 3, 2, 2, 3) and clip.dtype == torch.float32
    torch.testing.assert_close(clip[0, :, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    torch.testing.assert_close(clip[0, :, 1, 1, 2], torch.tensor([1.0, -1.0, -1.0]))


def test_flow_is_clamped_and_scaled_with_x_first():
    flow = np.stack([np.full((2, 3), 5, np.float32), np.full((2, 3), -30, np.float32)])
    clip = as_clip("flow", [flow, flow], bound=20.0)
    assert clip.shape == (2, 2, 2, 3) and as_input(clip) is clip
    assert clip[0].unique().tolist() == [0.25] and clip[1].unique().tolist() == [-1.0]
    assert flow.min() == -30  # the caller's flow is left as it was


def test_in_a_mirror_what_moves_right_moves_left_and_what_moves_down_still_does():
    flow = torch.arange(24.0).reshape(2, 2, 2, 3)
    expected = flow.flip(-1) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    assert torch.equal(mirrored(flow, input="flow"), expected) and flow[0, 0, 0].tolist() == [0, 1, 2]
    assert torch.equal(mirrored(flow[None], input="flow"), expected[None])


def test_a_stack_of_flows_is_mirrored_in_each_of_them():
    one = torch.arange(12.0).reshape(2, 1, 2, 3)
    assert torch.equal(mirrored(torch.cat([one] * 10), input="flow"), torch.cat([mirrored(one, input="flow")] * 10))


def test_a_small_picture_is_continued_by_its_edge():
    clip = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3)
    assert padded(clip, 4)[0, 0].tolist() == [[0, 1, 2, 2], [0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert padded(clip, 2) is clip and padded(clip, 3).shape == (1, 1, 3, 3)


def test_pictures_keep_their_colours_in_a_mirror():
    clip = as_clip("rgb", [np.arange(18, dtype=np.uint8).reshape(2, 3, 3)] * 2, bound=20.0)
    assert torch.equal(mirrored(clip, input="rgb"), clip.flip(-1))


def test_a_random_start_leaves_enough_frames():
    rng = np.random.default_rng(0)
    assert {random_start(rng, 12, 9) for _ in range(100)} == {0, 1, 2, 3}
    assert {random_start(rng, count, 9) for count in (0, 3, 9) for _ in range(20)} == {0}


def test_a_random_crop_lies_within_the_picture_and_reaches_its_edges():
    rng = np.random.default_rng(0)
    crops = [random_crop(rng, 10, 12, 8) for _ in range(200)]
    assert {(rows.start, rows.stop) for rows, _ in crops} == {(0, 8), (1, 9), (2, 10)}
    assert {(columns.start, columns.stop) for _, columns in crops} == {(i, i + 8) for i in range(5)}


@pytest.mark.parametrize(
    ("count", "length", "stride", "expected"),
    [
        (0, 16, 16, []),
        (1, 16, 16, [(0, 1)]),  # the only one, however short
        (16, 16, 16, [(0, 16)]),
        (24, 16, 16, [(0, 16)]),  # a rest of 8 is too short
        (25, 16, 16, [(0, 16), (16, 9)]),
        (32, 16, 16, [(0, 16), (16, 16)]),
        (33, 16, 8, [(0, 16), (8, 16), (16, 16), (24, 9)]),  # one more item is news
        (32, 16, 8, [(0, 16), (8, 16), (16, 16)]),  # from 24 on, all has been seen
        (48, 32, 8, [(0, 32), (8, 32), (16, 32)]),
        (26, 16, 15, [(0, 16), (15, 11)]),
        (40, 16, 40, [(0, 16)]),
        (48, 16, 40, [(0, 16)]),
        (49, 16, 40, [(0, 16), (40, 9)]),
        (100, 16, 40, [(0, 16), (40, 16), (80, 16)]),
        (5, 2, 2, [(0, 2), (2, 2)]),
        (5, 3, 1, [(0, 3), (1, 3), (2, 3)]),
    ],
)
def test_sliding_windows_start_every_stride_and_the_last_brings_news(count, length, stride, expected):
    found = list(sliding(range(count), length=length, stride=stride, shortest=9))
    assert [(first, len(window)) for first, window in found] == expected
    assert all(window == list(range(first, first + len(window))) for first, window in found)


def test_sliding_windows_take_no_more_from_the_source_than_they_need():
    taken = []
    stream = sliding((taken.append(i) or i for i in range(10**9)), length=4, stride=2, shortest=2)
    assert [next(stream), next(stream)] == [(0, [0, 1, 2, 3]), (2, [2, 3, 4, 5])] and len(taken) == 6
