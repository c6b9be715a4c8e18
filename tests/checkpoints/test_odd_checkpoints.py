"""Checkpoints of ours with one thing changed: each is read rightly or refused in one line, and nothing else happens."""

import collections
import math
import random

import pytest
import torch

from i3dcli import I3D, CheckpointError, load_checkpoint, save_checkpoint
from i3dcli.defaults import RANGES, TVL1_RANGES

CLASSES = ["one", "two", "drei", "fünf", "a\nb"]
NUMBERS = (True, 0, -1, 1, 5, 0.5, 1e-9, 10**9, 10**30, -(10**5000), 1e300, math.inf, -math.inf, math.nan)
TEXTS = ("", " ", "x", "5", "rgb", "\ud800", "a\0b", "a\n\x1b[31mError: b", "x" * 100_000, b"rgb")
OTHERS = ([], [1], [[[[[[]]]]]], (), {}, {"a": 1}, set(), 1j, torch.Size([1]), torch.float32, None)
TENSORS = (torch.tensor(1), torch.tensor(1.5), torch.tensor(True), torch.ones(2), torch.ones(2).to_sparse())
ODD = (*NUMBERS, *TEXTS, *OTHERS, *TENSORS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a small checkpoint of ours."""
    torch.manual_seed(0)
    net = I3D(5, 3, width=0.02)
    net.classes = tuple(CLASSES)
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    save_checkpoint(net, path)
    return torch.load(path, weights_only=True)


@pytest.fixture
def load(tmp_path):
    def load(content):
        """The network, or the text of the error, which is one line that can be printed."""
        torch.save(content, tmp_path / "odd.pt")
        try:
            return load_checkpoint(tmp_path / "odd.pt")
        except CheckpointError as error:
            assert str(error).isprintable() and str(error).encode() and len(str(error)) < 400
            return str(error).removeprefix(f"wrong checkpoint: {tmp_path}/odd.pt: got ")

    return load


def replaced(content, path, value):
    """A copy of nested dicts in which one place has another value."""
    first, *rest = path
    return {**content, first: replaced(content[first], rest, value) if rest else value}


def removed(content, path):
    first, *rest = path
    return {
        key: removed(value, rest) if key == first and rest else value for key, value in content.items() if key != first or rest
    }


DESCRIPTION = (
    *((key,) for key in ("format", "version", "architecture", "inputs", "num_classes", "classes", "width")),
    *((key,) for key in ("preprocessing", "state_dict")),
    *(("preprocessing", key) for key in (*RANGES, "flow_algorithm", "flow_parameters")),
    *(("preprocessing", "flow_parameters", key) for key in (*TVL1_RANGES, "median")),
)


def test_no_odd_description_is_believed_or_ends_otherwise(whole, load):
    """Of such a file only two tensors are left, so that whatever is believed is then refused for the others."""
    head = {key: whole["state_dict"][key] for key in ("Conv3d_1a_7x7.conv3d.weight", "logits.conv3d.weight")}
    content = {**whole, "state_dict": head}
    cases = [(path, value) for path in DESCRIPTION for value in ODD]
    random.Random(0).shuffle(cases)
    believed, outcomes = set(), collections.Counter()
    for path, value in cases[:300]:
        found = load(replaced(content, path, value))
        outcomes["refused" if "missing" not in found else "believed"] += 1
        if "missing" in found:
            believed.add((".".join(path), repr(value)))
    assert outcomes == {"refused": 282, "believed": 18}, sorted(believed)
    assert not {name for name, _ in believed} & {"format", "preprocessing", "state_dict"}
    assert {value for _, value in believed} <= {"1", "5", "0.5", "1e-09", "0", "None", "{}", "[]", "()", "'rgb'", "'x'", "'5'"}


def counter(value):
    return {"Mixed_3b.b0.bn.num_batches_tracked": value}


TENSORS_OF_THEIRS = {  # name → what is in its place, and the text of the error, or None where it loads
    "bool counter": (counter(torch.tensor(True)), None),
    "narrow counter": (counter(torch.tensor(5, dtype=torch.uint8)), None),
    "float counter": (counter(torch.tensor(5.0)), "of torch.float32, expected float weights and integer counters"),
    "row of counters": (counter(torch.tensor([5])), "num_batches_tracked of shape (1,), expected ()"),
    "complex": ({"logits.conv3d.bias": torch.ones(5, dtype=torch.complex64)}, "of torch.complex64, expected float weights"),
    "quarter": ({"logits.conv3d.bias": torch.ones(5).to(torch.float8_e5m2)}, None),
    "double": ({"logits.conv3d.bias": torch.ones(5, dtype=torch.float64)}, None),
    "too large": (
        {"logits.conv3d.bias": torch.full((5,), 1e300, dtype=torch.float64)},
        "NaN or infinity in logits.conv3d.bias",
    ),
    "meta": ({"logits.conv3d.bias": torch.ones(5, device="meta")}, "logits.conv3d.bias, a Tensor without plain numbers"),
    "sparse first": (
        {"Conv3d_1a_7x7.conv3d.weight": torch.ones(1, 3, 7, 7, 7).to_sparse()},
        "Conv3d_1a_7x7.conv3d.weight, a Tensor without plain numbers, expected a dense tensor",
    ),
    "list": ({"logits.conv3d.bias": [0.0] * 5}, "1 missing (first logits.conv3d.bias)"),
    "key that is no name": ({5: torch.ones(1)}, "1 unknown (first 5)"),
    "key that is a tuple": ({(1, "a"): torch.ones(1)}, "1 unknown (first a value of type Inert)"),
    "name with a line's end": ({"a\nb\x1b": torch.ones(1)}, r"1 unknown (first a\nb\x1b)"),
    "negative variance": ({"Mixed_3b.b0.bn.running_var": -torch.ones(1)}, "a negative variance in Mixed_3b.b0.bn.running_var"),
    "expanded": ({"logits.conv3d.bias": torch.ones(()).expand(5)}, None),
    "turned": ({"logits.conv3d.bias": torch.arange(10.0)[::2]}, None),
    "five classes in one": ({"logits.conv3d.weight": torch.ones(5, 20)}, "logits.conv3d.weight of shape (5, 20)"),
}


@pytest.mark.parametrize("kind", TENSORS_OF_THEIRS)
def test_odd_tensors_are_read_rightly_or_named(whole, load, kind):
    changes, text = TENSORS_OF_THEIRS[kind]
    found = load({**whole, "state_dict": {**whole["state_dict"], **changes}})
    if text is None:
        (name, tensor), state = *changes.items(), found.state_dict()
        assert state[name].dtype == whole["state_dict"][name].dtype and 0 not in state[name].stride()
        assert torch.equal(state[name], tensor.to(state[name].dtype))
    else:
        assert text in found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": [*CLASSES[:4], "one"]}, "no usable 'classes' ('one' twice), expected a file written by i3d"),
        ({"classes": [*CLASSES[:4], " "]}, "no usable 'classes' (' ' among them)"),
        ({"classes": [*CLASSES[:4], 5]}, "no usable 'classes' (5 among them)"),
        ({"classes": dict(enumerate(CLASSES))}, "no usable 'classes' (a value of type dict in place of a list)"),
        ({"classes": CLASSES[:4]}, "a description that disagrees with its tensors"),
        ({"num_classes": 4}, "a description that disagrees with its tensors"),
        ({"inputs": ["flow"]}, "Conv3d_1a_7x7.conv3d.weight of shape (1, 3, 7, 7, 7), expected (1, 2, 7, 7, 7)"),
        ({"inputs": "rgb"}, "no usable 'inputs' ('rgb')"),
        ({"architecture": "lstm"}, "architecture 'lstm', expected one of i3d; upgrade i3d"),
        ({"architecture": ["i3d"]}, "architecture a value of type list, expected one of i3d"),
        ({"width": 0.5}, "Conv3d_1a_7x7.conv3d.weight of shape"),
        ({"format": 5}, "format 5, expected 'i3d'"),
        ({"version": True}, "format version True, expected version 1 or 2"),
        ({"version": 10**5000}, "format version an integer of more than 20 digits"),
        ({"preprocessing": {}}, "no usable 'preprocessing' (no clip_len)"),
        ({"preprocessing": {5: 5}}, "no usable 'preprocessing' (keywords must be strings)"),
    ],
)
def test_what_a_description_has_wrong_is_named(whole, load, change, text):
    assert text in load({**whole, **change})


def test_names_of_classes_as_a_tuple_and_in_any_letters_are_kept(whole, load):
    names = ("a\ud800", "b\udcff", "\u202ec", "d\te", "=f")
    assert load({**whole, "classes": names}).classes == names


@pytest.mark.parametrize("missing", [key for (key,) in (path for path in DESCRIPTION if len(path) == 1) if key != "format"])
def test_a_field_that_is_missing_is_named(whole, load, missing):
    found = load(removed(whole, (missing,)))
    texts = {"version": "format version None", "architecture": "architecture None, expected one of i3d"}
    assert found.startswith(texts.get(missing, f"no usable {missing!r} (None)"))


@pytest.mark.parametrize("missing", ["tool", "format"])
def test_the_format_cannot_be_left_out_and_what_nobody_needs_can(whole, load, missing):
    found = load(removed(whole, (missing,)))
    assert "format None, expected 'i3d'" in found if missing == "format" else found.classes == tuple(CLASSES)
