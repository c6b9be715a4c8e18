"""Thousands of damaged and hostile inputs through the whole package, and what became of each: every one should be right, noted
or refused in one line.

    python benchmarks/fuzz.py --videos 10000 --checkpoints 1000 --lists 1000 --jobs 2

Makes its inputs itself, from `--seed`, in a temporary folder; `--keep DIR` keeps those that went wrong. Each case runs in a
process that is forked from this one, within 60 seconds and 3 GB. Videos go the way of `predict` without its command line
mostly, and a share of them through the commands. Prints a table for each kind of input, and last one of all of them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch; and a process with threads does not fork well

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import forks
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import mutations
import oracle
import strangers
import verdicts

import i3dcli
from i3dcli.defaults import Preprocessing

WAYS = ("the path of predict", "read_video", "i3d predict", "i3d predict --timeline", "i3d extract-flow")
SHARES = (0.68, 0.08, 0.06, 0.03, 0.15)
UNTOUCHED = 0.03  # of the videos are whole
COLUMNS = {  # verdict: its column in the tables
    "right": "right",
    "noted": "noted",
    "refused": "refused",
    "traceless": "no trace",
    "silent": "SILENT",
    "false": "FALSE",
    "inflated": "inflated",
    "mute": "mute",
    "traceback": "trace-back",
    "crash": "crash",
    "hang": "hang",
    "memory": "memory",
}
FINE = ("right", "noted", "refused", "traceless", "inflated")


class Case(NamedTuple):
    """The number of a case among those of its kind."""

    kind: str
    number: int


@dataclass
class Found:
    """What became of one case."""

    verdict: str
    group: str  # the row of its table
    detail: str = ""
    frames: int | None = None
    disturbed: tuple[str, ...] = ()  # files that are not ours and are gone or changed
    lost: int = 0  # results of ours that a later run destroyed


@dataclass
class Inputs:
    """What all cases are made from."""

    folder: Path
    keep: Path | None
    seed: int
    checkpoint: Path
    originals: list[mutations.Original]
    oddities: dict[str, Path]
    model: Any = field(repr=False)


def make_inputs(folder: Path, *, seed: int, keep: Path | None) -> Inputs:
    net = oracle.lively(i3dcli.I3D(num_classes=3, in_channels=3, width=0.03))
    net.preprocessing = Preprocessing(short_side=36, crop=32, clip_len=9)
    i3dcli.save_checkpoint(net, folder / "tiny.pt")
    model = i3dcli.load_model(rgb=folder / "tiny.pt", device="cpu")
    (folder / "odd").mkdir()
    (folder / "whole").mkdir()
    oddities = mutations.write_oddities(folder / "odd")
    return Inputs(folder, keep, seed, folder / "tiny.pt", mutations.originals(folder / "whole"), oddities, model)


def work(inputs: Inputs, case: Case) -> Found:
    """Make a case's input, look at it, and say what became of it."""
    return {"video": video_case, "oddity": oddity_case}[case.kind](inputs, case.number)


def scratch(inputs: Inputs) -> Path:
    """An empty folder of this process."""
    folder = inputs.folder / f"work{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def video_case(inputs: Inputs, number: int) -> Found:
    rng = np.random.default_rng([inputs.seed, 0, number])
    original = inputs.originals[number % len(inputs.originals)]
    whole = rng.random() < UNTOUCHED
    mutant = mutations.unchanged(original) if whole else mutations.mutant(rng, original, inputs.originals)
    way = str(rng.choice(WAYS, p=SHARES))
    folder = scratch(inputs)
    path = folder / f"video{original.suffix}"
    path.write_bytes(mutant.data)
    seen, disturbed = look(inputs, way, path, folder / "out")
    found = verdicts.verdict(seen, mutant, original, path)
    detail = f"{original.kind}, {way}: {', '.join(mutant.changes) or 'unchanged'}: {told(seen)}"
    if inputs.keep is not None and (found not in FINE or disturbed):
        shutil.copy(path, inputs.keep / f"{number}_{found}{original.suffix}")
    return Found(found, original.container, detail, seen.frames, tuple(disturbed))


def oddity_case(inputs: Inputs, number: int) -> Found:
    """A whole video that is unlike most, of which nothing is to be said."""
    name, path = list(inputs.oddities.items())[number // len(WAYS)]
    way = WAYS[number % len(WAYS)]
    seen, disturbed = look(inputs, way, path, scratch(inputs) / "out")
    short = way == WAYS[-1] and name.startswith("one frame")  # no flow is in it, and that is said
    found = "traceback" if seen.traceback else "memory" if seen.out_of_memory else "right"
    if found == "right" and (seen.notes or bool(seen.errors) != short):
        found = "false"
    return Found(found, "whole, but unlike most", f"{name}, {way}: {told(seen)}", seen.frames, tuple(disturbed))


def look(inputs: Inputs, way: str, path: Path, out: Path) -> tuple[verdicts.Seen, list[str]]:
    """A video seen in one of the ways, and what of strangers' files was disturbed by it."""
    if way == "i3d extract-flow":
        before = strangers.settle(out)
        return verdicts.extracted(path, out), strangers.disturbed(out, before)
    if way == "read_video":
        return verdicts.read(path), []
    if way == "the path of predict":
        return verdicts.looked(inputs.model, path), []
    options = ["--timeline", "--window", "8"] if "--timeline" in way else []
    return verdicts.predicted(inputs.checkpoint, path, *options), []


def told(seen: verdicts.Seen) -> str:
    """What was said, in a few words."""
    if seen.traceback is not None:
        return seen.traceback.strip().splitlines()[-1]
    return f"{seen.frames} frames, {'; '.join([*seen.errors, *seen.notes]) or 'nothing said'}"


def report(title: str, rows: dict[str, Counter[str]]) -> None:
    """Print a table of verdicts by group."""
    total = Counter[str]()
    for counts in rows.values():
        total.update(counts)
    columns = [verdict for verdict in COLUMNS if total[verdict] or verdict in ("right", "noted", "refused")]
    print(f"\n{title:24}{'tried':>8}" + "".join(f"{COLUMNS[verdict]:>11}" for verdict in columns))
    for name, counts in [*rows.items(), ("all", total)]:
        print(f"{name:24}{counts.total():8}" + "".join(f"{counts[verdict]:11}" for verdict in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="Seconds that a case may take.")
    parser.add_argument("--keep", type=Path, help="Folder for inputs that went wrong.")
    parser.add_argument("--examples", type=int, default=5, help="Cases of each fault to print.")
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        inputs = make_inputs(Path(name), seed=args.seed, keep=args.keep)
        cases = [Case("oddity", i) for i in range(len(WAYS) * len(inputs.oddities))]
        cases += [Case("video", i) for i in range(args.videos)]
        start = time.monotonic()
        rows: dict[str, Counter[str]] = defaultdict(Counter)
        faults: dict[str, list[str]] = defaultdict(list)
        for ended in forks.run(lambda case: work(inputs, case), cases, jobs=args.jobs, timeout=args.timeout):
            found = ended.result if ended.end == "done" else Found(ended.end, "?", "")
            rows[found.group][found.verdict] += 1
            if found.verdict not in FINE or found.verdict == "traceless":
                faults[found.verdict].append(f"{ended.case.kind} {ended.case.number}: {found.detail}")
        for verdict, lines in faults.items():
            print(f"\n{verdict}: {len(lines)}")
            print("\n".join(f"  {line}" for line in lines[: args.examples]))
        report("videos", rows)
        print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
