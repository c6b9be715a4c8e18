"""Streams that are computed ahead of their reader."""

import gc
import threading
import time
from contextlib import closing

import pytest
from patience import gone

from i3dcli.threads import prefetch


def counting(count, taken):
    for i in range(count):
        taken.append(i)
        yield i


def taken_in_the_end(taken, expected):
    """How many items were taken, once `expected` are, or seconds have passed, and a while after."""
    patience = time.monotonic() + 10
    while len(taken) < expected and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(0.05)
    return len(taken)


def test_items_come_in_order():
    assert list(prefetch(iter(range(100)), depth=3)) == list(range(100))


def test_an_empty_source_gives_nothing():
    assert list(prefetch([])) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_one_item_beyond_the_depth_is_taken_before_it_is_asked_for(depth):
    taken = []
    items = prefetch(counting(100, taken), depth=depth)
    assert taken_in_the_end(taken, 0) == 0
    for asked in range(1, 4):
        next(items)
        assert taken_in_the_end(taken, asked + depth + 1) == asked + depth + 1
    items.close()


def test_the_source_runs_in_a_thread_of_its_own():
    def names():
        yield threading.current_thread().name

    assert next(iter(prefetch(names()))).startswith("prefetch")


def test_what_the_source_raises_reaches_the_caller_after_the_items_before_it():
    def broken():
        yield 1
        raise KeyError("lost")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(KeyError, match="lost"):
        next(items)
    assert gone("prefetch")


def test_closing_ends_the_thread_and_takes_no_more():
    taken = []
    items = prefetch(counting(100, taken))
    next(items)
    items.close()
    assert gone("prefetch") and len(taken) <= 3


def test_the_garbage_collector_does_not_wait_for_the_thread():
    """It may run anywhere, also in a thread that starts, which holds what a thread that ends needs."""
    released, entered = threading.Event(), threading.Event()

    def slow():
        yield 1
        entered.set()
        released.wait(60)

    def reading():
        with closing(prefetch(slow())) as items:
            yield from items

    circle = [reading()]
    circle.append(circle)
    assert next(circle[0]) == 1 and entered.wait(60)
    del circle
    begun = time.monotonic()
    gc.collect()
    assert time.monotonic() - begun < 30
    released.set()
    assert gone("prefetch")
