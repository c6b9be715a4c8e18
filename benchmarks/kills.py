"""Commands killed at random while they write: what they had finished stays, and the next run makes the rest, to the byte.

    python benchmarks/kills.py --kills 200

extract-flow, train, eval and predict run on small videos made here, in processes that are forked from this one, which has
imported everything. A kill counts as a hit if the process had begun to write and had not ended; kills go on until three
quarters of them are hits. After each, the same command runs to its end, and what it leaves is compared with what it leaves
undisturbed. Every folder that is written to holds strangers' files.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch; and a process with threads does not fork well

import argparse
import contextlib
import importlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracle
import strangers
from media import moving, write_video

import i3dcli.evaluation.evaluate
import i3dcli.flow.extract
import i3dcli.prediction.predict
import i3dcli.training.train  # noqa: F401  # as the commands import them, when they run
from i3dcli.cli.main import main as command_line

SIGNALS = {signal.SIGKILL: 0.7, signal.SIGTERM: 0.2, signal.SIGINT: 0.1}
EXIT_CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
PERIOD = 0.0005  # seconds between two looks at the output folder
TIMEOUT = 60.0  # seconds for a process to end
HITS = 0.75  # of all kills
THEIRS = {name: text for name, text in strangers.FILES.items() if name != "config.json"}  # which train and eval write
TEMPORARY = (".tmp", ".partial", ".old")
NEVER_EQUAL = ("events.out",)  # TensorBoard's, which are of each process


@dataclass
class Job:
    """A command, and what it leaves in a folder when nothing disturbs it."""

    name: str
    arguments: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]  # what to run after a kill
    share: float  # of all kills
    prepared: bool = False  # the folder holds a complete result before, which is made again
    whole: dict[str, object] = field(default_factory=dict)  # what each file says
    unequal: set[str] = field(default_factory=set)  # files that differ between two undisturbed runs
    span: float = 0.0  # seconds from the first change in the folder to the end; as fast as the machine has been lately


def make_jobs(folder: Path) -> list[Job]:
    """The commands, on inputs made here."""
    videos = folder / "videos"
    for i in range(8):
        path = videos / ("left" if i % 2 else "right") / f"v{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving(14, 48, 64, step=(0, 2 - 4 * (i % 2)), seed=i))
    (folder / "test.txt").write_text("".join(f"videos/{'left' if i % 2 else 'right'}/v{i}.mp4 {i % 2}\n" for i in range(8)))
    (folder / "classes.txt").write_text("".join(f"action {i}\n" for i in range(10)))
    paths = oracle.save_streams(folder, short_side=36, crop=32, clip_len=9, flow_algorithm="dis", flow_parameters=None)
    both = ["--device", "cpu", "--rgb", str(paths["rgb"]), "--flow", str(paths["flow"])]
    flow = ["extract-flow", str(videos), "--algorithm", "dis", "--short-side", "48", "--frames", "--viz", "--out"]
    train = [
        "train",
        str(videos),
        "--device",
        "cpu",
        "--workers",
        "0",
        "--width",
        "0.125",
        "--crop",
        "32",
        "--short-side",
        "36",
    ]
    train += ["--clip-len", "9", "--batch-size", "4", "--epochs", "8", "--log-every", "1", "--seed", "3", "--out"]
    evaluate = ["eval", str(folder / "test.txt"), *both, "--classes", str(folder / "classes.txt"), "--out"]
    film = write_video(folder / "film.mp4", moving(60, 64, 80))

    def scores(out: Path) -> list[str]:
        return ["predict", str(videos), *both, "--scores", str(out / "s.npz"), "--features", str(out / "f.npz")]

    def pictures(out: Path) -> list[str]:
        drawn = ["--annotate", str(out / "a.mp4"), "--plot", str(out / "p.png"), "--show-flow", "--window", "10"]
        return ["predict", str(film), *both, *drawn]

    def resumed(out: Path) -> list[str]:
        again = ["train", "--resume", "--device", "cpu", "--workers", "0", "--log-every", "1", "--out"]
        return [*(again if (out / "last.pt").exists() else train), str(out)]

    def flow_to(out: Path) -> list[str]:
        return [*flow, str(out)]

    return [
        Job("extract-flow", flow_to, flow_to, 0.26),
        Job("extract-flow --overwrite", lambda out: [*flow_to(out), "--overwrite"], flow_to, 0.12, prepared=True),
        Job("train", lambda out: [*train, str(out)], resumed, 0.18),
        Job("eval --out", lambda out: [*evaluate, str(out)], lambda out: [*evaluate, str(out)], 0.2),
        Job("predict --scores --features", scores, scores, 0.08),
        Job("predict --annotate --plot", pictures, pictures, 0.16),
    ]


def start(arguments: list[str], log: Path, *, modules: Path | None = None) -> int:
    """Fork a process that runs a command as its console script does; its id. What it prints goes to `log`.

    What it had imported in the end goes to `modules`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["i3d", *arguments]
        command_line(arguments, prog_name="i3d")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except KeyboardInterrupt:
        code = 130
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if modules is not None:
            modules.write_text("\n".join(sys.modules))
        os._exit(code)


