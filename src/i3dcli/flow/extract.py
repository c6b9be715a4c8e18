"""The verb behind `i3d extract-flow`: videos → flow on disk, resumable, by any number of processes at once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import __version__
from ..defaults import (
    FLOW_ALGORITHM,
    FLOW_ALGORITHMS,
    FLOW_FORMATS,
    JPEG_QUALITY,
    RANGES,
    TVL1,
    FlowRecipe,
    Range,
    check_ranges,
)
from ..distributed import choose_device, own_device
from ..errors import DatasetError, I3DError, VideoError
from ..files import make_folder
from ..text import json_text, option, shown
from ..video import FLOW_SIDECAR, Found, Video, VideoWriter, find_videos
from .claims import Claims, check_replaceable, is_flow
from .compute import FlowMethod
from .failures import Failures
from .formats import FORMATS, ZERO_LEVEL
from .places import Place, made_from, path_hash, places, source_record
from .stored import LARGEST_FLOW, of_another_video, read_sidecar
from .visualize import flow_picture
from .writer import FlowWriter

STATUSES = ("extracted", "kept", "elsewhere", "failed")  # kept: done before; elsewhere: another process works on it


@dataclass(frozen=True)
class FlowOptions(FlowRecipe):
    """How flow is made and stored; the sidecar records each field under its name."""

    format: str = FLOW_FORMATS[0]
    quality: int = JPEG_QUALITY  # of JPEG pictures
    frames: bool = False  # store the RGB frames, too
    viz: bool = False  # store a video of the flow in colours, too

    def record(self) -> dict[str, Any]:
        """The options as plain data, without `fps` if frames keep the video's own rate."""
        first = ("format", "bound", "fps", "short_side")
        record = {**{name: getattr(self, name) for name in first}, **dataclasses.asdict(self), "native_fps": self.fps is None}
        if self.fps is None:
            del record["fps"]
        return record

    def unimportant(self, there: Mapping[str, Any]) -> set[str]:
        """The fields in which a sidecar may differ: those without use in this format, and extra files that it has."""
        more = {name for name in ("frames", "viz") if there.get(name) is True and not getattr(self, name)}
        unused = set() if FORMATS[self.format].is_clamped else {"bound"} if self.frames else {"bound", "quality"}
        return more | unused


@dataclass(frozen=True)
class FlowOutcome:
    """What became of one video."""

    video: Path
    status: str  # one of STATUSES
    folder: Path
    num_flows: int = 0
    note: str | None = None  # on missing frames of the video
    error: VideoError | DatasetError | None = None


def extract_flow(
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    device: str = "cpu",
    threads: int | None = None,
    progress: bool = False,
    **options: Any,
) -> list[FlowOutcome]:
    """Compute the flow of videos and store it below `out`, one folder per video, as `i3d extract-flow` does.

    `inputs` are files, folders or `@list.txt`. `options` are the fields of `FlowOptions`: `format="zip"`, `fps=12.5`,
    `parameters={"median": 0}` … Each video has an outcome, even if it failed. `shard` = (i, n) takes every n-th video from
    the i-th on. Raises DatasetError if stored flow was made with other options, and I3DError if `out` cannot be written.
    """
    chosen = checked_options(options)
    index, count = shard
    if not 0 <= index < count or (threads is not None and threads < 1):
        raise ValueError(f"expected a shard (i, n) with 0 <= i < n, and a thread or more, got {shard = }, {threads = }")
    names = [inputs] if isinstance(inputs, (str, Path)) else inputs
    how: dict[str, Any] = {"overwrite": overwrite, "shard": shard, "device": flow_device(device), "threads": threads}
    return list(extract_videos(map(str, names), out, chosen, **how, progress=progress))


def checked_options(options: Mapping[str, Any]) -> FlowOptions:
    """The options of `extract_flow`; `parameters` may be a dict. Raises ValueError for what is out of range."""
    given = {**options}
    if isinstance(given.get("parameters"), dict):
        given["parameters"] = TVL1(**given["parameters"])
    if given.get("algorithm", FLOW_ALGORITHM) != FLOW_ALGORITHM:
        given.setdefault("parameters", None)
    chosen = FlowOptions(**given)
    ranges = {"bound": RANGES["flow_bound"], "short_side": RANGES["short_side"], "quality": Range(1, 100)}
    check_ranges(chosen, ranges if chosen.fps is None else {**ranges, "fps": RANGES["fps"]})
    for name, known in (("format", FLOW_FORMATS), ("algorithm", FLOW_ALGORITHMS)):
        if getattr(chosen, name) not in known:
            raise ValueError(f"FlowOptions: {name}: got {getattr(chosen, name)!r}, expected one of {', '.join(known)}")
    if (chosen.parameters is not None) != (chosen.algorithm == FLOW_ALGORITHM):
        raise ValueError(f"FlowOptions: parameters are of {FLOW_ALGORITHM}, got {chosen.algorithm = }, {chosen.parameters = }")
    return chosen


