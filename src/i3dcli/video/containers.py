"""A file → PyAV's container of it and the stream that is the video; nothing is read but the file that was named."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from ..defaults import FPS
from ..errors import VideoError
from ..text import shown

OTHERS = frozenset({"concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "tty", "vobsub"})  # read others
PLAYLIST = re.compile(
    rb"\s*(#EXTM3U|ffconcat|(<\?xml.{0,400})?<(MPD|asx|smil|playlist)\b|\[(playlist|reference)\]|v=0\s+o=)", re.I | re.S
)
NAMED = {".m2ts": "mpegts", ".mpeg": "mpeg", ".mpg": "mpeg", ".mts": "mpegts", ".ts": "mpegts", ".vob": "mpeg"}  # by suffix
LONGEST_STILL = 30.0  # seconds that frames stay on average; slower slide shows are not stored as videos of so few frames
HIGHEST_RATE = 1000.0  # frames per second
MAX_CONTRADICTION = 10  # how many times slower than its main header an AVI's stream may be
TIMED = frozenset({"asf", "flv", "matroska"})  # formats with a duration of their own beside the frames' times
TS_PACKET, TS_SYNC = 188, b"G"  # bytes of a packet of a transport stream, and the first of them
TS_SEARCHED = 50  # packets
MOVIE_HEADER_BYTES = 4096  # of a movie box; its header comes first in it
MAX_DEMUX_ERRORS = 100  # in one file; what lies behind one is often whole

av.logging.set_level(av.logging.PANIC)  # FFmpeg's own messages; what matters is raised or counted


@functools.cache
def formats() -> str:
    """FFmpeg's names of the formats that are one file each, for its option `format_whitelist`."""
    return ",".join(sorted(av.formats_available - OTHERS))


@contextlib.contextmanager
def open_container(path: str | Path) -> Iterator[av.container.InputContainer]:
    """PyAV's container of a regular file, or VideoError.

    FFmpeg gets the open file and not its name, so that no name is a pattern or an address to it, and may open nothing else:
    what a playlist or a reference in the file names stays unread.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = "a broken link" if os.path.islink(path) else getattr(error, "strerror", None) or "a name with a null byte"
        windows = os.sep == "/" and "\\" in os.fspath(path)
        advice = "a backslash is no separator here, give it with /" if windows else "check the path"
        raise VideoError(f"cannot read video: {shown(path)}: {reason}; {advice}") from error
    if not stat.S_ISREG(mode):
        raise VideoError(
            f"cannot read video: {shown(path)}: {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; give a video file"
        )
    if os.path.getsize(path) == 0:
        raise VideoError(f"not a video: {shown(path)}: the file is empty; copy or download it again")
    try:
        with open(path, "rb", buffering=0) as file:
            playlist = PLAYLIST.match(file.read(1024).removeprefix(b"\xef\xbb\xbf"))
            container = None if playlist else opened(path, file.fileno())
    except PermissionError as error:
        raise VideoError(f"cannot read video: {shown(path)}: {error.strerror}; check its permissions") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"not a video: {shown(path)}: {reason.lower()}; expected a whole file that FFmpeg can read") from error
    if container is None:
        raise VideoError(f"not a video: {shown(path)}: it is a playlist, which names other files; give one of them")
    with container:
        yield container


def opened(path: str | Path, descriptor: int) -> av.container.InputContainer:
    """The container of an open file, which is of the format that its suffix says if its content does not tell."""
    address, options = "fd:", {"fd": str(descriptor), "protocol_whitelist": "fd"}
    if os.name == "nt":  # where FFmpeg may know other descriptors than Python
        address, options = f"file:{os.fspath(path)}", {"protocol_whitelist": "file", "pattern_type": "none"}
    options["format_whitelist"] = formats()
    os.lseek(descriptor, 0, os.SEEK_SET)
    starts = os.read(descriptor, TS_SEARCHED * TS_PACKET)[::TS_PACKET]
    is_transport_stream = len(starts) > 1 and starts.count(TS_SYNC) > 0.8 * len(starts)  # a short one looks like a raw stream
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return av.open(address, format="mpegts" if is_transport_stream else None, metadata_errors="ignore", options=options)
    except (av.InvalidDataError, av.EOFError):  # the latter of short files that are taken for something else
        named = NAMED.get(Path(path).suffix.lower())
        if named is None:
            raise
        os.lseek(descriptor, 0, os.SEEK_SET)
        return av.open(address, format=named, metadata_errors="ignore", options=options)


def video_stream(container: av.container.InputContainer, path: str | Path) -> av.VideoStream:
    """The video stream that FFmpeg holds for the best, as players show it, and no cover picture; or VideoError.

    The best is that which the file marks as default; of several, or none, that of the highest bit rate, or the first.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        found = ", ".join(sorted({s.type for s in container.streams})) or "no"
        raise VideoError(f"no video in the file: {shown(path)}: it has {found} streams; give a file with pictures")
    usable = [s for s in streams if s.codec_context is not None and s.width > 0 and s.height > 0]
    if not usable:
        raise VideoError(f"not a usable video: {shown(path)}: its header names no codec or picture size; encode it again")
    best = container.streams.best("video")
    marked = [s for s in usable if s.disposition & Disposition.default]
    return next((s for s in usable if best is not None and s.index == best.index), (marked or usable)[0])


