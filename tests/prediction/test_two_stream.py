import numpy as np
import oracle
import pytest
import torch
from media import cut, moving, write_audio, write_video

import i3dcli
from i3dcli import CheckpointError, DatasetError, VideoError, VideoWarning
from i3dcli.data.dataset import Sample
from i3dcli.evaluation.scoring import score_samples

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Of 300 small frames: one window of 250 and one of 50."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", moving(300, 32, 40, step=(0, 1)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Checkpoints that look at 48x48 pixels."""
    folder = tmp_path_factory.mktemp("small")
    return {stream: save_net(folder / f"{stream}.pt", stream=stream, short_side=64, crop=48) for stream in oracle.CHANNELS}


def save_net(path, *, stream, num_classes=10, classes=None, **preprocessing):
    net = oracle.lively(i3dcli.I3D(num_classes, oracle.CHANNELS[stream], width=0.125))
    net.classes = classes
    net.preprocessing = type(net.preprocessing)(**preprocessing)
    i3dcli.save_checkpoint(net, path)
    return path


@torch.inference_mode()
def test_predict_is_the_readmes_sentence_step_by_step(model, checkpoints, video):
    prediction = model.predict(video)
    frames = i3dcli.read_video(video)  # (12, 3, 256, 341)
    flow = i3dcli.compute_flow(frames)  # (11, 2, 256, 341)
    rgb_clip = frames[:, :, 16:240, 58:282].permute(1, 0, 2, 3)[None] / 127.5 - 1
    flow_clip = flow[:, :, 16:240, 58:282].permute(1, 0, 2, 3)[None].clamp(-20, 20) / 20
    rgb_logits = i3dcli.load_checkpoint(checkpoints["rgb"])(rgb_clip)[0]
    flow_logits = i3dcli.load_checkpoint(checkpoints["flow"])(flow_clip)[0]
    torch.testing.assert_close(prediction.rgb_logits, rgb_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.flow_logits, flow_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.logits, (rgb_logits + flow_logits) / 2, atol=1e-5, rtol=1e-5)
    probabilities = ((rgb_logits + flow_logits) / 2).softmax(0)
    label, probability = prediction.top(1)[0]
    assert label == f"action {int(probabilities.argmax())}" and probability == pytest.approx(
        float(probabilities.max()), abs=1e-6
    )
    assert (prediction.num_frames, prediction.fps, prediction.duration_seconds) == (12, 25.0, 0.48)


@torch.inference_mode()
def test_long_videos_are_averaged_over_windows_by_their_steps(small, long_video):
    model = i3dcli.load_model(rgb=small["rgb"], device="cpu")
    net = i3dcli.load_checkpoint(small["rgb"])
    clips = i3dcli.read_video(long_video, short_side=64)[:, :, 8:56, 16:64].permute(1, 0, 2, 3)[None] / 127.5 - 1
    expected = (net(clips[:, :, :250]) * 31 + net(clips[:, :, 250:]) * 6) / 37  # 250 frames have 32 feature steps, 50 have 7
    torch.testing.assert_close(model.predict(long_video).rgb_logits, expected[0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_short_videos_are_looped(checkpoints, tmp_path):
    model = i3dcli.load_model(rgb=checkpoints["rgb"], device="cpu")
    path = write_video(tmp_path / "short.mp4", moving(4))
    frames = i3dcli.read_video(path)[[0, 1, 2, 3, 0, 1, 2, 3, 0]]
    clip = frames[:, :, 16:240, 58:282].permute(1, 0, 2, 3)[None] / 127.5 - 1
    prediction = model.predict(path)
    torch.testing.assert_close(prediction.rgb_logits, i3dcli.load_checkpoint(checkpoints["rgb"])(clip)[0], atol=1e-5, rtol=1e-5)
    assert prediction.num_frames == 4


def test_two_frames_are_enough_for_both_streams_and_one_is_not(model, checkpoints, tmp_path):
    assert model.predict(write_video(tmp_path / "two.mp4", moving(2))).streams == ("rgb", "flow")
    one = write_video(tmp_path / "one.mp4", moving(1))
    with pytest.raises(VideoError, match=r"flow: .*one\.mp4: got 1 frame at 25 fps, expected at least 2; use --stream rgb$"):
        model.predict(one)
    assert i3dcli.load_model(rgb=checkpoints["rgb"], device="cpu").predict(one).num_frames == 1


def test_one_stream_alone_is_its_own_fusion(checkpoints, video):
    prediction = i3dcli.load_model(flow=checkpoints["flow"], device="cpu").predict(video)
    assert prediction.streams == ("flow",) and prediction.rgb_logits is None
    assert torch.equal(prediction.logits, prediction.flow_logits)


def test_features_average_to_the_logits_and_say_what_they_saw(small, long_video):
    prediction = i3dcli.load_model(**small, device="cpu").predict(long_video, features=True)
    for stream, num_rows in (("rgb", 31 + 6), ("flow", 31 + 6)):
        features = prediction.features[stream]
        head = i3dcli.load_checkpoint(small[stream]).logits.conv3d
        logits = features.rows @ head.weight.detach()[:, :, 0, 0, 0].T.numpy() + head.bias.detach().numpy()
        assert features.rows.shape == (num_rows, 128) and features.rows.dtype == np.float32
        np.testing.assert_allclose(logits.mean(0), prediction.stream_logits[stream], atol=1e-4)
        np.testing.assert_allclose(features.start_seconds[:3], [0, 0.32, 0.64])
        np.testing.assert_allclose(features.end_seconds[:2], [0.64, 0.96])
        assert features.start_seconds[31] == 10.0 and features.end_seconds.max() <= prediction.duration_seconds == 12.0


def test_predictions_do_not_depend_on_what_came_before(small, video, long_video):
    model = i3dcli.load_model(**small, device="cpu")
    first = model.predict(video).logits
    model.predict(long_video)
    assert torch.equal(model.predict(video).logits, first)


def test_weights_under_the_wrong_option_are_named(checkpoints):
    with pytest.raises(
        CheckpointError,
        match=r"wrong stream: .*flow\.pt: got flow weights, expected rgb; give rgb weights, or use",
    ):
        i3dcli.load_model(rgb=checkpoints["flow"])


def test_streams_of_other_classes_or_pictures_are_refused(tmp_path):
    rgb = save_net(tmp_path / "rgb.pt", stream="rgb", classes=tuple("abcdefghij"))
    for name, change in {
        "count": {"num_classes": 9},
        "names": {"classes": tuple("zacdefghij")},
        "fps": {"fps": 12.5},
        "crop": {"crop": 112},
    }.items():
        flow = save_net(tmp_path / f"{name}.pt", stream="flow", **change)
        with pytest.raises(CheckpointError, match=rf"streams do not match: .*rgb\.pt \+ .*{name}\.pt: got"):
            i3dcli.load_model(rgb=rgb, flow=flow)


def test_a_flow_stream_with_its_classes_in_another_order_is_put_in_that_of_rgb(tmp_path, video):
    names = tuple("abcdefghij")
    rgb = save_net(tmp_path / "rgb.pt", stream="rgb", classes=names)
    flow = save_net(tmp_path / "flow.pt", stream="flow", classes=names[::-1])
    model = i3dcli.load_model(rgb=rgb, flow=flow, device="cpu")
    alone = i3dcli.load_model(flow=flow, device="cpu")
    both, single = model.predict(video), alone.predict(video)
    assert both.labels == names and alone.labels == names[::-1]
    torch.testing.assert_close(both.flow_logits, single.flow_logits.flip(0))


def test_a_checkpoints_own_preprocessing_is_used(tmp_path, video):
    rgb = save_net(tmp_path / "rgb.pt", stream="rgb", fps=12.5, short_side=64, crop=48)
    flow = save_net(tmp_path / "flow.pt", stream="flow", fps=12.5, short_side=64, crop=48, flow_bound=5.0)
    model = i3dcli.load_model(rgb=rgb, flow=flow, device="cpu")
    prediction = model.predict(video)
    assert (prediction.num_frames, prediction.fps) == (6, 12.5)
    with torch.inference_mode():
        pictures = i3dcli.read_video(video, fps=12.5, short_side=64)  # (6, 3, 64, 85)
        fields = i3dcli.compute_flow(pictures)[[0, 1, 2, 3, 4, 0, 1, 2, 3], :, 8:56, 18:66]
        expected = i3dcli.load_checkpoint(flow)(fields.permute(1, 0, 2, 3)[None].clamp(-5, 5) / 5)[0]
    torch.testing.assert_close(prediction.flow_logits, expected, atol=1e-5, rtol=1e-5)


def test_labels_come_from_the_caller_the_file_or_numbers(checkpoints, tmp_path):
    assert i3dcli.load_model(**checkpoints).labels[3] == "action 3"
    assert i3dcli.load_model(**checkpoints, labels=list("abcdefghij")).labels[3] == "d"
    assert i3dcli.load_model(rgb=save_net(tmp_path / "rgb.pt", stream="rgb")).labels[3] == "class 3"
    for labels in (["a", "b"], []):
        with pytest.raises(DatasetError, match=rf"^wrong classes: .*rgb.pt \+ .*flow.pt: got {len(labels)} names, expected"):
            i3dcli.load_model(**checkpoints, labels=labels)


def test_files_give_the_model_their_paths_as_its_name(small, tmp_path, monkeypatch):
    for stream, path in small.items():
        (tmp_path / stream).mkdir()
        (tmp_path / stream / "best.pt").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {stream: f"{stream}/best.pt" for stream in small}
    assert i3dcli.load_model(**names).name == "rgb/best.pt + flow/best.pt"
    assert i3dcli.load_model(rgb=tmp_path / "rgb/best.pt").name == f"{tmp_path}/rgb/best.pt"


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ("abcdefghij", "'abcdefghij' in place of a list"),
        ([*"abcdefghi", "a"], "'a' twice"),
        ([*"abcdefghi", " "], "' ' among them"),
        ([*"abcdefghi", "a\0"], r"'a\x00' among them"),
        (list(range(10)), "0 among them"),
    ],
)
def test_labels_that_are_no_names_are_refused(checkpoints, labels, fault):
    with pytest.raises(DatasetError) as caught:
        i3dcli.load_model(**checkpoints, labels=labels)
    assert f": got {fault}; give each class a name of its own" in str(caught.value)


def broken(folder, **weights):
    """Paths of narrow checkpoints, in each of which every number of one tensor is another."""
    paths = oracle.save_streams(folder, short_side=64, crop=48, clip_len=16)
    for path in paths.values():
        content = torch.load(path, weights_only=True)
        for name, value in weights.items():
            content["state_dict"][name.replace("__", ".")].fill_(value)
        torch.save(content, path)
    return paths


@pytest.mark.parametrize("look", ["predict", "features", "timeline", "eval"])
def test_no_result_is_not_finite(tmp_path, video, look):
    model = i3dcli.load_model(**broken(tmp_path, Mixed_5c__b0__conv3d__weight=3e38), device="cpu")
    with pytest.raises(i3dcli.I3DError) as caught:
        if look == "timeline":
            list(model.timeline(video))
        elif look == "eval":
            score_samples(model, [Sample(video, video, (3,))])
        else:
            model.predict(video, features=look == "features")
    assert str(caught.value) == (
        f"predictions are not finite: rgb of {model.name}: got NaN or infinity; the weights are broken, "
        "train them again or get others"
    )


def test_a_variance_below_zero_is_refused_when_weights_are_read(tmp_path):
    paths = broken(tmp_path, Mixed_3b__b0__bn__running_var=-0.5)
    with pytest.raises(CheckpointError, match=r"rgb\.pt: got a negative variance in Mixed_3b\.b0\.bn\.running_var, expected "):
        i3dcli.load_model(**paths)


def test_streams_limit_what_is_loaded_of_files(checkpoints):
    assert list(i3dcli.load_model(**checkpoints, streams=["flow"]).nets) == ["flow"]
    with pytest.raises(ValueError, match="expected a file for each stream"):
        i3dcli.load_model(rgb=checkpoints["rgb"], streams=["rgb", "flow"])


def test_a_name_and_files_together_are_a_mistake(checkpoints):
    with pytest.raises(ValueError, match="got both"):
        i3dcli.load_model("kinetics400", rgb=checkpoints["rgb"])


def test_audio_is_no_video(model, tmp_path):
    with pytest.raises(VideoError, match="no video in the file"):
        model.predict(write_audio(tmp_path / "sound.mp4"))


@pytest.mark.cuda
def test_cuda_predicts_what_the_cpu_predicts(model, checkpoints, video):
    prediction = i3dcli.load_model(**checkpoints, device="cuda").predict(video)
    assert prediction.device.startswith("cuda")
    torch.testing.assert_close(prediction.logits, model.predict(video).logits, atol=1e-2, rtol=1e-2)


def test_a_prediction_from_a_video_that_lacks_frames_warns(quick_model, tmp_path):
    path = cut(write_video(tmp_path / "v.webm", moving(40, 64, 80), codec="libvpx"))
    with pytest.warns(
        VideoWarning, match=r"damaged video: .*v\.webm: \d+ of the 40 frames that its duration claims are missing"
    ):
        quick_model.predict(path)
