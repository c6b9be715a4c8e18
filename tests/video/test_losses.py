import random
import re
import struct
import warnings
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from media import moving, numbered, write_video

from i3dcli import VideoWarning, read_video
from i3dcli.video.reader import Video

BY_SUFFIX = {  # codecs in the containers that hold them
    ".avi": ("mpeg4", "mpeg2video"),
    ".flv": ("flv", "libx264"),
    ".gif": ("gif",),
    ".mkv": ("libx264", "mpeg4", "ffv1"),
    ".mov": ("libx264", "mpeg4"),
    ".mp4": ("libx264", "mpeg4"),
    ".mpg": ("mpeg1video", "mpeg2video"),
    ".ogv": ("libvpx",),
    ".ts": ("libx264", "mpeg2video"),
    ".webm": ("libvpx",),
    ".wmv": ("wmv2",),
}
PIXELS = {"ffv1": "bgr0", "gif": "rgb8"}
CASES = [(suffix, codec) for suffix, codecs in BY_SUFFIX.items() for codec in codecs]


def make(path, codec, frames=None, **options):
    return write_video(
        path, moving(30, 32, 48) if frames is None else frames, codec=codec, pix_fmt=PIXELS.get(codec, "yuv420p"), **options
    )


def read(path):
    """How many frames there are, and the sentence."""
    video = Video(path, fps=None, short_side=16)
    return sum(1 for _ in video), video.loss()


def said(path):
    """The numbers of missing and claimed frames in the sentence."""
    _, loss = read(path)
    found = re.fullmatch(
        rf"damaged video: {re.escape(str(path))}: (\d+) of the (\d+) frames .*; copy or download it again", loss
    )
    return tuple(map(int, found.groups()))


@pytest.mark.parametrize(("suffix", "codec"), CASES)
@pytest.mark.parametrize("count", [1, 2, 30])
def test_nothing_is_said_of_a_whole_file(tmp_path, suffix, codec, count):
    if (suffix, codec, count) == (".ts", "mpeg2video", 1):
        return  # FFmpeg takes it for a bare stream, and the packets' headers in it for damage
    assert read(make(tmp_path / f"v{suffix}", codec, moving(count, 32, 48))) == (count, None)


TIMED = (".flv", ".mkv", ".mov", ".mp4", ".ts", ".webm", ".wmv")
TIMES = {
    "uneven": np.cumsum(np.random.default_rng(0).uniform(0.02, 0.2, 30)).tolist(),
    "late": [10 + i / 25 for i in range(30)],
    "pause": [0, 0.04, 0.08, 5, 5.04, 5.08, 9.9, 20],
    "long last": [0, 0.04, 0.08, 9],
    "slow": [10.0 * i for i in range(6)],
}


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("suffix", "codec"), [case for case in CASES if case[0] in TIMED and case[1] != "mpeg2video"])
def test_nothing_is_said_of_uneven_times(tmp_path, suffix, codec, times):
    path = make(tmp_path / f"v{suffix}", codec, moving(len(TIMES[times]), 32, 48), times=TIMES[times])
    assert read(path) == (len(TIMES[times]), None)


def write_beside_sound(path, codec, seconds, *, sound="mp2", **options):
    """30 frames at 25 frames per second, and sound of so many seconds."""
    with av.open(str(path), "w", options=options) as out:
        video, sound = out.add_stream(codec, rate=25), out.add_stream(sound, rate=44100)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound.layout = "mono"
        packets = []
        for frame in moving(30, 32, 48):
            packets += video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        for start in range(0, int(44100 * seconds), 1152):
            noise = np.random.default_rng(start).integers(-9999, 9999, (1, 1152)).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
            samples.sample_rate, samples.pts = 44100, start
            packets += sound.encode(samples)
        packets += video.encode(None) + sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize("seconds", [0.3, 4])
def test_nothing_is_said_of_sound_that_is_longer_where_only_the_file_has_a_duration(tmp_path, seconds):
    assert read(write_beside_sound(tmp_path / "v.flv", "flv", seconds, sound="pcm_s16le")) == (30, None)


