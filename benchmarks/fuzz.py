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
import json
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

import hostile_checkpoints
import hostile_lists
import media
import mutations
import oracle
import strangers
import verdicts

import i3dcli
from i3dcli.datasets import load_dataset
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
    "nan": "NaN",
    "believed": "believed",
    "unprintable": "raw text",
    "code": "CODE RUN",
    "flood": "flood",
    "lost": "LOST",
    "left": "left",
    "tool": "OWN FAULT",  # of this program
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


@dataclass
class Inputs:
    """What all cases are made from."""

    folder: Path
    keep: Path | None
    seed: int
    checkpoint: Path
    originals: list[mutations.Original]
    oddities: dict[str, Path]
    wholes: dict[str, tuple[Path, str]]  # checkpoints and their streams
    shorts: list[Path]  # videos of different sizes in bytes
    model: Any = field(repr=False)


def make_inputs(folder: Path, *, seed: int, keep: Path | None) -> Inputs:
    net = oracle.lively(i3dcli.I3D(num_classes=3, in_channels=3, width=0.03))
    net.preprocessing = Preprocessing(short_side=36, crop=32, clip_len=9)
    i3dcli.save_checkpoint(net, folder / "tiny.pt")
    model = i3dcli.load_model(rgb=folder / "tiny.pt", device="cpu")
    for name in ("odd", "whole", "checkpoints"):
        (folder / name).mkdir()
    oddities = mutations.write_oddities(folder / "odd")
    originals = mutations.originals(folder / "whole")
    wholes = hostile_checkpoints.write_wholes(folder / "checkpoints")
    shorts = [media.write_video(folder / f"short{i}.mp4", media.moving(3 + i, 36, 48, seed=i)) for i in range(6)]
    return Inputs(folder, keep, seed, folder / "tiny.pt", originals, oddities, wholes, shorts, model)


def work(inputs: Inputs, case: Case) -> Found:
    """Make a case's input, look at it, and say what became of it."""
    cases = {"video": video_case, "oddity": oddity_case, "checkpoint": checkpoint_case, "list": list_case, "names": names_case}
    return cases[case.kind](inputs, case.number)


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
    what = f"{original.kind}, {way}: {', '.join(mutant.changes) or 'unchanged'}"
    forks.tell(original.container, what)
    folder = scratch(inputs)
    path = folder / f"video{original.suffix}"
    path.write_bytes(mutant.data)
    seen, disturbed = look(inputs, way, path, folder / "out")
    found = verdicts.verdict(seen, mutant, original, path)
    if inputs.keep is not None and (found not in FINE or disturbed):
        shutil.copy(path, inputs.keep / f"{number}_{found}{original.suffix}")
    return Found(found, original.container, f"{what}: {told(seen)}", seen.frames, tuple(disturbed))


