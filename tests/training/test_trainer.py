import functools
import math
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch

from i3dcli import I3D, I3DError
from i3dcli.distributed import Group
from i3dcli.models.i3d import LAYERS
from i3dcli.training.clip_loader import Batch
from i3dcli.training.options import TrainOptions
from i3dcli.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

NAMES = [name for name, _ in LAYERS]


def trainer(seed=0, *, multi_label=False, report=lambda batch: None, device="cpu", compile=False, **options):
    """Of a narrow network of three classes, whose logits depend on its input."""
    net = oracle.lively(I3D(3, 3, width=0.0625, dropout=options.get("dropout", 0.0)), seed=seed)
    chosen = TrainOptions(**{"dropout": 0.0, "weight_decay": 0.0} | options)
    how = {"group": Group(), "device": torch.device(device), "multi_label": multi_label, "report": report}
    return Trainer(net, chosen, **how, compile=compile)


def batch(*labels, seed=0, targets=None):
    rng = np.random.default_rng(seed)
    clips = torch.from_numpy(rng.integers(0, 256, (len(labels), 3, 9, 32, 32), np.uint8))
    paths = tuple(Path(f"video{seed}_{i}.mp4") for i in range(len(labels)))
    return Batch(clips, torch.tensor(labels) if targets is None else targets, paths, ())


def halves(whole):
    """The same clips as two batches."""
    return [Batch(whole.clips[i : i + 2], whole.targets[i : i + 2], whole.paths[i : i + 2], ()) for i in (0, 2)]


def state(trained):
    return {key: value.clone() for key, value in trained.net.state_dict().items()}


def changed(trained, before):
    return {key for key, value in trained.net.state_dict().items() if not torch.equal(value, before[key])}


