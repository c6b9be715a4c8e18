import os

import numpy as np
import oracle
import pytest
import torch
from click.testing import CliRunner
from commands import one_line
from media import moving, texture, write_video

from i3dcli import VideoError
from i3dcli.cli.main import main
from i3dcli.prediction.annotate import BARS, FlowPictures, annotated, draw_labels
from i3dcli.prediction.prediction import Prediction
from i3dcli.video.reader import Video

LABELS = ("écrire", "相撲", "a label that is far too long to be written on any one line of a small panel")


def made_up(video, spans, *, fps=25.0, streams=("rgb", "flow"), labels=LABELS):
    """Predictions of windows (first frame, number of frames)."""
    for first, length in spans:
        logits = {stream: torch.tensor([2.0, 1.0, float(first)]) for stream in streams}
        yield Prediction(str(video), "m", "cpu", labels, length, fps, 0, logits, {}, start_seconds=first / fps)


def frames_of(path, **options):
    return np.stack(list(Video(path, short_side=None, **options))).astype(int)


def written_on(path, source, **options):
    """Of each frame of an annotated video, how much its lower left and its upper right quarter differ from the source's."""
    height, width = source.shape[1:3]
    difference = np.abs(frames_of(path, **options) - source)
    lower_left = difference[:, height * 3 // 4 :, : width // 4].mean((1, 2, 3))
    upper_right = difference[:, : height // 5, width * 4 // 5 :].mean((1, 2, 3))
    return lower_left, upper_right


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """60 bright frames of 256x340 pixels, which move two pixels to the right each."""
    frames = (128 + frame // 2 for frame in moving(60, 256, 340, step=(0, 2)))
    return write_video(tmp_path_factory.mktemp("bright") / "bright.mp4", frames, codec="libx264")


def test_every_frame_is_there_with_its_windows_labels_on_it(bright, tmp_path):
    source = frames_of(bright)
    predictions = list(made_up(bright, [(0, 20), (20, 20), (40, 20)]))
    out = tmp_path / "labelled.mp4"
    assert list(annotated(iter(predictions), out)) == predictions
    assert frames_of(out).shape == source.shape == (60, 256, 340, 3)
    panel, rest = written_on(out, source)
    assert panel.min() > 50 and rest.max() < 8
    assert os.listdir(tmp_path) == ["labelled.mp4"]


def test_labels_change_with_the_windows(bright, tmp_path):
    list(annotated(made_up(bright, [(0, 20), (20, 20), (40, 20)]), tmp_path / "a.mp4"))
    panel = frames_of(tmp_path / "a.mp4")[:, 120:246, 12:230].clip(150)  # letters and bars, not what shines through
    step = np.abs(np.diff(panel, axis=0)).mean((1, 2, 3))
    assert sorted(np.argsort(step)[-2:].tolist()) == [19, 39]


def test_between_windows_there_are_no_labels_and_a_short_rest_keeps_them(bright, tmp_path):
    list(annotated(made_up(bright, [(0, 15), (40, 12)]), tmp_path / "a.mp4"))
    panel, _ = written_on(tmp_path / "a.mp4", frames_of(bright))
    assert panel[:15].min() > 50 and panel[40:].min() > 50  # 8 frames after the last window
    assert panel[24:40].max() < 8


def test_a_picture_that_is_shown_for_longer_is_drawn_on_once(tmp_path):
    path = write_video(tmp_path / "slow.mp4", [texture(128, 160)] * 6, fps=5, codec="libx264")
    list(annotated(made_up(path, [(0, 30)]), tmp_path / "a.mp4"))
    panel, _ = written_on(tmp_path / "a.mp4", frames_of(path))
    assert len(panel) == 30 and panel.max() - panel.min() < 5


def test_overlapping_windows_change_in_the_middle_of_their_overlap(bright, tmp_path):
    list(annotated(made_up(bright, [(0, 40), (20, 40)]), tmp_path / "a.mp4"))
    panel = frames_of(tmp_path / "a.mp4")[:, 120:246, 12:230].clip(150)
    assert int(np.argmax(np.abs(np.diff(panel, axis=0)).mean((1, 2, 3)))) == 29


@pytest.mark.parametrize(("height", "width"), [(33, 41), (8, 8), (720, 1280), (640, 360)])
def test_any_size_is_kept_but_for_an_odd_row_or_column(tmp_path, height, width):
    picture = texture(height, width)
    path = write_video(tmp_path / "v.mkv", [picture] * 2, codec="ffv1", pix_fmt="bgr0")
    flows = FlowPictures()
    flows.watch((picture, np.ones((2, 64, 64 * width // height), np.float32)))
    list(annotated(made_up(path, [(0, 2)]), tmp_path / "a.mp4", flows=flows))
    assert frames_of(tmp_path / "a.mp4").shape == (2, height // 2 * 2, width // 2 * 2, 3)


def test_pictures_of_a_pixel_cannot_be_encoded(tmp_path):
    path = write_video(tmp_path / "dot.mkv", [np.zeros((1, 1, 3), np.uint8)] * 2, codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(VideoError, match="cannot encode video: got 0x0 pixels, expected sides from 2 to 16384"):
        list(annotated(made_up(path, [(0, 2)]), tmp_path / "a.mp4"))
    assert os.listdir(tmp_path) == ["dot.mkv"]


def test_a_panel_fits_labels_bars_and_any_number_of_classes():
    picture = np.full((720, 1280, 3), 200, np.uint8)
    (prediction,) = made_up("v.mp4", [(0, 20)])
    draw_labels(picture, prediction, top_k=400)
    changed = np.argwhere((picture != 200).any(-1))
    assert (changed.min(0) >= (300, 20)).all() and (changed.max(0) < (700, 640)).all()
    assert all((picture == BARS[name]).all(-1).any() for name in ("rgb", "flow", "fused"))
    alone = np.full_like(picture, 200)
    draw_labels(alone, next(made_up("v.mp4", [(0, 20)], streams=("rgb",))), top_k=5)
    assert (alone == BARS["rgb"]).all(-1).any() and not (alone == BARS["flow"]).all(-1).any()


def test_classes_in_hangul_are_written_in_hangul(tmp_path):
    path = write_video(tmp_path / "영상.mp4", [np.full((256, 320, 3), 128, np.uint8)] * 2, codec="libx264")
    pictures = []
    for name in ("뛰기", "걷기", "??", "□□ a"):
        list(annotated(made_up(path, [(0, 2)], labels=(name, "a", "b")), tmp_path / "말.mp4"))
        (frame, _) = frames_of(tmp_path / "말.mp4")
        pictures.append(frame)
    for i, picture in enumerate(pictures):
        assert all(np.abs(picture - other).max() > 100 for other in pictures[:i])
    assert sorted(os.listdir(tmp_path)) == ["말.mp4", "영상.mp4"]


def test_a_failure_on_the_way_leaves_no_file(bright, tmp_path):
    def broken():
        yield from made_up(bright, [(0, 20)])
        raise VideoError("broken")

    with pytest.raises(VideoError, match="broken"):
        list(annotated(broken(), tmp_path / "a.mp4"))
    stream = annotated(made_up(bright, [(0, 20), (20, 20)]), tmp_path / "a.mp4")
    next(stream)
    stream.close()
    assert not os.listdir(tmp_path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    paths = oracle.save_streams(tmp_path_factory.mktemp("weights"), fps=12.5, short_side=64, crop=48, clip_len=16)
    return [f"--{stream}={path}" for stream, path in paths.items()]


def test_the_command_writes_video_and_flow_at_the_models_frame_rate(weights, bright, tmp_path):
    out = tmp_path / "labelled.mp4"
    arguments = ["predict", str(bright), *weights, "--device=cpu", "--annotate", str(out), "--show-flow"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "") and len(result.stdout.splitlines()) == 2 + 2  # windows of 16 and 14
    assert Video(out, fps=None).fps == 12.5 and frames_of(out, fps=None).shape == (30, 256, 340, 3)
    panel, _ = written_on(out, frames_of(bright, fps=12.5), fps=12.5)
    red, green, blue = frames_of(out, fps=None)[:, 15:60, 260:320].mean((0, 1, 2))
    assert panel.min() > 50 and red > green + 20 and red > blue + 20  # what moves to the right is red


@pytest.mark.parametrize("named_by", ["its path", "its folder"])
def test_the_video_itself_is_not_overwritten(weights, bright, named_by):
    before = bright.read_bytes()
    source = bright if named_by == "its path" else bright.parent
    arguments = [str(source), *weights, "--device=cpu", "--annotate", str(bright), "--overwrite"]
    result = CliRunner().invoke(main, ["predict", *arguments])
    one_line(result, 1, f"cannot write: {bright}: it is {'what is read' if source == bright else 'the video itself'}")
    assert bright.read_bytes() == before