def oddity_case(inputs: Inputs, number: int) -> Found:
    """A whole video that is unlike most, of which nothing is to be said."""
    name, path = list(inputs.oddities.items())[number // len(WAYS)]
    way = WAYS[number % len(WAYS)]
    forks.tell("whole, but unlike most", f"{name}, {way}")
    seen, disturbed = look(inputs, way, path, scratch(inputs) / "out")
    short = way == WAYS[-1] and name.startswith("one frame")  # no flow is in it, and that is said
    found = "traceback" if seen.traceback else "memory" if seen.out_of_memory else "right"
    if found == "right" and (seen.notes or bool(seen.errors) != short):
        found = "false"
    return Found(found, "whole, but unlike most", f"{name}, {way}: {told(seen)}", seen.frames, tuple(disturbed))


def checkpoint_case(inputs: Inputs, number: int) -> Found:
    rng = np.random.default_rng([inputs.seed, 1, number])
    folder = scratch(inputs)
    path, stream, what, change = hostile_checkpoints.hostile_checkpoint(rng, folder, inputs.wholes)
    forks.tell(change.replace("_", " "), what)
    form = ["--json"] if rng.random() < 0.5 else []
    seen = verdicts.ran("predict", "--device", "cpu", f"--{stream}", path, *form, inputs.shorts[-1])
    found = verdicts.verdict_on_checkpoint(seen, path, change)
    if inputs.keep is not None and found not in FINE:
        shutil.copy(path, inputs.keep / f"checkpoint{number}_{found}{path.suffix}")
    return Found(found, change.replace("_", " "), f"{what}: {told(seen)[:300]}")


def list_case(inputs: Inputs, number: int) -> Found:
    rng = np.random.default_rng([inputs.seed, 2, number])
    folder = scratch(inputs)
    path, way, what = hostile_lists.hostile_list(rng, folder, inputs.shorts[0])
    group = {"videos": "list of videos", "labels": "names of classes"}.get(way, f"list, {way}")
    forks.tell(group, what)
    rgb = ("--device", "cpu", "--rgb", inputs.checkpoint)
    if way == "dataset":
        with verdicts.watching() as seen:
            load_dataset(path)
    elif way == "eval":
        seen = verdicts.ran("eval", path, *rgb)
    elif way == "videos":
        seen = verdicts.ran("predict", f"@{path}", *rgb)
    else:
        seen = verdicts.ran("predict", inputs.shorts[0], "--labels", path, *rgb)
    return Found(verdicts.verdict_on_list(seen), group, f"{what}: {told(seen)[:300]}")


def names_case(inputs: Inputs, number: int) -> Found:
    """Videos with such names, extracted in several runs into a folder with strangers' files in the places they aim at."""
    rng = np.random.default_rng([inputs.seed, 3, number])
    folder = scratch(inputs)
    tree, out = folder / "in", folder / "out"
    videos = {}  # by their size in bytes, which their sidecars tell
    for name, source in zip(hostile_lists.hostile_names(rng), inputs.shorts, strict=False):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
        videos[source.stat().st_size] = path
    files = strangers.FILES | hostile_lists.strangers_beside(rng, [str(path.relative_to(tree)) for path in videos.values()])
    before = strangers.settle(out, files)
    form = str(rng.choice(["folder", "files", "list"]))
    paths = list(videos.values())
    (tree / "list.txt").write_bytes(b"".join(os.fsencode(path.relative_to(tree)) + b"\n" for path in paths))
    whole = {"folder": [str(tree)], "files": [str(path) for path in rng.permutation(paths)], "list": [f"@{tree / 'list.txt'}"]}
    runs = [[str(paths[0])], whole[form], [*whole[form], "--shard", "1/2"], [*whole[form], "--shard", "0/2"]]
    forks.tell("names", f"{form} {paths}")
    done: dict[Path, dict[str, str]] = {}
    verdict, detail, errors = "right", "", []
    for run in runs if form == "files" or rng.random() < 0.3 else runs[1:]:
        seen = verdicts.ran("extract-flow", *run, "--out", out, "--algorithm", "dis", "--short-side", "16", "--format", "npy")
        detail = f"{form} {[str(path.relative_to(tree))[-40:] for path in paths]}: {told(seen)[:500]}"
        verdict = max(verdict, verdicts.verdict_on_list(seen), key=[*FINE[:3], *SEVERE].index)
        errors = [*errors, *seen.errors] if "--shard" in run else seen.errors
        if any(strangers.tree(place) != content for place, content in done.items()):
            return Found("lost", "names", detail, disturbed=tuple(strangers.disturbed(out, before)))
        done = {sidecar.parent: strangers.tree(sidecar.parent) for sidecar in out.rglob("flow.json") if sidecar.is_file()}
    sizes = {json.loads((place / "flow.json").read_text("utf-8"))["source_bytes"] for place in done}
    missing = [path for size, path in videos.items() if size not in sizes]
    left = [path for path in out.rglob(".*") if path.name.endswith((".partial", ".old", ".tmp"))]
    left = [path for path in left if path not in done and not theirs(path, out, files)]
    if left:
        verdict, detail = "left", f"{left[0].name}: {detail}"
    if len(missing) > len(errors):
        verdict, detail = "lost", f"no flow of {missing[0].name}: {detail}"
    return Found(verdict, "names", detail, disturbed=tuple(strangers.disturbed(out, before)))


SEVERE = ("flood", "unprintable", "mute", "traceback", "memory")


def theirs(path: Path, out: Path, files: dict[str, str]) -> bool:
    """Whether a path is a stranger's, or leads to one."""
    return any(f"{name}/".startswith(f"{path.relative_to(out)}/") for name in files)


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
    said = "; ".join([*seen.errors, *seen.notes]) or "nothing said"
    return said if seen.frames is None else f"{seen.frames} frames, {said}"


def report(title: str, rows: dict[str, Counter[str]]) -> None:
    """Print a table of verdicts by group."""
    total = sum(rows.values(), Counter[str]())
    columns = [verdict for verdict in COLUMNS if total[verdict] or verdict in ("right", "noted", "refused")]
    print(f"\n{title:24}{'tried':>8}" + "".join(f"{COLUMNS[verdict]:>11}" for verdict in columns))
    for name, counts in [*sorted(rows.items()), ("all", total)]:
        print(f"{name:24}{counts.total():8}" + "".join(f"{counts[verdict]:11}" for verdict in columns))


class Tally:
    """What became of all cases of one kind."""

    def __init__(self, title: str):
        self.title = title
        self.rows: dict[str, Counter[str]] = defaultdict(Counter)
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.disturbed = self.deep = 0
        self.most_frames, self.slowest, self.largest = 0, 0.0, 0.0

    def add(self, ended: forks.Ended) -> None:
        found = ended.result if ended.end == "done" else Found(ended.end, *ended.doing or ("?",))
        if ended.end == "tool":
            found.detail += ended.result
        self.rows[found.group][found.verdict] += 1
        self.disturbed += len(found.disturbed)
        self.deep += found.verdict == "silent" and (found.frames or 0) < mutations.FRAMES / 2
        self.most_frames = max(self.most_frames, found.frames or 0)
        self.slowest, self.largest = max(self.slowest, ended.seconds), max(self.largest, ended.gigabytes)
        label = f"{ended.case.kind} {ended.case.number}: {found.detail}"
        if found.verdict not in FINE or found.verdict == "traceless":
            self.faults[found.verdict].append(label)
        if found.disturbed:
            self.faults["strangers' files gone or changed"].append(f"{', '.join(found.disturbed)}: {label}")

    def count(self, *names: str) -> int:
        return sum(counts[name] for counts in self.rows.values() for name in names)

    def line(self) -> str:
        """A row of the last table."""
        numbers = (
            *(sum(counts.total() for counts in self.rows.values()), self.count("traceback"), self.count("crash")),
            *(self.count("hang"), self.count("memory"), self.count("silent"), self.deep, self.disturbed, self.count("lost")),
            *(self.count("false"), self.count("code"), self.count("nan", "believed")),
            self.count("mute", "unprintable", "flood", "left"),
        )
        return f"{self.title:14}" + "".join(f"{number:>11}" for number in numbers)

    def print(self, examples: int) -> None:
        for name, lines in self.faults.items():
            print(f"\n{name}: {len(lines)}{', ' + TRACELESS if name == 'traceless' else ''}")
            print("\n".join(f"  {''.join(c if c.isprintable() else repr(c)[1:-1] for c in line)}" for line in lines[:examples]))
        report(self.title, self.rows)
        print(f"at most {self.most_frames} frames, {self.slowest:.1f} s, {self.largest:.2f} GiB")


HEADINGS = (
    *("tried", "tracebacks", "crashes", "over 60 s", "over 3 GB", "lost > .1", "lost > .5", "strangers'", "ours lost"),
    *("false note", "code run", "NaN, absurd", "other"),
)
TRACELESS = (
    "for bytes were only taken away, none of a missing frame is left, and no count, index or duration in the file claims it"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--lists", type=int, default=1000, help="And half as many sets of names.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="Seconds that a case may take.")
    parser.add_argument("--keep", type=Path, help="Folder for inputs that went wrong.")
    parser.add_argument("--examples", type=int, default=5, help="Cases of each fault to print.")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="Do this case alone, such as video:17.")
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        inputs = make_inputs(Path(name), seed=args.seed, keep=args.keep)
        if args.only:
            kind, number = args.only.split(":")
            print(work(inputs, Case(kind, int(number))))
            return
        numbers = {"oddity": len(WAYS) * len(inputs.oddities), "video": args.videos, "checkpoint": args.checkpoints}
        numbers |= {"list": args.lists, "names": args.lists // 2}
        tallies = {kind: Tally(kind) for kind in numbers}
        cases = [Case(kind, i) for kind, count in numbers.items() for i in range(count)]
        start = time.monotonic()
        for ended in forks.run(lambda case: work(inputs, case), cases, jobs=args.jobs, timeout=args.timeout):
            tallies[ended.case.kind].add(ended)
        for tally in tallies.values():
            tally.print(args.examples)
    print(f"\n{time.monotonic() - start:.0f} s\n\n{'':14}" + "".join(f"{heading:>11}" for heading in HEADINGS))
    print("\n".join(tally.line() for tally in tallies.values()))


if __name__ == "__main__":
    main()