def test_steps_lower_the_loss():
    trained = trainer()
    losses = [trained.step([batch(0, 1, 2, 0)], number=i, lr=0.02)[0] for i in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    assert trained.step([batch(0, 1, 2, 0)], number=15, lr=0.0)[1] == 1.0


def test_frozen_batch_norm_stays_as_it_is_to_the_bit():
    trained = trainer(freeze_bn=True)
    before = state(trained)
    for i in range(2):
        trained.step([batch(0, 1)], number=i, lr=0.01)
    after = changed(trained, before)
    assert after == {key for key in before if ".bn." not in key}


def test_frozen_layers_stay_as_they_are_to_the_bit_and_the_others_do_not():
    trained = trainer(freeze_until="Mixed_4c")
    before = state(trained)
    for i in range(2):
        trained.step([batch(0, 1)], number=i, lr=0.01)
    frozen = tuple(f"{name}." for name in NAMES[: NAMES.index("Mixed_4c") + 1])
    assert changed(trained, before) == {key for key in before if not key.startswith(frozen)}


def test_batch_norm_learns_unless_it_is_frozen():
    trained = trainer()
    before = state(trained)
    trained.step([batch(0, 1)], number=0, lr=0.01)
    assert changed(trained, before) == set(before)


def test_two_batches_of_two_are_one_of_four():
    whole = batch(0, 1, 2, 0)
    one, two = (trainer(freeze_bn=True, accumulate=accumulate) for accumulate in (1, 2))
    for i in range(3):
        losses = [trained.step(batches, number=i, lr=0.005) for trained, batches in ((one, [whole]), (two, halves(whole)))]
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for key, value in one.net.state_dict().items():
        torch.testing.assert_close(two.net.state_dict()[key], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("largest", [0.01, 1e6])
def test_the_gradient_is_clipped_to_the_norm(largest):
    trained, free = trainer(clip_grad=largest), trainer()
    norms = []
    for one in (trained, free):
        before = state(one)
        one.step([batch(0, 1)], number=0, lr=0.5)
        moved = [(p.detach() - before[name]).double() for name, p in one.net.named_parameters()]
        norms.append(math.sqrt(sum(float(m.square().sum()) for m in moved)) / 0.5)
    assert norms[1] > 0.1 and norms[0] == pytest.approx(min(largest, norms[1]), rel=1e-3)


def test_momentum_goes_on_from_a_state_that_is_loaded():
    whole, cut, forgetful = trainer(), trainer(), trainer()
    for trained in (whole, cut):
        trained.step([batch(0, 1)], number=0, lr=0.005)
    resumed = trainer(seed=1)
    resumed.net.load_state_dict(cut.net.state_dict())
    resumed.load_state(cut.state())
    forgetful.net.load_state_dict(cut.net.state_dict())
    for trained in (whole, resumed, forgetful):
        trained.step([batch(1, 2, seed=1)], number=1, lr=0.005)
    assert changed(resumed, state(whole)) == set() and changed(forgetful, state(whole))


def test_dropout_depends_on_the_step_and_on_nothing_before_it():
    outcomes = []
    for noise in range(2):
        trained = trainer(dropout=0.5)
        torch.manual_seed(noise)
        outcomes.append([trained.step([batch(0, 1)], number=number, lr=0.0)[0] for number in (4, 4, 5)])
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != outcomes[0][2]


def test_only_filters_decay():
    trained = trainer(weight_decay=0.5)
    groups = {id(p): group["weight_decay"] for group in trained.optimizer.param_groups for p in group["params"]}
    decay = {name: groups[id(p)] for name, p in trained.net.named_parameters()}
    assert {name for name, value in decay.items() if value == 0.5} == {name for name in decay if name.endswith("conv3d.weight")}
    assert set(decay.values()) == {0.0, 0.5}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cpu_is_refused_where_its_gradients_are_wrong(precision):
    with pytest.raises(I3DError) as caught:
        trainer(precision=precision)
    assert str(caught.value) == (
        f"no {precision} on a CPU: --precision {precision}: gradients of PyTorch's 3D convolutions are NaN there now and then; "
        "use fp32, or a CUDA device"
    )


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_what_fp32_does_roughly_and_keeps_the_weights_in_fp32(precision):
    exact, rough = trainer(device="cuda"), trainer(device="cuda", precision=precision)
    one, two = (trained.step([batch(0, 1)], number=0, lr=0.005)[0] for trained in (exact, rough))
    assert one != two and one == pytest.approx(two, rel=0.1)
    assert {p.dtype for p in rough.net.parameters()} == {torch.float32}


def test_a_loss_that_is_not_finite_names_the_videos_and_changes_no_weight():
    trained = trainer()
    with torch.no_grad():
        trained.net.logits.conv3d.bias[0] = math.nan
    before = {name: p.clone() for name, p in trained.net.named_parameters() if name != "logits.conv3d.bias"}
    with pytest.raises(I3DError) as caught:
        trained.step([batch(0, 1)], number=7, lr=0.1)
    assert str(caught.value) == (
        "loss is not finite: step 7: got nan from video0_0.mp4, video0_1.mp4; look at these videos, "
        "lower --lr, or add --warmup or --clip-grad; last.pt is of an earlier step"
    )
    assert all(torch.equal(dict(trained.net.named_parameters())[name], value) for name, value in before.items())


def test_weights_that_are_not_finite_are_named():
    trained = trainer()
    trained.check_weights(3)
    with torch.no_grad():
        trained.net.Mixed_3b.b0.bn.running_var[0] = math.inf
    with pytest.raises(I3DError, match=r"weights are not finite: after step 3: got NaN or infinity in Mixed_3b\.b0\.bn\."):
        trained.check_weights(3)


def test_statistics_follow_quickly_at_first_and_at_the_published_pace_later():
    trained = trainer()
    found = []
    for number in (0, 90, 100_000):
        trained.step([batch(0, 1)], number=number, lr=0.0)
        found.append({module.momentum for module in trained.net.modules() if isinstance(module, torch.nn.BatchNorm3d)})
    assert found == [{1.0}, {0.1}, {0.001}]


def test_a_compiled_network_is_compiled_once_and_has_the_same_statistics(monkeypatch):
    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    graphs = []
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counting))
    eager, compiled = trainer(), trainer(compile=True)
    for number in range(3):
        for trained in (eager, compiled):
            trained.step([batch(0, 1, 2, seed=number)], number=number, lr=0.01)
    assert len(graphs) == 1
    for key, value in state(eager).items():
        torch.testing.assert_close(state(compiled)[key], value, rtol=1e-4, atol=1e-5)


def test_errors_of_unreadable_videos_are_reported_in_training_and_in_evaluation():
    reported = []
    trained = trainer(report=reported.append)
    trained.step([batch(0, 1)], number=0, lr=0.0)
    nothing = Batch(torch.empty(0), torch.empty(0), (), ())
    logits, targets = trained.evaluate([batch(2, 1), nothing])
    assert len(reported) == 3 and logits.shape == (2, 3) and targets.tolist() == [2, 1]
    assert trained.evaluate([nothing])[0].shape == (0, 3)


def test_evaluation_knows_neither_dropout_nor_the_other_clips_of_a_batch():
    trained = trainer(dropout=0.9)
    together, _ = trained.evaluate([batch(0, 1, 2, 0)])
    apart, _ = trained.evaluate(halves(batch(0, 1, 2, 0)))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_several_labels_are_learnt_with_a_loss_of_their_own():
    trained = trainer(multi_label=True)
    targets = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    losses, accuracies = zip(*(trained.step([batch(0, 1, targets=targets)], number=i, lr=0.01) for i in range(20)), strict=True)
    assert losses[-1] < 0.5 * losses[0] and all(math.isnan(accuracy) for accuracy in accuracies)


def test_synchronised_batch_norm_on_a_cpu_is_an_error():
    with pytest.raises(I3DError, match="no CUDA device: --sync-bn: "):
        trainer(sync_bn=True)
