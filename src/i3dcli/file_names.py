"""What a name alone says: whether it is that of a video, of a numbered picture, or of what a system left behind."""

from __future__ import annotations

import re

VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
}
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
APPLE_DOUBLE = "._"  # macOS keeps what a foreign disk or archive cannot, in a file of this prefix beside each
DEBRIS = frozenset(
    {
        *("__MACOSX", ".DS_Store", ".Trashes"),
        *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
        *("@eaDir", "#recycle", "@Recycle", "lost+found"),
    }
)


def is_debris(name: str) -> bool:
    """Whether a file or folder is no content, but what macOS, Windows, a network drive or a file system left there."""
    return name.startswith(APPLE_DOUBLE) or name in DEBRIS


def is_passed_over(folder: str) -> bool:
    """Whether a folder of this name is not looked into: a hidden one, or debris."""
    return folder.startswith(".") or is_debris(folder)


def suffix(name: str) -> str:
    """What `pathlib` calls the suffix of a file's name, in lower case, in a fraction of its time."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def is_video_name(name: str) -> bool:
    """Whether the name of a file has a video's suffix, and is no debris."""
    return suffix(name) in VIDEO_SUFFIXES and not is_debris(name)


def frame_names(names: list[str]) -> list[str]:
    """The pictures among `names` that have a number in their name, in the order of their numbers."""
    pictures = [name for name in names if suffix(name) in PICTURE_SUFFIXES and not is_debris(name)]
    numbered = [name for name in pictures if re.search(r"\d", name[: name.rfind(".")])]
    return sorted(numbered, key=number_key)


def number_key(name: str) -> list[str | int]:
    """A name by whose parts names are in the order of their numbers, such as 9 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
