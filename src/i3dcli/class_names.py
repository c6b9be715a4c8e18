"""Names of classes, in the order of their ids, from the forms in which they are kept: text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .defaults import LONGEST_NAME
from .errors import DatasetError
from .file_names import suffix
from .lines import numbered_lines, read_text
from .text import briefly, shown

BUNDLED = {  # a model that has published names of classes → their file in assets/
    "kinetics400": "kinetics400_labels.txt",
    "kinetics400-deepmind": "kinetics400_labels.txt",
    "kinetics400-scratch": "kinetics400_labels.txt",
    "kinetics600": "kinetics600_labels.txt",
}
NAMES_BYTES = 16 << 20  # of a file of names; a hundred thousand of them have 3 MB
FORMS = 'a name per line, JSON such as ["jump", "run"] or {"jump": 0}, or a CSV with the columns id and name'
ID = re.compile(r"[0-9]{1,9}")
NUMBERED = re.compile(r"c?([0-9]{1,9})[ \t,]+(.+)")  # UCF-101's classInd.txt, Charades_v1_classes.txt
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?", re.IGNORECASE)


def read_classes(source: str | Path) -> tuple[str, ...]:
    """The names of classes in a file, or those that the package has under a name, such as "kinetics400".

    A file or folder that is called so comes first. Raises DatasetError.
    """
    known = None if os.path.exists(source) else bundled_classes(str(source))
    if known is None and not os.path.lexists(source) and re.fullmatch(r"[\w-]+", str(source)):
        raise DatasetError(
            f"no names of classes: {shown(source)}: got no such file, expected one or a name of {', '.join(BUNDLED)}; give one"
        )
    return read_class_names(source) if known is None else known


def bundled_classes(name: str) -> tuple[str, ...] | None:
    """The names of classes that come with the package under a name, None where none do."""
    if name not in BUNDLED:
        return None
    return tuple((resources.files("i3dcli") / "assets" / BUNDLED[name]).read_text("utf-8").splitlines())


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The names of classes in a file: a text with one per line, with or without ids, JSON, or a CSV.

    JSON holds a list of names, or names by id, or ids by name; a CSV has a column of ids and one of names, in any order,
    with or without a header. Ids start at 0 or 1, and none is missing. Raises DatasetError, also where a name is there twice.
    """
    text = read_text(path, limit=NAMES_BYTES)
    form = suffix(Path(path).name)
    data = None if form in (".csv", ".tsv") else parsed_json(text, path, surely=form == ".json")
    if data is not None:
        names = from_json(data, path)
    elif form in (".csv", ".tsv"):
        names = from_csv(text, path, delimiter=next((sign for sign in ",\t;" if sign in text), ","))
    else:
        names = from_lines([line for _, line in numbered_lines(Path(path))], path)
    return distinct(checked(names, path), path)


def distinct(names: Iterable[str], where: Path | str) -> tuple[str, ...]:
    """The names of classes as they are; raises DatasetError where one occurs twice."""
    names, seen = tuple(names), set[str]()
    for name in names:
        if name in seen:
            raise DatasetError(f"duplicate class name: {shown(where)}: got {shown(name)!r} twice; give each class its own name")
        seen.add(name)
    return names


def checked(names: Sequence[str], path: str | Path) -> Sequence[str]:
    """The names, if each can be written in UTF-8 and printed on a line; else DatasetError."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"not a list of classes: {shown(path)}: got bytes that are not UTF-8; save it as UTF-8") from error
    for i, name in enumerate(names):
        if not name.strip() or "\n" in name or "\r" in name:
            raise not_names(path, f"{shown(name[:80])!r} for class {i}", "a name on one line")
    return names


def parsed_json(text: str, path: str | Path, *, surely: bool) -> Any:
    """What a JSON list or object holds; None where a text only begins like one. Raises DatasetError if it is `surely` JSON."""
    if not surely and not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text, object_pairs_hook=list_of_pairs)
    except (ValueError, RecursionError) as error:
        if not surely:
            return None
        raise not_names(path, "what is no JSON") from error


def list_of_pairs(pairs: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """An object of JSON as pairs, as a key may be there twice; a tuple, so that it is no list of JSON."""
    return tuple(pairs)


def from_json(data: Any, path: str | Path) -> Sequence[str]:
    """The names in a list, in {id: name} or in {name: id}."""
    if isinstance(data, list) and data and all(isinstance(name, str) for name in data):
        return data
    if isinstance(data, tuple) and data:
        keys, values = [key.strip() for key, _ in data], [value for _, value in data]
        if all(isinstance(value, str) for value in values) and all(map(NUMBER.fullmatch, keys)):
            return in_order(list(zip(keys, values, strict=True)), path)
        ids = [str(value) if isinstance(value, (str, int, float)) else "" for value in values]
        if all(map(NUMBER.fullmatch, ids)):  # pytorchvideo's kinetics_classnames.json has some names in quotes of their own
            return in_order([(id, key.strip('"')) for id, key in zip(ids, keys, strict=True)], path)
    raise not_names(path, f"JSON that is {type_name(data)}")


def type_name(data: Any) -> str:
    """What JSON is, in words."""
    if isinstance(data, (list, tuple)):
        kind = "a list" if isinstance(data, list) else "an object"
        return f"{kind} of something else" if data else f"{kind} of nothing"
    return "no list and no object"


def from_csv(text: str, path: str | Path, *, delimiter: str) -> Sequence[str]:
    """The names in a CSV; where no column holds numbers, each line is a name."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise not_names(path, f"a CSV that cannot be read ({error})") from error
    if not rows:
        raise DatasetError(f"not a list: {shown(path)}: it is empty; expected one entry per line")
    widths = {len(row) for row in rows}
    if widths == {1}:
        return from_lines([row[0] for row in rows], path)
    if widths == {2}:
        body = rows if any(map(NUMBER.fullmatch, rows[0])) else rows[1:]
        found = [[(row[i], row[1 - i]) for row in body] for i in (0, 1) if any(NUMBER.fullmatch(row[i]) for row in body)]
        if found:
            return in_order(next((pairs for pairs in found if gap(pairs) is None), found[0]), path)
    elif len(widths) == 1:
        raise not_names(path, f"{widths.pop()} columns", "two, an id and a name", advice="leave the others out")
    return from_lines([line for _, line in numbered_lines(Path(path))], path)


