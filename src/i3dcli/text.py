"""Text for people and for programs: names that can always be printed, counts, CSV that no spreadsheet computes, JSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for none; in a name from a checkpoint

LONGEST_CLASS = 200  # characters of a class's name in a line for people
MOST_MARKS = 4  # accents on one letter; more are drawn over the lines above and below
FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # signs of no ink that count as printable
# Spreadsheets take a text for a formula that begins so, or with the wide forms of East Asia; OWASP, "CSV Injection".
FORMULAS = tuple("=+-@\t\r\n＝＋－＠")


class Wording:
    """How advice names the options and commands of this package: as Python does, or as the command line does."""

    for_the_command_line = False


@contextlib.contextmanager
def worded_for_the_command_line() -> Iterator[None]:
    """Within the block, advice names options and commands as the command line does."""
    before, Wording.for_the_command_line = Wording.for_the_command_line, True
    try:
        yield
    finally:
        Wording.for_the_command_line = before


def option(name: str, value: object = None) -> str:
    """An option, by its name in Python, as whoever reads the advice gives it: `overwrite=True`, or `--overwrite`.

    Without a value it is the name alone, as in "lower batch_size" and "lower --batch-size".
    """
    if Wording.for_the_command_line:
        given = f"--{name.replace('_', '-')}"
        if value is None or value is True:
            return given
        return f"{given} {value:g}" if isinstance(value, float) else f"{given} {value}"
    return name if value is None else f"{name}={value!r}"


def command(name: str) -> str:
    """A command as whoever reads the advice calls it: `i3dcli.extract_flow`, or `i3d extract-flow`."""
    if Wording.for_the_command_line:
        return f"i3d {name}"
    return {
        "extract-flow": "i3dcli.extract_flow",
        "eval": "i3dcli.evaluate",
        "inflate": "i3dcli.inflate_googlenet",
        "train": "i3dcli.train",
    }[name]


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


def csv_line(cells: Sequence[Any]) -> str:
    """Cells as a line of CSV without its end; an apostrophe comes before a text that a spreadsheet would compute."""
    text = io.StringIO()
    safe = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell for cell in cells]
    csv.writer(text, lineterminator="\r\n").writerow(safe)  # either of these in a text gets quotes
    return text.getvalue().removesuffix("\r\n")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, each on a line that ends in a newline."""
    return "".join(f"{csv_line(row)}\n" for row in rows)


def json_text(record: Any) -> str:
    """A record as JSON for a file of its own, a field on each line."""
    return json.dumps(record, indent=1) + "\n"


def json_line(record: Any) -> str:
    """A record as JSON on one line.

    Letters stay what they are, but controls that JSON would leave as they are, such as those that turn text around, are
    escaped; all is in ASCII where a path holds bytes that are not UTF-8, which only escapes keep.
    """
    text = json.dumps(record, ensure_ascii=False)
    if text != as_unicode(text):
        return json.dumps(record)
    if text.isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)