def test_nothing_is_said_of_a_last_picture_that_stays(tmp_path):
    path = make(tmp_path / "v.mkv", "libx264")
    data = bytearray(path.read_bytes().replace(b"DURATION", b"LASTING\0"))
    duration = data.index(b"\x44\x89\x88") + 3
    data[duration : duration + 8] = struct.pack(">d", 9000)  # milliseconds
    path.write_bytes(data)
    assert read(path) == (30, None)


@pytest.mark.parametrize("seconds", [0.3, 4])
@pytest.mark.parametrize("name", ["v.avi", "v.mkv", "v.mov", "v.mp4", "v.mpg", "v.ts"])
def test_nothing_is_said_of_sound_that_is_longer_or_shorter(tmp_path, name, seconds):
    codec = "mpeg1video" if name == "v.mpg" else "libx264" if name == "v.mkv" else "mpeg4"
    assert read(write_beside_sound(tmp_path / name, codec, seconds)) == (30, None)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_nothing_is_said_of_what_an_edit_list_hides(tmp_path, suffix, codec):
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i, picture in enumerate(moving(40, 32, 48)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = i - 15  # what is before zero is not shown
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read(path) == (25, None)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("v.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("v.mp4", {"movflags": "faststart"}),
        ("v.mkv", {"live": "1"}),
        ("v.mkv", {"cluster_time_limit": "200"}),
    ],
)
def test_nothing_is_said_of_fragments_and_streams_without_a_duration(tmp_path, name, flags):
    assert read(write_beside_sound(tmp_path / name, "mpeg4", 1, **flags)) == (30, None)


def test_nothing_is_said_of_joined_transport_streams(tmp_path):
    parts = [make(tmp_path / f"{i}.ts", "libx264", times=[i + t / 25 for t in range(30)]) for i in (3, 0, 40, 200)]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert read(tmp_path / "joined.ts") == (120, None)


