import oracle
import pytest
import torch
import torch.nn.functional as F

from i3dcli.models.i3d import I3D
from i3dcli.models.layers import MaxPool3d, Unit3D, same_padding

RECORDS = [pytest.param(r, id=f"{r['stream']}-{r['frames']}x{r['height']}x{r['width']}") for r in oracle.RECORDS]


def oracle_net(stream, seed):
    net = I3D(num_classes=400, in_channels=oracle.CHANNELS[stream])
    net.load_state_dict(oracle.weights(stream=stream, seed=seed), strict=True)
    return net.eval()


@pytest.mark.parametrize("record", RECORDS)
@torch.inference_mode()
def test_logits_equal_the_published_implementation(record):
    net = oracle_net(record["stream"], record["seed"])
    clip = oracle.clip(**{key: record[key] for key in ("stream", "frames", "height", "width", "seed")})
    features = net.forward_features(clip)
    pooled = net.forward_head(features, pre_logits=True)
    logits = net.classify(pooled)[0].double()
    tolerance = 1e-4 * float(logits.std())
    assert (1, 400, *pooled.shape[2:]) == tuple(record["map_shape"])
    torch.testing.assert_close(logits[:8], torch.tensor(record["first8"][0]).double(), atol=tolerance, rtol=0)
    assert abs(float(logits.norm()) - record["norm"][0]) <= tolerance * len(logits) ** 0.5
    assert logits.topk(5).indices.tolist() == record["top5"][0]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 7, 2, (2, 3)), (225, 7, 2, (3, 3)), (112, 3, 2, (0, 1)), (113, 3, 2, (1, 1)), (7, 2, 2, (0, 1)), (8, 2, 2, (0, 0))],
)
def test_same_padding_is_that_of_tensorflow(size, kernel, stride, expected):
    assert same_padding([size], [kernel], [stride]) == [expected]


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (2, 2, 2)])
@pytest.mark.parametrize("size", [(5, 7, 8), (6, 6, 9), (1, 2, 3)])
def test_max_pool_equals_one_with_minus_infinity_padded_by_hand(kernel, size):
    x = torch.randn(1, 2, *size) - 5  # negative, so that a border of zeros would show
    stride = tuple(min(k, 2) for k in kernel)
    padding = [n for pair in reversed(same_padding(size, kernel, stride)) for n in pair]
    expected = F.max_pool3d(F.pad(x, padding, value=-torch.inf), kernel, stride)
    assert torch.equal(MaxPool3d(kernel, stride)(x), expected)


@pytest.mark.parametrize("size", [(9, 10, 11), (8, 9, 10)])
def test_convolution_equals_one_padded_by_hand(size):
    unit = Unit3D(2, 3, kernel=7, stride=2, bare=True)
    x = torch.randn(1, 2, *size)
    padding = [n for pair in reversed(same_padding(size, (7, 7, 7), (2, 2, 2))) for n in pair]
    expected = F.conv3d(F.pad(x, padding), unit.conv3d.weight, unit.conv3d.bias, stride=2)
    torch.testing.assert_close(unit(x), expected)


def test_batch_norm_has_sonnets_constants():
    norm = I3D(width=0.125).Conv3d_1a_7x7.bn
    assert (norm.eps, norm.momentum) == (1e-3, 0.001)


def test_size_is_that_of_the_published_network():
    assert sum(p.numel() for p in I3D().parameters()) == 12_697_264
    assert sum(p.numel() for p in I3D(in_channels=2).parameters()) == 12_675_312


def test_logits_are_the_mean_over_time_and_space():
    net = I3D(num_classes=4, width=0.125).eval()
    pooled = torch.randn(2, 128, 3, 2, 5)
    maps = net.logits(pooled)
    torch.testing.assert_close(net.classify(pooled), maps.mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("shape", [(9, 64, 64), (8, 33, 47), (1, 16, 16)])
def test_small_and_short_clips_still_give_logits(shape):
    assert I3D(num_classes=4, width=0.125).eval()(torch.zeros(1, 3, *shape)).shape == (1, 4)


def test_features_have_one_step_per_eight_frames():
    features = I3D(width=0.25).eval().forward_features(torch.zeros(1, 3, 17, 64, 96))
    assert features.shape == (1, 256, 3, 2, 3)


def test_batch_items_do_not_mix():
    net = I3D(num_classes=4, width=0.125).eval()
    clips = torch.randn(2, 3, 9, 48, 48)
    torch.testing.assert_close(net(clips)[1], net(clips[1:])[0], atol=1e-5, rtol=1e-5)


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"\(N, 2, T, H, W\), got .*\(1, 3, 9, 32, 32\)"):
        I3D(in_channels=2, width=0.125)(torch.zeros(1, 3, 9, 32, 32))


def test_absurd_networks_are_refused():
    for wrong in ({"num_classes": 0}, {"in_channels": 0}, {"width": 0.0}):
        with pytest.raises(ValueError, match="got"):
            I3D(**wrong)


@pytest.mark.cuda
@torch.inference_mode()
def test_cuda_gives_the_logits_of_the_cpu():
    net, clip = oracle_net("rgb", 0), oracle.clip(stream="rgb", frames=9, height=224, width=224)
    expected = net(clip)
    torch.backends.cudnn.allow_tf32 = False
    torch.testing.assert_close(net.cuda()(clip.cuda()).cpu(), expected, atol=1e-3, rtol=1e-4)
