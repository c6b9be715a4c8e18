"""Tensors before they are read, and the state of a run, read whole."""

import pytest
import torch

from i3dcli.checkpoints.tensors import Inert, Stored, read_all
from i3dcli.errors import Malformed


def test_what_is_in_a_state_is_read_once_and_shared():
    reads = []
    tensor = Stored((2,), torch.float32, 2, lambda: reads.append(1) or torch.ones(2))
    same = [tensor, (tensor, {"a": tensor})]
    state = read_all({"x": same, "y": same, "z": 5})
    assert reads == [1] and state["x"] is state["y"] and state["x"][1][1]["a"] is state["x"][0]
    assert state["x"][0].tolist() == [1, 1] and state["z"] == 5


def test_what_is_nested_endlessly_or_wide_is_refused_or_read_once():
    wide = []
    for _ in range(7):
        wide = [wide] * 1000
    assert len(read_all(wide)) == 1000
    for deep in ([[[[[[[[[[]]]]]]]]]], endless()):
        with pytest.raises(Malformed, match="nested too deeply"):
            read_all(deep)


def endless():
    itself = []
    itself.append(itself)
    return itself


def test_a_tensor_that_is_larger_than_its_numbers_is_not_read_into_a_state():
    with pytest.raises(Malformed, match="larger than what is stored of it"):
        read_all([Stored((10**6, 10**6), torch.float32, 1, lambda: None)])


def test_a_tensor_in_memory_is_stored_as_it_is_unless_it_has_no_plain_numbers():
    stored = Stored.of(torch.ones(2, 3, requires_grad=True))
    assert (stored.shape, stored.numbers, stored.is_whole) == ((2, 3), 6, True) and not stored.read().requires_grad
    turned = stored.changed((3, 2), lambda tensor: tensor.T)
    assert turned.shape == (3, 2) == turned.read().shape
    assert all(isinstance(Stored.of(odd), Inert) for odd in (torch.ones(2).to_sparse(), torch.ones(2, device="meta")))
