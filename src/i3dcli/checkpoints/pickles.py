"""Pickles, which torch keeps everything but numbers in, read as plain data: nothing in them is imported, called or run.

A pickle is a program for a stack machine. Here its lists, tuples and dicts are built, and the few calls that make up a
state_dict are answered by functions of ours; other names that are known to be harmless become values that nobody looks
into, and any further name is code, which is refused. Source of the operations: Python's `pickletools`.
"""

from __future__ import annotations

import pickletools
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ..errors import Malformed
from .tensors import Inert

MOST_OPERATIONS = 8_000_000  # some 100 bytes and a microsecond each; a network has ten thousand
HARMLESS = re.compile(  # types of plain values that training scripts keep beside weights; none is ever made
    r"torch\.(cuda\.|sparse\.|storage\.)*(\w+Storage|\w+Tensor|Tensor|Size|device|layout|memory_format)"
    r"|torch\.(b?float|complex|u?int|bool|q?u?int|bits|per_)\w*"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout"
    r"|torch\.nn\.parameter\.(Parameter|Buffer)"
    r"|(builtins|__builtin__)\.(set|frozenset|complex|bytearray|range|slice|list|dict|tuple|int|float|str|bool|object)"
    r"|collections\.(OrderedDict|defaultdict|Counter|deque)|_codecs\.encode"
    r"|numpy\.(dtype|ndarray|(core|_core)\.multiarray\.(scalar|_reconstruct))"
    r"|argparse\.Namespace|pathlib\.(Pure)?(Posix|Windows)?Path|datetime\.(datetime|date|time|timedelta)"
)


class HoldsCode(Exception):
    """A pickle names something that could run code; the text is its name."""


@dataclass(frozen=True)
class Name:
    """A class or a function, by name."""

    name: str


Calls = Mapping[str, Callable[..., Any]]


def load_pickle(file: IO[bytes], *, calls: Calls, persistent: Callable[[Any], Any]) -> Any:
    """The content of the pickle that `file` stands at, up to its end: plain values, `Inert` ones, and what `calls` return.

    `calls` are functions by the name that they have in the pickle; `persistent` gives what lies outside of it. Raises
    HoldsCode for a name that is neither known nor harmless, and Malformed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a string's escapes
            return Machine(calls, persistent).run(file)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, struct.error, MemoryError) as error:
        raise Malformed("its pickle is not whole") from error


class Machine:
    """The stack, the memo, and what each operation does to them."""

    def __init__(self, calls: Calls, persistent: Callable[[Any], Any]):
        self.calls, self.persistent = calls, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.copied = 0  # items

    def run(self, file: IO[bytes]) -> Any:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if operation.name == "STOP":
                return self.stack.pop()
            if count + self.copied >= MOST_OPERATIONS:
                raise Malformed("it holds too many values")
            OPERATIONS[operation.name](self, argument)
        raise EOFError

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        """The last values."""
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError(count)
        del self.stack[-count:]
        return items

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """What is above the last mark, which goes with it."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def extend(self, items: Iterable[Any]) -> None:
        if not isinstance(self.stack[-1], Inert):
            self.stack[-1].extend(items)

    def set_items(self, items: Sequence[Any]) -> None:
        """Keys and values in turns. A key that is no plain value is replaced, as hashes of nested tuples may take for ever."""
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict):
            raise TypeError(type(target))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key if isinstance(key, (str, bytes, int, float, type(None))) else Inert("key")] = value

    def name(self, name: str) -> Name:
        if name not in self.calls and not HARMLESS.fullmatch(name):
            raise HoldsCode(name)
        return Name(name)

    def call(self, function: Any, arguments: Any) -> None:
        """Push what a function returns, or an instance of a class."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError(type(function))
        if function.name in DICTS:
            self.push({})
            for items in arguments:  # of an OrderedDict of Python 2, pairs; others are filled afterwards
                for pair in items if isinstance(items, list) else []:
                    self.copied += 1
                    self.set_items(pair)
        else:
            answer = self.calls.get(function.name)
            self.push(Inert(function.name) if answer is None else answer(*arguments))

    def dictionary(self, argument: None) -> None:
        """The operation DICT, of protocol 0: keys and values above a mark."""
        items = self.marked()
        self.push({})
        self.set_items(items)

    def object(self, argument: None) -> None:
        """The operation OBJ: a class and its arguments above a mark."""
        function, *arguments = self.marked()
        self.call(function, tuple(arguments))

    def instance(self, argument: str) -> None:
        """The operation INST: the name of a class, and its arguments above a mark."""
        self.call(self.name(argument.replace(" ", ".", 1)), tuple(self.marked()))

    def extension(self, argument: int) -> None:
        raise HoldsCode(f"extension {argument}")


def text(argument: str) -> str:
    """A string of Python 2, which `pickletools` takes for Latin-1."""
    return argument.encode("latin-1").decode("utf-8", "replace")


DICTS = ("collections.OrderedDict", "collections.defaultdict")
ARGUMENTS = (  # of these operations are what they push
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
OPERATIONS: dict[str, Callable[[Machine, Any], object]] = {
    **dict.fromkeys(ARGUMENTS, Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), lambda m, value: m.push(text(value))),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), Machine.extension),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda m, _: m.push([])),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "MARK": lambda m, _: m.mark(),
    "POP_MARK": lambda m, _: m.marked(),
    "POP": lambda m, _: m.pop(1),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda m, _: m.push(m.marked())),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.push(m.pop(1)),
    "TUPLE2": lambda m, _: m.push(m.pop(2)),
    "TUPLE3": lambda m, _: m.push(m.pop(3)),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: m.extend(m.marked())),
    "DICT": Machine.dictionary,
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.marked()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.memo.__setitem__(place, m.stack[-1])),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, name: m.push(m.name(name.replace(" ", ".", 1))),
    "STACK_GLOBAL": lambda m, _: m.push(m.name(".".join(m.pop(2)))),
    "INST": Machine.instance,
    "OBJ": Machine.object,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m.call(*m.pop(2))),
    "NEWOBJ_EX": lambda m, _: m.call(*m.pop(3)[:2]),
    "BUILD": lambda m, _: m.pop(1),  # attributes, such as the versions of modules in a state_dict
    "PERSID": lambda m, name: m.push(m.persistent(name)),
    "BINPERSID": lambda m, _: m.push(m.persistent(*m.pop(1))),
}
