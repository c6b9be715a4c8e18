"""What can go wrong with a user's input, as exceptions whose text is one helpful line."""

from __future__ import annotations

import contextlib
import errno
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

OUT_OF_MEMORY = re.compile(
    r"^.*(out of memory|(can't|cannot|unable to|failed to) allocate|allocation failed|(not enough|insufficient) memory|"
    r"bad_alloc|can't start new thread|signal: Killed).*",
    re.I | re.M,
)
NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for none; in a name from a checkpoint

LONGEST_CLASS = 200  # characters of a class's name in a line for people
MOST_MARKS = 4  # accents on one letter; more are drawn over the lines above and below
FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # signs of no ink that count as printable


class I3DError(Exception):
    """Base of everything this package raises on purpose; the text names what, where, and what to do."""


class VideoError(I3DError, ValueError):
    """A video cannot be found, opened or decoded."""


class VideoWarning(UserWarning):
    """Frames of a video are missing or damaged; what is left of it was read."""


class CheckpointError(I3DError, ValueError):
    """Weights cannot be found, downloaded or read, or belong to another network."""


class DatasetError(I3DError, ValueError):
    """A list of inputs, a label list or a split cannot be used."""


def is_missing(error: I3DError) -> bool:
    """Whether an error is that nothing is at a path."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Malformed(Exception):
    """What is wrong with a file, or with what it holds, without its name; whoever knows that makes an I3DError of it."""


def as_unicode(path: str | Path) -> str:
    """A path as text that can be written in UTF-8; bytes of its name that are none become U+FFFD."""
    text = NO_BYTES.sub("\ufffd", str(path))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shown(name: str | Path) -> str:
    """A name as it can always be printed, on one line, whatever it holds: a path's bytes, or a class's controls.

    What a terminal would obey, turn around or not show at all is printed as its number.
    """
    text = as_unicode(name)
    if text.isascii() and text.isprintable():
        return text
    parts, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        visible = character.isprintable() and character not in FILLERS and marks <= MOST_MARKS
        parts.append(character if visible else character.encode("unicode_escape").decode())
    return "".join(parts)


def shown_class(name: str) -> str:
    """The name of a class, as `shown`, and cut where it is longer than any that people can read in a line."""
    text = shown(name[: LONGEST_CLASS + 1])
    return text if len(text) <= LONGEST_CLASS else f"{text[: LONGEST_CLASS - 1]}…"


def briefly(value: object) -> str:
    """A value of any type and size as a few characters of one line, such as nan, 'abc' or a list."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "an integer of more than 20 digits"
    if isinstance(value, str):
        return f"'{shown(value[:40])}{'…' if len(value) > 40 else ''}'"
    return f"a value of type {shown(type(value).__name__)}"


def counted(number: int, word: str) -> str:
    """A number and what it counts, in the plural unless it is one."""
    return f"{number} {word}{'' if number == 1 else 'es' if word.endswith('s') else 's'}"


@contextlib.contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Raise I3DError, with what to do about it, when memory runs out on any device or in a loader's process."""
    try:
        yield
    except I3DError:
        raise
    except Exception as error:  # each library has a type of its own for this, OpenCV's is a plain Exception
        line = OUT_OF_MEMORY.search(str(error))
        if isinstance(error, OSError) or (line is None and not isinstance(error, MemoryError)):
            raise
        raise I3DError(f"out of memory: {'' if line is None else f'{shown(line[0])}; '}{advice}") from error