def import_all(modules: Path) -> None:
    """Import here what a process imported, so that later ones find it done."""
    for name in modules.read_text().splitlines():
        if name not in sys.modules and not name.startswith("__"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def ended(pid: int) -> int | None:
    """The exit code of a process, negative where a signal ended it; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def run(arguments: list[str], log: Path, *, modules: Path | None = None) -> int:
    """Run a command to its end; its exit code, or that of the SIGKILL that a hang ends in."""
    pid, begin = start(arguments, log, modules=modules), time.monotonic()
    while (code := ended(pid)) is None:
        if time.monotonic() - begin > TIMEOUT:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return code


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file and folder in a folder, as cheaply as can be."""
    found, todo = {}, [str(folder)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.path] = (status.st_size, status.st_mtime_ns)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return found


def wait_for_change(pid: int, folder: Path, before: dict[str, tuple[int, int]]) -> int | None:
    """Wait until a folder is not as before; the exit code of a process that ends earlier."""
    until = time.monotonic() + TIMEOUT
    while seen(folder) == before and time.monotonic() < until:
        if (code := ended(pid)) is not None:
            return code
        time.sleep(PERIOD)
    return None


def content(path: Path) -> object:
    """What a file says: its bytes, or where these tell of the clock, the rest of it."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)["state_dict"]
        return {key: value.numpy().tobytes() for key, value in state.items()}
    if path.suffix == ".jsonl":  # a line that was cut off is passed over, and an empty one ends it
        return {line for line in path.read_bytes().splitlines() if line and is_json(line)}
    if path.name == "log.csv":
        return [line.split(",")[:-1] if "clips_per_second" in line else numbers(line) for line in path.read_text().splitlines()]
    return path.read_bytes()


def is_json(line: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(line), dict)
    return False


def numbers(line: str) -> list[str]:
    """The columns of a log without the speed, the only one that no two runs share; it follows on loss and accuracy."""
    cells = line.split(",")
    return [*cells[:5], *cells[6:]]


def contents(out: Path) -> dict[str, object]:
    """What all files of ours in a folder say, by their relative path."""
    files = [path for path in out.rglob("*") if path.is_file() and not strangers.is_theirs(path, out, THEIRS)]
    return {str(path.relative_to(out)): content(path) for path in files if not path.name.startswith(NEVER_EQUAL)}


def measure(job: Job, folder: Path) -> None:
    """Find out what a command leaves undisturbed, which of it no two runs share, and when it writes."""
    found = []
    if run(job.arguments(prepared(job, folder / "out")), folder / "log", modules=folder / "modules") == 0:
        import_all(folder / "modules")
    for _ in range(2):
        out = prepared(job, folder / "out")
        before, begin = seen(out), time.monotonic()
        pid = start(job.arguments(out), folder / "log")
        code = wait_for_change(pid, out, before)
        begins = time.monotonic() - begin
        while code is None:
            code = ended(pid)
            time.sleep(PERIOD)
        job.span = time.monotonic() - begin - begins
        if code != 0:
            raise RuntimeError(f"{job.name}: {(folder / 'log').read_text()}")
        found.append(contents(out))
    job.whole = found[1]
    job.unequal = {name for name in {*found[0], *found[1]} if found[0].get(name) != found[1].get(name)}


def prepared(job: Job, out: Path) -> Path:
    """An output folder with strangers' files, and what a first run left where that is to be done again."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    strangers.settle(out, THEIRS)
    if job.prepared and run(job.again(out), out.with_name("log")) != 0:
        raise RuntimeError(f"{job.name}: {out.with_name('log').read_text()}")
    return out


@dataclass
class Kill:
    """What became of a killed command."""

    hit: bool
    faults: dict[str, str]  # what was wrong, and where


def kill(job: Job, folder: Path, rng: np.random.Generator) -> Kill:
    """Kill a command, run it again, and compare."""
    out, log = prepared(job, folder / "out"), folder / "log"
    theirs, before = strangers.snapshot(out, THEIRS), seen(out)
    number = signal.Signals(int(rng.choice([int(number) for number in SIGNALS], p=list(SIGNALS.values()))))
    pid = start(job.arguments(out), log)
    code = wait_for_change(pid, out, before)
    begin = time.monotonic()
    until = begin + rng.uniform(0, 0.9) * job.span
    while code is None and time.monotonic() < until:
        time.sleep(PERIOD)
        code = ended(pid)
    job.span = min(job.span, time.monotonic() - begin) * 0.9 if code is not None else job.span * 1.03
    faults: dict[str, str] = {}
    hit = code is None
    if hit:
        os.kill(pid, number)
        sent = time.monotonic()
        while (code := ended(pid)) is None and time.monotonic() - sent < TIMEOUT:
            time.sleep(PERIOD)
        if code is None:
            faults["no end"] = f"{number.name}: no end in {TIMEOUT} s"
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        elif code == 0:
            hit = False  # it was done when the signal came
        elif code != EXIT_CODES[number]:
            faults["exit code"] = f"{number.name}: exit code {code}, expected {EXIT_CODES[number]}: {last_line(log)}"
    text = log.read_text(errors="replace")
    if "Traceback" in text:
        faults["traceback"] = f"{number.name}: {last_line(log)}"
    faults |= damage(job, out, partly=number != signal.SIGKILL)
    faults |= rerun(job, out, log)
    if gone := strangers.disturbed(out, theirs):
        faults["strangers'"] = ", ".join(gone)
    return Kill(hit, faults)


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or [""])[-1][:200]


