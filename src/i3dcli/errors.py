"""What can go wrong with a user's input, as exceptions whose text is one helpful line."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from .text import shown

OUT_OF_MEMORY = re.compile(
    r"^.*(out of memory|(can't|cannot|unable to|failed to) allocate|allocation failed|(not enough|insufficient) memory|"
    r"bad_alloc|can't start new thread|signal: Killed).*",
    re.I | re.M,
)


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
