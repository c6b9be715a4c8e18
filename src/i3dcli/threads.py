"""Streams that are computed ahead of their reader, in threads: lazy, in order, a few items at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from .stopping import StopFlag

Item = TypeVar("Item")
Result = TypeVar("Result")

END = object()  # after the last item


def threaded_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, stop: StopFlag | None = None
) -> Iterator[Result]:
    """`function` of each item, in order, computed on `threads` threads (default: every core).

    Items are taken as the results are asked for, a few ahead, so that a stream of any length fits in memory; what the
    source raises reaches the caller, and closing the iterator ends the threads: `stop` is set then, for a function that
    takes long to look at.
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
        if stop is not None:
            stop.set()
        end(pool)


def prefetch(items: Iterable[Item], *, depth: int = 1) -> Generator[Item, None, None]:
    """`items`, taken by a thread of its own, up to `depth` + 1 of them before they are asked for.

    What the source raises reaches the caller; closing the iterator ends the thread after the item it is at.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, source, END) for _ in range(depth + 1))
        while (item := pending.popleft().result()) is not END:
            pending.append(pool.submit(next, source, END))
            yield cast(Item, item)
    finally:
        end(pool)


def end(pool: ThreadPoolExecutor) -> None:
    """End the threads of a pool after what they are at, without waiting for that.

    An iterator that nobody closes is closed by the garbage collector, which may run in a thread that is about to start and
    holds the lock without which no thread can be waited for. Python waits for all threads at its own end.
    """
    pool.shutdown(wait=False, cancel_futures=True)


def available_cores() -> int:
    """Those this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
