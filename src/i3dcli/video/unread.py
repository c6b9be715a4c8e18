"""Bytes of a video file that its demuxer passed over: holes between packets, and what follows the last of them."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

Bytes = mmap.mmap
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"  # RFC 9559
MATROSKA_END = re.compile(rb"\x1c\x53\xbb\x6b|\x12\x54\xc3\x67|\x19\x41\xa4\x69|\x10\x43\xa7\x70|\x11\x4d\x9b\x74")  # of frames
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
MATROSKA_HEADERS = (  # elements that may come before the frames; SeekHead, Info, Tracks, Tags, Cues, …, Void, CRC-32
    *(b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67", b"\x1c\x53\xbb\x6b"),
    *(b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70", b"\xec", b"\xbf"),
)
MATROSKA_BLOCKS = (b"\xa3", b"\xa0")  # SimpleBlock, BlockGroup
OGG_PAGE, OGG_HEADER = b"OggS", 27  # how a page starts, and the bytes before the lengths of its segments
TRIFLE = 100  # bytes at the end of Matroska's frames that mean nothing
BLOCK_HEADER = 4  # bytes: track, time and flags, which a packet's position counts and its size does not
BLOCK_END = 16  # bytes that may follow the frame in its group of elements, such as its duration
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the object with the file's properties; its size is 40 bytes on
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")  # the object with all packets
ASF_PACKET = 1000  # bytes; the first one starts within so many of its object
PS_PACKET = re.compile(rb"\x00\x00\x01[\xbd-\xef](..)", re.S)  # the start of a packet of a program stream, and its size
PS_LONGEST = 1 << 17  # bytes from whose start on there must be one
TS_SYNC = 0x47
TS_STRIDES = (188, 192, 204)  # bytes from one packet of a transport stream to the next: plain, with a time, with a checksum
TS_CHUNK = 1 << 24  # bytes that are searched at once


class Holes:
    """Bytes between packets, where there are more than `least`; packets may share a position, as on a page of Ogg.

    Where there often are, that is how the file was made, and they mean nothing.
    """

    def __init__(self, least: int | None):
        self.least = least
        self.first, self.position, self.end = 0, -1, 0  # where the first packet is, and the last
        self.places = self.count = self.bytes = 0  # in the file, holes between them, bytes in these

    def before(self, position: int | None, size: int) -> int:
        """The bytes of the hole before the next packet, which lies at `position`, if that is known; 0 if there is none."""
        if position is None or position == self.position:
            self.end += size
            return 0
        self.first = self.first if self.places else position
        hole = position - self.end if self.places and self.least is not None and position - self.end > self.least else 0
        self.places += 1
        self.count += hole > 0
        self.bytes += hole
        self.position, self.end = position, max(self.end, position + size)
        return hole

    @property
    def total(self) -> int:
        return 0 if self.count > max(3, self.places / 4) else self.bytes


class Unread(NamedTuple):
    """How many bytes that should be frames no packet came from, and whether the file is cut within what is one piece."""

    size: int = 0
    cut: bool = False


def unread_around(path: str | Path, format: str, holes: Holes) -> Unread:
    """What is before the first packet that was seen or after the last one, and should be; nothing where no one can tell."""
    find = FINDERS.get(format)
    if find is None:
        return Unread()
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return find(data, holes)
    except (OSError, ValueError):  # it is gone, or empty by now
        return Unread()


def around_matroska(data: Bytes, holes: Holes) -> Unread:
    """Up to what may follow the frames: Cues, Tags, Attachments, Chapters, SeekHead; and up to the end of the Segment; and
    before the first frame all that is neither an element which describes the file nor the start of that frame's Cluster.
    """
    after = MATROSKA_END.search(data, max(0, holes.position))
    unread = max(0, (after.start() if after else len(data)) - holes.end)  # packets are larger than in the file if compressed
    segment = data.find(MATROSKA_SEGMENT, 0, 4096) + len(MATROSKA_SEGMENT)
    lacking = before = 0
    if len(MATROSKA_SEGMENT) <= segment <= len(data) - 8:
        size, length = element_size(data, segment)
        lacking = 0 if size is None else max(0, segment + length + size - len(data))
        before = passed_over_in_matroska(data, segment + length, holes.first)
    size = (unread + lacking if unread + lacking > TRIFLE else 0) + (before if before > TRIFLE else 0)
    begun = data[holes.end + BLOCK_HEADER : holes.end + BLOCK_HEADER + 1] in MATROSKA_BLOCKS
    return Unread(size, lacking > 0 or (after is None and (begun or unread > BLOCK_END)))


def passed_over_in_matroska(data: Bytes, start: int, first: int) -> int:
    """How many bytes from the start of a Segment to its first frame are in no element that may be there."""
    place, bytes_over = start, 0
    while place < first:
        name = data[place : place + 4]
        described = next((prefix for prefix in MATROSKA_HEADERS if name.startswith(prefix)), None)
        if described is None and name != MATROSKA_CLUSTER:
            found = [
                at for known in (*MATROSKA_HEADERS[:-2], MATROSKA_CLUSTER) if (at := data.find(known, place + 1, first)) > 0
            ]
            after = min(found, default=first)
            bytes_over, place = bytes_over + after - place, after
            continue
        size, length = element_size(data, place + len(described or name))
        inside = place + len(described or name) + length
        after = inside + size if size is not None else data.find(MATROSKA_CLUSTER, inside, first)
        if described is None and not inside <= after <= first:
            return bytes_over + (first - inside if first - inside > TRIFLE else 0)  # the Cluster of the first frame
        if not inside <= after <= first:
            return bytes_over + first - inside  # an element that claims frames for itself
        bytes_over += after - place if described is None else 0  # a Cluster that gave no frame
        place = after
    return bytes_over


def element_size(data: Bytes, place: int) -> tuple[int | None, int]:
    """The size of an element of Matroska that is written at a place, None if it is unknown, and how many bytes that takes."""
    if place >= len(data) or not data[place]:
        return None, 1
    length = 9 - data[place].bit_length()  # as many zero bits less one come first
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(data[place : place + length], "big") & unknown
    return None if size == unknown else size, length


def around_fragments(data: Bytes, holes: Holes) -> Unread:
    """From the next fragment of an MP4 on, and those before the one that has the first frame."""
    after = data.find(b"moof", holes.end)
    fragmented = data.find(b"moof", 0, holes.first) >= 0
    before = data.rfind(b"mdat", 0, holes.first) - data.find(b"mdat", 0, holes.first) if fragmented else 0
    return Unread((0 if after < 0 else len(data) - after) + before)


def around_asf(data: Bytes, holes: Holes) -> Unread:
    """Up to the size that its header gives for the file, and between the start of the frames and the first of them.

    In a file that is longer than its header says, what follows the last frame is no index.
    """
    properties, start = data.find(ASF_FILE, 0, 4096), data.find(ASF_DATA, 0, max(0, holes.first))
    size = 0 if properties < 0 else int.from_bytes(data[properties + 40 : properties + 48], "little")
    lacking = max(0, size - len(data))
    behind = len(data) - holes.end if 0 < size < len(data) else 0
    before = 0 if start < 0 else holes.first - start
    return Unread(lacking + max(0, behind) + (before if before > ASF_PACKET else 0), lacking > 0)


def around_ogg(data: Bytes, holes: Holes) -> Unread:
    """The pages with frames before the first one that was read and after the last, as long as they say they are."""
    before, place = 0, 0
    while 0 <= place < holes.first:
        page = ogg_page(data, place)
        before += page.size if page.has_frames else 0
        place = data.find(OGG_PAGE, place + max(page.size, len(OGG_PAGE)))
    after, place = 0, data.find(OGG_PAGE, holes.end)
    while place >= 0:
        page = ogg_page(data, place)
        after, end = after + page.size, place + page.size
        if end > len(data):
            return Unread(before + after, True)
        place = data.find(OGG_PAGE, max(end, place + len(OGG_PAGE)))
    return Unread(before + after)


class OggPage(NamedTuple):
    """What the header of a page of Ogg says."""

    size: int
    has_frames: bool


def ogg_page(data: Bytes, place: int) -> OggPage:
    """The page at a place; RFC 3533, section 6. The position of headers is 0, and that of what ends on another page -1."""
    lengths = data[place + OGG_HEADER : place + OGG_HEADER + (data[place + 26] if place + 26 < len(data) else 0)]
    position = int.from_bytes(data[place + 6 : place + 14], "little", signed=True)
    return OggPage(OGG_HEADER + len(lengths) + sum(lengths), position > 0)


def after_gif(data: Bytes, holes: Holes) -> Unread:
    """From the first block that is none on."""
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)  # behind the header and its table of colours
    while place < len(data):
        block = data[place]
        if block == 0x3B:  # the trailer
            return Unread()
        if block == 0x21:  # an extension
            place += 2
        elif block == 0x2C and place + 10 < len(data):  # a picture, with a table of colours of its own
            place += 11 + (3 << (data[place + 9] & 7) + 1 if data[place + 9] & 0x80 else 0)
        else:
            return Unread(len(data) - place)
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return Unread(0, place > len(data))


def after_program_stream(data: Bytes, holes: Holes) -> Unread:
    """Whether the last packet of an MPEG program stream is longer than what is left of the file."""
    tail = max(0, len(data) - PS_LONGEST)
    for packet in PS_PACKET.finditer(data, tail):
        tail = packet.end() + int.from_bytes(packet[1], "big")
    return Unread(0, tail > len(data))


def outside_transport_packets(data: Bytes, holes: Holes) -> Unread:
    """All that is in none of a transport stream's packets, which start with the same byte at equal distances."""
    found = dict.fromkeys(TS_STRIDES, 1)
    for start in range(0, len(data), TS_CHUNK):
        sync = np.frombuffer(data[start : start + TS_CHUNK + max(TS_STRIDES)], np.uint8) == TS_SYNC
        for stride in TS_STRIDES:
            later = sync[stride : stride + TS_CHUNK]
            found[stride] += int(np.count_nonzero(sync[: len(later)] & later))
    stride = max(found, key=lambda stride: stride * found[stride])
    outside = max(0, len(data) - stride * found[stride])
    return Unread(outside, outside > 0 or len(data) % stride > 0)


FINDERS: Mapping[str, Callable[[Bytes, Holes], Unread]] = {
    "matroska": around_matroska,
    "mov": around_fragments,
    "asf": around_asf,
    "ogg": around_ogg,
    "gif": after_gif,
    "mpeg": after_program_stream,
    "mpegts": outside_transport_packets,
}
