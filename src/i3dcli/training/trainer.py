"""A network under training: what is fixed in it, and the step that moves the rest, in one process or many."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..data import as_input
from ..distributed import Group
from ..errors import I3DError
from ..models import BN_MOMENTUM, VideoNetwork
from ..text import option, shown
from .clip_loader import Batch
from .options import TrainOptions

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BN_WARMUP = 10  # steps


def diverged() -> str:
    """What to do about numbers that are none."""
    return f"lower {option('lr')}, or add {option('warmup')} or {option('clip_grad')}; last.pt is of an earlier step"


class Trainer:
    """A network with its optimizer on one device, and with its twins in the other processes of a group.

    `report` is told the errors of unreadable videos. Randomness is a function of seed, step and rank, and of nothing
    that happened before, so that `state()` needs no generator's state to go on exactly.
    """

    def __init__(
        self,
        net: VideoNetwork,
        options: TrainOptions,
        *,
        group: Group,
        device: torch.device,
        multi_label: bool,
        report: Callable[[Batch], None],
        compile: bool = False,
    ):
        if options.sync_bn and device.type == "cpu":
            raise I3DError(
                f"no CUDA device: {option('sync_bn', True)}: torch synchronises batch norm on CUDA only; leave it out on a CPU"
            )
        if options.precision != "fp32" and device.type == "cpu":
            raise I3DError(
                f"no {options.precision} on a CPU: {option('precision', options.precision)}: gradients of PyTorch's 3D "
                "convolutions are "
                "NaN there now and then; use fp32, or a CUDA device"
            )  # seen with torch 2.13: their backward pass reads memory that nothing was written to
        self.net = channels_last(net.to(device=device))
        self.options, self.group, self.device, self.report = options, group, device, report
        self.loss: Callable[[Tensor, Tensor], Tensor] = F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy
        self.multi_label = multi_label
        freeze(net, until=options.freeze_until, statistics=options.freeze_bn)
        trained = [p for p in net.parameters() if p.requires_grad]
        kernels = [p for p in trained if p.ndim > 1]
        others = [p for p in trained if p.ndim <= 1]  # biases and batch norm: no decay
        groups = [{"params": kernels, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "fp16")
        model: Any = net
        if options.sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        self.compiled = compile
        model = torch.compile(model) if compile else model
        if group.size > 1:
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # of 1x1x1 filters, where all are alike
            model = DistributedDataParallel(model)
        self.model = model

    def step(self, batches: Iterable[Batch], *, number: int, lr: float) -> tuple[float, float]:
        """Step `number` of the optimizer over the clips of `accumulate` batches → their mean loss and accuracy.

        Of multi-label data the accuracy is NaN. Raises I3DError when the loss is not finite, before anything is changed.
        """
        options = self.options
        self.seed(number)
        self.model.train()
        freeze(self.net, until=options.freeze_until, statistics=options.freeze_bn)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        losses, accuracies = [], []
        for count, batch in enumerate(batches, start=1):
            self.report(batch)
            clips, targets = self.to_device(batch)
            waits = isinstance(self.model, DistributedDataParallel) and count < options.accumulate
            joining = self.model.no_sync() if waits else contextlib.nullcontext()
            with joining, self.statistics_moved_by(bn_momentum(number)):
                logits = self.forward(clips)
                loss = self.loss(logits, targets)
                losses.append(check_finite(loss.item(), batch, number))
                self.scaler.scale(loss / options.accumulate).backward()  # type: ignore[no-untyped-call]
            right = math.nan if self.multi_label else (logits.argmax(1) == targets).float().mean().item()
            accuracies.append(right)
        if options.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), options.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sum(losses) / len(losses), sum(accuracies) / len(accuracies)

    @torch.inference_mode()
    def evaluate(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Logits (V,K) and targets of the clips that all processes see, on each of them; empty if none could be read."""
        self.group.broadcast(self.net.buffers())  # each process has its own running statistics
        self.model.eval()
        mine = []
        for batch in batches:
            self.report(batch)
            if batch.paths:
                clips, targets = self.to_device(batch)
                mine.append((self.forward(clips).cpu(), targets.cpu()))
        pairs = [pair for part in self.group.gather(mine) for pair in part]
        if not pairs:
            return torch.empty(0, self.net.num_classes), torch.empty(0)
        return torch.cat([logits for logits, _ in pairs]), torch.cat([targets for _, targets in pairs])

    def forward(self, clips: Tensor) -> Tensor:
        """(N,K) float32 logits of clips on the device, computed in the chosen precision."""
        dtype = DTYPES[self.options.precision]
        model = self.model if self.model.training else self.net  # other processes may have fewer batches to evaluate
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            logits: Tensor = model(clips)
        return logits.float()

    @contextlib.contextmanager
    def statistics_moved_by(self, momentum: float) -> Iterator[None]:
        """Within the block, a forward and backward pass move the running statistics of batch norm by `momentum`.

        A compiled network would be compiled anew for each number. Its layers take the statistics of the batch as they are,
        and here these are mixed with those before.
        """
        norms = batch_norms(self.net)
        for norm in norms:
            norm.momentum = 1.0 if self.compiled else momentum
        running = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
        before = [tensor.clone() for tensor in running] if self.compiled else []
        yield
        for tensor, old in zip(running, before, strict=False):
            tensor.lerp_(old, 1 - momentum)

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Clips in [-1, 1] and targets where the network is."""
        clips = batch.clips.to(self.device, non_blocking=True)
        clips = as_input(clips)
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        return clips, batch.targets.to(self.device, non_blocking=True)

    def seed(self, number: int) -> None:
        """Draw what is random in a step, such as dropout, from its number and the rank of this process."""
        words = np.random.SeedSequence((self.options.seed, number, self.group.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def check_weights(self, number: int) -> None:
        """Raise I3DError if a step left NaN or infinity in the network, which must not reach last.pt."""
        for name, tensor in self.net.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise I3DError(f"weights are not finite: after step {number}: got NaN or infinity in {name}; {diverged()}")

    def state(self) -> dict[str, Any]:
        """What is needed besides the weights to go on exactly."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned. Raises LookupError, TypeError, ValueError, AttributeError or RuntimeError for
        what is the state of no such optimizer."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = {number: part.get("momentum_buffer") for number, part in state["optimizer"]["state"].items()}
        if moments.keys() - range(len(parameters)):
            raise ValueError("there are no such parameters")
        for number, moment in moments.items():
            if moment is not None and (moment.shape != parameters[number].shape or not moment.isfinite().all()):
                raise ValueError(f"the momentum of parameter {number} is none")
        groups = self.optimizer.state_dict()["param_groups"]  # the options of the run say what is in them
        moments = {number: {"momentum_buffer": moment} for number, moment in moments.items()}
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])


