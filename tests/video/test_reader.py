import os

import av
import cv2
import numpy as np
import pytest
import torch
from media import moving, numbered, numbers, rotate, texture, write_audio, write_video

from i3dcli import VideoError, read_video
from i3dcli.video.reader import Video, scaled_rgb, scaled_size
from i3dcli.video.seeking import NoEntryError
from i3dcli.video.writer import VideoWriter

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


def decode(path, **options):
    return list(Video(path, short_side=32, **options))


def refused(path, text, **options):
    with pytest.raises(VideoError) as caught:
        list(Video(path, **options))
    message = str(caught.value)
    assert text in message and str(path) in message and "\n" not in message


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov", "b c é ☃.mp4", "pipe:x:y.mp4", "-dash.mp4"])
def test_every_frame_at_25_fps_comes_once_from_any_container_and_name(tmp_path, name):
    assert numbers(decode(write_video(tmp_path / name, numbered(30)))) == list(range(30))


@pytest.mark.parametrize("suffix", ["", ".txt", ".AVI"])
def test_the_content_decides_and_not_the_name(tmp_path, suffix):
    path = write_video(tmp_path / f"clip{suffix}", numbered(5), container="avi")
    assert len(decode(path)) == 5


@pytest.mark.parametrize(
    ("fps", "count", "expected"),
    [
        (50, 9, [0, 2, 4, 6, 8]),
        (12.5, 4, [0, 0, 1, 1, 2, 2, 3, 3]),
        (100, 9, [1, 5]),  # the last frame whose time rounds to the slot, as FFmpeg's fps filter picks
        (30, 7, [0, 1, 2, 4, 5, 6]),
        (1, 2, [0] * 25 + [1] * 25),
    ],
)
def test_other_rates_are_resampled_by_presentation_time(tmp_path, fps, count, expected):
    path = write_video(tmp_path / "clip.mkv", numbered(count), fps=fps, **LOSSLESS)
    assert numbers(decode(path)) == expected


def test_resampling_equals_ffmpegs_fps_filter(tmp_path):
    import av

    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.09, 60))
    path = write_video(tmp_path / "vfr.mkv", numbered(60), times=times.tolist(), **LOSSLESS)
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        chain = graph.add_buffer(template=stream), graph.add("fps", "fps=25:start_time=0"), graph.add("buffersink")
        chain[0].link_to(chain[1])
        chain[1].link_to(chain[2])
        graph.configure()
        theirs = []
        first = None
        for frame in container.decode(stream):
            first = frame.pts if first is None else first
            frame.pts -= first  # we count from the first frame
            graph.push(frame)
            theirs += pulled(graph)
        graph.push(None)
        theirs += pulled(graph)
    ours = numbers(decode(path))
    assert ours[: len(theirs)] == theirs and len(ours) - len(theirs) in (0, 1)


def pulled(graph):
    import av

    found = []
    while True:
        try:
            found.append(round(float(graph.pull().to_ndarray(format="gray").mean()) / 4))
        except (av.BlockingIOError, av.EOFError):
            return found


def test_native_rate_gives_the_frames_as_they_are(tmp_path):
    path = write_video(tmp_path / "clip.mkv", numbered(9), fps=50, **LOSSLESS)
    video = Video(path, fps=None, short_side=32)
    assert numbers(video) == list(range(9)) and video.fps == 50


def test_a_late_start_is_not_a_gap(tmp_path):
    times = [10 + i / 25 for i in range(6)]
    assert numbers(decode(write_video(tmp_path / "late.mkv", numbered(6), times=times, **LOSSLESS))) == list(range(6))


def test_a_gap_is_held_and_a_broken_clock_is_not(tmp_path):
    pause = write_video(tmp_path / "gap.mkv", numbered(3), times=[0, 0.04, 2.0], **LOSSLESS)
    assert numbers(decode(pause)) == [0] + [1] * 49 + [2]
    jump = write_video(tmp_path / "jump.mkv", numbered(3), times=[0, 0.04, 90_000.0], **LOSSLESS)
    assert len(decode(jump)) < 100


@pytest.mark.parametrize("suffix", [".avi", ".wmv", ".mxf"])
def test_frames_with_made_up_times_come_in_their_order_and_number(tmp_path, suffix):
    path = write_video(tmp_path / f"v{suffix}", moving(40, 48, 64), codec="libx264", options={"bf": "3", "g": "12"})
    frames = decode(path, fps=25)
    native = [frame.tobytes() for frame in decode(path, fps=None)]
    shown = [native.index(frame.tobytes()) for frame in frames]
    assert len(native) == 40 and 40 <= len(frames) <= 42
    assert shown == sorted(shown) and len(set(shown)) >= 37


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_display_rotation_is_applied(tmp_path, turns):
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:32, :64] = 255  # bright top left
    path = rotate(write_video(tmp_path / "phone.mp4", [picture] * 3), turns)
    frame = decode(path)[0]
    expected = np.rot90(picture[::2, ::2], turns)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 8


