import contextlib
import os
import re
import signal

import pytest
import torch
from processes import Process, ends_of, start_ranks, wait_for
from runs import HERE, TINY, resume, rows, trained

from i3dcli.distributed import ENVIRONMENT, Group, choose_device, cores_per_process, own_device, process_group
from i3dcli.errors import I3DError
from i3dcli.training.options import TrainOptions
from i3dcli.training.run_folder import RunFolder

TORCHRUN = ("--standalone", "--nproc-per-node=2")


def torchrun(folder, *arguments):
    """Start torchrun, which keeps its records below a folder; the processes that it starts are fresh ones."""
    return Process("torch.distributed.run", (*TORCHRUN, "--log-dir", folder / "torchrun", *arguments))


def test_two_processes_learn_what_one_with_twice_the_batch_does(checkpoints, motions, tmp_path):
    given = ("--width", "1", "--init", checkpoints["rgb"], "--freeze-bn", "--log-every", "1", "--steps", "10", "--lr", "0.002")
    two = start_ranks("train", motions, *HERE, *TINY, *given, "--batch-size", "2", "--out", tmp_path / "two", fresh=True)
    one = trained(motions, *given, "--batch-size", "4", tmp_path / "one")
    (stdout, stderr), (nothing, silent) = ends_of(two)
    assert [process.returncode for process in two] == [0, 0], stderr
    assert stdout.count("\n") == 1 and stdout.startswith(f"{tmp_path}/two/best.pt  top1 ")  # of one process, not of both
    assert "2 clips x 2 processes of 9 frames" in stderr and (nothing, silent) == ("", "")
    for single, both in zip(rows(one), rows(tmp_path / "two"), strict=True):
        assert {**single, "loss": "", "val_loss": ""} == {**both, "loss": "", "val_loss": ""}
        assert float(single["loss"]) == pytest.approx(float(both["loss"]), abs=1e-5)
        assert float(single["val_loss"] or 0) == pytest.approx(float(both["val_loss"] or 0), abs=1e-5)
    losses = [float(row["loss"]) for row in rows(one)]
    assert len(losses) == 10 and max(losses) - min(losses) > 0.01


