"""Small videos of every container that PyAV writes, the ways in which their bytes go wrong, and what is left of them then."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media import moving, write_video

FRAMES = 24  # of every video
RATE = 25  # frames per second, the rate that videos are looked at, so that none is made and none is left out
MP4_FLAGS = {"fragmented": "frag_keyframe+empty_moov", "faststart": "+faststart"}

# kind: suffix, codec, options of the codec, options of the container
VIDEOS = {
    "mp4 mpeg4": (".mp4", "mpeg4", {"g": "12"}, {}),
    "mp4 h264 B": (".mp4", "libx264", {"bf": "3", "g": "12", "preset": "ultrafast", "x264-params": "b-adapt=0"}, {}),
    "mp4 faststart": (".mp4", "libx264", {"preset": "ultrafast"}, {"movflags": MP4_FLAGS["faststart"]}),
    "mp4 fragmented": (".mp4", "mpeg4", {"g": "6"}, {"movflags": MP4_FLAGS["fragmented"]}),
    "mp4 sound": (".mp4", "mpeg4", {"g": "12"}, {}),
    "mov mpeg4": (".mov", "mpeg4", {"g": "12"}, {}),
    "mov mjpeg": (".mov", "mjpeg", {}, {}),
    "3gp mpeg4": (".3gp", "mpeg4", {"g": "12"}, {}),
    "mkv h264 B": (".mkv", "libx264", {"bf": "2", "g": "8", "preset": "ultrafast", "x264-params": "b-adapt=0"}, {}),
    "mkv mpeg4": (".mkv", "mpeg4", {"g": "12"}, {"cluster_time_limit": "200"}),
    "mkv ffv1": (".mkv", "ffv1", {}, {}),
    "mkv live": (".mkv", "mpeg4", {"g": "12"}, {"live": "1", "cluster_time_limit": "200"}),
    "mkv sound": (".mkv", "mpeg4", {"g": "12"}, {}),
    "webm vp8": (".webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "12"}, {"cluster_time_limit": "300"}),
    "webm vp9": (".webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}, {}),
    "avi mpeg4": (".avi", "mpeg4", {"g": "12"}, {}),
    "avi mjpeg": (".avi", "mjpeg", {}, {}),
    "avi ffv1": (".avi", "ffv1", {}, {}),
    "flv flv1": (".flv", "flv", {"g": "12"}, {}),
    "flv h264": (".flv", "libx264", {"g": "12", "preset": "ultrafast"}, {}),
    "ts mpeg2": (".ts", "mpeg2video", {"g": "12", "bf": "2"}, {}),
    "ts h264": (".ts", "libx264", {"g": "12", "preset": "ultrafast"}, {}),
    "mpg mpeg1": (".mpg", "mpeg1video", {"g": "12"}, {}),
    "vob mpeg2": (".vob", "mpeg2video", {"g": "12"}, {}),
    "wmv wmv2": (".wmv", "wmv2", {"g": "12"}, {}),
    "asf msmpeg4": (".asf", "msmpeg4", {"g": "12"}, {}),
    "ogv vp8": (".ogv", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "12"}, {}),
    "gif": (".gif", "gif", {}, {}),
}
PIX_FMTS = {"mjpeg": "yuvj420p", "ffv1": "bgr0", "gif": "rgb8"}  # others take yuv420p
TAGS = re.compile(  # of fields in headers: MP4's atoms, RIFF's chunks, elements of Matroska, ASF's objects, scripts of FLV
    rb"mvhd|tkhd|mdhd|elst|stts|ctts|stsc|stsz|stco|stss|moof|tfhd|tfdt|trun|mfra|hdlr|stsd|ftyp|moov|mdat"
    rb"|RIFF|avih|strh|strf|LIST|movi|idx1|00dc"
    rb"|\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x1f\x43\xb6\x75|\x1c\x53\xbb\x6b|\x11\x4d\x9b\x74|\x2a\xd7\xb1|\x44\x89|\x23\xe3\x83"
    rb"|\xa1\xdc\xab\x8c|\x36\x26\xb2\x75|\x91\x07\xdc\xb7|duration|framerate|filesize|width|height"
    rb"|OggS|GIF89a|\x21\xf9\x04|\x00\x00\x01\xba|\x00\x00\x01\xb3|\x00\x00\x01\xe0|G\x40",
    re.DOTALL,
)


@dataclass(frozen=True, eq=False)
class Original:
    """A whole video: its bytes, and where in them each packet of the pictures is."""

    kind: str
    suffix: str
    data: bytes
    packets: list[tuple[int, int]] = field(repr=False)  # first byte, and the one after the last

    @property
    def container(self):
        return self.suffix[1:]


@dataclass(frozen=True, eq=False)
class Mutant:
    """Bytes that were those of a video, and where each of them was in it; -1 for those that were not."""

    data: bytes
    origin: np.ndarray = field(repr=False)  # (len(data),) int64
    changes: tuple[str, ...]

    def packets_left(self, original):
        """How many packets of the pictures have at least half of their bytes."""
        there = np.zeros(len(original.data), bool)
        there[self.origin[self.origin >= 0]] = True
        return sum(bool(there[start:end].mean() >= 0.5) for start, end in original.packets)

    @property
    def only_cut(self):
        """Whether nothing but bytes taken away distinguishes it from the whole."""
        return bool((self.origin >= 0).all() and (np.diff(self.origin) > 0).all())


def write_original(folder, kind, *, frames=FRAMES, rate=RATE, seconds_of_sound=1.1, name=None):
    """Encode frames of a moving texture, a few kB in all."""
    suffix, codec, options, container_options = VIDEOS[kind]
    path = Path(folder, f"{name or kind}{suffix}".replace(" ", "_"))
    seed = list(VIDEOS).index(kind)
    height, width = 32 + 16 * (seed % 2), 48 + 16 * (seed % 3 == 0)
    with av.open(str(path), "w", format="ogg" if suffix == ".ogv" else None, options=container_options) as out:
        stream = out.add_stream(codec, rate=Fraction(rate), options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, PIX_FMTS.get(codec, "yuv420p")
        stream.bit_rate = 60_000
        sound = out.add_stream("aac", rate=16000, layout="mono") if "sound" in kind else None
        for frame in moving(frames, height, width, step=(1, 1 + seed % 2), seed=seed):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)))
        out.mux(stream.encode(None))
        if sound is not None:
            write_silence(out, sound, seconds=seconds_of_sound)
    return path


def write_silence(out, stream, *, seconds):
    for start in range(0, int(seconds * 16000), 1024):
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, start
        out.mux(stream.encode(silence))
    out.mux(stream.encode(None))


def read_original(path, kind):
    return Original(kind, path.suffix, path.read_bytes(), packet_spans(path))


def packet_spans(path):
    """First byte, and the one after the last, of each packet; about there, where only larger parts of the file have a place."""
    starts, at = [], 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                at = at if packet.pos is None else packet.pos
                starts.append((at, packet.size))
                at += packet.size
    ends = [*(start for start, _ in starts[1:]), path.stat().st_size]
    return [(start, max(start + 1, min(end, start + size))) for (start, size), end in zip(starts, ends, strict=True)]


def write_oddities(folder):
    """Whole videos that are unlike most: of none of them anything is to be said. Paths by what they are."""
    folder = Path(folder)
    paths = {}
    for kind in VIDEOS:
        paths[f"one frame, {kind}"] = write_original(folder, kind, frames=1, name=f"one_{kind}")
    for kind in ("mp4 sound", "mkv sound"):
        for seconds in (0.3, 3.0):
            paths[f"{kind} of {seconds} s"] = write_original(folder, kind, seconds_of_sound=seconds, name=f"{kind}{seconds}")
    for kind in ("mp4 h264 B", "mkv mpeg4", "webm vp8", "avi mpeg4", "flv h264", "ts h264", "gif"):
        for rate in (10, 50) if kind != "gif" else (10, 20):
            paths[f"{kind} at {rate} fps"] = write_original(folder, kind, rate=rate, name=f"{kind}{rate}")
    frames = list(moving(FRAMES, 32, 48))
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.15, FRAMES)).tolist()
    for suffix in (".mkv", ".mp4", ".webm"):
        codec = "libvpx" if suffix == ".webm" else "mpeg4"
        paths[f"uneven times, {suffix}"] = write_video(folder / f"vfr{suffix}", frames, times=times, codec=codec)
        late = [10 + i / 25 for i in range(FRAMES)]
        paths[f"a late start, {suffix}"] = write_video(folder / f"late{suffix}", frames, times=late, codec=codec)
    paths["trimmed by an edit list"] = write_trimmed(folder / "trimmed.mp4", frames)
    return paths


def write_trimmed(path, frames, *, hidden=6):
    """An .mp4 whose edit list hides its first frames, as cutting without encoding leaves it."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=Fraction(RATE), options={"g": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        pictures = (av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames)
        for packet in (packet for picture in (*pictures, None) for packet in stream.encode(picture)):
            packet.pts, packet.dts = packet.pts - hidden, packet.dts - hidden
            out.mux(packet)
    return path