def damage(job: Job, out: Path, *, partly: bool) -> dict[str, str]:
    """What of a killed command's output is under its name and not whole; `partly` where a signal that is seen allows a part."""
    for sidecar in out.rglob("flow.json"):
        if not sidecar.parent.name.startswith("."):
            there = contents(sidecar.parent)
            place = sidecar.parent.relative_to(out)
            wanted = {name: what for name, what in job.whole.items() if Path(name).parent == place}
            if {Path(name).name: what for name, what in wanted.items()} != there:
                return {"not whole": f"{place}"}
    for path in [path for path in out.iterdir() if path.suffix in (".npz", ".pt", ".mp4", ".png", ".html")]:
        if path.name in THEIRS:
            continue
        try:
            what = content(path)
        except Exception as error:  # noqa: BLE001  # whatever a reader says of half a file
            return {"not whole": f"{path.name}: {error}"}
        if path.suffix == ".mp4" and what != job.whole[path.name] and not partly:
            return {"not whole": f"{path.name}: other bytes"}
    return {}


def rerun(job: Job, out: Path, log: Path) -> dict[str, str]:
    """Run a killed command again, and compare what is there then with what it leaves undisturbed."""
    arguments = job.again(out)
    code = run(arguments, log)
    if code and "--overwrite" in log.read_text(errors="replace"):
        code = run([*arguments, "--overwrite"], log)
    if code:
        return {"not whole": f"the next run: exit code {code}: {last_line(log)}"}
    faults = {}
    found = contents(out)
    left = list(left_behind(out))
    found = {name: what for name, what in found.items() if not any(f"{name}/".startswith(f"{one}/") for one in left)}
    different = sorted(name for name in {*found, *job.whole} - job.unequal if found.get(name) != job.whole.get(name))
    if different:
        faults["not whole"] = f"after the next run: {', '.join(different[:3])}"
    if left:
        faults["left behind"] = ", ".join(left[:3])
    return faults


def left_behind(out: Path) -> Iterable[str]:
    for path in out.rglob(".*"):
        if path.name.endswith(TEMPORARY) and not strangers.is_theirs(path, out, THEIRS):
            yield str(path.relative_to(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="At least; more until three quarters are hits.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=5, help="Of each fault of each command to print.")
    parser.add_argument("--only", help="A part of the name of the commands to try.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(args.seed)
    kills: dict[str, list[Kill]] = defaultdict(list)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [job for job in make_jobs(folder) if (args.only or "") in job.name]
        for job in jobs:
            measure(job, folder)
            print(f"{job.name}: writes for {job.span:.2f} s", end="")
            print(f"; no two runs share {', '.join(sorted(job.unequal))}" if job.unequal else "", flush=True)
            for thread in threading.enumerate()[1:]:
                raise RuntimeError(f"{thread} runs, a process with threads does not fork well")
        shares = np.array([job.share for job in jobs])
        count = hits = 0
        while count < args.kills or hits < HITS * count:
            job = jobs[int(rng.choice(len(jobs), p=shares / shares.sum()))]
            kills[job.name].append(kill(job, folder, rng))
            count, hits = count + 1, hits + kills[job.name][-1].hit
            if count == 2 * args.kills:
                break
    columns = ("not whole", "left behind", "strangers'", "no end", "traceback", "exit code")
    total = Counter[str]()
    rows = []
    for name, done in kills.items():
        counts = Counter(fault for one in done for fault in one.faults)
        counts |= Counter({"kills": len(done), "hits": sum(one.hit for one in done)})
        total += counts
        rows.append((name, counts))
        for fault in columns:
            if texts := [one.faults[fault] for one in done if fault in one.faults]:
                print(f"\n{name}, {fault}: {len(texts)}")
                print("\n".join(f"  {text}" for text in texts[: args.examples]))
    columns = ("kills", "hits", *columns)
    print(f"\n{'command':30}" + "".join(f"{column:>13}" for column in columns))
    for name, counts in [*rows, ("all", total)]:
        print(f"{name:30}" + "".join(f"{counts[column]:>13}" for column in columns))
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
