"""The text of lists and annotations, as systems write it: bounded, and in lines that end where people see them end."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from .errors import DatasetError
from .files import check_is_file
from .text import shown

LIST_BYTES = 256 << 20  # of a list or of annotations; those of Kinetics-700 have 40 MB
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # the longest first
MOST_LINES = 4_000_000  # of a list; some 4 GB in memory as samples
LONGEST_LINE = 65_536  # characters of an entry; a path has 4,096 bytes at most


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped; surrogates stand for what is not UTF-8, as in paths; or DatasetError."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Likewise, each with its number in the file, from 1."""
    text = read_text(path)
    if text.count("\n") > MOST_LINES:
        raise DatasetError(f"too large: {shown(path)}: got more than {MOST_LINES} lines, expected fewer; give parts of it")
    lines = text.split("\n" if "\n" in text else "\r")  # no more, as names may hold what else Unicode calls a line's end
    entries = [(number, line.strip(" \t\r")) for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise DatasetError(f"not a list: {shown(path)}: it is empty; expected one entry per line")
    for number, line in entries:
        if len(line) > LONGEST_LINE:
            raise DatasetError(
                f"line too long: {shown(path)}: line {number}: got {len(line)} characters, expected {LONGEST_LINE} at most; "
                "put each entry on a line of its own"
            )
    return entries


def read_text(path: str | Path, *, limit: int = LIST_BYTES) -> str:
    """What a text file of at most `limit` bytes holds: UTF-8, or UTF-16 as PowerShell writes it, with its mark.

    Surrogates stand for bytes that are not UTF-8, as in paths. Raises DatasetError.
    """
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            large = os.fstat(file.fileno()).st_size > limit
            data = b"" if large else file.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"cannot read the list: {shown(path)}: {error.strerror}; give the path of a text file") from error
    if large or len(data) > limit:
        raise DatasetError(f"too large: {shown(path)}: got more than {limit >> 20} MB, expected a text file; give another")
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise DatasetError(f"not a list: {shown(path)}: got damaged {error.encoding}; save it as UTF-8") from error
    if "\0" in text:
        wide = len(data) > 7 and not (any(data[:64:2]) and any(data[1:64:2]))
        what = "UTF-16 without its mark; save it as UTF-8" if wide else "not text; expected one entry per line"
        raise DatasetError(f"not a list: {shown(path)}: it is {what}")
    return text


def decoded(data: bytes, *, errors: str = "strict") -> str:
    """Text in UTF-16 or UTF-32 with a mark, or else UTF-8 with surrogates for what is none. Raises UnicodeDecodeError."""
    codec = next((codec for mark, codec in MARKS.items() if data.startswith(mark)), None)
    return data.decode("utf-8-sig", "surrogateescape") if codec is None else data.decode(codec, errors)
