"""How a decoded frame is to be looked at: both fields as one picture, turned and mirrored as its display matrix says."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from numpy.typing import NDArray

# Kinds of side data that FFmpeg has and PyAV cannot name; one of them on a frame (EXIF) hides the others from us.
NAMELESS = sorted(set(range(64)) - {kind.value for kind in Type})


class Orientation(NamedTuple):
    """One of the eight ways to lay a picture: swap rows and columns first, then mirror it along each axis."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of a picture (H,W,3), or (W,H,3) if it is transposed."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        return picture[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1]


def orientation(frame: av.VideoFrame) -> Orientation:
    """How a frame is shown: its display matrix, which FFmpeg also makes of EXIF; other angles as the nearest quarter turn.

    The first matrix counts, as for FFmpeg: of a container and a codec that both have one, the container's.
    """
    try:
        found = display_matrices(frame)
    except ValueError:
        found = display_matrices(filtered(frame, *(("sidedata", f"mode=delete:type={kind}") for kind in NAMELESS)))
    if not found:
        return Orientation()
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(found[0], np.int32))  # x' = a x + c y, y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, left_right=c < 0, upside_down=b < 0)
    return Orientation(left_right=a < 0, upside_down=d < 0)


def display_matrices(frame: av.VideoFrame) -> list[bytes]:
    """The display matrices of a frame, in its order. Raises ValueError if PyAV cannot name all that is on the frame."""
    side_data = cast("Iterable[SideData]", frame.side_data)  # PyAV calls it a mapping, but goes through the values
    return [bytes(data) for data in side_data if data.type is Type.DISPLAYMATRIX]


def woven(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as one picture, even if it holds two fields, which swscale would scale each on its own."""
    return filtered(frame, ("setfield", "prog")) if frame.interlaced_frame else frame


def filtered(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.VideoFrame:
    """The frame, which shares its pixels, after filters that change what is said of it."""
    graph = av.filter.Graph()
    if hasattr(graph, "threads"):  # since PyAV 17; threads take longer to start than such filters to run
        graph.threads = 1
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    for name, options in filters:
        following = graph.add(name, options)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    return result
