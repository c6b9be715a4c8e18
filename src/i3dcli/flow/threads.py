"""A map over a stream on a pool of threads: lazy, in order, a few items ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def threaded_map(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None) -> Iterator[Result]:
    """`function` of each item, in order, computed on `threads` threads (default: every core).

    Items are taken as the results are asked for, a few ahead, so that a stream of any length fits in memory; what the
    source raises reaches the caller, and closing the iterator ends the threads.
    """
    threads = threads or available_cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="flow")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:  # one spare task, so that no thread waits for the source
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Those this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
