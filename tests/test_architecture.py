"""The rooms of the house: who may import whom, what a room offers to others, and which library is whose."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import i3dcli

SOURCE = Path(i3dcli.__file__).parent
GROUND = {  # a module that every room may use, and those that it may use itself
    "_lazy": "",
    "text": "",
    "file_names": "",
    "metrics": "",
    "stopping": "",
    "errors": "text",
    "defaults": "text",
    "threads": "stopping",
    "drawing": "text",
    "files": "errors text",
    "chart": "drawing files",
    "lines": "errors files text",
    "distributed": "errors text threads",
    "scores": "defaults errors files text",
    "class_names": "defaults errors file_names lines text",
}
ROOMS = {  # a room, and the other rooms that it may use
    "video": "",
    "models": "",
    "flow": "video",
    "checkpoints": "models",
    "data": "flow models video",
    "prediction": "checkpoints data flow models video",
    "training": "checkpoints data flow models video",
    "evaluation": "data flow prediction video",
    "cli": "checkpoints data evaluation flow prediction training video",
}
ENTRANCES = {"": set(ROOMS) - {"cli"} | {"_lazy", "errors"}, "__main__": {"cli", "stopping"}}  # what the package itself is
MODULES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}
LIBRARIES = {  # a library, and all that may import it
    "av": {"video"},
    "click": {"cli"},
    "filelock": {"files"},
    "numba": {"flow"},
    "safetensors": {"checkpoints"},
    "triton": {"flow"},
}


def place(module):
    """The room of a module, or its own name where it is on the ground floor."""
    return module.split(".")[0]


def imports(module):
    """Each import in a module as (its target in the package or None, the name it takes, top-level name of a library or None).

    Those for type checkers alone count, too: whoever reads a module needs to know what they stand for.
    """
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((None, None, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield None, None, node.module.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                is_module = whole in MODULES or f"{whole}.__init__" in MODULES
                yield (whole, None, None) if is_module else (".".join(base), alias.name, None)


def may_use(module):
    """The rooms and modules of the ground floor that a module may import from, besides its own room."""
    name = "" if module == "__init__" else place(module)
    if name in ENTRANCES:
        return ENTRANCES[name]
    return set(GROUND[name].split()) if name in GROUND else {*ROOMS[name].split(), *GROUND}


def test_every_room_and_every_module_of_the_ground_floor_is_in_the_table():
    assert {place(module) for module in MODULES} == {*GROUND, *ROOMS, "__init__", "__main__"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module):
    for target, _, _ in imports(module):
        if target not in (None, ""):  # the package itself, which knows its version
            assert place(target) in may_use(module) | {place(module)}, f"{module} imports {target}"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_is_entered_by_its_door(module):
    """What a room's __init__ does not offer is its own business; only commands and the package name the module of a verb."""
    for target, name, _ in imports(module):
        if target not in (None, "") and place(target) in ROOMS and place(target) != place(module):
            is_door = target == place(target) and name is not None
            assert is_door or place(module) in ("cli", "__main__", "__init__"), f"{module} imports {target}"


def test_no_modules_import_each_other_in_a_circle():
    homes = {(room, name): f"{room}.{module}" for room in ROOMS for module, names in door(room).items() for name in names}
    graph = {
        module: {homes.get((target, name), target) for target, name, _ in imports(module) if target not in (None, "")}
        for module in MODULES
        if not module.endswith("__init__")
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def door(room):
    """What a room offers, by module."""
    return getattr(sys.modules.get(f"i3dcli.{room}") or __import__(f"i3dcli.{room}", fromlist=[room]), "_HOMES", {})


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_a_door_offers_what_others_use_and_nothing_else(room):
    offered = {name for names in door(room).values() for name in names}
    typed = {(target, name) for target, name, _ in imports(f"{room}.__init__") if target is not None and place(target) == room}
    assert typed == {(f"{room}.{module}", name) for module, names in door(room).items() for name in names}
    used = {
        name
        for module in MODULES
        if place(module) != room
        for target, name, _ in imports(module)
        if target == room and name is not None
    }
    assert offered == used, f"only offered: {offered - used}, only used: {used - offered}"


@pytest.mark.parametrize(("library", "places"), LIBRARIES.items())
def test_a_library_is_known_to_one_room(library, places):
    assert {place(module) for module in MODULES for _, _, found in imports(module) if found == library} == places


@pytest.mark.parametrize("code", ["import i3dcli", "from i3dcli.cli.main import main; main(['-h'], standalone_mode=False)"])
def test_help_and_the_package_itself_load_no_heavy_library(code):
    heavy = "print([name for name in ('torch', 'cv2', 'av', 'numba', 'numpy') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", f"import sys; {code}; {heavy}"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_every_module_says_what_it_is():
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), module


def test_public_names_load_and_are_documented():
    for name in i3dcli.__all__:
        assert name == "__version__" or getattr(i3dcli, name).__doc__
