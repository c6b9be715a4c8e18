"""Pickles as plain data: what Python writes comes back, code is named and not run, and bombs do not go off."""

import argparse
import collections
import io
import os
import pickle
import random
import time

import pytest

from i3dcli.checkpoints.pickles import HoldsCode, Name, load_pickle
from i3dcli.checkpoints.tensors import Inert
from i3dcli.errors import Malformed

VALUES = {
    "a": [1, -2, 2**40, -(2**70), 1.5, True, False, None],
    "b": ("é", b"\xff", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    3: {"nested": [{}, [[]], {None: 0, 1.5: "x", b"k": 1}]},
    "long": "x" * 300,
    "bytes": b"y" * 300,
}


def read(data, **options):
    return load_pickle(io.BytesIO(data), **{"calls": {}, "persistent": lambda key: key, **options})


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back_from_every_protocol(protocol):
    shared = [VALUES, VALUES]
    content = read(pickle.dumps(shared, protocol), calls={"_codecs.encode": lambda text, code: text.encode(code)})
    assert content == shared and content[0] is content[1]


@pytest.mark.parametrize("protocol", range(6))
def test_dicts_of_other_kinds_are_dicts_and_harmless_objects_inert(protocol):
    ordered = collections.OrderedDict(a=1, b=2)
    content = read(pickle.dumps([ordered, collections.defaultdict(list, c=3)], protocol))
    assert content == [{"a": 1, "b": 2}, {"c": 3}]
    if protocol >= 2:  # before, objects are made by a function that makes any
        inert = read(pickle.dumps([argparse.Namespace(lr=1), {1, 2}, 3 + 4j], protocol))
        assert [type(value) for value in inert] == [Inert, list if protocol > 3 else Inert, Inert]


def test_an_ordered_dict_of_python_2_has_its_pairs():
    assert read(b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI1\naa(lp2\nS'b'\naI2\naatR.") == {"a": 1, "b": 2}


class Mischief:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


CODE = {
    "reduce": (pickle.dumps({"a": Mischief(os.system, "touch pwned")}, 2), "posix.system"),
    "stack global": (pickle.dumps({"a": Mischief(os.system, "touch pwned")}, 4), "posix.system"),
    "text": (b"cos\nsystem\n(S'touch pwned'\ntR.", "os.system"),
    "inst": (b"(S'touch pwned'\nios\nsystem\n.", "os.system"),
    "obj": (b"(cos\nsystem\nS'touch pwned'\no.", "os.system"),
    "never called": (b"cos\nsystem\n.", "os.system"),
    "attribute": (pickle.dumps(Mischief(getattr, "a", "b"), 4), "builtins.getattr"),
    "of torch": (b"ctorch\nload\n(S'x'\ntR.", "torch.load"),
    "dots": (b"ctorch\nos.system\n(S'x'\ntR.", "torch.os.system"),
    "extension": (b"\x82\x01.", "extension 1"),
}


@pytest.mark.parametrize("kind", CODE)
def test_code_is_named_and_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    data, name = CODE[kind]
    with pytest.raises(HoldsCode, match=f"^{name}$"):
        read(data)
    assert not list(tmp_path.iterdir())


def test_only_what_is_given_is_called():
    calls = {"torch._utils._rebuild_tensor_v2": lambda *arguments: arguments}
    data = b"ctorch._utils\n_rebuild_tensor_v2\n(I1\n(ctorch\nFloatStorage\ntQtR."
    assert read(data, calls=calls, persistent=lambda key: ("there", *key)) == (1, ("there", Name("torch.FloatStorage")))


def doubled(times, pair=b"\x86"):
    """A tuple of a tuple twice, and so on: 2^times of them to whoever walks through it."""
    return b")" + b"q\x00h\x00" + pair + (b"q\x00h\x00" + pair) * times


BOMBS = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "hash": b"}" + doubled(60) + b"Ns.",
    "bytes": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    "long text": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "long number": b"\x8b\xff\xff\xff\x7fabc.",
    "digits": b"L" + b"9" * 100_000 + b"L\n.",
    "pairs": b"(l" + b"(lNaNa" * 10 + b"a" * 10 + b"q\x00" + b"0ccollections\nOrderedDict\n(h\x00tR" * 100 + b".",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_do_not_go_off(kind):
    start = time.process_time()
    try:
        read(BOMBS[kind])
    except Malformed as error:
        assert "\n" not in str(error)
    assert time.process_time() - start < 1


def test_more_values_than_any_network_has_are_refused(monkeypatch):
    monkeypatch.setattr("i3dcli.checkpoints.pickles.MOST_OPERATIONS", 1000)
    assert len(read(b"(" + b"N" * 900 + b"l.")) == 900
    pairs = b"(l" + b"(lNaNaa" * 50 + b"q\x00"
    copies = b"ccollections\nOrderedDict\n(h\x00tR0" * 30  # each is five operations and fifty pairs
    for data in (b"(" + b"N" * 1000 + b"l.", pairs + copies + b"."):
        with pytest.raises(Malformed, match="it holds too many values"):
            read(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"N", b".", b"\xff", b"0.", b"R.", b"t.", b"h\x05.", b"NNs.", b"Na.", b"NR.", b"N)R.", b"(NNu.", b"\x97.", b"K"],
)
def test_what_is_no_pickle_is_malformed(data):
    with pytest.raises(Malformed, match=r"^its pickle is not whole$"):
        read(data)


def test_no_mutation_escapes_as_another_error():
    source = bytearray(pickle.dumps([VALUES, collections.OrderedDict(a=1)], 2))
    rng = random.Random(0)
    outcomes = collections.Counter()
    for _ in range(2000):
        data = bytearray(source)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read(bytes(data))
            outcomes["read"] += 1
        except (Malformed, HoldsCode) as error:
            outcomes[type(error).__name__] += 1
    assert outcomes["read"] > 100 and outcomes["Malformed"] > 100 and sum(outcomes.values()) == 2000
