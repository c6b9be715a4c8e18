"""What a container claims and what came out of it → how many frames are missing, and the sentence that says so."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from ..defaults import FPS
from ..text import counted, shown
from .containers import Clock, movie_seconds
from .unread import Holes, unread_around

SHARE = 0.1  # of the frames, from which on it is said that they are missing
INDEXED = 2  # frames, likewise, where an index names each frame
NOT_CODED = 20  # bytes; shorter packets of MPEG-4 may say that the picture before stays (libavcodec/h263dec.c)
LEAST_HOLE = {
    "asf": 1000,
    "flv": 100,
    "matroska": 100,
    "mov": 10_000,
    "ogg": 1000,
}  # bytes between packets; intact ones have less
OWN_DURATION = frozenset({"avi", "gif", "ivf", "mov", "mxf", "ogg"})  # where the duration of a stream is that of its frames
PIECEMEAL = frozenset({"asf", "mov"})  # whose frames may lie in pieces, so that a hole between them is none
NO_DURATION = frozenset({"mpeg", "mpegts"})  # where it is a guess, made from the last time stamps that can be read
TICKS = 10_000  # per second; finer steps of time are one
LONGEST_GAP = 60 * TICKS  # a longer one is a joint of two recordings
TIME = re.compile(r"(\d\d):(\d\d):(\d\d\.\d+)")


@dataclass(frozen=True)
class Loss:
    """How many frames of those that a file claims did not come out of it, `what` became of them, and how many came damaged."""

    missing: int = 0
    claimed: int = 0
    what: str = ""
    damaged: int = 0
    contradiction: str | None = None  # between what the file claims in two places

    def sentence(self, path: str | Path, *, fault: str | None = None) -> str | None:
        """One line that says what is missing, and what else is the `fault` of the file; None where it is whole."""
        found = [f"{self.missing} of the {counted(self.claimed, 'frame')} {self.what}"] if self.missing else []
        if self.damaged and not self.missing:
            found = [f"{counted(self.damaged, 'frame')} could not be decoded whole"]
        found += [text for text in (self.contradiction, fault) if text]
        return f"damaged video: {shown(path)}: {', and '.join(found)}; copy or download it again" if found else None


class Pass:
    """One pass over all packets of a file and the frames of one stream of it, counted, to know in the end what is missing."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, path: str | Path):
        self.container, self.stream, self.path = container, stream, path
        self.format = container.format.name.split(",")[0]
        self.packets = self.silent = self.frames = self.errors = self.corrupt = 0
        self.interlaced = False
        self.start, self.last, self.end, self.others_end = float("inf"), float("-inf"), float("-inf"), float("-inf")
        self.clock = Clock(container, stream, path)
        self.latest: float | None = None  # decoding time of the last packet
        self.steps: Counter[int] = Counter()  # of decoding time between packets, in ticks
        self.gaps: Counter[int] = Counter()  # likewise, where bytes were passed over, or frames may be lost
        self.holes, self.hole = Holes(LEAST_HOLE.get(self.format)), 0
        self.broken = False  # a transport stream's counter has jumped

    def saw(self, packet: av.Packet[Any]) -> None:
        """Count a packet of any stream, in the order of the file."""
        hole = self.holes.before(packet.pos, packet.size)
        self.hole += hole
        base = float(packet.time_base or 0)
        start = None if packet.pts is None else packet.pts * base
        if start is not None and not self.clock.believes(start):
            start = None
        end = None if start is None else start + (packet.duration or 0) * base
        if packet.stream_index != self.stream.index:
            self.others_end = self.others_end if end is None else max(self.others_end, end)
            return
        if packet.is_discard:
            return
        self.packets += 1
        self.silent += shows_nothing(self.stream, packet)
        self.broken = self.broken or packet.is_corrupt
        if start is None or end is None:
            return
        self.start, self.last, self.end = min(self.start, start), max(self.last, start), max(self.end, end)
        time = start if packet.dts is None else packet.dts * base
        if self.latest is not None and time > self.latest:
            step = max(1, round(TICKS * (time - self.latest)))
            self.steps[step] += 1
            if self.hole if self.format != "mpegts" else not packet.is_keyframe:
                self.gaps[step] += 1
        self.latest, self.hole = time, 0

    def frames_of(self, packets: Iterable[av.Packet[Any] | None]) -> Iterator[av.VideoFrame]:
        """The frames of some packets of the file, decoded, in presentation order; None is one that could not be read."""
        last = None  # which says that the stream is at its end, and in which unit times are
        for packet in packets:
            if packet is None:
                self.errors += 1
            elif packet.size:
                self.saw(packet)
                if packet.stream_index == self.stream.index:
                    yield from self.decoded(packet)
            elif packet.stream.index == self.stream.index:  # others hold nothing; the number in the packet itself is 0 here
                last = packet
        yield from self.decoded(last)

    def decoded(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """What comes out of a packet, or at the end of the stream; counted."""
        try:
            frames = self.stream.decode(packet)
        except av.FFmpegError:
            self.errors += 1
            return []
        self.frames += len(frames)
        self.corrupt += sum(frame.is_corrupt for frame in frames)
        self.interlaced = self.interlaced or any(frame.interlaced_frame for frame in frames)
        return frames

    @property
    def damaged(self) -> int:
        return self.errors + self.corrupt

    def loss(self) -> Loss:
        """What is missing, at the end of the pass, while the container is open."""
        came = self.packets - self.silent
        undecoded = 0 if self.interlaced and 2 * self.frames >= came - 1 else max(0, came - self.frames)
        index = sum(1 for e in getattr(self.stream, "index_entries", ()) if e.size and not e.is_discard)
        if index - self.packets >= INDEXED:
            missing = index - self.packets + undecoded
            return Loss(missing, self.frames + missing, "in its index are missing", self.damaged)
        rest = unread_around(self.path, self.format, self.holes)
        unread = rest.size + (0 if self.format in PIECEMEAL else self.holes.total)
        more, what = self.after_end(unread > 0) + self.in_gaps(), "that its duration claims are missing"
        if not more:
            more, what = round(self.frames * unread / max(1, self.holes.end)), "that its size suggests are missing"
        missing = undecoded + more
        claimed = self.frames + missing
        what = what if more else "in it could not be decoded"
        missing = missing if missing >= SHARE * claimed else 0
        return Loss(missing, claimed, what, max(self.damaged, int(rest.cut)), None if missing else self.contradiction())

    def contradiction(self) -> str | None:
        """Where the times of frames leave out a part of the movie, although all are there, what says so: MP4's movie header."""
        movie = None
        if self.format == "mov":
            with contextlib.suppress(OSError):  # it is gone by now
                movie = movie_seconds(self.path)
        seconds = max(self.end, self.others_end)
        if movie is None or not 0 < seconds < (1 - SHARE) * movie:
            return None
        return f"its header claims {movie:.4g} seconds, its frames {seconds:.4g}"

    def after_end(self, unread: bool) -> int:
        """How many frames should follow the last one that was read, by the duration that the file claims.

        Where the last picture may just stay for longer, as in Matroska, there must be bytes left that are `unread`.
        """
        own, claimed = self.claimed_seconds()
        if claimed is None or self.last < self.start:
            return 0
        even = 1 / float(self.stream.average_rate or FPS)
        period = (self.last - self.start) / (self.packets - 1) if self.packets > 1 and self.last > self.start else even
        reached = max(self.end, self.last + period, self.end if own else self.others_end)
        late = max(0.0, self.start) if self.start < claimed else 0.0  # a start within the duration may be a part of it
        seconds = claimed - (reached - self.start + late)
        missing = round(seconds / period)
        held = not own and seconds < 2 * max(self.steps, default=0) / TICKS
        sure = unread if self.format == "matroska" else not held
        return missing if sure and missing >= INDEXED else 0

    def in_gaps(self) -> int:
        """How many frames should be where the clock jumps and the file is damaged."""
        if not self.steps or not (self.broken if self.format == "mpegts" else self.holes.total):
            return 0
        middle, seen = self.steps.total() / 2, 0
        period = next(step for step, count in sorted(self.steps.items()) if (seen := seen + count) >= middle)
        return sum(count * (round(step / period) - 1) for step, count in self.gaps.items() if period < step < LONGEST_GAP)

    def claimed_seconds(self) -> tuple[bool, float | None]:
        """The duration that the file claims, and whether it is that of the video alone."""
        container, stream = self.container, self.stream
        whole = container.duration / av.time_base if container.duration else None
        if self.format == "avi" and stream.frames and stream.average_rate:
            return True, float(stream.frames / stream.average_rate)  # FFmpeg's duration is made shorter where the file is
        if self.format in OWN_DURATION and stream.duration and stream.time_base:
            return True, float(stream.duration * stream.time_base)
        if self.format in NO_DURATION:
            return False, None
        tag = TIME.fullmatch(stream.metadata.get("DURATION", ""))  # of Matroska, as FFmpeg and mkvmerge write it
        if tag is None:
            return False, whole
        hours, minutes, seconds = map(float, tag.groups())
        tagged = 3600 * hours + 60 * minutes + seconds
        return True, tagged if whole is None else min(whole, tagged)


def shows_nothing(stream: av.VideoStream, packet: av.Packet[Any]) -> bool:
    """Whether a packet may rightly give no frame: a hidden reference of VP8, or no change in MPEG-4."""
    codec = stream.codec_context.codec.canonical_name
    if codec == "vp8":
        return not memoryview(packet)[0] & 0x10  # RFC 6386, section 9.1: show_frame
    return codec == "mpeg4" and packet.size < NOT_CODED
