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
import dataclasses
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import forks
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import hostile_checkpoints
import mutations
import trials
import verdicts

FAULTS = {
    **verdicts.FAULTS,
    "crash": "the process died",
    "hang": "more than 60 s",
    "tool": "this program failed",
}
HEADINGS = (
    *("tried", "tracebacks", "crashes", "over 60 s", "over 3 GB", "lost > .1", "lost > .5", "strangers'", "ours lost"),
    *("false note", "code run", "NaN, absurd", "other"),
)


class Case(NamedTuple):
    """The number of a case among those of its kind."""

    kind: str
    number: int


@dataclass(frozen=True)
class Trials:
    """The cases, each to be tried in any process."""

    inputs: trials.Inputs
    oddities: list[tuple[str, Path, str]]  # name, path, way
    seed: int
    keep: Path | None

    def __call__(self, case: Case) -> trials.Found:
        folder = self.inputs.folder / str(os.getpid())
        inputs = dataclasses.replace(self.inputs, folder=folder)
        if case.kind == "oddity":
            return trials.oddity(inputs, *self.oddities[case.number])
        found = getattr(trials, case.kind)(inputs, case.number, seed=self.seed, tell=forks.tell)
        if self.keep is not None and (found.verdict in FAULTS or found.disturbed):
            shutil.copytree(folder, self.keep / f"{case.kind}{case.number}_{found.verdict}", symlinks=True, dirs_exist_ok=True)
        return found


class Tally:
    """What became of all cases of one kind."""

    def __init__(self, title: str):
        self.title = title
        self.rows: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.disturbed = self.deep = 0
        self.most_frames, self.slowest, self.largest = 0, 0.0, 0.0

    def add(self, ended: forks.Ended) -> None:
        found = ended.result if ended.end == "done" else ended.doing or trials.Found("?")
        if ended.end != "done":
            found.verdict, found.said = ended.end, str(ended.result or "")
        self.rows[found.group][found.verdict] += 1
        self.disturbed += len(found.disturbed)
        self.deep += found.verdict == "silent" and found.frames < mutations.FRAMES / 2
        self.most_frames = max(self.most_frames, found.frames or 0)
        self.slowest, self.largest = max(self.slowest, ended.seconds), max(self.largest, ended.gigabytes)
        text = f"{ended.case.kind}:{ended.case.number}: {found.text[:400]}"
        self.examples[found.verdict].append(text)
        if found.disturbed:
            self.examples["strangers"].append(f"{', '.join(found.disturbed)}: {text}")

    def count(self, *verdicts: str) -> int:
        return sum(counts[verdict] for counts in self.rows.values() for verdict in verdicts)

    def print(self, most: int) -> None:
        """Examples of what went wrong, and a table of verdicts by group."""
        meanings = {"traceless": verdicts.FINE["traceless"], "strangers": "files of others gone or changed", **FAULTS}
        for verdict, meaning in meanings.items():
            if lines := self.examples[verdict]:
                print(f"\n{verdict}, {meaning}: {len(lines)}")
                print("\n".join("  " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines[:most]))
        total = sum(self.rows.values(), Counter[str]())
        columns = [*list(verdicts.FINE)[:3], *(verdict for verdict in [*list(verdicts.FINE)[3:], *FAULTS] if total[verdict])]
        print(f"\n{self.title:24}{'tried':>8}" + "".join(f"{verdict:>12}" for verdict in columns))
        for name, counts in [*sorted(self.rows.items()), ("all", total)]:
            print(f"{name:24}{counts.total():8}" + "".join(f"{counts[verdict]:12}" for verdict in columns))
        if lost := self.examples["silent"]:
            ways = {way: sum(f", {way}: " in text for text in lost) for way in trials.WAYS}
            print("silent by way: " + ", ".join(f"{way} {count}" for way, count in ways.items()))
        print(f"at most {self.most_frames} frames, {self.slowest:.1f} s, {self.largest:.2f} GiB")

    def line(self) -> str:
        """A row of the last table."""
        numbers = (
            *(sum(counts.total() for counts in self.rows.values()), self.count("traceback"), self.count("crash")),
            *(self.count("hang"), self.count("memory"), self.count("silent"), self.deep, self.disturbed, self.count("lost")),
            *(self.count("false"), self.count("code"), self.count("nan", "believed")),
            self.count("mute", "unprintable", "flood", "left", "tool"),
        )
        return f"{self.title:12}" + "".join(f"{number:>12}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--lists", type=int, default=1000, help="And half as many sets of names.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="Seconds that a case may take.")
    parser.add_argument("--keep", type=Path, help="Folder for the inputs that went wrong.")
    parser.add_argument("--examples", type=int, default=5, help="Cases of each fault to print.")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="Try this case alone, such as video:17, in this process.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        tried = make_trials(Path(name), seed=args.seed, keep=args.keep)
        if args.only:
            kind, number = args.only.split(":")
            print(tried(Case(kind, int(number))))
            return
        numbers = {"oddity": len(tried.oddities), "video": args.videos, "checkpoint": args.checkpoints}
        numbers |= {"labels": args.lists, "names": args.lists // 2}
        tallies = {kind: Tally(kind) for kind, number in numbers.items() if number}
        cases = [Case(kind, i) for kind, number in numbers.items() for i in range(number)]
        start = time.monotonic()
        for ended in forks.run(tried, cases, jobs=args.jobs, timeout=args.timeout):
            tallies[ended.case.kind].add(ended)
        for tally in tallies.values():
            tally.print(args.examples)
    print(f"\n{time.monotonic() - start:.0f} s\n\n{'':12}" + "".join(f"{heading:>12}" for heading in HEADINGS))
    print("\n".join(tally.line() for tally in tallies.values()))


def make_trials(folder: Path, *, seed: int, keep: Path | None) -> Trials:
    """Everything that cases are made from, made once, before there are other processes."""
    inputs = trials.make_inputs(folder, perils=True)
    hostile_checkpoints.packed_zeros()
    (folder / "odd").mkdir()
    oddities = [(name, path, way) for name, path in mutations.write_oddities(folder / "odd").items() for way in trials.WAYS]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    return Trials(inputs, oddities, seed, keep)


if __name__ == "__main__":
    main()
