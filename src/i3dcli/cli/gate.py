"""What stands between every command and the terminal: errors become lines and exit codes, and results are printed."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from ..errors import I3DError, is_missing, memory_errors
from ..stopping import Interrupted, ended_by_signals
from ..text import shown, worded_for_the_command_line

NAMED = 20  # missing videos, each with a line of its own
MEMORY_ADVICE = "look at smaller pictures or fewer frames at once, or end other programs"
LONGEST_LINE = 2000  # characters on standard error
NUMBERS = "i3d-numbers"  # how streams treat letters that they lack
LIKENESS = {"–": "-", "’": "'", "→": "->", "…": "...", "×": "x"}  # of what this package prints, for old consoles


class OneLine(click.ClickException):
    """An error as one line on stderr."""

    def show(self, file: Any = None) -> None:
        say(f"Error: {self.format_message()}", err=True)


class OneLineUsageError(OneLine):
    """A wrong command line, told in one line as every other error, exit code 2."""

    exit_code = click.UsageError.exit_code


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What goes wrong becomes one line on stderr and exit code 1; wrong usage, one line and exit code 2.

    Only what must be a fault of this package, as no input nor machine explains it, keeps its traceback.
    """
    try:
        with memory_errors(MEMORY_ADVICE):
            yield
    except I3DError as error:
        raise OneLine(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "i3d"
        raise OneLineUsageError(f"{error.format_message()} See {path} -h.") from error
    except ImportError as error:
        raise OneLine(f"a library cannot be loaded: {shown(str(error))}; install i3d again") from error
    except EOFError as error:  # click would say "Aborted!", as at the end of what somebody types
        raise RuntimeError("a file ends too early") from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has seen enough; click ends silently
            raise
        silence_full_stdout()
        where = f"{shown(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        raise OneLine(f"cannot go on: {where}{shown(error.strerror or str(error))}; mend this and run it again") from error


class ErrorGate(click.Group):
    """The one place where errors become lines and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        prepare_streams()
        with ended_by_signals(), worded_for_the_command_line():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(), told_if_interrupted(lambda: "nothing is kept"):
            check_folder()
            return super().invoke(ctx)


def as_numbers(error: UnicodeError) -> tuple[str, int]:
    """What a stream's encoding lacks as JSON's escapes, and where to go on; an error handler of codecs."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(NUMBERS, as_numbers)


def prepare_streams() -> None:
    """See to it that printing fails for no letter, and nowhere but on a standard output that takes no more.

    What a console's encoding lacks is printed as its number, as in JSON. Where a program is started without a standard
    stream, the next file it opens would take its place, and get what libraries print.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=NUMBERS)


def check_folder() -> None:
    """Raise I3DError where the current folder is gone: no relative path has a meaning then, and libraries do not load."""
    try:
        os.getcwd()
    except OSError as error:
        raise I3DError(f"no current folder: {error.strerror}; it was removed, change to another") from error


@contextlib.contextmanager
def told_if_interrupted(what: Callable[[], str], *, by_all: bool = False) -> Iterator[None]:
    """Where a signal ends the block, a line on stderr of what is kept, and how to go on, unless a block within has told.

    Of the processes that torchrun starts, the first one tells, or all tell of themselves.
    """
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        if not getattr(error, "told", False) and (by_all or os.environ.get("RANK", "0") == "0"):
            say(f"Interrupted: {what()}", err=True)
        if isinstance(error, Interrupted):
            error.told = True
            raise
        raise Interrupted(signal.SIGINT, told=True) from error


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


def say(text: str, *, err: bool = False, exact: bool = False) -> None:
    """Print without spoiling a progress bar. Raises I3DError where standard output takes no more.

    Unless the text is `exact`, as for programs, signs of ours that a console lacks are printed in their likeness. On
    standard error every text is one line, whatever is in it, and where that takes no more, nothing is told: a result is
    worth more than a note.
    """
    from tqdm import tqdm

    text = in_brief(shown(text)) if err else text

    if sys.stdout is None and not err:
        raise I3DError("cannot print: standard output: it is closed; send it to a file")
    if not exact:
        text = in_likeness(text, getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8")
    try:
        with tqdm.external_write_mode():
            click.echo(text, err=err, color=True)  # else it takes codes of colour out of names that are to be exact
    except OSError as error:
        if err:
            return
        if error.errno == errno.EPIPE:  # the reader has seen enough; click ends silently
            raise
        silence_full_stdout()
        raise I3DError(f"cannot print: standard output: {error.strerror}; make room, or send it elsewhere") from error


def in_brief(line: str) -> str:
    """A line that people can read: of a longer one, the start and the end, where an error says what to do."""
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def in_likeness(text: str, encoding: str) -> str:
    """`text` with the signs of LIKENESS as plain letters, as far as the encoding lacks them."""
    for sign in LIKENESS.keys() & set(text):
        try:
            sign.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace(sign, LIKENESS[sign])
    return text


def silence_full_stdout() -> None:
    """Where standard output takes no more, lead it nowhere, else Python tries once more as it ends, and complains."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
