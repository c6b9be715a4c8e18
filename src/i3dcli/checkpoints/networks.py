"""The content of a weight file → the network in it, below any keys and behind any prefix of tensor names."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError
from ..text import briefly, shown
from .tensors import Inert, Stored

DEEPEST = 6  # nested containers that are searched
MOST_CONTAINERS = 10_000
SHOWN_CANDIDATES = 6


class Candidate(NamedTuple):
    """The tensors of one network: its name after `#`, the dict that holds them, and the prefix of their names."""

    name: str
    entries: Mapping[Any, Any]
    prefix: str


class Network(NamedTuple):
    """The entries of a network's dict by name without the prefix, and their names in the file."""

    entries: dict[str, Any]
    names: dict[str, str]
    advice: str = ""  # how to leave out entries that are not of the network


def find_network(content: Mapping[Any, Any], first: re.Pattern[str], where: str | Path, *, key: str | None) -> Network:
    """The network in a file's content, in any containers and behind any prefix.

    `first` matches the name of a tensor that every such network has; its group 1 is the name without the prefix. If
    nothing matches, the result is the dict with the most tensors, for an error message. Raises CheckpointError for several
    networks, unless `key` names one of them.
    """
    found = candidates(content, first)
    if not found:
        largest = named(max((entries for _, entries in containers(content)), key=count_tensors))
        return Network(largest, {name: name for name in largest})
    name, entries, prefix = chosen(found, where, key)
    inside = [full for full in entries if full.startswith(prefix)]
    beside = [full for full in entries if not full.startswith(prefix)] if key is None else []
    names = {full: full for full in beside} | {full.removeprefix(prefix): full for full in inside}
    advice = f"to leave out what is beside the network, name it as in {shown(f'{where}#{name}')}" if beside else ""
    return Network({ours: entries[full] for ours, full in names.items()}, names, advice)


def chosen(found: Sequence[Candidate], where: str | Path, key: str | None) -> Candidate:
    """The only network, or the one whose name is `key` or begins with `key` and a dot. Raises CheckpointError."""
    fits = [one for one in found if key in (None, one.name)] or [one for one in found if one.name.startswith(f"{key}.")]
    if len(fits) == 1:
        return fits[0]
    names = [one.name or "the outermost" for one in fits or found]
    listed = f"{' and '.join(names[:SHOWN_CANDIDATES])}{' and others' * (len(names) > SHOWN_CANDIDATES)}"
    got = f"{len(fits)} networks, {listed}" if fits else f"no network {key!r}, but {listed}"
    raise CheckpointError(
        f"wrong checkpoint: {shown(where)}: got {shown(got)}, expected one; name it as in {shown(f'{where}#{found[-1].name}')}"
    )


def candidates(content: Mapping[Any, Any], first: re.Pattern[str]) -> list[Candidate]:
    """Every network in a file's content, each once, the outermost first."""
    found: dict[str, Candidate] = {}
    for keys, entries in containers(content):
        for full, value in entries.items():
            if isinstance(full, str) and isinstance(value, (Stored, Inert)) and (match := first.search(full)):
                prefix = full[: match.start(1)]
                name = ".".join([*keys, prefix.rstrip(".")]) if prefix else ".".join(keys)
                found.setdefault(name, Candidate(name, named(entries), prefix))
    return list(found.values())


def named(entries: Mapping[Any, Any]) -> dict[str, Any]:
    """Entries by name; a key that is no string becomes one."""
    return {key if isinstance(key, str) else briefly(key): value for key, value in entries.items()}


def containers(content: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All nested dicts, each once, with the keys that lead to it, the outermost first."""
    waiting: deque[tuple[tuple[str, ...], Mapping[Any, Any]]] = deque([((), content)])
    seen = {id(content)}
    while waiting:
        keys, entries = waiting.popleft()
        yield keys, entries
        for key, value in entries.items():
            if isinstance(value, Mapping) and isinstance(key, str) and id(value) not in seen and len(keys) < DEEPEST:
                if len(seen) == MOST_CONTAINERS:
                    return
                seen.add(id(value))
                waiting.append(((*keys, key), value))


def count_tensors(entries: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, Stored) for value in entries.values())


def split_key(name: str | Path) -> tuple[Path, str | None]:
    """Path and key in `path#key`, which names one of several networks in a file; no key if a file has that whole name."""
    path, sign, key = str(name).rpartition("#")
    if not sign or not path or os.path.lexists(name):
        return Path(name), None
    return Path(path), key
