"""Videos made on the spot: moving textures, numbered frames, and the ways in which files go wrong."""

import resource
import signal
import struct
import zlib
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np


def texture(height, width, seed=0, *, top=0, left=0):
    """A smooth random RGB picture (H,W,3) uint8, rich enough for optical flow; `top` and `left` cut it from a larger one."""
    rng = np.random.default_rng(seed)
    rows, columns = 1j * np.arange(top, top + height), 1j * np.arange(left, left + width)
    picture = np.zeros((height, width, 3))
    for _ in range(24):
        fy, fx, phase = rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35), rng.uniform(0, 6.28, 3)
        wave = np.exp(fy * rows)[:, None] * np.exp(fx * columns)  # its real part is cos(fy * row + fx * column)
        picture += wave.real[..., None] * np.cos(phase) - wave.imag[..., None] * np.sin(phase)
    return np.clip(128 + 14 * picture, 0, 255).astype(np.uint8)


def moving(num_frames, height=96, width=128, step=(1, 2), seed=0):
    """Frames of a texture that moves by `step` = (down, right) pixels per frame."""
    margin = num_frames * max(map(abs, step)) + 1
    (up, down), (left, right) = (sorted((0, (num_frames - 1) * size)) for size in step)  # what comes into sight on the way
    world = texture(height + down - up, width + right - left, seed, top=margin - down, left=margin - right)
    for t in range(num_frames):
        top, start = down - t * step[0], right - t * step[1]
        yield world[top : top + height, start : start + width]


def numbered(num_frames, height=32, width=32):
    """Plain grey frames whose brightness is four times their number, so that each can be told after decoding."""
    for t in range(num_frames):
        yield np.full((height, width, 3), 4 * t, np.uint8)


def numbers(frames):
    """The numbers of decoded `numbered` frames."""
    return [round(float(np.asarray(frame).mean()) / 4) for frame in frames]


def write_video(path, frames, *, fps=25, codec="mpeg4", pix_fmt="yuv420p", times=None, container=None, options=None):
    """Encode RGB frames; `times` in seconds replace the even spacing of `fps`. Codec "ffv1" with "bgr0" in .mkv is lossless."""
    with av.open(str(path), "w", format=container) as out:
        stream = None
        for i, frame in enumerate(frames):
            if stream is None:
                stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
                stream.height, stream.width, _ = frame.shape
                stream.pix_fmt = pix_fmt
                stream.bit_rate = 4_000_000
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = round(times[i] * 1000), Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def write_audio(path):
    """A tenth of a second of sound and no picture."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    return path


# EXIF orientation → the first two rows of a display matrix without their third column: x' = a x + c y, y' = b x + d y
DISPLAY = {
    **{1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1)},
    **{5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0)},
}


def rotate(path, turns):
    """Set the display matrix of an .mp4 to `turns` quarter turns counter-clockwise."""
    return set_matrix(path, DISPLAY[{0: 1, 1: 8, 2: 3, 3: 6}[turns % 4]])


def set_matrix(path, matrix):
    """Set the display matrix of an .mp4 to (a, b, c, d), in the bytes of its track header."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 4 * 2 + 2 * 4  # version 0: times, id, reserved, duration; layer … volume
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join((v & 0xFFFFFFFF).to_bytes(4, "big") for v in values)
    path.write_bytes(data)
    return path


def with_exif(picture, orientation):
    """The bytes of a .jpg or .png with EXIF that names its orientation."""
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)
    if picture.startswith(b"\x89PNG"):
        chunk = b"eXIf" + tiff
        return picture[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + picture[33:]
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + picture[2:]


@contextmanager
def largest_file(size):
    """Within the block no file can grow beyond `size` bytes, as where the disk is full."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def cut(path, share=0.5):
    """Leave out the end of a file, as a download that broke off does."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path
