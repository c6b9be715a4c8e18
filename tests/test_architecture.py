"""The layers of the house: imports point down only, and each library is known to one room."""

import ast
from pathlib import Path

import pytest

import i3dcli

SOURCE = Path(i3dcli.__file__).parent
LAYERS = (  # top to bottom; modules of a row do not know each other, but for those that are listed later in it
    ("__main__",),
    ("cli",),
    ("options", "gate"),
    ("predict", "extract", "inflate", "train", "evaluate"),
    ("findings", "scoring", "result_folder"),
    ("conversion", "two_stream"),
    ("run_data", "run_folder", "learner", "loader", "score_log", "distributed", "recipes"),
    (
        "claims",
        "failures",
        "zoo",
        "download",
        "checkpoints",
        "report",
        "annotate",
        "timeline",
        "curves",
        "metrics",
        "scores",
        "views",
    ),
    ("networks", "weight_files"),
    (
        "layouts",
        "torch_file",
        "pickles",
        "tensor_bundle",
        "leveldb",
        "stored",
        "drawing",
        "i3d",
        "clips",
        "video",
        "losses",
        "containers",
        "unread",
        "seeking",
        "clock",
        "orientation",
        "flow",
        "flow.storage",
        "flow.tvl1_cuda",
        "flow._tvl1_triton",
        "flow.tvl1",
        "flow.threads",
        "flow._tvl1_cpu",
    ),
    ("holdout", "chosen"),
    ("datasets", "annotations", "lists", "entries"),
    ("places", "tables", "class_names"),
    ("find", "lines", "files"),
    ("foreign", "file_names", "defaults", "errors", "stopping", "__init__"),
)
ORDER = [module for row in LAYERS for module in row]
MODULES = sorted(SOURCE.rglob("*.py"))


def module_name(path):
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path):
    """(module of ours or None, top-level name of another library or None) for each import outside TYPE_CHECKING."""
    package = [*path.relative_to(SOURCE).parent.parts]
    tree = ast.parse(path.read_text("utf-8"))
    guarded = {
        id(n) for c in ast.walk(tree) if isinstance(c, ast.If) and "TYPE_CHECKING" in ast.dump(c.test) for n in ast.walk(c)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from ((None, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield None, node.module.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                yield (full if full in ORDER else base or "__init__"), None


def test_every_module_has_its_place():
    assert sorted(module_name(path) for path in MODULES) == sorted(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path):
    name = module_name(path)
    if name == "__init__":
        return  # names only, loaded when they are used
    for ours, _ in imports(path):
        assert ours is None or ORDER.index(ours) > ORDER.index(name), f"{name} imports {ours}"


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("click", {"cli", "gate", "options"}),
        ("av", {"video", "clock", "containers", "losses", "orientation", "seeking"}),
        ("numba", {"flow._tvl1_cpu"}),
        ("safetensors", {"weight_files"}),
    ],
)
def test_a_library_is_known_to_one_room(library, home):
    assert {module_name(path) for path in MODULES if (None, library) in set(imports(path))} == home


def test_every_module_says_what_it_is():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_public_names_load_and_are_documented():
    for name in i3dcli.__all__:
        assert name == "__version__" or getattr(i3dcli, name).__doc__
    assert not set(i3dcli.__all__) & {module_name(path) for path in MODULES}