def extract_videos(
    inputs: Iterable[str],
    out: str | Path,
    options: FlowOptions = FlowOptions(),
    *,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    device: str = "cpu",
    threads: int | None = None,
    progress: bool = False,
) -> Iterator[FlowOutcome]:
    """Extract the flow of each video that `inputs` name (files, folders, `@list.txt`) into a folder of its own below `out`.

    Flow that is stored with the same options is kept; `shard` = (i, n) takes every n-th video from the i-th on. A video
    that cannot be read, or whose folder holds flow of another video, is a failed outcome and a line in failures.jsonl.
    Raises DatasetError, before anything is written, if stored flow was made with other options, and I3DError if `out`
    cannot be written.
    """
    out = Path(out)
    make_folder(out)
    if is_flow(out):
        raise I3DError(
            f"cannot write: {shown(out)}: it is the flow of one video; give the folder above it, or another {option('out')}"
        )
    videos, unnamed = find_all(inputs)
    claims = Claims(out, frozenset(path_hash(found.path) for found in videos))
    allowed = places(videos)
    mine = sorted(videos, key=lambda found: (found.key, found.path))[shard[0] :: shard[1]]
    done: dict[Found, Path] = {}
    for found in mine if not overwrite else ():
        folder = claims.find(found)
        if folder is not None and kept(found, folder, options) and claims.is_clean(folder):
            done[found] = folder
    todo = [found for found in mine if found not in done]
    failures = Failures(out, [found.path for found in mine])
    for found in sorted(done):
        yield FlowOutcome(found.path, "kept", done[found])
    for error in unnamed if shard[0] == 0 else ():
        yield FlowOutcome(Path(), "failed", out, error=error)
    gone = missing(todo)
    if gone:
        failures.add(*((found.path, reason) for found, reason in gone.items()))
    for found, reason in gone.items():
        yield FlowOutcome(found.path, "failed", out / allowed[found][0], error=reason)
    todo = [found for found in todo if found not in gone]
    method = FlowMethod(options.algorithm, options.parameters, device=device, threads=threads)
    with pair_bar(todo, options, show=progress) as bar:
        for found in todo:
            try:
                outcome = extract_video(found, claims, allowed[found], options, method, overwrite=overwrite, bar=bar)
            except VideoError as error:
                failures.add((found.path, error))
                outcome = FlowOutcome(found.path, "failed", out / allowed[found][0], error=error)
            yield outcome


def missing(videos: Iterable[Found]) -> dict[Found, VideoError]:
    """The videos that are not on disk, each with the error of opening it."""
    gone = {}
    for found in videos:
        if not os.path.exists(found.path):
            try:
                Video(found.path)
            except VideoError as error:
                gone[found] = error
    return gone


def summary(counts: Mapping[str, int]) -> str:
    """The number of outcomes of each status, as text."""
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts.get(status)) or "0 extracted"


def flow_device(name: str) -> str:
    """The device to compute TV-L1 on, by its name; raises I3DError for CUDA without Triton or a C compiler."""
    device = own_device(choose_device(name))
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise I3DError(
                f"no Triton: {option('device', name)}: TV-L1's CUDA kernels need it; pip install triton, or use "
                f"{option('device', 'cpu')}"
            )
        if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
            raise I3DError(
                f"no C compiler: {option('device', name)}: Triton needs one; install gcc, or use {option('device', 'cpu')}"
            )
    return str(device)


def find_all(inputs: Iterable[str]) -> tuple[list[Found], list[DatasetError]]:
    """The videos that all inputs name, each once, and the errors of inputs that name no video."""
    found: dict[tuple[Path, str], Found] = {}
    errors = []
    for name in inputs:
        try:
            for video in find_videos(name):
                found.setdefault((video.key, os.path.realpath(video.path)), video)
        except DatasetError as error:
            errors.append(error)
    return list(found.values()), errors


def kept(found: Found, folder: Path, options: FlowOptions) -> bool:
    """True if a video's flow is finished; False also for flow of another video, which is an error later."""
    with contextlib.suppress(VideoError):
        return finished(found, folder, options)
    return False


