"""Weights, on disk or by name → networks: every known layout is read, ours is written, 2D weights are inflated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .checkpoint import load_checkpoint as load_checkpoint
    from .checkpoint import save_checkpoint as save_checkpoint
    from .inflate import inflate_googlenet as inflate_googlenet
    from .inflate import inflate_state_dict as inflate_state_dict
    from .load import load_streams as load_streams
    from .matching import read_tensors as read_tensors
    from .matching import wrong as wrong
    from .networks import split_key as split_key
    from .tensors import read_all as read_all
    from .weight_files import read_weights as read_weights
    from .zoo import find_model as find_model
    from .zoo import list_models as list_models
    from .zoo import model_info as model_info

_HOMES = {
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "inflate": ("inflate_googlenet", "inflate_state_dict"),
    "load": ("load_streams",),
    "matching": ("read_tensors", "wrong"),
    "networks": ("split_key",),
    "tensors": ("read_all",),
    "weight_files": ("read_weights",),
    "zoo": ("find_model", "list_models", "model_info"),
}
__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
