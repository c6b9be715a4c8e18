"""Saved scores: written, read, and joined from several files."""

import os
import zipfile

import numpy as np
import pytest

from i3dcli import DatasetError
from i3dcli.scores import Scores, join, read_scores, write_scores

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")

CLASSES = ("walk", "rün", "sit")


def example(*streams, videos=("a.mp4", "b c.mp4", "ü.mp4"), labels=(0, 2, 1), classes=CLASSES):
    """Scores of three videos, the same for the same stream and video."""
    rng = np.random.default_rng(0)
    table = {(stream, video): rng.normal(size=3) for stream in ("rgb", "flow") for video in ("a.mp4", "b c.mp4", "ü.mp4")}
    logits = {stream: np.float32([table.get((stream, video), (0, 0, 0)) for video in videos]) for stream in streams}
    return Scores(tuple(videos), classes, logits, None if labels is None else np.array(labels))


def same(a, b):
    assert (a.paths, a.classes, list(a.logits)) == (b.paths, b.classes, list(b.logits))
    np.testing.assert_array_equal(a.labels, b.labels)
    for stream, rows in a.logits.items():
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, b.logits[stream])


def error(function, *arguments):
    with pytest.raises(DatasetError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("labels", [(0, 2, 1), ((0, 1, 1), (0, 0, 0), (1, 0, 0)), None])
def test_scores_are_read_as_they_were_written(tmp_path, labels):
    write_scores(tmp_path / "s.npz", example("rgb", "flow", labels=labels))
    same(read_scores(tmp_path / "s.npz"), example("rgb", "flow", labels=labels))


def test_the_file_holds_plain_arrays_under_known_names(tmp_path):
    write_scores(tmp_path / "s.npz", example("flow"))
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["classes", "flow", "labels", "paths"]


def test_streams_are_joined_in_the_order_of_the_first_file_by_path():
    other = example("rgb", videos=("ü.mp4", "a.mp4", "b c.mp4"), labels=(1, 0, 2))
    same(join([example("flow"), other], ["f", "r"]), example("rgb", "flow"))
    same(join([other, example("flow")], ["r", "f"]), example("rgb", "flow", videos=other.paths, labels=(1, 0, 2)))


def test_labels_may_be_in_either_file():
    bare = example("rgb", videos=("ü.mp4", "a.mp4", "b c.mp4"), labels=None)
    same(join([example("flow"), bare], ["f", "r"]), example("rgb", "flow"))
    same(join([bare, example("flow")], ["r", "f"]), example("rgb", "flow", videos=bare.paths, labels=(1, 0, 2)))


def test_one_file_is_as_it_is():
    same(join([example("flow")], ["f"]), example("flow"))


def test_scores_that_do_not_belong_together_are_refused():
    rgb = example("rgb")
    join_with = lambda other: error(join, [rgb, other], ["r.npz", "f.npz"])  # noqa: E731
    assert join_with(example("flow", videos=("a.mp4", "b c.mp4", "x\n.mp4"))) == (
        "scores of different videos: f.npz and r.npz: got 2 videos in only one of them, the first x\\n.mp4; "
        "score the same videos with both streams"
    )
    assert join_with(example("flow", classes=("rün", "walk", "fly"))) == (
        "scores of different classes: f.npz and r.npz: expected the same names"
    )
    assert join_with(example("flow", labels=(0, 1, 1))) == (
        "scores with different labels: f.npz and r.npz: expected the same label of each video"
    )
    assert join_with(example("rgb", "flow")) == (
        "scores of one stream twice: f.npz and r.npz: both hold rgb; give one file for each stream"
    )


def test_a_file_of_something_else_is_no_scores(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "pickle.npz", paths=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as file:
        file.writestr("readme.txt", "hello")
    for name in ("text.npz", "empty.npz", "array.npy", "pickle.npz"):
        expected = f"no scores: {tmp_path}/{name}: it is no .npz of numbers, or damaged; give a file of i3d eval"
        assert error(read_scores, tmp_path / name) == expected
    for name, got in (("zip.npz", "readme.txt"), ("features.npz", "paths, rgb_video")):
        if name == "features.npz":
            np.savez(tmp_path / name, paths=["a"], rgb_video=np.zeros(1))
        expected = f"no scores: {tmp_path}/{name}: got {got}, expected paths, classes, and rgb or flow"
        assert error(read_scores, tmp_path / name) == expected
    absent = error(read_scores, tmp_path / "absent.npz")
    assert absent == f"cannot read scores: {tmp_path}/absent.npz: No such file or directory; give a file of i3d eval"
    os.mkfifo(tmp_path / "pipe.npz")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe.npz", "a pipe")):
        text = f"cannot read scores: {path}: got {kind}, expected a regular file; give a file of i3d eval"
        assert error(read_scores, path) == text


def test_a_file_that_is_cut_off_is_no_scores(tmp_path):
    write_scores(tmp_path / "s.npz", example("rgb"))
    data = (tmp_path / "s.npz").read_bytes()
    for part in (data[:100], data[: len(data) // 2], data[:200] + bytes(40) + data[240:]):
        (tmp_path / "s.npz").write_bytes(part)
        assert "s.npz" in error(read_scores, tmp_path / "s.npz")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rgb": np.zeros((3, 2))}, "expected finite logits of shape (3, 3), at least one video"),
        ({"rgb": np.full((3, 3), np.nan)}, "expected finite logits of shape (3, 3), at least one video"),
        ({"rgb": np.full((3, 3), "x")}, "expected finite logits of shape (3, 3), at least one video"),
        ({"paths": []}, "expected finite logits of shape (0, 3), at least one video"),
        ({"labels": [0, 1]}, "expected a class index or a row of 0 and 1 for each of 3 videos"),
        ({"labels": [0, 1, 3]}, "expected a class index or a row of 0 and 1 for each of 3 videos"),
        ({"labels": [0, -1, 1]}, "expected a class index or a row of 0 and 1 for each of 3 videos"),
        ({"labels": ["a", "b", "c"]}, "expected a class index or a row of 0 and 1 for each of 3 videos"),
        ({"labels": [[0, 1, 2]] * 3}, "expected a class index or a row of 0 and 1 for each of 3 videos"),
    ],
)
def test_arrays_that_do_not_fit_are_damage(tmp_path, change, text):
    arrays = {"paths": ["a", "b", "c"], "classes": list(CLASSES), "rgb": np.zeros((3, 3)), "labels": [0, 1, 2]}
    np.savez(tmp_path / "s.npz", **arrays | change)
    assert error(read_scores, tmp_path / "s.npz") == f"damaged scores: {tmp_path}/s.npz: {text}"


def test_the_same_classes_in_another_order_are_put_in_that_of_the_first():
    rgb, flow = example("rgb"), example("flow")
    order = [2, 0, 1]
    turned = Scores(
        flow.paths,
        tuple(flow.classes[i] for i in order),
        {"flow": flow.logits["flow"][:, order]},
        np.array([order.index(label) for label in flow.labels]),
    )
    both, expected = join([rgb, turned], ["r", "f"]), join([rgb, flow], ["r", "f"])
    assert both.classes == expected.classes and (both.logits["flow"] == expected.logits["flow"]).all()


def test_numbers_that_float32_cannot_hold_and_claims_of_terabytes_are_one_line(tmp_path):
    np.savez(tmp_path / "large.npz", paths=["a"], classes=["x", "y"], rgb=np.array([[1e300, 0.0]]))
    assert error(read_scores, tmp_path / "large.npz").startswith(f"damaged scores: {tmp_path}/large.npz: expected finite")
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 9)}
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as file, file.open("rgb.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    assert "it is no .npz of numbers, or damaged" in error(read_scores, tmp_path / "claim.npz")