def originals(folder, kinds=tuple(VIDEOS)):
    """One whole video of each kind."""
    return [read_original(write_original(folder, kind), kind) for kind in kinds]


def mutant(rng, original, others):
    """Change a video's bytes in one to three ways, drawn from `rng`; `others` are what it may be spliced with."""
    data = np.frombuffer(original.data, np.uint8).copy()
    origin = np.arange(len(data))
    changes = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        change = rng.choice(list(CHANGES), p=WEIGHTS)
        data, origin = CHANGES[change](rng, data, origin, others)
        changes.append(str(change))
        if len(data) < 2:
            break
    return Mutant(data.tobytes(), origin, tuple(changes))


def unchanged(original):
    return Mutant(original.data, np.arange(len(original.data)), ())


def span(rng, size, largest=0.5):
    """A range of up to so much of `size` bytes, short ones as likely as long ones."""
    length = int(np.exp(rng.uniform(0, np.log(max(2, largest * size)))))
    start = int(rng.integers(0, max(1, size - length + 1)))
    return start, min(size, start + length)


def overwrite(data, origin, start, values):
    values = np.asarray(values, np.uint8)[: len(data) - start]
    changed = data[start : start + len(values)] != values
    data[start : start + len(values)] = values
    origin[start : start + len(values)][changed] = -1
    return data, origin