def from_lines(lines: Sequence[str], path: str | Path) -> Sequence[str]:
    """The names on lines that may all start with an id, or all end with one after a comma or tab, or begin with a header.

    A name that starts with a number, such as "100 metres", is one where the numbers are not those of classes.
    """
    lines = [line.strip() for line in lines]
    for body in (lines, lines[1:]):
        for pairs in (ids_before(body), ids_behind(body)):
            header = body is not lines
            if pairs and (not header or re.search("[,\t]", lines[0])) and (gap(pairs) is None or is_numbering(pairs)):
                return in_order(pairs, path)
    return lines


def ids_before(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Ids and names, where each line starts with a number."""
    matches = [NUMBERED.fullmatch(line) for line in lines]
    return [(match[1], match[2]) for match in matches if match is not None] if all(matches) else []


def ids_behind(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Ids and names, where each line ends with a comma or tab and a number."""
    parts = [re.split("[,\t]", line[::-1], maxsplit=1) for line in lines]
    pairs = [(part[0][::-1].strip(), part[1][::-1].strip()) for part in parts if len(part) == 2]
    return pairs if len(pairs) == len(lines) and all(ID.fullmatch(id) for id, _ in pairs) else []


def is_numbering(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether the numbers before names are ids of classes, be it with a gap or one twice: they begin at 0 or 1."""
    return len(pairs) > 1 and min(int(id) for id, _ in pairs) in (0, 1)


def gap(pairs: Sequence[tuple[str, str]]) -> str | None:
    """What is wrong with ids, in words; None for each number from 0 or from 1 once."""
    for id, name in pairs:
        if not ID.fullmatch(id):
            return f"id {shown(id[:40])} of {shown(name[:80])!r}"
    ids = sorted(int(id) for id, _ in pairs)
    twice = next((a for a, b in itertools.pairwise(ids) if a == b), None)
    if twice is not None:
        return f"id {twice} twice"
    if ids[0] not in (0, 1):
        return f"{ids[0]} as the first id"
    missing = next((a + 1 for a, b in itertools.pairwise(ids) if b > a + 1), None)
    return None if missing is None else f"no id {missing}, but {ids[-1]}"


def in_order(pairs: Sequence[tuple[str, str]], path: str | Path) -> Sequence[str]:
    """Names by their ids; raises DatasetError unless these are each number from 0 or from 1 once."""
    if wrong := gap(pairs):
        raise not_names(path, wrong, "each number from 0, or from 1, once", advice="mend it, or give a JSON list of names")
    return [name for _, name in sorted(pairs, key=lambda pair: int(pair[0]))]


def not_names(path: str | Path, got: str, expected: str = FORMS, *, advice: str = "mend it") -> DatasetError:
    return DatasetError(f"not a list of classes: {shown(path)}: got {got}, expected {expected}; {advice}")


def fault_in_names(names: Any) -> str | None:
    """What is wrong with names of classes, in words; None if nothing is: a list of different texts that can be written."""
    if not isinstance(names, (list, tuple)):
        return f"{briefly(names)} in place of a list"
    seen = set()
    for name in names:
        if not isinstance(name, str) or not name.strip() or "\0" in name or len(name) > LONGEST_NAME:
            return f"{briefly(name)} among them"
        if name in seen:
            return f"{briefly(name)} twice"
        seen.add(name)
    return None
