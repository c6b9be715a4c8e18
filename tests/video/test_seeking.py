import av
import cv2
import numpy as np
import pytest
from media import moving, numbered, numbers, set_matrix, with_exif, write_video

from i3dcli.video import seeking
from i3dcli.video.reader import Video

CLOSED = {"x264-params": "keyint=10:min-keyint=4:bframes=3"}
OPEN = {"x264-params": "keyint=10:min-keyint=4:bframes=3:open-gop=1"}
REFRESH = {"x264-params": "keyint=10:intra-refresh=1:bframes=0"}  # no frame is whole after a seek
B_FRAMES = {"g": "9", "bf": "2"}
GOP = {"g": "9"}


def clip(path, codec, options, *, frames=40, **encoding):
    size = (144, 176) if codec == "h263" else (32, 48)
    return write_video(path, moving(frames, *size), codec=codec, options=options, **encoding)


def entries(path):
    """At how many places a video can be entered."""
    return len(Video(path)._outset[2].pts)


def agrees(path, *, fps=25, count=2, step=1):
    """Whether a video read from each of its frames on gives what it gives from the start."""
    whole = list(Video(path, fps=fps, short_side=16))
    video = Video(path, fps=fps, short_side=16)
    for start in range(0, len(whole) + 2, step):
        part, expected = video.read(start, count), whole[start : start + count]
        assert len(part) == len(expected), start
        assert all((a == b).all() for a, b in zip(part, expected, strict=True)), start
    return True


@pytest.fixture
def began(monkeypatch):
    """The entries at which reading began, and those where it could not."""
    used, refused = [], []
    original = Video._frames_from

    def watched(self, entry):
        try:
            yield from original(self, entry)
            used.append(entry)
        except GeneratorExit:
            used.append(entry)
            raise
        except seeking.NoEntryError:
            refused.append(entry)
            raise

    monkeypatch.setattr(Video, "_frames_from", watched)
    return used, refused


@pytest.mark.parametrize(
    ("name", "codec", "options", "fps", "least"),
    [
        ("v.mp4", "libx264", CLOSED, 25, 4),
        ("v.mp4", "libx264", OPEN, 50, 4),
        ("v.mp4", "libx264", OPEN, 12.5, 3),
        ("v.mov", "mpeg4", B_FRAMES, 30, 4),
        ("v.m4v", "mpeg4", B_FRAMES, 10, 4),
        ("v.3gp", "h263", GOP, 25, 4),
        ("v.mkv", "libx264", OPEN, 23.976, 4),
        ("v.mkv", "mpeg2video", B_FRAMES, 25, 4),
        ("v.webm", "libvpx-vp9", GOP, 25, 4),
        ("v.webm", "libvpx", GOP, 12.5, 4),
        ("v.avi", "mpeg4", B_FRAMES, 25, 4),
        ("v.avi", "msmpeg4", GOP, 30, 4),
        ("v.avi", "libx264", CLOSED, 25, 0),
        ("v.flv", "flv", GOP, 25, 4),
        ("v.flv", "libx264", OPEN, 50, 4),
        ("v.ts", "mpeg2video", {"g": "1000", "bf": "2"}, 25, 1),
        ("v.ts", "libx264", OPEN, 10, 4),
        ("v.ts", "mpeg4", B_FRAMES, 30, 4),
        ("v.mpg", "mpeg1video", GOP, 25, 4),
        ("v.mpg", "mpeg2video", B_FRAMES, 50, 4),
        ("v.vob", "mpeg2video", B_FRAMES, 12.5, 4),
        ("v.wmv", "wmv2", GOP, 25, 4),
        ("v.wmv", "mpeg2video", B_FRAMES, 25, 0),
        ("v.mxf", "mpeg2video", B_FRAMES, 25, 4),
        ("v.gif", "gif", {}, 25, 0),
        ("v.apng", "apng", {}, 25, 0),
        ("v.h264", "libx264", CLOSED, 25, 0),
        ("v.m2v", "mpeg2video", B_FRAMES, 25, 4),
        ("v.mjpeg", "mjpeg", {}, 30, 40),
        ("v.mp4", "libx264", REFRESH, 25, 2),
    ],
)
def test_a_video_read_from_any_frame_on_gives_the_same_frames(tmp_path, name, codec, options, fps, least):
    pix_fmt = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = clip(tmp_path / name, codec, options, pix_fmt=pix_fmt)
    assert agrees(path, fps=fps) and (entries(path) >= least > 0 or entries(path) == least)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("v.mp4", "libx264", OPEN), ("v.mp4", "mpeg4", B_FRAMES), ("v.mkv", "libx264", CLOSED), ("v.webm", "libvpx", GOP)],
)
def test_a_large_file_is_entered_by_its_index(tmp_path, monkeypatch, began, name, codec, options):
    path = clip(tmp_path / name, codec, options)
    monkeypatch.setattr(seeking, "SCAN_LIMIT", 0)
    assert agrees(path) and all(entry.packets_before is None for entry in began[0]) and len(began[0]) > 30


