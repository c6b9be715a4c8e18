import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import cut, moving, numbered, numbers, write_video

from i3dcli import DatasetError, VideoError
from i3dcli.data.dataset import Sample
from i3dcli.defaults import TVL1
from i3dcli.flow.stored import FlowFolder
from i3dcli.models.preprocessing import Preprocessing
from i3dcli.training.clip_loader import ClipDataset, ClipSampler, Draw, collate, load_batches
from i3dcli.video.reader import Video

SMALL = Preprocessing(short_side=32, crop=32, clip_len=9)


def clips(samples, preprocessing=SMALL, *, num_classes=4, multi_label=False, flow_dir=None, **options):
    if flow_dir is not None:
        options["stored"] = FlowFolder(Path(flow_dir), preprocessing.flow)
    return ClipDataset(samples, preprocessing, num_classes=num_classes, multi_label=multi_label, **options)


def lossless(path, frames):
    return write_video(path.with_suffix(".mkv"), frames, codec="ffv1", pix_fmt="bgr0")


def sample(path, *labels, spans=()):
    return Sample(path, path.with_suffix("").relative_to(path.parent.parent), labels or (0,), spans)


@pytest.fixture
def counted(tmp_path):
    """A video of 12 frames, whose brightness is four times their number."""
    return sample(lossless(tmp_path / "counted", numbered(12)), 3)


def shown_numbers(item):
    return numbers(item.clip.unbind(1))


def drawn(num_samples, *, first=0, last, **options):
    return [[tuple(draw) for draw in batch] for batch in ClipSampler(num_samples, seed=3, first=first, last=last, **options)]


