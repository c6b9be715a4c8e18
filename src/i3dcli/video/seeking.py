"""Where in a video stream decoding may begin so that every frame from there on comes as it does from the start of the file."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

MAX_GAP_SECONDS = 60.0  # a longer pause, or a step back, is taken for a broken clock, and time goes on from there
MAX_REORDER = 16  # frames; no codec shows a frame before one that was coded so much earlier
SCAN_LIMIT = 64 << 20  # bytes of a file all of whose packets are looked at; of a larger one, the index where it can be trusted
SEEKABLE = {
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
}  # whose demuxers find a key frame again and keep no state between packets
TIMED = {*SEEKABLE, "mpegts", "mpeg", "flv"}  # containers that note when a frame is shown besides when it is decoded
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}  # options of a decoder that raises where it would conceal damage
INDEPENDENT = {  # decoders of codecs of which nothing that is shown after a key frame looks at what was coded before it
    *("h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "theora", "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4"),
    *("h263", "flv", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "mjpeg", "huffyuv", "ffvhuff"),
    *("utvideo", "magicyuv", "prores", "dnxhd", "dvvideo", "rawvideo", "v210", "png", "jpeg2000"),
}


class NoEntryError(Exception):
    """A stream cannot be entered where it was tried, or is damaged from there on; it never leaves `Video`."""


class EntryPoint(NamedTuple):
    """A key frame to begin at: its timestamp and the packets before it, or None and a timestamp at or after its own."""

    pts: int
    packets_before: int | None
    seek: bool  # to the key frame, or else pass over what is before it


@dataclass(frozen=True)
class EntryPoints:
    """The key frames at which a stream can be entered, in the order of time, up to where its clock first breaks."""

    pts: NDArray[np.int64]  # on the file's clock; of a large file, what its index says
    packets_before: NDArray[np.int64] | None
    time_base: float  # seconds
    seekable: bool

    def before(self, seconds: float) -> list[EntryPoint]:
        """Where to begin for what is shown before a time on the file's clock: the best place, and another if it fails."""
        end = int(np.searchsorted(self.pts, seconds / self.time_base))
        if not end:
            return []
        if self.packets_before is None:  # the time of decoding may be all that an index tells, or of showing
            return [EntryPoint(int(pts), None, seek=True) for pts in (seconds / self.time_base, *self.pts[:end][-2:-1])]
        last = range(end - 1, max(-1, end - 3), -1)
        return [EntryPoint(int(self.pts[i]), int(self.packets_before[i]), seek=self.seekable) for i in last]


AnyPacket: TypeAlias = "av.Packet[av.VideoStream]"
NOWHERE = EntryPoints(np.empty(0, np.int64), None, 1.0, seekable=False)


def survey(
    container: av.container.InputContainer, stream: av.VideoStream, *, size: int
) -> tuple[av.VideoFrame | None, EntryPoints]:
    """The first frame of a stream that was just opened, and where else it can be entered; the file has `size` bytes."""
    packets = _readable(container.demux(stream))
    passed = []
    first = None
    while first is None and (packet := next(packets, None)) is not None:
        passed.append(packet)
        with contextlib.suppress(av.FFmpegError):
            first = next(iter(packet.decode()), None)
    if first is None or first.pts is None or not stream.time_base or stream.codec_context.name not in INDEPENDENT:
        return first, NOWHERE
    if not first.key_frame and not passed[0].is_keyframe:
        return first, NOWHERE  # a decoder may give what is not there whole in any order
    if size > SCAN_LIMIT and container.format.name in SEEKABLE and (pts := _indexed(container, stream)) is not None:
        return first, EntryPoints(pts, None, float(stream.time_base), seekable=True)
    return first, _scanned(container, stream, itertools.chain(passed, packets))