def test_the_shorter_side_is_scaled_and_the_aspect_kept(tmp_path):
    assert scaled_size(240, 320, 256) == (256, 341) and scaled_size(1280, 720, 256) == (455, 256)
    path = write_video(tmp_path / "odd.mkv", [texture(50, 90)], **LOSSLESS)
    (frame,) = Video(path, short_side=100)
    assert frame.shape == (100, 180, 3) and frame.dtype == np.uint8


def test_colours_are_red_green_blue(tmp_path):
    picture = np.full((32, 32, 3), (250, 120, 10), np.uint8)
    (frame,) = decode(write_video(tmp_path / "orange.mkv", [picture], **LOSSLESS))
    assert np.abs(frame.astype(int) - picture).max() <= 1


def test_an_extreme_strip_is_cut_to_its_middle(tmp_path):
    path = write_video(tmp_path / "strip.mkv", [texture(16, 1024)], **LOSSLESS)
    assert decode(path)[0].shape == (32, 256, 3)
    assert next(iter(Video(path, short_side=None))).shape == (16, 128, 3)


@pytest.mark.parametrize(("height", "width", "short_side"), [(48, 64, 100_000), (16, 16384, 1000)])
def test_pictures_too_large_to_be_made_are_named(tmp_path, height, width, short_side):
    path = write_video(tmp_path / "v.mkv", [np.zeros((height, width, 3), np.uint8)], **LOSSLESS)
    size = f"got {width}x{height} pixels, {round(short_side * width / height)}x{short_side} are too many; lower --short-side"
    refused(path, f"cannot scale video: {path}: {size}", short_side=short_side)


def test_a_stream_that_changes_size_keeps_that_of_its_first_frame(tmp_path):
    parts = [write_video(tmp_path / f"{h}.ts", moving(3, h, w), codec="mpeg2video") for h, w in ((64, 96), (96, 64))]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert {frame.shape for frame in decode(tmp_path / "both.ts")} == {(32, 48, 3)}


def test_read_video_gives_all_frames_as_one_tensor(tmp_path):
    frames = read_video(write_video(tmp_path / "clip.mp4", moving(5)), short_side=48)
    assert frames.shape == (5, 3, 48, 64) and frames.dtype == torch.uint8


def test_frames_come_as_a_stream(tmp_path):
    frames = iter(Video(write_video(tmp_path / "clip.mp4", moving(40)), short_side=32))
    assert next(frames).shape == (32, 43, 3)
    frames.close()


def test_the_number_of_frames_is_estimated_for_progress_bars(tmp_path):
    assert Video(write_video(tmp_path / "clip.mp4", numbered(40), fps=50)).estimated_frames == 20


def test_a_truncated_file_gives_what_is_there_and_counts_the_damage(tmp_path):
    path = write_video(tmp_path / "clip.ts", moving(40), codec="mpeg2video")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = os.urandom(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    video = Video(path, short_side=32)
    assert 5 < sum(1 for _ in video) <= 45 and video.damaged_frames > 0


def test_damage_is_concealed_in_the_same_way_each_time(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving(60, 96, 128), codec="libx264", options={"g": "15"})
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(len(data) // 8, len(data) * 7 // 8, 8):
        data[place] ^= 64
    path.write_bytes(data)
    assert len({np.stack(decode(path)).tobytes() for _ in range(5)}) == 1


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello, this is a text\n" * 50)
    (tmp_path / "notes.txt").write_text("hello, this is a text\n" * 50)
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "empty.mp4", "the file is empty")
    refused(tmp_path / "text.mp4", "not a video")
    refused(tmp_path / "notes.txt", "not a video")
    refused(tmp_path / "random.mp4", "not a video")
    refused(tmp_path / "folder.mp4", "a folder")
    refused(tmp_path / "dangling.mp4", "a broken link")
    refused(tmp_path / "pipe.mp4", "not a regular file")
    refused(tmp_path / "absent.mp4", "No such file")
    refused(write_audio(tmp_path / "sound.mp4"), "it has audio streams")


def test_a_file_without_its_index_or_its_frames_is_named(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", moving(20)).read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "no_index.mp4", "not a video")
    start = whole.index(b"mdat") + 4
    (tmp_path / "no_frames.mp4").write_bytes(
        whole[:start] + b"\xff" * (whole.index(b"moov") - 4 - start) + whole[whole.index(b"moov") - 4 :]
    )
    refused(tmp_path / "no_frames.mp4", "not a usable video")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    with pytest.raises(VideoError) as caught:
        Video(tmp_path / "two\nlines.mp4")
    assert "two\\nlines.mp4" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"fps": -1.0}, {"fps": float("nan")}, {"short_side": 0}])