def test_an_index_with_a_pause_in_it_is_not_trusted(tmp_path, monkeypatch):
    times = [*np.arange(15) / 25, *(100 + np.arange(15) / 25)]
    path = clip(tmp_path / "v.mkv", "mpeg4", {"g": "5"}, frames=30, times=times)
    monkeypatch.setattr(seeking, "SCAN_LIMIT", 0)
    assert agrees(path) and Video(path)._outset[2].packets_before is not None


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", CLOSED),
        ("v.ts", "mpeg2video", B_FRAMES),
        ("v.mp4", "mpeg4", B_FRAMES),
        ("v.mkv", "libx264", CLOSED),
    ],
)
def test_no_more_is_decoded_than_from_the_key_frame_before_it(tmp_path, began, monkeypatch, name, codec, options):
    path = clip(tmp_path / name, codec, options, frames=80)
    video = Video(path, short_side=16)
    assert agrees(path, step=3) and not began[1]
    decoded = []
    original = Video._frames_from
    monkeypatch.setattr(Video, "_frames_from", lambda *args: (decoded.append(frame) or frame for frame in original(*args)))
    assert len(video.read(70, 1)) == 1 and 0 < len(decoded) < 12


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        *[(f"v.{suffix}", "mpeg2video", B_FRAMES) for suffix in ("ts", "mpg", "m2v")],
        ("v.ts", "libx264", OPEN),
        ("v.ts", "mpeg4", B_FRAMES),
    ],
)
@pytest.mark.parametrize("way", ["cut", "joined", "cut and joined"])
def test_streams_that_were_cut_or_joined(tmp_path, name, codec, options, way):
    data = clip(tmp_path / name, codec, options, frames=30).read_bytes()
    block = {"v.ts": 188, "v.mpg": 2048, "v.m2v": 1}[name]
    tail = data[len(data) * 2 // 5 // block * block :]
    (tmp_path / name).write_bytes({"cut": tail, "joined": data + data, "cut and joined": tail + data}[way])
    assert agrees(tmp_path / name)


@pytest.mark.parametrize(("name", "codec", "options"), [("v.mkv", "libx264", OPEN), ("v.mp4", "mpeg4", B_FRAMES)])
@pytest.mark.parametrize(
    "times",
    [
        7 + np.arange(40) / 25,
        -0.5 + np.arange(40) / 25,
        np.cumsum(np.random.default_rng(0).uniform(0.01, 0.09, 40)),
        np.r_[np.arange(20) / 25, 3 + np.arange(20) / 25],
        np.r_[np.arange(15) / 25, 90 + np.arange(10) / 25, 95 + np.arange(15) / 25],
    ],
    ids=["late", "negative", "uneven", "pause", "gap"],
)
def test_any_clock(tmp_path, name, codec, options, times):
    assert agrees(clip(tmp_path / name, codec, options, times=times.tolist()), step=3)


def test_a_gap_that_is_cut_out_moves_all_that_follows(tmp_path):
    times = np.concatenate([start + np.arange(8) / 25 for start in (0, 61, 115, 170)])
    path = clip(tmp_path / "v.mkv", "mpeg4", {"g": "4"}, frames=32, times=times.tolist())
    assert len(list(Video(path, fps=2, short_side=16))) > 2 * 61 and agrees(path, fps=2, step=5)


@pytest.mark.parametrize("keyint", [10, 40])
@pytest.mark.parametrize(("entry", "later"), [(0, 20), (1, 20.5), (2, 1), (3, 9), (4, 9), (6, 20.5), (8, 30)])
def test_a_single_time_that_is_wrong(tmp_path, keyint, entry, later):
    path = clip(tmp_path / "v.mp4", "libx264", {"x264-params": f"keyint={keyint}:bframes=3"}, frames=50)
    data = bytearray(path.read_bytes())
    place = data.index(b"ctts") + 12 + 8 * entry + 4  # how much later a frame is shown than decoded
    data[place : place + 4] = int(later * 512).to_bytes(4, "big")
    path.write_bytes(data)
    assert agrees(path)


def test_an_edit_list_that_begins_between_key_frames(tmp_path):
    path = clip(tmp_path / "v.mp4", "mpeg4", GOP)
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 16  # media time of the only edit, version 0
    data[start : start + 4] = (5 * 512).to_bytes(4, "big")
    path.write_bytes(data)
    assert len(list(Video(path, short_side=16))) == 35 and agrees(path) and entries(path) == 4


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("v.mp4", "libx264", OPEN), ("v.avi", "mpeg4", GOP), ("v.mpg", "mpeg2video", B_FRAMES), ("v.wmv", "wmv2", GOP)],
)
def test_damage_comes_in_the_same_way_wherever_reading_begins(tmp_path, name, codec, options):
    path = clip(tmp_path / name, codec, options)
    with av.open(path) as container:
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe and packet.pos]
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for key in keys[1:3]:
        place = key.pos + key.size // 3
        data[place : place + 20] = rng.bytes(20)
    path.write_bytes(data)
    assert agrees(path)


def test_a_stream_that_changes_size_is_read_in_that_of_its_first_frame(tmp_path):
    parts = [write_video(tmp_path / f"{h}.ts", moving(12, h, w), codec="mpeg2video") for h, w in ((32, 48), (48, 32))]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert agrees(tmp_path / "both.ts")


def test_pictures_that_lie_differently_are_read_in_the_shape_of_the_first(tmp_path):
    for i, exif in enumerate((6, 1, 5, 1)):
        coded = cv2.imencode(".jpg", next(moving(1, 32, 48, seed=i)))[1].tobytes()
        (tmp_path / f"{i}.jpg").write_bytes(with_exif(coded, exif))
    assert agrees(tmp_path) and Video(tmp_path, short_side=16).read(1, 1)[0].shape == (24, 16, 3)


def test_a_turned_video_is_read_turned(tmp_path):
    assert agrees(set_matrix(clip(tmp_path / "v.mp4", "mpeg4", GOP), (0, 1, 1, 0)), step=5)


def test_a_frame_between_two_output_frames_is_not_entered_at_the_wrong_one(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered(60), fps=50, options={"g": "3"})
    assert agrees(path) and numbers(Video(path, short_side=32).read(9, 2)) == [18, 20]


def test_the_native_rate_is_counted_from_the_start(tmp_path):
    path = clip(tmp_path / "v.ts", "libx264", OPEN)
    assert agrees(path, fps=None, step=5)
