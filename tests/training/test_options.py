from dataclasses import asdict, fields

import pytest
from click.testing import CliRunner

from i3dcli.cli.main import main
from i3dcli.cli.train import TRAIN_OPTIONS
from i3dcli.training.options import CLIPS_PER_STEP, RECIPES, TrainOptions, changed_options, learning_rate, with_recipe

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")


def rates(options, steps, num_steps=100):
    return [learning_rate(options, step, num_steps=num_steps) for step in steps]


def test_the_cosine_falls_to_zero_after_the_warm_up():
    options = TrainOptions(lr=0.8, warmup=20)
    assert rates(options, [0, 9, 19, 20, 60, 100]) == pytest.approx([0.04, 0.4, 0.8, 0.8, 0.4, 0.0])
    assert rates(TrainOptions(lr=0.8), [0, 25, 50]) == pytest.approx([0.8, 0.4 * (1 + 0.5**0.5), 0.4])


def test_steps_change_the_rate_at_the_step_that_is_named():
    options = TrainOptions(lr=0.1, schedule="step", lr_steps=((50, 0.001), (10, 0.01)), warmup=5)
    assert rates(options, [0, 4, 9, 10, 49, 50, 99]) == pytest.approx([0.02, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_each_plateau_divides_the_rate_by_ten():
    options = TrainOptions(lr=0.5, schedule="plateau", warmup=2)
    found = [learning_rate(options, step, num_steps=9, reductions=n) for step, n in ((0, 0), (5, 0), (5, 1), (5, 2))]
    assert found == pytest.approx([0.25, 0.5, 0.05, 0.005])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("processes", "batch_size"), [(1, 6), (4, 6), (4, 2), (4, 12)])
def test_a_step_has_as_many_clips_as_the_papers(recipe, processes, batch_size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    for stream in ("rgb", "flow"):
        chosen = TrainOptions(**with_recipe(recipe, {"stream": stream, "batch_size": batch_size}))
        assert processes * chosen.batch_size * chosen.accumulate == CLIPS_PER_STEP[recipe]


def test_options_override_a_recipe():
    chosen = with_recipe("kinetics", {"stream": "flow", "lr": 0.5, "accumulate": 3, "train": "videos"})
    assert (chosen["lr"], chosen["accumulate"], chosen["train"]) == (0.5, 3, "videos")
    assert (chosen["steps"], chosen["schedule"], len(chosen["lr_steps"])) == (155_000, "step", 5)
    assert with_recipe("ucf101", {"epochs": 3})["steps"] is None
    assert with_recipe("ucf101", {"epochs": 3, "steps": 7})["steps"] == 7


def test_a_recipe_prints_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    arguments = ["train", str(tmp_path / "absent"), "--out", str(tmp_path / "run"), "--recipe", "kinetics"]
    assert CliRunner().invoke(main, arguments).stderr.splitlines()[0] == (
        "Recipe kinetics: --steps 115000 --batch-size 6 --accumulate 16 --lr 0.1 --schedule step "
        "--lr-steps 97000:0.01,108000:0.001 --momentum 0.9 --weight-decay 1e-07 --dropout 0.5"
    )


def test_changed_options_are_named_as_they_were_and_are():
    then = asdict(TrainOptions(train="videos", lr_steps=((1, 0.1),)))
    same = then | {"lr_steps": [[1, 0.1]]}  # as JSON gives it back
    assert changed_options(TrainOptions(**then), same) == []
    now = TrainOptions(**then | {"lr": 0.5, "batch_size": 2})
    assert changed_options(now, then) == ["--batch-size 6 then, 2 now", "--lr 0.02 then, 0.5 now"]


def test_every_field_is_an_option_of_the_command():
    assert ["train", *(name.replace("-", "_") for name, _, _ in TRAIN_OPTIONS)] == [
        field.name for field in fields(TrainOptions)
    ]
