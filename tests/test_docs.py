"""What the documents promise is there: every command and option, and examples that run."""

import ast
import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path

import click
import oracle
import pytest
import torch
from click.testing import CliRunner
from media import moving, write_video

import i3dcli
from i3dcli.cli.main import main
from i3dcli.evaluation.evaluate import EvalOptions
from i3dcli.flow.extract import FlowOptions
from i3dcli.training.options import TrainOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_in_the_readme_and_has_help_for_each_option(name):
    command = main.commands[name]
    assert f"i3d {name}" in README
    assert command.help and "Examples:" in command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_python_examples_of_the_readme_run(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "video.mp4", moving(20))
    for stream, path in checkpoints.items():
        (tmp_path / f"{stream}.pt").symlink_to(path)
    short, steps, _ = PYTHON
    names = {}
    exec(short.replace('load_model("kinetics400")', "load_model(rgb='rgb.pt', flow='flow.pt')"), names)
    expected = names["model"].predict("video.mp4")
    exec(steps, names)
    assert (names["logits"][0] - expected.logits).abs().max() < 1e-4
    assert names["features"].shape == (1, 128, 3, 7, 7)


def test_functions_in_the_readme_have_the_keywords_that_are_given():
    options = {"train": TrainOptions, "evaluate": EvalOptions, "extract_flow": FlowOptions}
    calls = [node for node in ast.walk(ast.parse(PYTHON[2])) if isinstance(node, ast.Call)]
    assert len(calls) == 4
    for call in calls:
        name = call.func.attr
        known = {*inspect.signature(getattr(i3dcli, name)).parameters}
        known |= {field.name for field in fields(options[name])} if name in options else set()
        assert {keyword.arg for keyword in call.keywords} <= known, name


def words_and_numbers(text):
    """What a table says, but for its probabilities, and these, whose last digits differ between processors."""
    return re.sub(r"\d\.\d{4}", "", text), [float(number) for number in re.findall(r"\d\.\d{4}", text)]


def test_the_first_run_of_the_readme_prints_what_it_says(monkeypatch):
    command, printed = re.search(r"<!-- first run -->\n```sh\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    _, _, predict = command.rpartition(" && ")
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, shlex.split(predict)[1:])
    assert (result.exit_code, result.stderr) == (0, "")
    best = ["".join(text.splitlines(keepends=True)[:3]) for text in (result.stdout, printed)]
    (words, numbers), (expected_words, expected) = map(words_and_numbers, best)
    assert words == expected_words and "pan_left" in words and numbers == pytest.approx(expected, abs=0.02)
    assert (ROOT / "examples/camera_motion/pan_left.mp4").stat().st_size < 300_000


def test_the_four_commands_of_the_readme_lead_from_a_2d_network_to_labels(tmp_path, monkeypatch):
    block = re.search(r"<!-- four commands -->\n```sh\n(.*?)```", README, re.DOTALL)[1]
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert [command[0] for command in commands] == ["inflate", "train", "eval", "predict"]
    monkeypatch.chdir(tmp_path)
    torch.save(oracle.googlenet(), "googlenet.pth")
    for part, seed in (("train", 0), ("val", 1)):
        for name, step in (("left", (0, -2)), ("right", (0, 2))):
            Path("videos", part, name).mkdir(parents=True)
            write_video(f"videos/{part}/{name}/{seed}.mp4", moving(12, 36, 48, step=step, seed=seed))
    write_video("new.mp4", moving(12, 36, 48))
    small = {"short-side": 36, "crop": 32, "clip-len": 9, "steps": 1, "batch-size": 2, "workers": 0}
    commands[1] += [f"--{name}={value}" for name, value in small.items()]
    for command in commands:
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    assert "(runs/rgb/best.pt, rgb, cpu)" in result.stdout and re.search(r"\d\.\d{4}  (left|right)", result.stdout)


def test_the_provenance_table_names_every_file_of_the_zoo():
    table = (ROOT / "weights" / "README.md").read_text("utf-8")
    for model in map(i3dcli.model_info, i3dcli.list_models()):
        assert f"`{model.name}`" in README
        for file in model.all_files:
            assert file.url in table and file.blob_id in table
        for top1, top5 in model.accuracy.values():
            assert f"{top1} / {top5}" in table and f"{top1} / {top5}" in README


def test_every_module_is_in_the_map_of_the_house():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    modules = {path.name for path in Path(i3dcli.__file__).parent.rglob("*.py")} - {"__init__.py", "__main__.py"}
    assert all(name in text for name in modules)
