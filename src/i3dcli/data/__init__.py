"""Labelled videos in the layouts people have → samples, and their frames and flow → clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .chosen import count_chosen as count_chosen
    from .chosen import video_numbers as video_numbers
    from .clips import byte_clip as byte_clip
    from .clips import centre_crop as centre_crop
    from .clips import flow_clip as flow_clip
    from .clips import looped as looped
    from .clips import mirrored as mirrored
    from .clips import random_crop as random_crop
    from .clips import random_start as random_start
    from .clips import rgb_from_bytes as rgb_from_bytes
    from .clips import windows as windows
    from .dataset import Dataset as Dataset
    from .dataset import Sample as Sample
    from .dataset import labels_of as labels_of
    from .dataset import load_dataset as load_dataset
    from .dataset import renumbered as renumbered
    from .dataset import report_absent as report_absent
    from .dataset import report_missing as report_missing
    from .dataset import scored_part as scored_part
    from .dataset import with_validation as with_validation
    from .folders_and_lists import numbered_classes as numbered_classes
    from .holdout import for_training as for_training
    from .views import FULL as FULL
    from .views import Clips as Clips
    from .views import Protocol as Protocol
    from .views import Views as Views
    from .views import Watcher as Watcher

_HOMES = {
    "chosen": ("count_chosen", "video_numbers"),
    "clips": (
        "byte_clip",
        "centre_crop",
        "flow_clip",
        "looped",
        "mirrored",
        "random_crop",
        "random_start",
        "rgb_from_bytes",
        "windows",
    ),
    "dataset": (
        "Dataset",
        "Sample",
        "labels_of",
        "load_dataset",
        "renumbered",
        "report_absent",
        "report_missing",
        "scored_part",
        "with_validation",
    ),
    "folders_and_lists": ("numbered_classes",),
    "holdout": ("for_training",),
    "views": ("Clips", "FULL", "Protocol", "Views", "Watcher"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
