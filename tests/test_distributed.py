import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from runs import TINY, resume, rows, start, trained

from i3dcli.distributed import ENVIRONMENT, Group, choose_device, cores_per_process, own_device, process_group
from i3dcli.errors import I3DError
from i3dcli.training.options import TrainOptions
from i3dcli.training.run_folder import RunFolder

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")


def start_two(*arguments, options=()):
    return start(*arguments, "--workers", "0", launcher=(*TORCHRUN, *options, "-m", "i3dcli"))


def process_of_rank(rank, out):
    """The id of the process of a rank that writes into `out`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_text().split("\0")
            variables = (folder / "environ").read_text().split("\0")
        except OSError:
            continue  # gone, or somebody else's
        if str(out) in arguments and f"RANK={rank}" in variables:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def wait_for_checkpoint(out, process):
    end = time.monotonic() + 60
    while not (out / "last.pt").exists() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_processes_learn_what_one_with_twice_the_batch_does(checkpoints, motions, tmp_path):
    given = ("--width", "1", "--init", checkpoints["rgb"], "--freeze-bn", "--log-every", "1", "--steps", "10", "--lr", "0.002")
    process = start_two(motions, *TINY, *given, "--batch-size", "2", "--out", tmp_path / "two")
    stdout, stderr = process.communicate(timeout=120)
    one = trained(motions, *given, "--batch-size", "4", tmp_path / "one")
    assert process.returncode == 0, stderr
    assert stdout.count("\n") == 1 and stdout.startswith(f"{tmp_path}/two/best.pt  top1 ")  # of one process, not of both
    assert "2 clips x 2 processes of 9 frames" in stderr
    for single, both in zip(rows(one), rows(tmp_path / "two"), strict=True):
        assert {**single, "loss": "", "val_loss": ""} == {**both, "loss": "", "val_loss": ""}
        assert float(single["loss"]) == pytest.approx(float(both["loss"]), abs=1e-5)
        assert float(single["val_loss"] or 0) == pytest.approx(float(both["val_loss"] or 0), abs=1e-5)
    losses = [float(row["loss"]) for row in rows(one)]
    assert len(losses) == 10 and max(losses) - min(losses) > 0.01


@LINUX
def test_a_run_goes_on_by_itself_when_one_of_its_processes_is_killed(motions, tmp_path, monkeypatch):
    out = tmp_path / "run"
    given = (motions, *TINY, "--batch-size", "1", "--epochs", "6", "--lr", "0.05")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    process = start_two(*given, "--out", out, options=("--max-restarts=1",))
    wait_for_checkpoint(out, process)
    os.kill(process_of_rank(1, out), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stderr.count("folder: 8 train, 4 val, 2 classes") == 2 and "Traceback" not in stderr  # begun twice
    assert [row["epoch"] for row in rows(out)] == [f"{float(epoch)}" for epoch in range(1, 7)]
    assert torch.load(out / "last.pt", weights_only=True)["training"]["progress"]["step"] == 24


def test_a_signal_to_torchrun_saves_once_and_the_run_can_be_resumed_by_as_many_clips(motions, tmp_path):
    out = tmp_path / "run"
    process = start_two(motions, *TINY, "--batch-size", "1", "--epochs", "60", "--out", out)
    wait_for_checkpoint(out, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(re.findall(r"^Stopped after step \d+: .*: go on with --resume$", stderr, re.MULTILINE)) == 1
    result = resume(out)
    assert result.exit_code == 1 and "2 clips per step of all processes then, 1 now" in result.stderr


def test_an_error_in_all_processes_is_one_line_of_each(motions, tmp_path):
    process = start_two(motions, *TINY, "--freeze-until", "nothing", "--out", tmp_path / "run")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    told = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert told and all(line.startswith("Error: no such layer: --freeze-until nothing: expected one of ") for line in told)


def test_a_folder_that_not_every_machine_sees_is_an_error(tmp_path, monkeypatch):
    answers = iter(([None, None], [True, False], [False, False]))  # to: a complaint, is there a checkpoint, started again
    monkeypatch.setattr(Group, "gather", lambda self, value: next(answers))
    run = RunFolder(tmp_path, TrainOptions(), Group(), clips_per_step=2)
    with pytest.raises(I3DError, match=r"not on every machine: .*last\.pt"), run.opened(resume=True):
        pass


def test_where_one_machine_counts_a_restart_all_resume(tmp_path, monkeypatch):
    answers = iter(([None, None], [True, True], [False, True]))  # to: a complaint, is there a checkpoint, started again
    monkeypatch.setattr(Group, "gather", lambda self, value: next(answers))
    with RunFolder(tmp_path, TrainOptions(), Group(), clips_per_step=2).opened(resume=False):
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
