"""Waiting for what happens in other threads."""

import gc
import threading
import time

SECONDS = 60  # within which everything that will happen has happened


def named(prefix):
    """The threads whose names begin so."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def gone(prefix):
    """Whether the threads whose names begin so end in time, also those of iterators that a test has left half-way."""
    gc.collect()
    end = time.monotonic() + SECONDS
    while named(prefix) and time.monotonic() < end:
        time.sleep(0.01)
    return not named(prefix)