# The second process dies, the first time, as soon as there is a checkpoint to go on from.
DYING = """
import os, signal, sys
from i3dcli.__main__ import run
from i3dcli.training.trainer import Trainer

def step(*arguments, usual=Trainer.step, **options):
    again = os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
    if os.environ["RANK"] == "1" and not again and os.path.exists(f"{sys.argv[-1]}/last.pt"):
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(*arguments, **options)

Trainer.step = step
run()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_a_run_goes_on_by_itself_when_one_of_its_processes_is_killed(motions, tmp_path, monkeypatch):
    out = tmp_path / "run"
    given = (motions, *HERE, *TINY, "--batch-size", "1", "--epochs", "3", "--lr", "0.05")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    (tmp_path / "dying.py").write_text(DYING)
    process = torchrun(tmp_path, "--max-restarts=1", tmp_path / "dying.py", "train", *given, "--out", out)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stderr.count("folder: 8 train, 4 val, 2 classes") == 2 and "Traceback" not in stderr  # begun twice
    assert stderr.count("; going on after step ") == 1
    assert [row["epoch"] for row in rows(out)] == [f"{float(epoch)}" for epoch in range(1, 4)]
    assert torch.load(out / "last.pt", weights_only=True)["training"]["progress"]["step"] == 12


def test_a_signal_to_torchrun_saves_once_and_the_run_can_be_resumed_by_as_many_clips(motions, tmp_path):
    out = tmp_path / "run"
    forever = (motions, *HERE, *TINY, "--batch-size", "1", "--epochs", "100000", "--out", out)
    process = torchrun(tmp_path, "-m", "i3dcli", "train", *forever)
    wait_for((out / "last.pt").exists, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode != 0
    assert len(re.findall(r"^Stopped after step \d+: .*: go on with --resume$", stderr, re.MULTILINE)) == 1
    result = resume(out)
    assert result.exit_code == 1 and "2 clips per step of all processes then, 1 now" in result.stderr


def test_an_error_in_all_processes_is_one_line_of_each(motions, tmp_path):
    two = start_ranks("train", motions, *HERE, *TINY, "--freeze-until", "nothing", "--out", tmp_path / "run")
    for process, (stdout, stderr) in zip(two, ends_of(two), strict=True):
        assert (process.returncode, stdout, stderr.count("\n")) == (1, "", 1)
        assert stderr.startswith("Error: no such layer: --freeze-until nothing: expected one of ")


def test_a_folder_that_not_every_machine_sees_is_an_error(tmp_path, monkeypatch):
    answers = iter(([None, None], [True, False], [False, False]))  # to: a complaint, is there a checkpoint, started again
    monkeypatch.setattr(Group, "gather", lambda self, value: next(answers))
    run = RunFolder(tmp_path, TrainOptions(), Group(), clips_per_step=2)
    with pytest.raises(I3DError, match=r"not on every machine: .*last\.pt"), run.opened(resume=True):
        pass


@pytest.mark.parametrize(("restarted", "opens"), [([False, True], True), ([False, False], False)])
def test_where_one_machine_counts_a_restart_all_resume(tmp_path, monkeypatch, restarted, opens):
    answers = iter(([None, None], [True, True], restarted))  # to: a complaint, is there a checkpoint, started again
    monkeypatch.setattr(Group, "gather", lambda self, value: next(answers))
    if opens:
        expected = contextlib.nullcontext()
    else:
        expected = pytest.raises(I3DError, match=rf"^a run is there: {tmp_path}: got its last\.pt; go on with resume=True")
    with expected, RunFolder(tmp_path, TrainOptions(), Group(), clips_per_step=2).opened(resume=False):
        pass
    assert next(answers, None) is None


@pytest.mark.parametrize(("reason", "kind"), [("x\nConnection refused, remote=1", I3DError), ("a bug", RuntimeError)])
def test_a_process_that_is_lost_is_one_line_and_another_fault_is_not_taken_for_it(monkeypatch, reason, kind):
    def fail(backend, timeout):
        raise RuntimeError(reason)

    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "3")
    monkeypatch.setattr("torch.distributed.init_process_group", fail)
    with pytest.raises(kind) as caught, process_group(torch.device("cpu")):
        pass
    assert caught.type is kind
    if kind is I3DError:
        assert re.fullmatch(
            r"lost another process: rank 3: Connection refused, remote=1; .*--max-restarts=N", str(caught.value)
        )


def test_devices_that_are_not_there_are_refused():
    assert choose_device(None) == choose_device("auto")
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "tpu", "meta", ""):
        with pytest.raises(I3DError, match="device"):
            choose_device(name)


def test_half_a_process_group_is_one_line(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    text = "half a process group: RANK is set: got no LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start it by torchrun, or unset RANK"
    with pytest.raises(I3DError, match=f"^{text}$"), process_group(torch.device("cpu")):
        pass


def test_cuda_devices_are_dealt_out_by_local_rank(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (own_device(torch.device("cuda")), own_device(torch.device("cpu"))) == (torch.device("cuda:1"), torch.device("cpu"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        I3DError, match=r"^too few CUDA devices: process 2 of this machine, from 0: torch finds 2; start no more$"
    ):
        own_device(torch.device("cuda"))


def test_alone_every_exchange_gives_back_what_was_put_in():
    group, tensor = Group(), torch.ones(2)
    group.broadcast([tensor])
    assert group.is_main_process and group.gather("x") == ["x"] and tensor.tolist() == [1, 1]


def test_the_cores_of_a_machine_are_shared_by_its_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores_per_process() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert cores_per_process() == 2