def channels_last(net: VideoNetwork) -> VideoNetwork:
    """The network with the memory format in which convolutions are fastest."""
    for parameter in net.parameters():
        if parameter.ndim in (4, 5):
            form = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.to(memory_format=form)
    return net


def freeze(net: VideoNetwork, *, until: str | None, statistics: bool) -> None:
    """Fix the layers up to and with `until`; with `statistics`, also all running statistics of batch norm and its affine
    parameters. To be called again whenever the network was put in training mode."""
    layers = net.layers()
    names = [*layers]
    for name in names[: names.index(until) + 1] if until is not None else []:
        layers[name].eval().requires_grad_(False)
    if statistics:
        for norm in batch_norms(net):
            norm.eval().requires_grad_(False)


def bn_momentum(step: int) -> float:
    """Let running statistics average about the last tenth of all steps, until that is as long as DeepMind's decay.

    From there on it is the published momentum. That alone would leave a network after a thousand steps with a third of
    the statistics it was born with, and worse accuracy in evaluation than in training.
    """
    return max(BN_MOMENTUM, BN_WARMUP / (step + BN_WARMUP))


def batch_norms(net: VideoNetwork) -> list[_BatchNorm]:
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


def check_finite(loss: float, batch: Batch, number: int) -> float:
    """The loss, if it is a number; else I3DError, which names the videos of the batch."""
    if not math.isfinite(loss):
        raise I3DError(
            f"loss is not finite: step {number}: got {loss} from {', '.join(shown(path) for path in batch.paths)}; "
            f"look at these videos, {diverged()}"
        )
    return loss
