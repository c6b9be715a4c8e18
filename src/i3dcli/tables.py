"""Records for programs: CSV that no spreadsheet computes, and JSON that no terminal obeys."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors import as_unicode
from .files import write_text

# Spreadsheets take a text for a formula that begins so, or with the wide forms of East Asia; OWASP, "CSV Injection".
FORMULAS = tuple("=+-@\t\r\n＝＋－＠")


def csv_line(cells: Sequence[Any]) -> str:
    """Cells as a line of CSV without its end; an apostrophe comes before a text that a spreadsheet would compute."""
    text = io.StringIO()
    safe = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell for cell in cells]
    csv.writer(text, lineterminator="\r\n").writerow(safe)  # either of these in a text gets quotes
    return text.getvalue().removesuffix("\r\n")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, each on a line that ends in a newline."""
    return "".join(f"{csv_line(row)}\n" for row in rows)


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV, whole or not at all. Raises I3DError."""
    write_text(path, csv_text(rows))


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
