"""When decoded frames are shown, also where their container says it wrongly or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av


def timed(frames: Iterable[av.VideoFrame], *, period: float) -> Iterator[tuple[av.VideoFrame, float]]:
    """Each frame with the time in seconds on the file's clock at which it is shown.

    Where times of showing stood still or went back more often than those of decoding, the latter count: AVI, ASF and MXF
    may hold no others, and FFmpeg makes times of showing up for them, wrong ones if frames are coded in another order than
    they are shown in. So does libavcodec's best_effort_timestamp, which PyAV does not pass on. A frame without a time comes
    `period` after the one before it.
    """
    time = -period
    wrong_pts = wrong_dts = 0
    last_pts = last_dts = -(1 << 63)
    for frame in frames:
        pts, dts = frame.pts, frame.dts
        wrong_pts += pts is not None and pts <= last_pts
        wrong_dts += dts is not None and dts <= last_dts
        timestamp = dts if pts is None or wrong_pts > wrong_dts else pts
        if timestamp is not None:  # then so is one of the two, which stands in for the other
            last_pts, last_dts = (timestamp if pts is None else pts), (timestamp if dts is None else dts)
        time = time + period if timestamp is None or not frame.time_base else float(timestamp * frame.time_base)
        yield frame, time
