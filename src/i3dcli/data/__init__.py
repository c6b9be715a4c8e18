"""Labelled videos in the layouts people have → samples, and their frames and flow → clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .chosen import count_chosen as count_chosen
    from .chosen import video_numbers as video_numbers
    from .clips import as_clip as as_clip
    from .clips import as_input as as_input
    from .clips import centre_crop as centre_crop
    from .clips import cut as cut
    from .clips import looped as looped
    from .clips import mirrored as mirrored
    from .clips import padded as padded
    from .clips import random_crop as random_crop
    from .clips import random_start as random_start
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
    from .views import Protocol as Protocol
    from .views import View as View
    from .views import Views as Views
    from .views import Watcher as Watcher

_HOMES = {
    "chosen": ("count_chosen", "video_numbers"),
    "clips": ("as_clip", "as_input", "centre_crop", "cut", "looped", "mirrored", "padded", "random_crop", "random_start"),
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
    "views": ("FULL", "Protocol", "View", "Views", "Watcher"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
