"""Short training runs, in this process or in others, and what they leave in their folders."""

import csv
from contextlib import contextmanager

import processes
import torch
from click.testing import CliRunner

from i3dcli.cli.main import main
from i3dcli.training.trainer import Trainer

HERE = ("--device", "cpu", "--workers", "0")
TINY = (
    *("--width", "0.125", "--crop", "32", "--short-side", "36", "--clip-len", "9"),
    *("--no-flip", "--dropout", "0", "--batch-size", "4"),
)


def invoke(*arguments):
    """`i3d train` on the CPU in this process; gives click's result."""
    return CliRunner().invoke(main, ["train", *HERE, *map(str, arguments)], catch_exceptions=False)


def train(*arguments):
    """Likewise with tiny settings, which `arguments` override."""
    return invoke(*TINY, *arguments)


def resume(out, *arguments):
    return invoke("--resume", "--out", out, *arguments)


def trained(*arguments):
    """Likewise, for a run that must come to its end; gives the folder, which is the last argument."""
    result = train(*arguments[:-1], "--out", arguments[-1])
    assert result.exit_code == 0, result.stderr
    return arguments[-1]


class Death(Exception):
    """The end of a process, as far as one that goes on can show it."""


@contextmanager
def dying_at(monkeypatch, step):
    """Within the block a run ends at a step as if the process had been killed."""

    def step_or_death(trainer, batches, *, number, lr):
        if number == step:
            raise Death
        return alive(trainer, batches, number=number, lr=lr)

    alive = Trainer.step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step_or_death)
        try:
            yield
        except Death:
            return
        raise AssertionError(f"the run did not come to step {step}")


def start(*arguments, save_every=500, before="", **options):
    """Start `i3d train` in a process of its own, and of its own group."""
    code = f"import i3dcli.training.train as verb; verb.SAVE_EVERY = {save_every}; {before}"
    return processes.start("train", "--device", "cpu", *arguments, before=code, **options)


def waiting(out, gate):
    """Code that keeps a run at the step after its first checkpoint until the file `gate` is there, lest it come to its end."""
    return f"""
import os, time
from i3dcli.training.trainer import Trainer

def step(*arguments, usual=Trainer.step, **options):
    while os.path.exists({str(out / "last.pt")!r}) and not os.path.exists({str(gate)!r}):
        time.sleep(0.005)
    return usual(*arguments, **options)

Trainer.step = step
"""


def rows(out):
    """The rows of log.csv, as text by column, without the speed, which no two runs share."""
    with open(out / "log.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert all(float(row.pop("clips_per_second")) > 0 for row in found)
    return found


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(path, other):
    one, two = weights(path), weights(other)
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