def _readable(packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
    """The packets up to where a file cannot be read on."""
    with contextlib.suppress(av.FFmpegError, IndexError):  # the latter of PyAV, where a stream comes up on the way
        yield from packets


def _scanned(container: av.container.InputContainer, stream: av.VideoStream, packets: Iterable[AnyPacket]) -> EntryPoints:
    """The key frames up to the first packet whose time is unknown, or no plausible next one after those before it."""
    rows = []
    for packet in packets:
        if hasattr(packet, "has_sidedata") and packet.has_sidedata("new_extradata"):  # not in PyAV 14
            break  # who enters behind it does not see how frames are coded from here on
        if packet.size:
            if packet.pts is None:
                break
            is_key = packet.is_keyframe and not packet.is_discard and not packet.is_corrupt
            rows.append((packet.pts, is_key))
    if not rows or not stream.time_base:
        return NOWHERE
    pts, is_key = np.array(rows, np.int64).T
    latest = np.maximum.accumulate(pts)
    before = np.concatenate([pts[:1] - 1, latest[:-1]])
    reorders = stream.codec_context.has_b_frames
    if reorders and container.format.name not in TIMED and (pts >= before).all():
        return NOWHERE  # frames are shown in another order than they were coded in, and FFmpeg does not know in which
    wrong = (latest - before > int(MAX_GAP_SECONDS / stream.time_base)) | ((is_key == 1) & (pts <= before))
    window = MAX_REORDER if reorders else 1
    wrong[window:] |= pts[window:] < latest[:-window]
    wrong |= ~np.isin(np.arange(len(pts)), np.unique(pts, return_index=True)[1])
    end = int(np.argmax(wrong)) if wrong.any() else len(wrong)
    numbers = np.flatnonzero(is_key[:end])
    return EntryPoints(pts[numbers], numbers, float(stream.time_base), seekable=container.format.name in SEEKABLE)


def _indexed(container: av.container.InputContainer, stream: av.VideoStream) -> NDArray[np.int64] | None:
    """The timestamps of key frames in the index of a file, or None where it is not complete or leaves the clock open."""
    duration = stream.duration or (container.duration or 0) / av.time_base / (stream.time_base or 1)
    with contextlib.suppress(av.FFmpegError):
        container.seek(0)  # only now does FFmpeg read Matroska's index
    index = list(getattr(stream, "index_entries", ()))  # since PyAV 17
    if not index or not duration or not stream.time_base:
        return None
    timestamps = np.array([entry.timestamp for entry in index], np.int64)
    in_order = (np.diff(timestamps) > 0).all() and (np.diff([entry.pos for entry in index]) >= 0).all()
    begin = stream.start_time or 0
    reached = np.concatenate([[begin], timestamps, [int(begin + duration)]])
    if not in_order or (np.diff(reached) > MAX_GAP_SECONDS / stream.time_base).any():
        return None
    return timestamps[[entry.is_keyframe and not entry.is_discard for entry in index]]


def frames_from(container: av.container.InputContainer, stream: av.VideoStream, entry: EntryPoint) -> Iterator[av.VideoFrame]:
    """The frames of a stream that was just opened, as decoded, from the key frame of an entry on.

    Those that are shown before it are left out, as they need what was coded before it. Raises NoEntryError where the key
    frame is not found, and at the first damage: what a decoder puts in its place depends on all that it saw before.
    """
    stream.codec_context.options = STRICT
    packets = container.demux(stream)
    first = None
    with contextlib.suppress(av.FFmpegError):
        if entry.seek:
            container.seek(entry.pts, stream=stream)
        first = next(packets if entry.seek else itertools.islice(packets, entry.packets_before, None), None)
    if first is None or first.pts is None or (entry.packets_before is not None and first.pts != entry.pts):
        raise NoEntryError
    begun = False
    for frame in itertools.chain(_decoded([first], first.pts), _decoded(packets, first.pts)):
        if not begun and frame.pts is not None and frame.pts < first.pts:
            continue
        if frame.is_corrupt or not (begun or (frame.pts == first.pts and frame.key_frame)):
            raise NoEntryError
        begun = True
        yield frame
    if not begun:
        raise NoEntryError


def _decoded(packets: Iterable[AnyPacket], start: int) -> Iterator[av.VideoFrame]:
    """The frames of packets. Raises NoEntryError at damage, but for that of frames that are shown before `start`."""
    packets = iter(packets)
    while True:
        packet = None
        try:
            packet = next(packets)
            frames = packet.decode()
        except (StopIteration, IndexError):  # the latter of PyAV, where a stream came up on the way
            return
        except av.FFmpegError as error:
            if packet is None or packet.pts is None or packet.pts >= start:
                raise NoEntryError from error
        else:
            yield from frames
