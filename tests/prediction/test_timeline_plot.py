import csv
import io
import json
from itertools import groupby
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from commands import one_line, predicting
from media import moving, write_video

import i3dcli
from i3dcli import I3DError
from i3dcli.cli.main import main
from i3dcli.prediction.prediction import Prediction
from i3dcli.prediction.timeline_plot import (
    BAND,
    COLOURS,
    LEFT,
    LEGEND,
    OTHER,
    RIGHT,
    SIZE,
    TOP,
    chosen_classes,
    plotted,
    spans,
    time_ticks,
    time_unit,
)
from i3dcli.prediction.two_stream import TwoStream

PARTS = (30, 26, 34)  # frames of the film's parts
CHANGES = (30, 56)


def part(number, num_frames):
    """A part of the film: green, blue or red, and moving to the right, up or down."""
    for frame in moving(num_frames, 64, 80, step=[(0, 2), (-1, 0), (2, 0)][number], seed=[1, 2, 0][number]):
        yield frame * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]][number], np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A lossless video of 90 frames, which hold three parts."""
    frames = [frame for number, length in enumerate(PARTS) for frame in part(number, length)]
    return lossless(tmp_path_factory.mktemp("film") / "film.mkv", frames)


def lossless(path, frames):
    return write_video(path, frames, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(scope="module")
def windows(quick_model, film):
    """Every window of 16 frames, one every 8."""
    return list(quick_model.timeline(film, window=16, stride=8))


@pytest.fixture
def run(quick):
    return predicting(quick)


def test_a_timeline_says_where_each_window_is(windows, quick_model, film):
    assert [(p.start_seconds, p.end_seconds, p.num_frames) for p in windows[:2]] == [(0, 0.64, 16), (0.32, 0.96, 16)]
    assert [p.first_frame for p in windows] == [*range(0, 88, 8)]
    assert (windows[-1].num_frames, windows[-1].end_seconds) == (10, 3.6)  # the last ends with the video
    assert [(p.first_frame, p.end_frame) for p in quick_model.timeline(film)][-2:] == [(64, 80), (80, 90)]


@torch.inference_mode()
def test_a_window_is_seen_as_predict_sees_its_frames(windows, quick, film, tmp_path):
    frames = i3dcli.read_video(film, short_side=64)
    cut = lossless(tmp_path / "cut.mkv", frames[24:40].permute(0, 2, 3, 1).numpy())
    alone = i3dcli.load_model(rgb=quick["rgb"], device="cpu").predict(cut)
    torch.testing.assert_close(windows[3].rgb_logits, alone.rgb_logits, atol=1e-4, rtol=1e-4)
    flow = i3dcli.compute_flow(frames[24:41])[..., 8:56, 16:64].permute(1, 0, 2, 3)[None].clamp(-20, 20) / 20
    expected = i3dcli.load_checkpoint(quick["flow"])(flow)[0]
    torch.testing.assert_close(windows[3].flow_logits, expected, atol=1e-4, rtol=1e-4)
    for stream in ("rgb_logits", "flow_logits"):
        assert (getattr(windows[2], stream) - getattr(windows[3], stream)).abs().max() > 1e-2


@pytest.mark.parametrize("watch", [None, lambda moment: None])
def test_windows_with_gaps_are_the_same_windows(windows, quick_model, film, watch):
    found = list(quick_model.timeline(film, window=16, stride=32, watch=watch))
    assert [p.first_frame for p in found] == [0, 32, 64]
    for prediction, expected in zip(found, windows[::4], strict=False):
        torch.testing.assert_close(prediction.rgb_logits, expected.rgb_logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(prediction.flow_logits, expected.flow_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", [{"window": 1}, {"window": 1.5}, {"window": "1s"}, {"stride": 0}, {"stride": -3}])
def test_windows_that_cannot_be_are_a_mistake_in_the_program(quick_model, film, how):
    with pytest.raises(ValueError, match="in frames, an integer of at least"):
        next(quick_model.timeline(film, **how))


def test_a_window_that_holds_the_whole_video_is_its_prediction(quick_model, quick, film, tmp_path):
    (whole,) = quick_model.timeline(film, window=1000)
    torch.testing.assert_close(whole.logits, quick_model.predict(film).logits, atol=1e-4, rtol=1e-4)
    rgb = i3dcli.load_model(rgb=quick["rgb"], device="cpu")
    long = write_video(tmp_path / "long.mp4", moving(262, 32, 40, step=(0, 1)))  # more than one pass
    (whole,) = rgb.timeline(long, window=1000)
    torch.testing.assert_close(whole.logits, rgb.predict(long).logits, atol=1e-4, rtol=1e-4)


def test_the_first_window_comes_before_the_rest_is_read(quick_model, film):
    seen = []
    next(quick_model.timeline(film, window=16, stride=8, watch=seen.append))
    assert 16 <= len(seen) <= 25 and all(flow.shape == (2, 64, 80) for _, flow in seen)


def test_the_labels_change_where_the_parts_do(quick, film, tmp_path):
    net = i3dcli.load_checkpoint(quick["rgb"])
    learnt = TwoStream({"rgb": net}, name="parts", classes=["green", "blue", "red"], device=torch.device("cpu"))
    clips = [lossless(tmp_path / f"{number}.mkv", part(number, 16)) for number in range(3)]
    means = [learnt.predict(clip, features=True).features["rgb"].rows.mean(0) for clip in clips]
    net.replace_head(3)
    with torch.no_grad():  # the nearest mean: half the squared distances, negative, but for a constant
        net.logits.conv3d.weight[:, :, 0, 0, 0] = torch.tensor(np.array(means))
        net.logits.conv3d.bias[:] = torch.tensor([-0.5 * float(mean @ mean) for mean in means])
    for window, stride in ((16, 8), (12, 12), (16, 4)):
        found = list(learnt.timeline(film, window=window, stride=stride))
        runs = groupby(zip(spans(found), found, strict=True), key=lambda pair: pair[1].top(1)[0][0])
        labels, starts = zip(*((label, 25 * next(run)[0][0]) for label, run in runs), strict=True)
        assert labels == ("green", "blue", "red")
        assert starts == pytest.approx((0, *CHANGES), abs=window / 2)


def test_the_table_has_a_line_for_each_window(run, film, quick_model):
    result = run(film, "--timeline", "--window", "1s", "--stride", "30")
    lines = [f"{film}  25 fps  ({quick_model.name}, rgb + flow, cpu)", "   start     end     rgb    flow   fused  label"]
    for p in quick_model.timeline(film, window=25, stride=30):
        index, (label, fused) = p.top_indices(1)[0], p.top(1)[0]
        rgb, flow = (logits.softmax(0)[index] for logits in p.stream_logits.values())
        lines.append(f"{p.start_seconds:8.2f}{p.end_seconds:8.2f}{rgb:8.4f}{flow:8.4f}{fused:8.4f}  {label}")
    assert (result.exit_code, result.stderr, result.stdout.splitlines()) == (0, "", lines)
    assert [line[:16] for line in lines[2:]] == ["    0.00    1.00", "    1.20    2.20", "    2.40    3.40"]


def test_json_and_csv_say_when_each_window_is(run, film, windows):
    options = [film, "--timeline", "--stride", "8", "--top-k", "2"]
    records = [json.loads(line) for line in run(*options, "--json").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(run(*options, "--csv").stdout)))
    assert list(records[0]) == ["video", "start_seconds", "end_seconds", "model", "streams", "device", "top"]
    assert list(rows[0])[:4] == ["video", "start_seconds", "end_seconds", "model"]
    assert len(rows) == 2 * len(records) == 2 * len(windows)
    for i, (record, p) in enumerate(zip(records, windows, strict=True)):
        assert [record["start_seconds"], record["end_seconds"]] == pytest.approx([0.32 * i, min(0.32 * i + 0.64, 3.6)])
        assert [entry["label"] for entry in record["top"]] == [label for label, _ in p.top(2)]
        assert record["top"][0]["probability"] == pytest.approx(p.top(1)[0][1], abs=1e-5)
        for row in rows[2 * i : 2 * i + 2]:
            assert [float(row["start_seconds"]), float(row["end_seconds"])] == [p.start_seconds, p.end_seconds]
    assert "start_seconds" not in run(film, "--csv").stdout + run(film, "--json").stdout


def test_stored_flow_gives_the_same_timeline(run, film, windows, tmp_path):
    arguments = ["extract-flow", str(film), "--out", str(tmp_path), "--format", "flo", "--short-side", "64"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    result = run(film, "--timeline", "--stride", "8", "--json", "--top-k", "1", "--flow-dir", tmp_path)
    found = [json.loads(line)["top"][0]["flow"] for line in result.stdout.splitlines()]
    assert found == pytest.approx([float(p.flow_logits.softmax(0)[p.top_indices(1)[0]]) for p in windows], abs=1e-4)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [((0.33, 0.5), "frames that its duration claims are missing"), ((0.9, 0.97), "could not be decoded whole")],
    ids=["in the middle", "behind the last window"],
)
def test_damage_is_noted_once_after_the_windows(run, tmp_path, damaged, said):
    path = write_video(tmp_path / "clip.ts", moving(40, 64, 80), codec="mpeg2video")
    data = bytearray(path.read_bytes())
    start, end = (int(part * len(data)) for part in damaged)
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    result = run(path, "--timeline", "--window", "16", weights=("rgb",))
    assert result.exit_code == 0 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("Note: damaged video: ") and said in result.stderr


def made_up(probabilities, *, labels=None, length=50, stride=50, video="film.mp4"):
    """Predictions of windows with these probabilities (W,K)."""
    for i, row in enumerate(np.asarray(probabilities)):
        names = labels or tuple(f"class {k}" for k in range(len(row)))
        logits = {"rgb": torch.tensor(np.log(row + 1e-9), dtype=torch.float32)}
        yield Prediction(video, "m", "cpu", tuple(names), length, 25.0, 0, logits, {}, start_seconds=i * stride / 25)


def draw(path, predictions, top_k=5):
    predictions = list(predictions)
    assert list(plotted(iter(predictions), path, top_k=top_k)) == predictions
    return path


def test_the_png_has_a_band_in_the_colour_of_the_top_label(tmp_path):
    scores = [[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1]]
    picture = cv2.imread(str(draw(tmp_path / "plot.png", made_up(scores))))
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    band = [tuple(picture[BAND[0] + 4, round(LEFT + (RIGHT - LEFT) * (i + 0.5) / 4)].tolist()) for i in range(4)]
    assert band == [COLOURS[0], COLOURS[0], COLOURS[2], COLOURS[1]]


def test_no_window_means_no_band(tmp_path):
    picture = cv2.imread(str(draw(tmp_path / "plot.png", made_up([[0.9, 0.1]] * 2, length=50, stride=150))))
    colours = [tuple(picture[BAND[0] + 4, round(LEFT + (RIGHT - LEFT) * seconds / 8)].tolist()) for seconds in (1, 4, 7)]
    assert colours == [COLOURS[0], (255, 255, 255), COLOURS[0]]


def test_the_svg_is_well_formed_and_names_its_classes(tmp_path):
    labels = ['écrire <b> & "co"', "相撲", "a\x00b", "never"]
    scores = [[0.8, 0.1, 0.07, 0.03], [0.1, 0.8, 0.07, 0.03]]
    path = draw(tmp_path / "plot.svg", made_up(scores, labels=labels, video="<film>.mp4"), top_k=3)
    tree = ElementTree.parse(path)
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {labels[0], labels[1], r"a\x00b", "<film>.mp4", "seconds", "80.0%"} <= {*texts}
    assert "never" not in texts and "href" not in path.read_text("utf-8")


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (3, 10), (40, 400), (700, 30)])
def test_any_number_of_windows_and_classes_gives_both_pictures(tmp_path, count, classes):
    scores = np.random.default_rng(0).dirichlet(np.full(classes, 0.1), count)
    assert cv2.imread(str(draw(tmp_path / "plot.png", made_up(scores)))).shape == (SIZE[1], SIZE[0], 3)
    tree = ElementTree.parse(draw(tmp_path / "plot.svg", made_up(scores)))
    boxes = [e for e in tree.iter() if e.tag.endswith("rect") and e.get("y")]
    assert all(float(e.get("x")) >= LEFT and float(e.get("width")) > 0 for e in boxes) and len(boxes) <= count


def test_winners_get_colours_and_the_rest_of_the_top_goes_grey(tmp_path):
    scores = np.full((2, 20), 0.01)
    scores[0, 13], scores[1, 4], scores[:, 7] = 0.5, 0.4, 0.3
    coloured, others = chosen_classes(scores, top_k=10)
    assert coloured[:3] == [13, 4, 7] and len(coloured) == len(COLOURS) and len(others) == 3
    text = draw(tmp_path / "plot.svg", made_up(scores), top_k=10).read_text("utf-8")
    assert "3 others" in text and "#{2:02x}{1:02x}{0:02x}".format(*OTHER) in text


def test_the_legend_goes_down_by_its_printed_peaks_and_then_by_class(tmp_path):
    scores = [[0.2996, 0.0398, 0.3604, 0.3002]] * 2 + [[0.2, 0.5, 0.1, 0.2]]
    tree = ElementTree.parse(draw(tmp_path / "plot.svg", made_up(scores)))
    texts = [e.text for e in tree.iter("{http://www.w3.org/2000/svg}text") if float(e.get("x")) > RIGHT]
    assert texts == ["peak", "class 1", "50.0%", "class 2", "36.0%", "class 0", "30.0%", "class 3", "30.0%"]


def test_overlapping_windows_stand_for_their_middles():
    found = spans(list(made_up([[0.5, 0.5]] * 3, length=50, stride=25)))
    assert found == [(0, 1.5), (1.5, 2.5), (2.5, 4.0)]
    assert spans(list(made_up([[0.5, 0.5]] * 2, length=50, stride=100))) == [(0, 2.0), (4.0, 6.0)]


@pytest.mark.parametrize(
    ("end", "last", "unit"),
    [
        (0.36, "0.3", "seconds"),
        (8, "8", "seconds"),
        (77, "70", "seconds"),
        (300, "5:00", "minutes:seconds"),
        (7200, "2:00:00", "hours:minutes:seconds"),
    ],
)
def test_times_are_round_and_fit_the_length(end, last, unit):
    times = time_ticks(end)
    assert times[0] == (0, "0" if end < 120 else "0:00")
    assert times[-1][1] == last and 3 < len(times) <= 11 and time_unit(end) == unit


def picture_of(path, video, labels, rest=()):
    """The .png that names a video and two classes, of which the first is on top, in the title, the legend, and the band."""
    scores = [[0.8, 0.2, *[0.0] * len(rest)]] * 2
    picture = cv2.imread(str(draw(path, made_up(scores, labels=(*labels, *rest), video=video), top_k=2)))
    return picture[:60, : SIZE[0] // 3], picture[TOP - 20 : TOP + 10, LEGEND:], picture[BAND[0] : BAND[1], LEFT:RIGHT]


def test_a_file_and_classes_in_hangul_are_named_in_the_png(tmp_path):
    pictures = [
        picture_of(tmp_path / "plot.png", video, labels)
        for video, labels in (
            ("영상.mp4", ("뛰기", "걷기")),
            ("영화.mp4", ("걷기", "뛰기")),
            ("??.mp4", ("??", "걷기")),
            ("□□.mp4", ("□□ a", "걷기")),
            ("영상.mp4", ("뛰기", "숨쉬기")),
        )
    ]
    for title, legend, band in pictures[1:4]:
        assert not np.array_equal(title, pictures[0][0])
        assert not np.array_equal(legend, pictures[0][1]) and not np.array_equal(band, pictures[0][2])
    assert all(map(np.array_equal, pictures[0], pictures[4]))


def test_a_plot_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(I3DError, match="cannot write"):
        draw(tmp_path / "absent" / "plot.png", made_up([[1.0, 0.0]]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--timeline", "--window", "0"], "'0' is neither frames such as 64 nor seconds such as 2.5s"),
        (["--timeline", "--window", "-3s"], "'-3s' is neither"),
        (["--timeline", "--stride", "nans"], "'nans' is neither"),
        (["--timeline", "--stride", "infs"], "'infs' is neither"),
        (["--timeline", "--stride", "1.5"], "'1.5' is neither"),
        (["--timeline", "--stride", ""], "'' is neither"),
        (["--timeline", "--window", "2 seconds"], "'2 seconds' is neither"),
        (["--timeline", "--window", "1"], "--window is 1 frame at 25 fps, expected at least 2"),
        (["--timeline", "--window", "0.01s"], "--window is 0 frames at 25 fps, expected at least 2"),
        (["--timeline", "--stride", "0.01s"], "--stride is less than a frame at 25 fps"),
        (["--window", "2s"], "--window and --stride are for --timeline, --plot and --annotate"),
        (["--stride", "8"], "--window and --stride are for --timeline, --plot and --annotate"),
        (["--timeline", "--scores", "s.npz"], "--scores and --features are of whole videos"),
        (["--plot", "p.svg", "second.mp4"], "--plot and --annotate draw one video; got 2"),
        (["--plot", "p.pdf"], "--plot 'p.pdf' is neither .png nor .svg"),
        (["--annotate", "a.avi"], "--annotate 'a.avi' is not .mp4"),
        (["--timeline", "--show-flow"], "--show-flow needs --annotate"),
        (["--annotate", "a.mp4", "--show-flow", "--stream", "rgb"], "--show-flow needs the flow stream"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, film, options, text):
    one_line(run(film, *options), 2, text)


def test_what_cannot_be_drawn_is_one_line_and_leaves_no_file(run, film, tmp_path):
    (tmp_path / "two").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "two" / name, moving(1, 64, 80))
    one_line(run(tmp_path / "two", "--plot", tmp_path / "p.svg"), 1, "several videos", "got 2, expected one")
    one_line(run(tmp_path / "two" / "a.mp4", "--annotate", tmp_path / "p.mp4"), 1, "too short for flow", "got 1 frame")
    one_line(run(tmp_path / "absent.mp4", "--plot", tmp_path / "p.svg"), 1, "absent.mp4")
    one_line(run(film, "--plot", tmp_path / "no" / "p.svg"), 1, "cannot write", "there is no folder")
    one_line(run(film, "--annotate", tmp_path / "no" / "a.mp4"), 1, "cannot write", "there is no folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two"]
