"""What stands between every command and the terminal: errors become lines and exit codes, and results are printed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click

from .errors import I3DError, is_missing

NAMED = 20  # missing videos, each with a line of its own


class OneLineUsageError(click.ClickException):
    """A wrong command line, told in one line as every other error, exit code 2."""

    exit_code = click.UsageError.exit_code


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """This package's errors become one line on stderr and exit code 1; wrong usage, one line and exit code 2."""
    try:
        yield
    except I3DError as error:
        raise click.ClickException(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "i3d"
        raise OneLineUsageError(f"{error.format_message()} See {path} -h.") from error


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that nothing half-written stays behind."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup has one ignored
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class ErrorGate(click.Group):
    """The one place where errors become lines and exit codes."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(), ended_by_signals():
            return super().invoke(ctx)


@contextlib.contextmanager
def told_if_interrupted(what: Callable[[], str]) -> Iterator[None]:
    """Where a signal ends the block, a line on stderr of what is done, and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(f"Interrupted: {what()}; run it again to go on", err=True)
        raise


@contextlib.contextmanager
def error_lines() -> Iterator[Callable[[I3DError], None]]:
    """A function that prints the error of a video; of those that are not on disk the first are named, the others counted."""
    missing = 0

    def tell(error: I3DError) -> None:
        nonlocal missing
        missing += is_missing(error)
        if missing <= NAMED or not is_missing(error):
            say(f"Error: {error}", err=True)

    try:
        yield tell
    finally:
        if missing > NAMED:
            say(f"Error: … and {missing - NAMED:,} more that are not there", err=True)


def say(text: str, *, err: bool = False) -> None:
    """Print a line without spoiling a progress bar. Raises I3DError where standard output takes no more."""
    from tqdm import tqdm

    if sys.stdout is None and not err:
        raise I3DError("cannot print: standard output: it is closed; send it to a file")
    try:
        with tqdm.external_write_mode():
            click.echo(text, err=err)
    except OSError as error:
        if err or error.errno == errno.EPIPE:  # the reader has seen enough; click ends silently
            raise
        with contextlib.suppress(OSError):  # else Python tries once more as it ends, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise I3DError(f"cannot print: standard output: {error.strerror}; make room, or send it elsewhere") from error
