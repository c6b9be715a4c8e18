"""Where a run takes place: on which device, in which of the processes that torchrun starts, and what the others have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import I3DError
from .text import option, shown
from .threads import available_cores

LOST = re.compile(r"^.*(connection (closed|reset|refused)|broken pipe|remote process (has )?exited).*", re.I | re.M)
# Without it processes that start again may connect to those before them: https://github.com/pytorch/pytorch/issues/135712
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what it sets in the environment
PATIENCE = timedelta(days=7)  # processes may meet only at the end; when one dies, torchrun ends the others
RESTARTING = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --max-restarts=N"


@dataclass(frozen=True)
class Group:
    """The processes that work on one run; alone, every exchange gives back what was put in."""

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """What every process passed, in the order of their ranks, on each of them."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Where the block raises I3DError on any process, raise it on all of them: none waits for one that is gone."""
        complaint = None
        try:
            yield
        except I3DError as error:
            complaint = str(error)
        if complaint := next((text for text in self.gather(complaint) if text is not None), None):
            raise I3DError(complaint)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


ALONE = Group()


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on; None or "auto" picks CUDA if there is one. Raises I3DError for one that is not there."""
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
        raise I3DError(f"unknown device: {device}: expected auto, cpu, cuda or cuda:N")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise I3DError(
            f"no such device: {device}: torch finds {torch.cuda.device_count()} CUDA devices; use {option('device', 'cpu')}"
        )
    return chosen


def own_device(device: torch.device) -> torch.device:
    """The device of this process: under torchrun, CUDA devices are dealt out by local rank. Raises I3DError for too few."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    index, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if index >= count:
        raise I3DError(f"too few CUDA devices: process {index} of this machine, from 0: torch finds {count}; start no more")
    return torch.device("cuda", index)


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """The group that torchrun started, and the device of this process, its `own_device`.

    Raises I3DError when another process is lost.
    """
    if "RANK" not in os.environ:
        yield ALONE, device
        return
    if missing := [name for name in ENVIRONMENT if name not in os.environ]:
        raise I3DError(f"half a process group: RANK is set: got no {', '.join(missing)}; start it by torchrun, or unset RANK")
    device = own_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        yield Group(dist.get_rank(), dist.get_world_size()), device
    except RuntimeError as error:
        if (line := LOST.search(str(error))) is None:
            raise
        raise I3DError(
            f"lost another process: rank {os.environ['RANK']}: {shown(line[0].strip())}; see what that one said; go on with "
            f"{option('resume', True)}, or let torchrun do so: {RESTARTING}"
        ) from error
    dist.destroy_process_group()  # not after an error: the others may be waiting in an exchange, and torchrun ends them


def restarted() -> bool:
    """Whether torchrun has started this run again after one of its processes died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def cores_per_process() -> int:
    """CPU cores for each process of this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