def flip_bytes(rng, data, origin, others):
    for at in rng.integers(0, len(data), int(rng.choice([1, 2, 5, 20]))):
        data, origin = overwrite(data, origin, at, [rng.integers(256)])
    return data, origin


def flip_header(rng, data, origin, others):
    for at in rng.integers(0, min(len(data), 600), int(rng.choice([1, 1, 2, 5]))):
        data, origin = overwrite(data, origin, at, [data[at] ^ 1 << rng.integers(8)])
    return data, origin


def change_field(rng, data, origin, others):
    """A number after a tag of the container becomes 0, its largest, another, twice or half what it was."""
    tags = [match.end() for match in TAGS.finditer(data.tobytes())] or [0]
    start = min(int(rng.choice(tags)) + int(rng.integers(0, 32)), len(data) - 1)
    size = int(rng.choice([1, 2, 4, 8]))
    before = int.from_bytes(data[start : start + size].tobytes(), "big")
    most = 256**size - 1
    value = int(rng.choice([0, 1, 2, 3, 4, 5]))
    after = (0, most, most >> 1, min(most, 2 * before), before // 2, int(rng.integers(0, 2**8)))[value]
    return overwrite(data, origin, start, np.frombuffer(after.to_bytes(size, "big"), np.uint8))


def zero_range(rng, data, origin, others):
    start, end = span(rng, len(data), 0.3)
    return overwrite(data, origin, start, np.zeros(end - start))


def garble_range(rng, data, origin, others):
    start, end = span(rng, len(data), 0.3)
    return overwrite(data, origin, start, rng.integers(0, 256, end - start))


def remove_range(rng, data, origin, others):
    start, end = span(rng, len(data))
    return np.delete(data, slice(start, end)), np.delete(origin, slice(start, end))


def duplicate_range(rng, data, origin, others):
    start, end = span(rng, len(data))
    return tuple(np.concatenate([part[:end], part[start:]]) for part in (data, origin))


def swap_ranges(rng, data, origin, others):
    a, b, c, d = sorted(rng.integers(0, len(data) + 1, 4))
    return tuple(np.concatenate([part[:a], part[c:d], part[b:c], part[a:b], part[d:]]) for part in (data, origin))


def truncate(rng, data, origin, others):
    end = int(rng.integers(1, len(data) + 1))
    return data[:end], origin[:end]


def insert(rng, data, origin, others):
    at = int(rng.integers(0, len(data) + 1))
    more = rng.integers(0, 256, int(rng.choice([1, 4, 100, 2000])), dtype=np.uint8)
    return np.insert(data, at, more), np.insert(origin, at, np.full(len(more), -1))


def append(rng, data, origin, others):
    more = np.zeros(int(rng.choice([1, 188, 4096])), np.uint8)
    return np.concatenate([data, more]), np.concatenate([origin, np.full(len(more), -1)])


def splice(rng, data, origin, others):
    """Its start, and the end of another file."""
    other = np.frombuffer(others[int(rng.integers(len(others)))].data, np.uint8)
    end, start = int(rng.integers(1, len(data) + 1)), int(rng.integers(0, len(other)))
    rest = other[start:]
    return np.concatenate([data[:end], rest]), np.concatenate([origin[:end], np.full(len(rest), -1)])


CHANGES = {
    function.__name__: function
    for function in (
        *(flip_bytes, flip_header, change_field, zero_range, garble_range, remove_range),
        *(duplicate_range, swap_ranges, truncate, insert, append, splice),
    )
}
WEIGHTS = np.array([3, 3, 5, 2, 2, 3, 1, 1, 3, 2, 0.5, 1.5])
WEIGHTS = WEIGHTS / WEIGHTS.sum()
