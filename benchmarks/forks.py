"""Work in processes that are forked from this one, which has imported everything: each case within a time and a memory.

What ends a process is a result as any other, and another process takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

GIGABYTE = 2**30
PERIOD = 0.05  # seconds between two looks at the memory of the processes
HEADROOM = 12.0  # GiB of addresses beyond the limit on memory, so that it is seldom the lack of them that ends a case


class Ended(NamedTuple):
    """What became of a case."""

    case: Any
    result: Any  # what the work returned; None where it did not
    end: str  # done, hang, memory, crash, or tool where the work itself failed, with its traceback as result
    seconds: float
    gigabytes: float  # at most at any time of the case; 0 where it is not known
    doing: Any  # what the work told last


parent: Connection | None = None  # of a worker, to tell what it does


def tell(what: Any) -> None:
    """Say from within the work what it is about, for whoever finds it ended."""
    if parent is not None:
        parent.send((what, True, 0.0))


class Worker:
    """A forked process that does one case after the other."""

    def __init__(self, work: Callable[[Any], Any], memory: float):
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(work, theirs, memory), daemon=True)
        self.process.start()
        theirs.close()
        self.case: Any = None
        self.doing: Any = None
        self.busy, self.since = False, 0.0

    def give(self, case: Any) -> None:
        self.case, self.doing, self.busy, self.since = case, None, True, time.monotonic()
        self.connection.send(case)

    def stop(self) -> int | None:
        """End it, and give its exit code, negative where a signal did it."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def serve(work: Callable[[Any], Any], connection: Connection, memory: float) -> None:
    """Do cases until there are no more."""
    global parent
    parent = connection
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)  # of libraries that complain; what commands print is caught before
    limit = int(proc_status("VmSize") * 1024 + (memory + HEADROOM) * GIGABYTE)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        forget_peak()
        try:
            result, failure = work(case), None
        except MemoryError:
            result, failure = None, "memory"
        except BaseException:  # noqa: BLE001  # a fault of the program that runs this, and told as such
            result, failure = traceback.format_exc(), "tool"
        connection.send((result, failure, proc_status("VmHWM") / 1024**2))


def proc_status(field: str) -> int:
    """Kilobytes of this process, by the name that Linux gives them."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def run(
    work: Callable[[Any], Any], cases: Iterable[Any], *, jobs: int, timeout: float = 60.0, memory: float = 3.0
) -> Iterator[Ended]:
    """What became of each case, as they end; `timeout` in seconds, `memory` in GiB."""
    waiting = iter(cases)
    workers = [Worker(work, memory) for _ in range(jobs)]
    idle = list(workers)
    try:
        while True:
            for worker in idle:
                for case in waiting:
                    worker.give(case)
                    break
            idle = []
            busy = [worker for worker in workers if worker.busy]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy], timeout=PERIOD)
            for number, worker in enumerate(workers):
                if not worker.busy:
                    continue
                ended = received(worker, memory) if worker.connection in ready else None
                if ended is None and time.monotonic() - worker.since > timeout:
                    ended = outcome(worker, None, "hang")
                if ended is None and (gigabytes := resident(worker.process.pid)) > memory:
                    ended = outcome(worker, None, "memory", gigabytes)
                if ended is None:
                    continue
                worker.busy = False
                if ended.end != "done":  # also after memory: it may not all be free again
                    worker.stop()
                    worker = workers[number] = Worker(work, memory)
                idle.append(worker)
                yield ended
    finally:
        for worker in workers:
            worker.stop()


def received(worker: Worker, memory: float) -> Ended | None:
    """What a worker sent, or how it died; None where it only told what it does."""
    try:
        result, failure, gigabytes = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        killed = worker.process.exitcode == -signal.SIGKILL  # by the system, for want of memory
        return outcome(worker, worker.process.exitcode, "memory" if killed else "crash")
    if failure is True:
        worker.doing = result
        return None
    end = failure or ("memory" if gigabytes > memory else "done")
    return outcome(worker, result, end, gigabytes)


def resident(pid: int | None) -> float:
    """GiB of memory that a process has now."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / GIGABYTE


def outcome(worker: Worker, result: Any, end: str, gigabytes: float = 0.0) -> Ended:
    return Ended(worker.case, result, end, time.monotonic() - worker.since, gigabytes, worker.doing)