def finished(found: Found, folder: Path, options: FlowOptions) -> bool:
    """True if `folder` holds the complete flow of a video, made with these options.

    Raises DatasetError if it was made with other options, and VideoError if it is flow of another video.
    """
    try:
        there = read_sidecar(folder)
    except VideoError:  # no flow, or a damaged one
        return False
    asked = json.loads(json.dumps(options.record()))  # as JSON gives it back
    if not made_from(there, found.path):
        what = of_another_video(folder, there, found.path)
        raise VideoError(f"{what}; choose another {option('out')}, or {option('overwrite', True)} if the video has changed")
    differing = sorted(key for key in asked if there.get(key) != asked[key] and key not in options.unimportant(there))
    if differing:
        what = ", ".join(f"{key} {shown(str(there.get(key)))} there, {shown(str(asked[key]))} asked" for key in differing)
        raise DatasetError(
            f"flow of other making: {shown(folder)}: {what}; use {option('overwrite', True)} to redo it, or another "
            f"{option('out')}"
        )
    return True


def extract_video(
    found: Found,
    claims: Claims,
    allowed: Sequence[Place],
    options: FlowOptions,
    method: FlowMethod,
    *,
    overwrite: bool,
    bar: tqdm[Any],
) -> FlowOutcome:
    """Extract one video into one of its `allowed` places; the folder appears whole or not at all."""
    video = Video(found.path, fps=options.fps, short_side=options.short_side)
    source = source_record(found.path)  # now, as the video may be gone at the end
    with claims.claimed(found, allowed) as claim:
        if claim is None:
            return FlowOutcome(found.path, "elsewhere", claims.out / allowed[0])
        if not overwrite and finished(found, claim.folder, options):  # another process was faster
            return FlowOutcome(found.path, "kept", claim.folder)
        check_replaceable(claim.folder)
        work = claim.work
        writer = FlowWriter(work, format=options.format, bound=options.bound, quality=options.quality)
        viz = VideoWriter(work / "flow.mp4", fps=video.fps) if options.viz else None
        with contextlib.closing(writer), viz or contextlib.nullcontext():
            for frame, flow in method.moments(video):
                if options.frames:
                    writer.write_frame(frame)
                if flow is None:  # the last frame has none
                    continue
                if not np.abs(flow).max() <= LARGEST_FLOW:  # or NaN
                    raise VideoError(
                        f"flow without bounds: {shown(found.path)}: got {np.abs(flow).max()} pixels from frame "
                        f"{writer.num_flows} on; its parameters are out of range, take those of i3d extract-flow -h"
                    )
                writer.write_flow(flow)
                if viz is not None:
                    viz.write(flow_picture(flow, options.bound))
                bar.update()
        if not writer.num_flows:
            short = f"too short for flow: {shown(found.path)}: got 1 frame at {video.fps:g} fps, expected at least 2"
            raise VideoError(video.loss() or f"{short}; leave it out")
        write_sidecar(work, source, video, writer, options)
    return FlowOutcome(found.path, "extracted", claim.folder, num_flows=writer.num_flows, note=video.loss())


def write_sidecar(work: Path, source: Mapping[str, Any], video: Video, writer: FlowWriter, options: FlowOptions) -> None:
    """Write flow.json, which says how the flow was made; that it exists marks the flow as complete."""
    _, height, width = writer.shape
    record = {
        **options.record(),
        "fps": video.fps,
        "height": height,
        "width": width,
        "num_frames": writer.num_flows + 1,
        "num_flows": writer.num_flows,
        "zero_level": ZERO_LEVEL if FORMATS[options.format].is_clamped else None,
        **source,
        "source_fps": video.source_fps,
        "damaged_frames": video.damaged_frames,
        "lost_frames": video.lost_frames,
        "tool": f"i3d {__version__}",
    }
    (work / FLOW_SIDECAR).write_text(json_text(record), "utf-8")


@contextlib.contextmanager
def pair_bar(todo: Sequence[Found], options: FlowOptions, *, show: bool) -> Iterator[tqdm[Any]]:
    """A bar on stderr over the frame pairs of all videos; a thread counts them, so that the start is not delayed."""
    with tqdm(unit="pair", smoothing=0.05, disable=None if show else True) as bar:
        stop = threading.Event()

        def count() -> None:
            total = 0
            for found in todo:
                if stop.is_set():
                    return
                with contextlib.suppress(VideoError):
                    estimate = Video(found.path, fps=options.fps, short_side=options.short_side).estimated_frames
                    total += max(0, (estimate or 0) - 1)
            bar.total = total
            bar.refresh()

        counter = threading.Thread(target=count, daemon=True)
        if not bar.disable:
            counter.start()
        try:
            yield bar
        finally:
            stop.set()
            if counter.is_alive():
                counter.join()
