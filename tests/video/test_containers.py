import struct

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from media import moving, numbered, numbers, write_video

from i3dcli import VideoError
from i3dcli.video.reader import Video


def brightness(path):
    return numbers(Video(path, short_side=32))


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nother.mp4\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile other.mp4\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>\n',
    "list.asx": '<asx version="3.0"><entry><ref href="other.mp4"/></entry></asx>\n',
    "list.pls": "[playlist]\nFile1=other.mp4\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_a_playlist_is_named_and_what_it_names_stays_unread(tmp_path, name, suffix):
    write_video(tmp_path / "other.mp4", numbered(3))
    path = tmp_path / (name + suffix)
    path.write_text(PLAYLISTS[name])
    with pytest.raises(VideoError) as caught:
        Video(path)
    assert str(caught.value) == f"not a video: {path}: it is a playlist, which names other files; give one of them"


@pytest.mark.parametrize(
    "name",
    ["clip%03d.mp4", "clip%d.jpg", "concat:other.mp4", "subfile,,start,0,end,9,,:other.mp4", "data:,x", "*.png", "[a].mp4"],
)
def test_no_name_is_a_pattern_or_an_address(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in ("clip001.mp4", "clip1.jpg", "other.mp4", "b.png", "a.mp4"):
        write_video(other, numbered(3), container="mp4")
    write_video(tmp_path / name, [np.full((32, 32, 3), 200, np.uint8)] * 2, container="mp4")
    assert brightness(name) == [50, 50]


@pytest.mark.parametrize("count", [1, 3])
def test_a_short_transport_stream_is_one(tmp_path, count):
    path = write_video(tmp_path / "v.ts", moving(count, 36, 48), codec="mpeg2video")
    video = Video(path, short_side=32)
    assert (sum(1 for _ in video), video.loss()) == (count, None)


def test_pictures_with_patterns_for_names_are_those_pictures(tmp_path):
    for i, frame in enumerate(numbered(3)):
        cv2.imwrite(str(tmp_path / "picture.png"), frame)
        (tmp_path / "picture.png").rename(tmp_path / f"5%0{i + 1}d_{i}.png")
    cv2.imwrite(str(tmp_path / "51_0.png"), np.full((32, 32, 3), 200, np.uint8))  # what the first would stand for
    assert brightness(tmp_path) == [0, 1, 2, 50]


def write_two(path, default):
    """Two videos in one file, dark and bright, of which one may be marked as the default."""
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("mpeg4", rate=25) for _ in range(2)]
        for index, stream in enumerate(streams):
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            stream.disposition = Disposition.default if index == default else Disposition(0)
        for time in range(5):
            for level, stream in zip((40, 200), streams, strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
                frame.pts = time
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("default", "level"), [(None, 10), (0, 10), (1, 50)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_of_several_streams_the_default_one_is_the_video(tmp_path, suffix, default, level):
    assert brightness(write_two(tmp_path / f"two{suffix}", default)) == [level] * 5


def test_a_program_stream_whose_start_is_damaged_is_known_by_its_name(tmp_path):
    data = write_video(tmp_path / "whole.ts", moving(1, 32, 32), codec="mpeg2video").read_bytes()
    path = tmp_path / "short.ts"
    path.write_bytes(bytes(188) + data[188:])
    assert len(brightness(path)) == 1


def with_rate(path, rate, scale):
    """Write the rate of the stream of an AVI file."""
    data = bytearray(path.read_bytes())
    place = data.index(b"strh") + 8 + 20
    data[place : place + 8] = scale.to_bytes(4, "little") + rate.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("rate", "scale"), [(25, 4097), (25, 600), (25_000_000, 1), (3_000_000_000, 7)])
def test_a_rate_that_cannot_be_is_not_believed_and_said(tmp_path, rate, scale):
    video = Video(with_rate(write_video(tmp_path / "clip.avi", numbered(24)), rate, scale), short_side=32)
    assert video.estimated_frames in (24, None) and numbers(video) == list(range(24))
    assert f"its header claims {rate / scale:.4g} frames per second, they are taken to come at 25;" in video.loss()
    assert numbers(video.read(10, 3)) == [10, 11, 12]


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_a_slide_show_lasts_as_long_as_it_says(tmp_path, suffix):
    video = Video(write_video(tmp_path / f"slides{suffix}", numbered(4), fps=0.1), short_side=32)
    found = numbers(video)
    assert [found.count(i) for i in range(3)] == [250] * 3 and video.loss() is None


def test_a_time_far_beyond_the_duration_is_not_believed(tmp_path):
    path = write_video(tmp_path / "clip.flv", numbered(24), codec="flv")
    data = bytearray(path.read_bytes())
    tag = data.index((12 * 40).to_bytes(3, "big") + bytes(4))  # the time of frame 12 in milliseconds, in its tag
    data[tag] |= 1
    path.write_bytes(data)
    assert len(list(Video(path, short_side=32))) == 24


def test_a_duration_that_the_file_cannot_hold_is_no_estimate(tmp_path):
    path = write_video(tmp_path / "clip.mkv", numbered(5))
    data = bytearray(path.read_bytes())
    duration = data.index(b"\x44\x89\x88") + 3
    data[duration : duration + 8] = struct.pack(">d", 4e10)  # milliseconds
    path.write_bytes(data)
    video = Video(path, short_side=32)
    assert video.estimated_frames is None and video.num_frames == 5