def test_each_epoch_shows_each_sample_once_and_in_another_order():
    order = [sample for batch in drawn(10, batch_size=4, last=10) for sample, _ in batch]
    epochs = [order[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_processes_together_see_what_one_would():
    alone = drawn(10, batch_size=6, last=5)
    ranks = [drawn(10, batch_size=2, last=5, rank=rank, size=3) for rank in range(3)]
    assert [first + second + third for first, second, third in zip(*ranks, strict=True)] == alone


def test_draws_go_on_where_a_run_had_stopped():
    whole = drawn(7, batch_size=3, last=8)
    assert drawn(7, batch_size=3, first=5, last=8) == whole[5:]
    assert len(ClipSampler(7, batch_size=3, seed=3, first=5, last=8)) == 3


def test_another_seed_draws_otherwise():
    one, two = (list(ClipSampler(50, batch_size=50, seed=seed, first=0, last=1)) for seed in (0, 1))
    assert one != two


def test_a_random_clip_is_of_consecutive_frames_from_anywhere(counted):
    found = [shown_numbers(clips([counted])[Draw(0, position)]) for position in range(40)]
    assert {tuple(clip) for clip in found} == {tuple(range(start, start + 9)) for start in range(4)}


def test_an_index_gives_the_middle_of_the_video_unmirrored(counted, tmp_path):
    assert shown_numbers(clips([counted])[0]) == list(range(1, 10))
    picture = np.zeros((32, 40, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None]
    item = clips([sample(lossless(tmp_path / "ramp", [picture] * 9))])[0]
    assert item.clip[0, 0, 0].tolist() == list(range(4, 36))


def test_the_same_draw_gives_the_same_clip_and_another_epoch_another(counted):
    whole = clips([counted])
    assert torch.equal(whole[Draw(0, 5)].clip, clips([counted])[Draw(0, 5)].clip)
    assert len({tuple(shown_numbers(whole[Draw(0, position)])) for position in range(20)}) > 1


def test_short_videos_are_looped(tmp_path):
    short = sample(lossless(tmp_path / "short", numbered(5)))
    assert shown_numbers(clips([short])[0]) == [0, 1, 2, 3, 4, 0, 1, 2, 3] == shown_numbers(clips([short])[Draw(0, 7)])


def ramp(tmp_path):
    """A still picture of 40x48 pixels, in which red tells the column and green the row."""
    picture = np.zeros((40, 48, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(48), np.arange(40)[:, None]
    return sample(lossless(tmp_path / "ramp", [picture] * 12))


def test_all_frames_of_a_clip_are_cropped_and_mirrored_alike(tmp_path):
    dataset = clips([ramp(tmp_path)], replace(SMALL, short_side=40))
    seen = set()
    for position in range(60):
        clip = dataset[Draw(0, position)].clip.int()
        assert clip.shape == (3, 9, 32, 32) and (clip == clip[:, :1]).all()
        step = int(clip[0, 0, 0, 1] - clip[0, 0, 0, 0])
        left, top = int(clip[0].min()), int(clip[1].min())
        assert clip[0, 0, 0].tolist() == list(range(left, left + 32))[::step]
        assert clip[1, 0, :, 0].tolist() == list(range(top, top + 32))
        seen.add((step, left, top))
    assert {step for step, _, _ in seen} == {1, -1}
    assert len({left for _, left, _ in seen}) > 10 and len({top for _, _, top in seen}) > 5


def test_without_flips_nothing_is_mirrored(tmp_path):
    dataset = clips([ramp(tmp_path)], replace(SMALL, short_side=40), flip=False)
    assert all(dataset[Draw(0, position)].clip[0, 0, 0].int().diff().eq(1).all() for position in range(20))


def test_a_mirrored_clip_of_flow_moves_the_other_way(motions, flows):
    path = next((motions / "train" / "right").iterdir())
    dataset = clips(
        [sample(path)], Preprocessing(short_side=36, crop=32, clip_len=9), flow_dir=flows["npy"] / "train", flip=True
    )
    found = [dataset[Draw(0, position)].clip for position in range(20)]
    to_the_right = [float(clip[0].median()) * 20 for clip in found]
    assert {round(abs(pixels)) for pixels in to_the_right} == {2}
    assert 4 <= sum(pixels > 0 for pixels in to_the_right) <= 16
    still = clips([sample(path)], dataset.preprocessing, flow_dir=flows["npy"] / "train", flip=False)
    for position, (clip, pixels) in enumerate(zip(found, to_the_right, strict=True)):
        expected = still[Draw(0, position)].clip
        if pixels < 0:
            expected = expected.flip(-1) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
        assert torch.equal(clip, expected)


@pytest.mark.parametrize("format", ["jpg", "zip", "npy", "flo"])
def test_flow_of_every_format_is_read(motions, flows, format):
    path = next((motions / "train" / "right").iterdir())
    whole = clips([sample(path)], Preprocessing(short_side=36, crop=32, clip_len=9), flow_dir=flows[format] / "train")
    clip = whole[0].clip
    assert (clip.shape, clip.dtype) == ((2, 9, 32, 32), torch.float32)
    assert float(clip[0].median()) * 20 == pytest.approx(2, abs=0.15)
    assert float(clip[1].median()) * 20 == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize(
    ("preprocessing", "text"),
    [
        (Preprocessing(short_side=36, crop=32, flow_bound=15.0), "bound 20.0, trained on 15.0"),
        (Preprocessing(short_side=36, crop=32, fps=12.5), "fps 25.0, trained on 12.5"),
        (Preprocessing(short_side=40, crop=32), "short_side 36, trained on 40"),
        (Preprocessing(short_side=36, crop=32, flow_parameters=TVL1(lambda_=0.2)), "lambda 0.15, trained on 0.2"),
    ],
)
def test_flow_of_another_making_is_an_error_for_all(motions, flows, preprocessing, text):
    path = next((motions / "train" / "right").iterdir())
    dataset = clips([sample(path)], preprocessing, flow_dir=flows["jpg"] / "train")
    for draw in (0, Draw(0, 0)):
        (error,) = dataset[draw].errors
        assert isinstance(error, DatasetError) and f": {text}; extract it as the weights want it, or" in str(error)


def test_targets_are_the_actions_whose_spans_the_window_touches(tmp_path):
    path = lossless(tmp_path / "long", numbered(50))
    spans = ((0.0, 0.5), (0.9, 1.2), (1.5, 2.0))
    dataset = clips([sample(path, 0, 1, 3, spans=spans), sample(path, 2, 1)], multi_label=True)
    assert dataset[0].target.tolist() == [0, 1, 0, 0]  # frames 20 to 28: 0.8 to 1.16 seconds
    assert dataset[1].target.tolist() == [0, 1, 1, 0]
    for position in range(30):
        item = dataset[Draw(0, position)]
        start = shown_numbers(item)[0] / 25
        touched = [a <= start + 9 / 25 and start <= b for a, b in spans]
        assert item.target.tolist() == [touched[0], touched[1], 0, touched[2]]


def test_a_window_without_any_action_has_a_target_of_zeros(tmp_path):
    item = clips([sample(lossless(tmp_path / "v", numbered(12)), 1, spans=((5.0, 6.0),))], multi_label=True)[0]
    assert item.target.tolist() == [0, 0, 0, 0]


def test_an_unreadable_video_is_replaced_when_training_and_left_out_otherwise(counted, tmp_path):
    (tmp_path / "bad.mp4").write_text("hello")
    dataset = clips([sample(tmp_path / "bad.mp4", 0), counted])
    item = dataset[Draw(0, 0)]
    assert (item.path, item.target.item(), len(item.errors)) == (counted.path, 3, 1)
    assert isinstance(item.errors[0], VideoError) and "bad.mp4" in str(item.errors[0])
    assert (dataset[0].clip, len(dataset[0].errors)) == (None, 1)
    batch = collate([dataset[0], dataset[1]], crop=32)
    assert (batch.clips.shape, batch.targets.tolist(), batch.paths) == ((1, 3, 9, 32, 32), [3], (counted.path,))
    assert collate([dataset[0]], crop=32).paths == () and len(collate([dataset[0]], crop=32).errors) == 1


def test_where_no_video_can_be_read_the_search_ends(tmp_path):
    bad = [tmp_path / f"bad{i}.mp4" for i in range(50)]
    for path in bad:
        path.write_text("hello")
    item = clips([sample(path) for path in bad])[Draw(7, 0)]
    assert item.clip is None and re.match(r"no readable video: 33 tried: the first said: .*bad7\.mp4", str(item.errors[-1]))


def test_a_picture_smaller_than_the_crop_is_used_whole_alone_and_padded_beside_others(counted):
    item = clips([counted], replace(SMALL, crop=36))[0]
    assert item.clip.shape == (3, 9, 32, 32) and item.errors == ()
    assert torch.equal(collate([item], crop=36).clips[0], item.clip)
    together = collate([item, item], crop=36).clips
    assert together.shape == (2, 3, 9, 36, 36) and torch.equal(together[0, :, :, 2:34, 2:34], item.clip)
    assert torch.equal(together[0, :, :, 0, 2:34], item.clip[:, :, 0]) and torch.equal(together[0], together[1])


def test_stored_flow_without_any_flow_is_named(motions, flows, tmp_path):
    path = next((motions / "train" / "right").iterdir())
    folder = tmp_path / "right" / path.stem
    folder.mkdir(parents=True)
    record = (flows["flo"] / "train" / "right" / path.stem / "flow.json").read_text()
    (folder / "flow.json").write_text(re.sub(r'"num_flows": \d+', '"num_flows": 0', record))
    (error,) = clips([sample(path)], Preprocessing(short_side=36, crop=32), flow_dir=tmp_path)[0].errors
    assert isinstance(error, VideoError) and "it holds none" in str(error)


def test_a_header_that_claims_too_much_is_made_good(tmp_path):
    path = write_video(tmp_path / "cut.ts", moving(60, 32, 40), codec="mpeg2video")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    dataset = clips([sample(path)])
    for position in range(10):
        assert dataset[Draw(0, position)].clip.shape == (3, 9, 32, 32)


def test_a_start_that_a_cut_file_lacks_is_drawn_again_among_those_it_has(tmp_path):
    path = cut(lossless(tmp_path / "cut", numbered(60)))
    first = {shown_numbers(clips([sample(path)], flip=False)[Draw(0, position)])[0] for position in range(30)}
    assert len(first) > 8 and max(first) < 30


def test_what_a_video_lacks_is_said_with_its_clips(counted, tmp_path):
    path = cut(lossless(tmp_path / "cut", numbered(60)))
    dataset = clips([counted, sample(path)])
    video = Video(path, fps=25, short_side=32)
    assert sum(1 for _ in video) < 30
    batch = collate(
        [dataset[Draw(0, 5)], dataset[Draw(1, 5)], *(dataset[Draw(1, position)] for position in range(6, 12))], crop=32
    )
    assert batch.errors == () and set(batch.notes) == {video.loss()}


def test_a_dataset_goes_to_a_process_that_shares_no_memory(counted):
    dataset = clips([counted])
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0].clip, dataset[0].clip)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_read_ahead_give_the_same_batches(motions):
    samples = [sample(path, i % 4) for i, path in enumerate(sorted((motions / "train").glob("*/*")))]
    dataset = clips(samples, Preprocessing(short_side=36, crop=32, clip_len=9))
    draws = ClipSampler(len(samples), batch_size=3, seed=0, first=1, last=4)
    alone, helped = (list(load_batches(dataset, draws, workers=workers)) for workers in (0, 1))
    for one, two in zip(alone, helped, strict=True):
        assert torch.equal(one.clips, two.clips) and one.targets.tolist() == two.targets.tolist() and one.paths == two.paths