def test_absurd_options_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected 0 < fps"):
        Video(tmp_path / "any.mp4", **wrong)


@pytest.mark.parametrize(
    ("suffix", "encoding", "fps"),
    [
        (".mp4", {"codec": "libx264"}, 25),  # with B-frames
        (".mp4", {"codec": "libx264", "fps": 50}, 25),
        (".mp4", {"codec": "libx264", "fps": 10}, 25),
        (".mkv", {"codec": "libx264"}, 30),
        (".avi", {"codec": "mpeg4"}, 25),
        (".ts", {"codec": "mpeg4"}, 25),
    ],
)
def test_a_clip_from_the_middle_equals_that_part_of_the_whole(tmp_path, suffix, encoding, fps):
    path = write_video(tmp_path / f"a{suffix}", moving(150, 48, 64), **encoding)
    whole = decode(path, fps=fps)
    video = Video(path, fps=fps, short_side=32)
    for start in (0, 1, 13, len(whole) // 2, len(whole) - 3):
        part = video.read(start, 5)
        assert len(part) == min(5, len(whole) - start)
        assert all((a == b).all() for a, b in zip(part, whole[start:], strict=False))
    assert video.read(len(whole), 5) == []


def test_a_clip_from_the_middle_decodes_only_from_the_key_frame_before_it(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving(300, 48, 64), codec="mpeg4")  # a key frame every 12
    video = Video(path, short_side=32)
    decoded = []
    original = Video._frames_from
    monkeypatch.setattr(Video, "_frames_from", lambda *args: (decoded.append(frame.time) or frame for frame in original(*args)))
    assert len(video.read(250, 4)) == 4
    assert 0 < len(decoded) < 30


def test_a_clip_starts_where_the_files_own_clock_starts(tmp_path):
    path = write_video(tmp_path / "late.mkv", numbered(50), times=[7 + i / 25 for i in range(50)])
    assert numbers(Video(path, short_side=32).read(30, 3)) == [30, 31, 32]


def test_a_clip_from_a_folder_of_pictures_opens_only_its_own(tmp_path):
    for i, frame in enumerate(numbered(9)):
        cv2.imwrite(str(tmp_path / f"img_{i:05d}.png"), frame)
    (tmp_path / "img_00001.png").write_bytes(b"damaged")
    assert numbers(Video(tmp_path, short_side=32).read(4, 3)) == [4, 5, 6]


def test_a_damaged_picture_is_replaced_by_the_one_before_it_or_the_first_whole_one(tmp_path):
    for i, frame in enumerate(numbered(9)):
        path = tmp_path / f"img_{i:05d}.bmp"
        cv2.imwrite(str(path), frame)
        if i in (0, 1, 5, 6):
            path.write_bytes(path.read_bytes()[:200])
    video = Video(tmp_path, short_side=32)
    assert numbers(video) == [2, 2, 2, 3, 4, 4, 4, 7, 8] and video.damaged_frames == 4
    assert [numbers(video.read(start, 3)) for start in (1, 3, 5, 6, 8, 9, 20)] == [
        *([2, 2, 3], [3, 4, 4], [4, 4, 7], [4, 7, 8]),
        *([8], [], []),
    ]


def test_a_file_that_cannot_be_entered_in_its_middle_is_read_from_its_start(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered(40))

    def refuse(*_):
        raise NoEntryError
        yield

    monkeypatch.setattr("i3dcli.video.reader.frames_from", refuse)
    assert numbers(Video(path, short_side=32).read(10, 3)) == [10, 11, 12]


def test_scaled_frames_keep_no_threads_that_a_forked_process_would_wait_for(tmp_path):
    with av.open(write_video(tmp_path / "v.mp4", moving(20))) as container:
        frames = list(container.decode(video=0))
    before = len(os.listdir("/proc/self/task"))
    assert len([scaled_rgb(frame, (48, 64)) for frame in frames]) == 20
    assert len(os.listdir("/proc/self/task")) == before


def test_a_video_can_be_read_in_its_own_size(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving(2, 38, 90))
    assert {frame.shape for frame in Video(path, short_side=None)} == {(38, 90, 3)}
    assert {frame.shape for frame in Video(rotate(path, 1), short_side=None)} == {(90, 38, 3)}


def test_the_same_frames_are_written_as_the_same_bytes(tmp_path):
    frames = list(moving(48, 64, 80))
    written = set()
    for _ in range(12):
        with VideoWriter(tmp_path / "v.mp4", fps=25) as writer:
            for frame in frames:
                writer.write(frame)
        written.add((tmp_path / "v.mp4").read_bytes())
    assert len(written) == 1
