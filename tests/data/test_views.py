"""Windows, clips and crops of a whole video, and the logits that they average to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from media import moving, numbered, write_video

import i3dcli
from i3dcli import VideoError
from i3dcli.data.views import Protocol, Views, crops_along, evenly_spaced
from i3dcli.flow.extract import FlowOptions, extract_videos
from i3dcli.flow.stored import FlowReader
from i3dcli.models.preprocessing import Preprocessing
from i3dcli.prediction.two_stream import TwoStream
from i3dcli.video.reader import Video

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

SMALL = Preprocessing(short_side=32, crop=32, clip_len=16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """40 frames, wider than high."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(40, 64, 96, step=(1, 1)))


def stored(video, out):
    """The flow of a video as extract-flow keeps it, without loss."""
    list(extract_videos([str(video)], out, FlowOptions(format="flo", short_side=64)))
    return FlowReader(out / video.stem)


def with_clip_len(model, length):
    """A model trained on clips of so many frames."""
    nets = {stream: i3dcli.I3D(10, net.in_channels, width=0.125) for stream, net in model.nets.items()}
    for stream, net in nets.items():
        net.load_state_dict(model.nets[stream].state_dict())
        net.preprocessing = replace(model.nets[stream].preprocessing, clip_len=length)
    return TwoStream(nets, name="quick", classes=model.classes, device=torch.device("cpu"))


def frame_numbers(clip):
    """The numbers of the frames of a clip (1,3,T,H,W) of a `numbered` video."""
    return [round(float(x) / 4) for x in clip[0].float().mean(dim=(0, 2, 3))]


def test_clips_start_at_equal_distances_from_the_first_frame_to_the_last(tmp_path):
    path = write_video(tmp_path / "n.mp4", numbered(61))
    views = list(Views(path, {"rgb": SMALL}, protocol=Protocol(clips=10)))
    assert [view.frames for view in views] == [range(first, first + 16) for first in range(0, 46, 5)]
    for view in views:
        assert frame_numbers(view.clips["rgb"]) == list(view.frames)
    assert [view.completes for view in views] == [None] * 9 + [range(61)]


def test_clips_of_a_stream_with_one_key_frame_reach_to_its_end(tmp_path):
    video = write_video(tmp_path / "v.ts", moving(60, 48, 64), codec="mpeg2video", options={"g": "1000"})
    seen = [view.frames for view in Views(video, {"rgb": SMALL}, protocol=Protocol(clips=3))]
    assert seen == [range(16), range(22, 38), range(44, 60)]


def test_streams_of_other_lengths_have_clips_of_their_own(tmp_path):
    path = write_video(tmp_path / "n.mp4", numbered(61))
    trained = {"rgb": SMALL, "flow": replace(SMALL, clip_len=32)}
    views = list(Views(path, trained, protocol=Protocol(clips=2)))
    assert [(view.frames, list(view.clips)) for view in views] == [
        *((range(first, first + 16), ["rgb"]) for first in (0, 45)),
        *((range(first, first + 32), ["flow"]) for first in (0, 29)),
    ]
    assert [clip.shape[2] for view in views for clip in view.clips.values()] == [16, 16, 32, 31]


def test_one_clip_is_in_the_middle(tmp_path):
    path = write_video(tmp_path / "n.mp4", numbered(61))
    [view] = Views(path, {"rgb": SMALL}, protocol=Protocol(clips=1))
    assert view.frames == range(22, 38) and frame_numbers(view.clips["rgb"]) == list(view.frames)


def test_clips_of_a_short_video_are_all_of_it():
    assert evenly_spaced(10, 16, 3) == [0, 0, 0] and evenly_spaced(16, 16, 1) == [0]


def test_a_file_that_claims_more_frames_than_it_has_is_counted(tmp_path, monkeypatch):
    path = write_video(tmp_path / "n.mp4", numbered(40))
    monkeypatch.setattr("i3dcli.video.reader.container_seconds", lambda container, stream: 10.0)
    views = list(Views(path, {"rgb": SMALL}, protocol=Protocol(clips=3)))
    assert [frame_numbers(view.clips["rgb"])[::15] for view in views] == [[0, 15], [12, 27], [24, 39]]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64)])
def test_three_crops_are_the_start_the_middle_and_the_end_of_the_longer_side(tmp_path, height, width):
    path = write_video(tmp_path / "v.mp4", moving(12, height, width))
    trained = {stream: Preprocessing(short_side=64, crop=48, clip_len=16) for stream in ("rgb", "flow")}
    [view] = Views(path, trained, protocol=Protocol(clips=1, crops=3))
    clips = view.clips
    frames = i3dcli.read_video(path, short_side=64)
    flow = i3dcli.compute_flow(frames).clamp(-20, 20) / 20
    assert clips["rgb"].shape == (3, 3, 12, 48, 48) and clips["flow"].shape == (3, 2, 11, 48, 48)
    for view, place in enumerate((0, 24, 48)):
        along, across = slice(place, place + 48), slice(8, 56)
        rows, columns = (across, along) if width > height else (along, across)
        assert torch.equal(clips["rgb"][view], frames[:, :, rows, columns].transpose(0, 1))
        torch.testing.assert_close(clips["flow"][view], flow[:, :, rows, columns].transpose(0, 1))


def test_one_crop_is_the_centre_and_crops_of_a_small_picture_are_all_of_it():
    assert crops_along(64, 96, 48, 1) == [(slice(8, 56), slice(24, 72))]
    assert {tuple(range(96)[columns]) for _, columns in crops_along(64, 96, 128, 3)} == {tuple(range(96))}


