import dataclasses
import re

import oracle
import pytest
import torch
from click.testing import CliRunner

import i3dcli
from i3dcli import CheckpointError, I3DError, load_checkpoint
from i3dcli.checkpoints import inflate as verb
from i3dcli.cli.main import main

SHAPES = oracle.GOOGLENET
CONV = "inception4e.branch2.1.conv.weight"
RUNNING = "inception5b.branch4.1.bn.running_var"


@pytest.fixture(scope="module")
def weights():
    return oracle.googlenet()


@pytest.fixture(scope="module")
def source(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("inflate") / "googlenet.pth"
    torch.save(weights, path)
    return path


def save(tmp_path, content):
    torch.save(content, tmp_path / "source.pth")
    return tmp_path / "source.pth"


def small(**changes):
    """Tensors of the right names and shapes that take no room, but for what changes; None removes one."""
    tensors = {key: torch.ones((), dtype=torch.int64 if not shape else None).expand(shape) for key, shape in SHAPES.items()}
    return {key: value for key, value in {**tensors, **changes}.items() if value is not None}


def run(*arguments):
    return CliRunner().invoke(main, ["inflate", *map(str, arguments)], catch_exceptions=False)


def flat_key(key):
    """torchvision's key under the names of a 2D I3D, written from its side to check ours."""
    blocks = {"3a": "3b", "3b": "3c", "4a": "4b", "4b": "4c", "4c": "4d", "4d": "4e", "4e": "4f", "5a": "5b", "5b": "5c"}
    branches = {"1": "b0", "2.0": "b1a", "2.1": "b1b", "3.0": "b2a", "3.1": "b2b", "4.1": "b3b"}
    stem = {"conv1": "Conv2d_1a_7x7", "conv2": "Conv2d_2b_1x1", "conv3": "Conv2d_2c_3x3"}
    if match := re.fullmatch(r"inception(..)\.branch([\d.]+)\.(conv|bn)\.(\w+)", key):
        return f"Mixed_{blocks[match[1]]}.{branches[match[2]]}.{match[3]}.{match[4]}"
    first, rest = key.split(".", 1)
    return f"{stem[first]}.{rest}"


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_command_writes_an_i3d_that_passes_the_boring_video_check(source, weights, tmp_path, stream):
    result = run(source, "--out", tmp_path / "out.pt", "--stream", stream)
    assert (result.exit_code, result.stderr) == (0, "")
    header, *rows, head, verdict = result.stdout.splitlines()
    assert header.split() == ["layer", "from", "shape", "to", "shape"] and len(rows) == 57
    channels = 3 if stream == "rgb" else 2
    names = ["Conv3d_1a_7x7", "conv1.conv.weight", "64x3x7x7", "Conv3d_1a_7x7.conv3d.weight", f"64x{channels}x7x7x7"]
    assert rows[0].split() == names
    for _, theirs, flat, ours, inflated in (row.split() for row in rows):
        assert flat_key(theirs).replace("Conv2d", "Conv3d") == ours.replace("conv3d", "conv")
        assert flat == "x".join(map(str, weights[theirs].shape))
        assert inflated == flat + flat[flat.rindex("x") :] or ours.startswith("Conv3d_1a")
    assert head == "head: 400 classes, drawn anew from seed 0"
    pattern = r"boring video: 57 units equal the 2D network's, largest relative difference (\S+) at \S+, allowed 1e-04"
    assert 0 < float(re.fullmatch(pattern, verdict)[1]) < 1e-5
    net = load_checkpoint(tmp_path / "out.pt")
    assert (net.stream, net.num_classes, net.classes[0]) == (stream, 400, "abseiling")
    assert [path.name for path in tmp_path.iterdir()] == ["out.pt"]


def test_filters_are_divided_along_time_and_batch_norm_is_copied(weights):
    state = i3dcli.inflate_googlenet(weights).state_dict()
    assert torch.allclose(state["Mixed_4f.b1b.conv3d.weight"].sum(dim=2), weights[CONV], atol=1e-6)
    assert (state["Mixed_4f.b1b.conv3d.weight"] == weights[CONV].unsqueeze(2) / 3).all()
    for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(state[f"Mixed_5c.b3b.bn.{part}"], weights[f"inception5b.branch4.1.bn.{part}"])


def test_flow_sees_the_mean_over_red_green_and_blue(weights):
    weight = i3dcli.inflate_googlenet(weights, stream="flow", num_classes=5).state_dict()["Conv3d_1a_7x7.conv3d.weight"]
    mean = weights["conv1.conv.weight"].mean(dim=1) / 7
    assert all(torch.allclose(weight[:, c, t], mean) for c in range(2) for t in range(7))


def test_without_rescaling_filters_are_repeated_and_the_check_says_that_it_is_skipped(source, weights, tmp_path):
    result = run(source, "--out", tmp_path / "out.pt", "--no-rescale", "--num-classes", 7)
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == (
        "boring video: not checked, for without rescaling activations are not those of the 2D network"
    )
    net = load_checkpoint(tmp_path / "out.pt")
    assert (net.num_classes, net.classes) == (7, None)
    assert torch.equal(net.state_dict()["Mixed_4f.b1b.conv3d.weight"][:, :, 2], weights[CONV])


def test_the_names_of_the_classes_are_stored(source, tmp_path):
    (tmp_path / "labels.txt").write_text("jump\nrün\n")
    assert run(source, "--out", tmp_path / "out.pt", "--classes", tmp_path / "labels.txt").exit_code == 0
    net = load_checkpoint(tmp_path / "out.pt")
    assert (net.num_classes, net.classes) == (2, ("jump", "rün"))


def test_the_head_is_the_same_every_time_and_leaves_the_global_seed_alone(weights):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = (i3dcli.inflate_googlenet(weights, num_classes=3) for _ in range(2))
    assert torch.equal(a.logits.conv3d.weight, b.logits.conv3d.weight) and a.logits.conv3d.weight.std() > 0
    assert torch.equal(torch.get_rng_state(), before) and not a.training


def not_rescaled(tensor, *, rescale):
    return tensor.clone() if tensor.ndim < 4 else tensor.unsqueeze(2).repeat(1, 1, tensor.shape[-1], 1, 1)


def along_height(tensor, *, rescale):
    return tensor.clone() if tensor.ndim < 4 else tensor.unsqueeze(3).repeat(1, 1, 1, tensor.shape[-1], 1) / tensor.shape[-1]


def without_batch_norm(tensor, *, rescale):
    return torch.ones_like(tensor) if tensor.ndim < 4 else not_rescaled(tensor, rescale=False) / tensor.shape[-1]


@pytest.mark.parametrize("sabotage", [not_rescaled, along_height, without_batch_norm])
def test_a_wrong_inflation_fails_the_check_and_leaves_no_file(source, tmp_path, monkeypatch, sabotage):
    monkeypatch.setattr(verb, "inflated", sabotage)
    result = run(source, "--out", tmp_path / "out.pt")
    pattern = (
        rf"Error: wrong inflation: {re.escape(str(source))}: on a still video \S+ differs from the 2D network by \S+ of its "
        "largest activation, expected at most 1e-04; please report this\n"
    )
    assert (result.exit_code, result.stdout) == (1, "") and re.fullmatch(pattern, result.stderr)
    assert not list(tmp_path.iterdir())


def test_a_wrong_mean_over_colours_fails_the_check(weights):
    changed = dict(weights)
    changed["conv1.conv.weight"] = weights["conv1.conv.weight"] * torch.tensor([1.0, 1.01, 1.0]).reshape(1, 3, 1, 1)
    net = i3dcli.inflate_googlenet(changed, stream="flow")
    with pytest.raises(I3DError, match="on a still video"):
        verb.check_boring_video(net, verb.read_googlenet(weights, "source"), "source")


def test_a_network_that_gives_nan_fails_the_check(weights):
    source = verb.read_googlenet(weights, "source")
    variance = next(key for key, name in source.names.items() if name == RUNNING)
    source = dataclasses.replace(source, tensors={**source.tensors, variance: torch.full_like(weights[RUNNING], -1.0)})
    net = verb.to_i3d(source, stream="rgb", num_classes=2, rescale=True)
    with pytest.raises(I3DError, match=r"on a still video Mixed_5c\.b3b differs from the 2D network by nan"):
        verb.check_boring_video(net, source, "source")


def test_heads_are_left_out_by_name_and_may_be_absent(weights):
    bare = {key: value for key, value in weights.items() if not key.startswith(oracle.HEADS)}
    assert len(bare) == 342
    same(i3dcli.inflate_googlenet(weights), i3dcli.inflate_googlenet(bare))
    same(i3dcli.inflate_googlenet(bare), i3dcli.inflate_googlenet({**bare, "classifier.weight": torch.ones(2)}))


def same(ours, theirs):
    theirs = theirs.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "module.model.backbone."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_wrapped_weights_are_found(tmp_path, prefix, container):
    wrapped = {prefix + key: value for key, value in small().items()}
    path = save(tmp_path, wrapped if container is None else {"epoch": 3, container: wrapped})
    names = verb.read_googlenet(verb.read_weights(path), path).names
    assert names["Mixed_4f.b1b.conv3d.weight"] == prefix + CONV and len(names) == 342


@pytest.mark.parametrize("conv", [".conv.", ".conv2d."])
def test_2d_weights_under_the_names_of_i3d_give_the_same_network(weights, conv):
    bare = {flat_key(key).replace(".conv.", conv): value for key, value in weights.items() if not key.startswith(oracle.HEADS)}
    assert f"Mixed_3b.b0{conv}weight" in bare and f"Conv2d_1a_7x7{conv}weight" in bare
    same(i3dcli.inflate_googlenet(weights), i3dcli.inflate_googlenet(bare))


def test_half_precision_and_files_without_counters_are_read(weights):
    half = {key: value.half() for key, value in weights.items() if "num_batches" not in key}
    state = i3dcli.inflate_googlenet(half).state_dict()
    assert torch.equal(state["Mixed_5c.b3b.bn.running_var"], half[RUNNING].float())


ADVICE = "give the state_dict of torchvision.models.googlenet"
ERRORS = {
    "unknown": (
        small(extra=torch.ones(1)),
        f"got tensors 1 unknown (first extra), expected exactly those of GoogLeNet; {ADVICE}",
    ),
    "not a tensor beside them": (
        small(epoch=3),
        f"got tensors 1 unknown (first epoch), expected exactly those of GoogLeNet; {ADVICE}",
    ),
    "missing": (
        small(**{CONV: None}),
        f"got tensors 1 missing (first Mixed_4f.b1b.conv3d.weight), expected exactly those of GoogLeNet; {ADVICE}",
    ),
    "shape": (
        small(**{CONV: torch.ones(320, 160, 5, 5)}),
        f"got {CONV} of shape (320, 160, 5, 5), expected (320, 160, 3, 3); {ADVICE}",
    ),
    "nan": (
        small(**{RUNNING: torch.full((128,), torch.nan)}),
        f"got NaN or infinity in {RUNNING}, expected finite weights; copy or download the file again",
    ),
    "too large for float32": (
        small(**{RUNNING: torch.full((128,), 1e300, dtype=torch.float64)}),
        f"got NaN or infinity in {RUNNING}, expected finite weights; copy or download the file again",
    ),
    "negative": (
        small(**{RUNNING: -torch.ones(128)}),
        f"got a negative variance in {RUNNING}, expected variances from 0 on; copy or download the file again",
    ),
    "integers": (
        small(**{RUNNING: torch.ones(128, dtype=torch.int8)}),
        f"got {RUNNING} of torch.int8, expected float weights and integer counters; {ADVICE}",
    ),
    "no tensor": (
        small(**{RUNNING: "x"}),
        f"got {RUNNING}, a str without plain numbers, expected a dense tensor; {ADVICE}",
    ),
    "sparse": (
        small(**{RUNNING: torch.ones(128).to_sparse()}),
        f"got {RUNNING}, a Tensor without plain numbers, expected a dense tensor; {ADVICE}",
    ),
    "twice": (
        small(**{f"module.{CONV}": torch.ones(1)}),
        f"got both {CONV} and module.{CONV} for Mixed_4f.b1b.conv3d.weight, expected one of them; remove the other",
    ),
    "i3d": (
        {"Conv3d_1a_7x7.conv3d.weight": torch.ones(64, 3, 7, 7, 7)},
        "got an I3D, which is inflated already, expected a 2D GoogLeNet; use it as it is",
    ),
    "hassony2's i3d": (
        {"state_dict": {"module.conv3d_1a_7x7.conv3d.weight": torch.ones(64, 3, 7, 7, 7)}},
        "got an I3D, which is inflated already, expected a 2D GoogLeNet; use it as it is",
    ),
    "resnet": (
        {"conv1.weight": torch.ones(64, 3, 7, 7), "bn1.weight": torch.ones(64), "fc.weight": torch.ones(5, 512)},
        f"got a 2D network of 3 tensors, the first conv1.weight, expected GoogLeNet (Inception-v1); {ADVICE}",
    ),
    "inception v3": (
        {"Conv2d_1a_3x3.conv.weight": torch.ones(32, 3, 3, 3), "Mixed_5b.branch1x1.conv.weight": torch.ones(1, 1, 1, 1)},
        "got a 2D network of 2 tensors, the first Conv2d_1a_3x3.conv.weight, expected GoogLeNet (Inception-v1); " + ADVICE,
    ),
    "nothing": ({"epoch": 3}, f"got no tensors, expected GoogLeNet (Inception-v1); {ADVICE}"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_other_tensors_are_refused_in_one_line(tmp_path, kind):
    content, text = ERRORS[kind]
    path = save(tmp_path, content)
    result = run(path, "--out", tmp_path / "out.pt")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: wrong checkpoint: {path}: {text}\n")
    assert not (tmp_path / "out.pt").exists()


def test_other_files_and_places_are_refused_in_one_line(source, tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    empty, out = tmp_path / "empty.txt", tmp_path / "out.pt"
    empty.touch()
    for arguments, code, text in (
        ([tmp_path / "page.pth", "--out", out], 1, f"not a checkpoint: {tmp_path}/page.pth: got a web page; "),
        ([tmp_path / "no.pth", "--out", out], 1, f"cannot read weights: {tmp_path}/no.pth: No such file"),
        ([source, "--out", tmp_path], 1, f"cannot write: {tmp_path}: it is a folder; give the name of a file"),
        ([source, "--out", out, "--classes", empty], 1, f"not a list: {empty}: it is empty; "),
        ([source, "--out", out, "--classes", empty, "--num-classes", 2], 2, "--classes and --num-classes name the classes twi"),
        ([source, "--out", out, "--num-classes", 0], 2, "Invalid value for '--num-classes'"),
        ([source], 2, "Missing option '--out'"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (code, "", 1)
        assert result.stderr.startswith(f"Error: {text}")
    assert not out.exists()


@torch.inference_mode()
def test_a_single_convolution_inflates_to_one_that_is_equal_on_a_still_clip():
    torch.manual_seed(0)
    flat, deep = torch.nn.Conv2d(3, 4, 5, padding=2), torch.nn.Conv3d(3, 4, 5, padding=2)
    deep.load_state_dict(i3dcli.inflate_state_dict(flat.state_dict()), strict=True)
    picture = torch.rand(2, 3, 12, 9)
    output = deep(picture.unsqueeze(2).expand(-1, -1, 7, -1, -1))
    torch.testing.assert_close(output[:, :, 2:5], flat(picture).unsqueeze(2).expand(-1, -1, 3, -1, -1))
    assert not torch.allclose(output[:, :, 0], flat(picture), atol=1e-3)  # there the padding in time is seen


def test_a_module_of_convolutions_and_batch_norms_inflates_into_tensors_of_its_own():
    flat = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
    state = i3dcli.inflate_state_dict(flat.state_dict(), rescale=False)
    assert torch.equal(state["0.weight"][:, :, 1], flat[0].weight) and state["0.weight"].shape == (4, 3, 3, 3, 3)
    state["1.running_mean"] += 1
    assert (flat[1].running_mean == 0).all() and state["1.num_batches_tracked"] == 0


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3), (4, 3, 3, 5), (4, 3, 3, 3, 3)])
def test_tensors_of_other_layers_are_not_inflated(shape):
    with pytest.raises(CheckpointError) as caught:
        i3dcli.inflate_state_dict({"a.weight": torch.ones(shape)})
    assert str(caught.value) == (
        f"wrong checkpoint: state_dict: got a.weight of shape {shape}, expected (O,I,k,k) or (O,); "
        "inflate convolutions and batch norms"
    )


def test_a_stream_that_there_is_not_is_a_value_error(weights):
    with pytest.raises(ValueError, match="expected stream rgb or flow, got stream = 'audio'"):
        i3dcli.inflate_googlenet(weights, stream="audio")


def test_a_file_that_is_there_is_replaced_only_where_it_is_asked_for(source, tmp_path):
    (tmp_path / "rgb.pt").write_text("mine")
    result = run(source, "--out", tmp_path / "rgb.pt")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1) and "a file is there" in result.stderr
    assert (tmp_path / "rgb.pt").read_text() == "mine"
    assert run(source, "--out", tmp_path / "rgb.pt", "--overwrite").exit_code == 0
    assert load_checkpoint(tmp_path / "rgb.pt").num_classes == 400