def test_nothing_is_said_of_a_hidden_channel_of_transparency(tmp_path):
    with av.open(str(tmp_path / "v.webm"), "w") as out:
        stream = out.add_stream("libvpx", rate=25, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuva420p"
        for i, picture in enumerate(moving(12, 32, 48)):
            alpha = np.random.default_rng(i).integers(0, 255, (32, 48, 1), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.dstack([picture, alpha]), format="rgba").reformat(format="yuva420p")
            frame.pts = i + 5 * (i > 6)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read(tmp_path / "v.webm") == (12, None)


def test_an_index_counts_what_a_cut_file_lacks(tmp_path):
    path = write_beside_sound(tmp_path / "v.mp4", "mpeg4", 1, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    missing, claimed = said(path)
    assert claimed == 30 and missing == 30 - read(path)[0] and "in its index are missing" in read(path)[1]


def places(path):
    """Where in the file each packet of its video is, and how large it is."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(("lost", "expected"), [(1, None), (2, (2, 60))])
def test_of_many_frames_that_an_index_names_two_are_said(tmp_path, lost, expected):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in moving(60, 32, 48):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: places(path)[60 - lost][0]])
    assert read(path)[0] == 60 - lost and (expected is None or said(path) == expected)
    assert (read(path)[1] is None) == (expected is None)


@pytest.mark.parametrize("name", ["v.mkv", "v.webm"])
def test_a_duration_counts_what_a_damaged_cluster_ends(tmp_path, name):
    path = make(tmp_path / name, "libvpx")
    data = bytearray(path.read_bytes())
    place, _ = places(path)[12]
    data[place - 6 : place + 6] = bytes(12)
    path.write_bytes(data)
    frames, loss = read(path)
    assert frames == 12 and said(path) == (18, 30) and "that its duration claims" in loss


def test_the_duration_of_a_file_that_starts_late_counts_from_there(tmp_path):
    path = make(tmp_path / "v.flv", "flv", times=[10 + i / 25 for i in range(30)])
    path.write_bytes(path.read_bytes()[: places(path)[20][0]])
    assert read(path)[0] == 20 and said(path) == (10, 30)


def test_fragments_that_are_passed_over_at_the_start_are_counted_by_their_bytes(tmp_path):
    path = write_beside_sound(tmp_path / "v.mp4", "mpeg4", 0.1, movflags="frag_keyframe+empty_moov")
    path.write_bytes(path.read_bytes().replace(b"moof", b"free", 1))  # 12 frames
    assert read(path)[0] == 18 and said(path)[0] == pytest.approx(12, abs=6)


def test_blocks_that_are_passed_over_at_the_start_are_counted_by_their_bytes(tmp_path):
    path = write_beside_sound(tmp_path / "v.mkv", "mpeg4", 0.1, live="1")
    data, spots = bytearray(path.read_bytes()), places(path)
    start, end = (data.rindex(b"\xa3", 0, spots[i][0] + 1) for i in (0, 12))
    data[start : start + 9] = b"\xec\x01" + (end - start - 9).to_bytes(7, "big")  # a void in place of all blocks between
    path.write_bytes(data)
    assert read(path)[0] == 18 and said(path)[0] == pytest.approx(12, abs=8)


def test_transport_packets_that_are_lost_within_are_counted_by_the_clock(tmp_path):
    path = make(tmp_path / "v.ts", "libx264")
    data = path.read_bytes()
    start, end = (188 * (places(path)[i][0] // 188) for i in (11, 20))
    path.write_bytes(data[:start] + data[end:])
    frames, _ = read(path)
    assert 15 < frames < 25 and sum(said(path)) == pytest.approx(60 - frames, abs=3)


def test_a_cut_within_a_transport_packet_is_a_damaged_frame(tmp_path):
    path = make(tmp_path / "v.ts", "libx264")
    path.write_bytes(path.read_bytes()[: 188 * 20 + 50])
    assert "1 frame could not be decoded whole" in read(path)[1]


def test_frames_that_no_decoder_gives_are_said(tmp_path):
    path = make(tmp_path / "v.mp4", "libx264")
    data = bytearray(path.read_bytes())
    for place, _ in places(path)[20:]:
        data[place + 4] = 12  # filler data in place of a slice; H.264, table 7-1
    path.write_bytes(data)
    frames, loss = read(path)
    assert frames == 20 and said(path) == (10, 30) and "frames in it could not be decoded" in loss


def test_a_gap_counts_where_bytes_were_passed_over(tmp_path):
    path = write_beside_sound(tmp_path / "v.mkv", "mpeg4", 2, cluster_time_limit="200")
    data = bytearray(path.read_bytes())
    spots = places(path)
    data[spots[11][0] - 6 : spots[19][0]] = bytes(spots[19][0] - spots[11][0] + 6)
    path.write_bytes(data)
    frames, _ = read(path)
    assert 15 < frames < 25 and said(path) == (30 - frames, 30)


@pytest.mark.parametrize(("suffix", "codec"), [case for case in CASES if case[0] not in (".gif", ".ogv")])
def test_no_seeded_damage_loses_a_tenth_of_the_frames_in_silence(tmp_path, suffix, codec):
    whole = make(tmp_path / f"whole{suffix}", codec).read_bytes()
    path, rng = tmp_path / f"v{suffix}", random.Random(f"{suffix} {codec}")
    outcomes = []
    for _ in range(12):
        data = bytearray(whole)
        start, length = rng.randrange(len(data) // 8, len(data)), rng.choice((1, 30, len(data) // 5))
        change = rng.choice(("flip", "zero", "random", "cut"))
        if change == "cut":
            del data[start:]
        elif change == "flip":
            data[start] ^= 1 << rng.randrange(8)
        else:
            data[start : start + length] = bytes(length) if change == "zero" else rng.randbytes(length)
        path.write_bytes(data)
        try:
            frames, loss = read(path)
        except ValueError:
            outcomes.append("refused")
            continue
        assert loss is not None or frames >= 27, (change, start, length, frames)
        outcomes.append("said" if loss else "whole")
    assert "said" in outcomes or "refused" in outcomes


def test_read_video_warns(tmp_path):
    path = make(tmp_path / "v.webm", "libvpx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_video(path, short_side=16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(VideoWarning, match="frames that its duration claims are missing"):
        frames = read_video(path, short_side=16)
    assert 5 < len(frames) < 25


def test_reading_clips_says_what_iterating_says_as_soon_as_a_clip_is_not_there(tmp_path):
    path = make(tmp_path / "v.mkv", "libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    iterated, clips = (Video(path, short_side=16) for _ in range(2))
    count = sum(1 for _ in iterated)
    assert len(clips.read(0, 4)) == 4 and clips.loss() is None
    assert clips.read(27, 4) == [] and clips.loss() == iterated.loss() is not None
    assert clips.num_frames == count < 25 and clips.damaged_frames == 0


def test_damaged_pictures_of_a_folder_are_counted_once_however_often_they_are_read(tmp_path):
    for i, frame in enumerate(numbered(9)):
        cv2.imwrite(str(tmp_path / f"{i}.bmp"), frame)
    (tmp_path / "4.bmp").write_bytes((tmp_path / "4.bmp").read_bytes()[:200])
    video = Video(tmp_path, short_side=16)
    for _ in range(3):
        video.read(3, 4)
    assert video.loss() == f"damaged video: {tmp_path}: 1 frame could not be decoded whole; copy or download it again"


@pytest.mark.parametrize("rate", [8000, 48000])
def test_the_last_frames_are_timed_by_their_own_stream_where_there_is_sound(tmp_path, rate):
    """At the end of a file, packets without content carry the number of the first stream, whosever they are."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        picture = out.add_stream("libx264", rate=25, options={"bf": "2"})
        picture.width, picture.height, picture.pix_fmt = 40, 32, "yuv420p"
        sound = out.add_stream("aac", rate=rate, layout="mono")
        packets = [p for f in moving(50, 32, 40) for p in picture.encode(av.VideoFrame.from_ndarray(f, format="rgb24"))]
        packets += picture.encode()
        for i in range(2 * rate // 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 1024 * i, Fraction(1, rate)
            packets += sound.encode(frame)
        for packet in sorted([*packets, *sound.encode()], key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    video = Video(path, short_side=32)
    whole = list(video)
    assert (len(whole), video.loss()) == (50, None)
    assert all((a == b).all() for a, b in zip(video.read(45, 9), whole[45:], strict=True))


def test_a_page_of_ogg_that_is_left_out_is_counted_by_what_its_header_says(tmp_path):
    path = write_video(tmp_path / "v.ogv", moving(60, 32, 40), codec="libvpx")
    data = path.read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS", data)]
    cut_off = tmp_path / "cut.ogv"
    cut_off.write_bytes(data[: pages[-1] + 60])  # the header of the last page, and no more
    wrong = tmp_path / "wrong.ogv"
    wrong.write_bytes(data[: pages[-1] + 60] + bytes([data[pages[-1] + 60] ^ 1]) + data[pages[-1] + 61 :])  # for its checksum
    for video in (Video(cut_off, short_side=32), Video(wrong, short_side=32)):
        frames = sum(1 for _ in video)
        missing, claimed = map(int, re.findall(r"(\d+) of the (\d+) frames that its size suggests", video.loss())[0])
        assert frames < 54 and claimed == frames + missing and 54 <= claimed <= 66


def test_frames_before_the_first_that_can_be_read_of_matroska_are_missed(tmp_path):
    path = write_video(tmp_path / "v.mkv", moving(60, 32, 40), fps=5)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x1f\x43\xb6\x75")] ^= 0xFF  # the first Cluster is none any more
    path.write_bytes(data)
    video = Video(path, fps=None, short_side=32)
    frames = sum(1 for _ in video)
    assert frames < 54 and "frames that its " in video.loss()


def test_frames_that_follow_each_other_faster_than_the_movie_is_long_are_told(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving(24, 32, 40))
    assert (lambda video: (sum(1 for _ in video), video.loss()))(Video(path, short_side=32)) == (24, None)
    data = bytearray(path.read_bytes())
    scale = data.index(b"mdhd") + 16
    data[scale : scale + 4] = (2 * int.from_bytes(data[scale : scale + 4], "big")).to_bytes(4, "big")
    path.write_bytes(data)
    video = Video(path, short_side=32)
    assert sum(1 for _ in video) == 12 and "its header claims 0.96 seconds, its frames 0.48;" in video.loss()