@torch.inference_mode()
def test_the_logits_are_the_mean_of_those_of_each_view_alone(quick_model, clip):
    prediction = quick_model.predict(clip, protocol=Protocol(clips=4, crops=3))
    frames = i3dcli.read_video(clip, short_side=64)
    inputs = {"rgb": frames / 127.5 - 1, "flow": i3dcli.compute_flow(frames).clamp(-20, 20) / 20}
    for stream, pictures in inputs.items():
        views = [
            pictures[first : first + 16, :, 8:56, left : left + 48].transpose(0, 1)[None]
            for first in (0, 8, 16, 24)
            for left in (0, 24, 48)
        ]
        alone = torch.cat([quick_model.nets[stream](view) for view in views])
        assert alone.std(0).max() > 0.01  # they differ, so that leaving one out is seen
        torch.testing.assert_close(prediction.stream_logits[stream], alone.mean(0), atol=1e-5, rtol=1e-5)
    assert prediction.num_frames == 40


@pytest.mark.parametrize("with_stored_flow", [False, True])
def test_one_clip_of_a_whole_64_frame_video_equals_every_frame(quick_model, tmp_path, with_stored_flow):
    model = with_clip_len(quick_model, 64)
    path = write_video(tmp_path / "v.mp4", moving(64, 64, 80))
    flow = stored(path, tmp_path / "flow") if with_stored_flow else None
    full = model.predict(path)
    one = model.predict(path, protocol=Protocol(clips=1), flow=flow)
    for stream in ("rgb", "flow"):
        torch.testing.assert_close(one.stream_logits[stream], full.stream_logits[stream], atol=1e-5, rtol=1e-5)


def test_stored_flow_gives_the_clips_of_computed_flow(quick_model, clip, tmp_path):
    protocol = Protocol(clips=3, crops=3)
    read = quick_model.predict(clip, protocol=protocol, flow=stored(clip, tmp_path))
    torch.testing.assert_close(read.flow_logits, quick_model.predict(clip, protocol=protocol).flow_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("count", "with_stored_flow"), [(250, False), (20, True)])
def test_the_first_frames_are_those_of_a_video_that_ends_there(quick_model, tmp_path, count, with_stored_flow):
    frames = list(moving(count + 12, 32, 40, step=(0, 1)))
    lossless = {"codec": "ffv1", "pix_fmt": "bgr0"}
    long, short = (write_video(tmp_path / f"{n}.mkv", frames[:n], **lossless) for n in (len(frames), count))
    flow = stored(long, tmp_path / "flow") if with_stored_flow else None
    protocol = Protocol(max_frames=count)
    got, expected = quick_model.predict(long, protocol=protocol, flow=flow), quick_model.predict(short)
    assert got.num_frames == count
    for stream in ("rgb", "flow"):
        assert torch.equal(got.stream_logits[stream], expected.stream_logits[stream])


def test_the_first_frame_alone_has_no_flow(quick_model, clip):
    with pytest.raises(VideoError, match=r"too short for flow: .*: got 1 frame"):
        quick_model.predict(clip, protocol=Protocol(max_frames=1))


def test_two_frames_are_one_at_half_the_rate_and_no_stream_is_advised_that_does_not_run(tmp_path):
    path = write_video(tmp_path / "two.mp4", moving(2, 64, 96))
    views = Views(path, {"flow": replace(SMALL, fps=12.5)})
    with pytest.raises(VideoError, match=r": got 1 frame at 12\.5 fps, expected at least 2; give a longer video$"):
        list(views)


def test_stored_flow_of_another_video_or_size_is_refused_in_clips_too(quick_model, clip, tmp_path):
    shorter = write_video(tmp_path / "shorter.mp4", moving(20, 64, 96))
    higher = write_video(tmp_path / "higher.mp4", moving(40, 96, 64))
    for other, text in (
        (
            shorter,
            r"flow of another video or frame rate: .*shorter: got 19 flows for frames .*; extract it again with --fps 25",
        ),
        (
            higher,
            r"flow of another size: .*higher: got .* of .*clip\.mp4; extract it again with .*--short-side 64 .*$",
        ),
    ):
        with pytest.raises(VideoError, match=text):
            quick_model.predict(clip, protocol=Protocol(clips=3), flow=stored(other, tmp_path / "flow"))


def test_a_part_that_cannot_be_decoded_is_an_error(quick_model, clip, monkeypatch):
    read = Video.read
    monkeypatch.setattr(Video, "read", lambda self, *place: read(self, *place) if place < (20, 0) or place[1] == 1 else [])
    with pytest.raises(VideoError, match=r"damaged video: .*: nothing could be decoded from frame 24 on; copy it again"):
        quick_model.predict(clip, protocol=Protocol(clips=2))


def test_protocols_say_what_is_seen():
    assert str(Protocol()) == "every frame, centre crop, logits averaged over time"
    assert str(Protocol(max_frames=250)) == "the first 250 frames, centre crop, logits averaged over time"
    assert str(Protocol(clips=10, crops=3)) == "10 clips x 3 crops, logits averaged"
    assert str(Protocol(clips=1)) == "1 clip x centre crop, logits averaged"


def test_features_start_and_end_where_their_clip_does(quick_model, clip):
    rows = quick_model.predict(clip, protocol=Protocol(clips=2), features=True).features["rgb"]
    np.testing.assert_allclose(rows.start_seconds, [0, 24 / 25])
    np.testing.assert_allclose(rows.end_seconds, [16 / 25, 40 / 25])


def test_a_protocol_says_what_is_seen():
    assert str(Protocol(max_frames=1)).startswith("the first 1 frame, centre crop")
    assert str(Protocol(max_frames=250)).startswith("the first 250 frames, centre crop")
    assert [str(Protocol(clips=n)).split(" x ")[0] for n in (1, 2)] == ["1 clip", "2 clips"]