def one_thread(stream: av.VideoStream) -> None:
    """Decode a stream in the thread that asks for its frames.

    With a thread per slice, FFmpeg conceals damage of H.264 otherwise each time; with a thread per frame, it can deadlock
    when it closes a damaged VP8 stream.
    """
    stream.codec_context.thread_count = 1


def container_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """The duration that the file claims, as far as it could hold so many frames."""
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / av.time_base
    frames = seconds * float(stream.average_rate or 1)
    return seconds if 0 < frames <= container.size else None  # a frame takes a byte or more


class Clock:
    """What a file says of its time: `fps`, the frames per second, and which of the frames' times can be true.

    A rate at which each frame would stay for longer than `LONGEST_STILL`, or of more than `HIGHEST_RATE`, is none; in AVI also
    one that its main header denies. Then `fps` is `FPS`, no time is believed, and the frames follow each other evenly. Where a
    container claims how long it is, a time far outside of that is not believed either.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, path: str | Path):
        claimed = float(stream.average_rate or stream.guessed_rate or FPS)
        other = main_rate(path) if container.format.name == "avi" else None
        self.trusted = 1 / LONGEST_STILL <= claimed <= HIGHEST_RATE and (other is None or claimed * MAX_CONTRADICTION >= other)
        if not stream.average_rate and not self.trusted:  # FFmpeg's guess, of a stream whose container says nothing of it
            self.trusted, claimed = True, float(FPS)
        self.claimed, self.fps = claimed, claimed if self.trusted else float(other or FPS)
        self.start = (container.start_time or 0) / av.time_base
        limited = container.format.name.split(",")[0] in TIMED and container.duration
        self.end = self.start + 1.1 * (container.duration or 0) / av.time_base + 1 if limited else float("inf")

    def believes(self, seconds: float) -> bool:
        """Whether a time on the file's clock can be true."""
        return self.trusted and self.start - 1 <= seconds <= self.end

    def checked(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, without a time that is not believed."""
        if frame.time is not None and not self.believes(frame.time):
            frame.pts = frame.dts = None
            frame.duration = 0
        return frame

    @property
    def fault(self) -> str | None:
        """What is wrong with the rate, in words."""
        if self.trusted:
            return None
        return f"its header claims {self.claimed:.4g} frames per second, they are taken to come at {self.fps:.4g}"


def main_rate(path: str | Path) -> float | None:
    """The frames per second in the main header of an AVI file; None where there is no likely one."""
    with open(path, "rb") as file:
        head = file.read(36)
    period = int.from_bytes(head[32:36], "little") if head[24:28] == b"avih" else 0  # microseconds per frame
    return 1e6 / period if 1e3 <= period <= 1e6 else None


def movie_seconds(path: str | Path) -> float | None:
    """The duration in the movie header of an MP4 or MOV file, of its longest track as it is edited; None where it has none.

    ISO/IEC 14496-12, sections 8.2.1 and 8.2.2. FFmpeg makes durations of its own from the times of the samples.
    """
    with open(path, "rb") as file:
        size, place = os.fstat(file.fileno()).st_size, 0
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - place
            if kind == b"moov":
                file.seek(place)
                return header_seconds(file.read(min(length, MOVIE_HEADER_BYTES)))
            if length < 8:
                return None
            place += length
    return None


def header_seconds(movie: bytes) -> float | None:
    """The duration in the movie header box of the start of a movie box."""
    place = movie.find(b"mvhd")
    if place < 0 or place + 36 > len(movie):
        return None
    wide = movie[place + 4] == 1  # version 1 has times and durations of 64 bits
    at, width = place + (24 if wide else 16), 8 if wide else 4
    scale, length = int.from_bytes(movie[at : at + 4], "big"), int.from_bytes(movie[at + 4 : at + 4 + width], "big")
    return length / scale if scale and 0 < length < (1 << 8 * width) - 1 else None


def packets(container: av.container.InputContainer) -> Iterator[av.Packet[Any] | None]:
    """Every packet of every stream that holds something, in the file's order; None where there should have been one."""
    for _ in range(MAX_DEMUX_ERRORS):
        try:
            yield from container.demux()
            return
        except av.FFmpegError:
            yield None
        except IndexError:  # PyAV, at the end of a file in which a stream came up on the way
            return
