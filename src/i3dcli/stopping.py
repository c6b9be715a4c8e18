"""How a process, and its work in threads, ends before it is done: by signals, and by a flag that the work looks at."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from traceback import walk_stack
from types import FrameType

SOON, LATER = 0.1, 1.0  # seconds until an interruption is tried again: where it was no time for it, or it got lost
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(Exception):
    """Work that was told to stop; nobody waits for its result any more."""


class StopFlag:
    """A flag that one thread sets while others, in compiled code too, look at its byte."""

    def __init__(self) -> None:
        self.flag = bytearray(1)

    def set(self) -> None:
        self.flag[0] = 1

    def check(self) -> None:
        """Raise Stopped once the flag is set."""
        if self.flag[0]:
            raise Stopped


class Interrupted(SystemExit):
    """A signal has come; the exit code is the one that shells give to what it ends."""

    def __init__(self, number: int, *, told: bool = False) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.told = told  # whether the user knows what is kept


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP raise Interrupted in the block; a second one ends the process at once.

    Those that are ignored, as by nohup, stay so. Under torchrun a second one has no effect: torchrun passes on what the
    terminal has sent already, and kills after a while.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in usual}
    if threading.current_thread() is not threading.main_thread() or not before:
        yield
        return
    interruption = Interruption()
    told, sys.unraisablehook = sys.unraisablehook, not_told_of_interruptions
    for number in before:
        signal.signal(number, interruption.begin)
    with interruption.tried_again():
        try:
            yield
        finally:
            sys.unraisablehook = told
            for number, handler in before.items():
                signal.signal(number, handler)


def not_told_of_interruptions(unraisable: sys.UnraisableHookArgs) -> None:
    """For an exception that nobody can catch, as in a callback of C: an interruption comes again, others are told."""
    if not issubclass(unraisable.exc_type, Interrupted):
        sys.__unraisablehook__(unraisable)


class Interruption:
    """Raises Interrupted in the main thread until it is on its way out.

    Once is not enough: what a signal's handler raises within a callback of C, such as LLVM's, Python prints and forgets;
    and within the initialisation of a library in C++ it aborts the process.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @contextlib.contextmanager
    def tried_again(self) -> Iterator[None]:
        """Within the block, an alarm calls `again`, where the system has alarms."""
        if not hasattr(signal, "setitimer"):
            yield
            return
        before = signal.signal(signal.SIGALRM, self.again)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def begin(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            self.again(number, frame)
        elif "RANK" not in os.environ:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def again(self, number: int, frame: FrameType | None) -> None:
        if self.number is None or is_under_way():
            return
        if hasattr(signal, "setitimer"):
            unfit = is_in_foreign_hands(frame)
            signal.setitimer(signal.ITIMER_REAL, SOON if unfit else LATER)
            if unfit:
                return
        raise Interrupted(self.number)


def is_under_way() -> bool:
    """Whether the main thread cleans up after Interrupted already."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def is_in_foreign_hands(frame: FrameType | None) -> bool:
    """Whether a library is being loaded or LLVM compiles, whose C++ code calls Python and cannot take an exception."""
    files = [each.f_code.co_filename for each, _ in walk_stack(frame)]
    return any(file.startswith("<frozen importlib") or f"{os.sep}llvmlite{os.sep}" in file for file in files)
