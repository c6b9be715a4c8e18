"""What can go wrong with a user's input, as exceptions whose text is one helpful line."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

OUT_OF_MEMORY = re.compile(
    r"^.*(out of memory|(can't|cannot|unable to) allocate|not enough memory|bad_alloc|signal: Killed).*", re.I | re.M
)
SURROGATE = re.compile("[\ud800-\udfff]")


class I3DError(Exception):
    """Base of everything this package raises on purpose; the text names what, where, and what to do."""


class VideoError(I3DError, ValueError):
    """A video cannot be found, opened or decoded."""


class CheckpointError(I3DError, ValueError):
    """Weights cannot be found, downloaded or read, or belong to another network."""


class DatasetError(I3DError, ValueError):
    """A list of inputs, a label list or a split cannot be used."""


def is_missing(error: I3DError) -> bool:
    """Whether an error is that nothing is at a path."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def as_unicode(path: str | Path) -> str:
    """A path as text that can be written in UTF-8; bytes of its name that are none become U+FFFD."""
    text = str(path)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a character, as JSON's escapes can write it
        return SURROGATE.sub("\ufffd", text)


def shown(path: str | Path) -> str:
    """A path as it can always be printed, on one line, whatever bytes its name holds."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in as_unicode(path))


def counted(number: int, word: str) -> str:
    """A number and what it counts, in the plural unless it is one."""
    return f"{number} {word}{'' if number == 1 else 'es' if word.endswith('s') else 's'}"


@contextlib.contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Raise I3DError, with what to do about it, when memory runs out on any device or in a loader's process."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        line = OUT_OF_MEMORY.search(str(error))
        if line is None and not isinstance(error, MemoryError):
            raise
        raise I3DError(f"out of memory: {'' if line is None else f'{shown(line[0])}; '}{advice}") from error
