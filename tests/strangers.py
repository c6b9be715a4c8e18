"""An output folder in which other people's files lie already, and whether they are there as they were."""

import contextlib
import hashlib
import os
from pathlib import Path

FILES = {  # none of them is ours, however near their names come to those that we write
    "notes.txt": "mine",
    ".hidden": "mine too",
    "film/scene1.txt": "a folder that is called like a video, without flow.json",
    "film/flow_x_00001.jpg": "no flow of ours",
    ".x.partial/keep.txt": "a folder that is called like one that we work in",
    ".x.old/keep.txt": "likewise",
    ".notes.txt.1.tmp": "likewise, a file",
    "deep/er/and/deeper.json": "{}",
    "config.json": "{}",
}


def settle(folder, files=FILES):
    """Lay strangers' files into a folder, all that have a place there; what `disturbed` compares with."""
    there = []
    for name, text in files.items():
        path = Path(folder, name)
        with contextlib.suppress(OSError):  # its name is too long, or another's file is where it wants a folder
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            there.append(name)
    return snapshot(folder, there)


def snapshot(folder, files=FILES):
    """What is in each of these files, by name; None where it is none, or gone."""
    return {name: digest(Path(folder, name)) for name in files}


def disturbed(folder, before):
    """The names of files that are gone or changed."""
    return tuple(name for name, content in before.items() if digest(Path(folder, name)) != content)


def is_theirs(path, folder, files=FILES):
    """Whether a path below the folder is a stranger's, or leads to one."""
    return any(f"{name}/".startswith(f"{path.relative_to(folder)}/") for name in files)


def tree(folder):
    """The content of every file below a folder, by its path there."""
    return {
        os.path.relpath(os.path.join(parent, name), folder): digest(Path(parent, name))
        for parent, _, names in os.walk(folder)
        for name in names
    }


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
