"""What is held out of the training videos: whole recordings, some of each class, the same each time."""

import random
from collections import Counter
from pathlib import Path

import pytest

from i3dcli.data.chosen import count_chosen, video_number, video_numbers
from i3dcli.data.dataset import Sample, load_dataset
from i3dcli.data.holdout import for_training, group_of, hold_out


def sample(name, *labels):
    return Sample(Path("videos") / name, Path(name), labels)


def ucf(classes=101, groups=18):
    """Names as UCF-101's trainlist has them: recordings 8 to 25, four to seven clips of each."""
    rng = random.Random(0)
    return [
        sample(f"Class{c}/v_Class{c}_g{g:02}_c{i:02}", c)
        for c in range(classes)
        for g in range(8, 8 + groups)
        for i in range(1, rng.randint(5, 8))
    ]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Archery/v_Archery_g07_c03", "v_Archery_g07"),
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "April_09"),
        ("wave/#20_Rhythm_clap_u_nm_np1_fr_goo_12", "#20_Rhythm_clap"),
        ("all/April_09_brush_hair_f_cm_np2_le_bad_3", "April_09_brush_hair"),
        ("x/---QUuC4vJs_000084_000094", "---QUuC4vJs"),
        ("x/take_3", "x/take_3"),
        ("x/v_g07", "x/v_g07"),
    ],
)
def test_the_recording_is_told_by_the_name_where_it_can_be(name, group):
    assert group_of(sample(name, 0)) == group


def test_a_tenth_of_each_class_is_held_out_and_no_recording_is_on_both_sides():
    samples = ucf()
    train, val = hold_out(samples, 0.1, seed=0)
    assert len(train + val) == len(samples) and {*train, *val} == {*samples}
    assert not {*map(group_of, train)} & {*map(group_of, val)}
    totals, held = (Counter(s.labels[0] for s in part) for part in (samples, val))
    assert len(held) == 101 and all(0.03 < held[c] / totals[c] < 0.17 for c in totals)
    assert 0.08 < len(val) / len(samples) < 0.12


def test_it_depends_on_names_and_the_seed_and_on_nothing_else():
    samples = ucf(classes=5)
    shuffled = random.Random(1).sample(samples, len(samples))
    one, two, other = (set(hold_out(s, 0.1, seed=seed)[1]) for s, seed in ((samples, 0), (shuffled, 0), (samples, 1)))
    assert one == two != other


def test_each_class_keeps_a_video_on_both_sides_where_it_can():
    samples = [sample(f"a/v_a_g01_c0{i}", 0) for i in range(4)] + [sample(f"a/v_a_g02_c0{i}", 0) for i in range(5)]
    samples += [sample("b/1", 1), sample("b/2", 1), sample("c/1", 2)]
    for seed in range(20):
        train, val = hold_out(samples, 0.1, seed=seed)
        assert {s.labels[0] for s in train} == {0, 1, 2} and {s.labels[0] for s in val} == {0, 1}
        assert len([s for s in val if s.labels == (0,)]) in (4, 5)


def test_videos_of_several_classes_or_none_are_held_out_too():
    rng = random.Random(0)
    samples = [sample(f"{i}", *rng.sample(range(20), rng.randint(1, 4))) for i in range(400)]
    samples += [sample(f"quiet{i}") for i in range(50)]
    train, val = hold_out(samples, 0.1, seed=0)
    for part in (train, val):
        assert {label for s in part for label in s.labels} == set(range(20)) and any(not s.labels for s in part)
    assert 0.07 < len(val) / len(samples) < 0.13


def dataset(root, *parts):
    for part in parts:
        for name in ("jump", "run"):
            for i in range(10):
                (root / part / name).mkdir(parents=True, exist_ok=True)
                (root / part / name / f"{part}{i}.mp4").touch()
    return load_dataset(root)


@pytest.mark.parametrize(
    ("parts", "fraction", "summary"),
    [
        (("train", "test"), None, "18 train, 2 val, 2 classes, val held out of train, test part not looked at"),
        (("train", "test"), 0.5, "10 train, 10 val, 2 classes, val held out of train, test part not looked at"),
        (("train", "test"), 0.0, "20 train, 2 classes, test part not looked at"),
        (("train", "test"), "test", "20 train, 20 test, 2 classes"),
        (("train", "val"), None, "20 train, 20 val, 2 classes"),
        (("train", "val"), 0.1, "18 train, 2 val, 2 classes, val held out of train"),
        (("train", "val", "test"), None, "20 train, 20 val, 2 classes, test part left out for the validation part"),
        ((".",), None, "20 train, 2 classes"),
        ((".",), 0.1, "18 train, 2 val, 2 classes, val held out of train"),
    ],
)
def test_the_test_part_is_left_alone_and_a_validation_part_is_taken(tmp_path, parts, fraction, summary):
    seen = for_training(dataset(tmp_path, *parts), fraction, seed=0)
    assert seen.summary == f"folder: {summary}"


# Which videos weights were chosen on


def test_a_video_is_told_wherever_it_lies_and_whatever_it_is_called(tmp_path):
    data = random.Random(0).randbytes(100_000)
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.mp4").write_bytes(data)
    (tmp_path / "longer.mp4").write_bytes(data + b"x")
    (tmp_path / "same_size.mp4").write_bytes(data[:50_000] + b"xyz" + data[50_003:])
    names = ("a.mp4", "b/other.mp4", "longer.mp4", "same_size.mp4")
    one, two, longer, other = (video_number(tmp_path / name) for name in names)
    assert one == two and len({one, longer, other}) == 3 and 0 <= one < 2**63
    assert count_chosen(video_numbers([tmp_path / "a.mp4"]), [tmp_path / name for name in names]) == 2


def test_a_folder_of_pictures_is_told_by_the_one_in_the_middle(tmp_path):
    for name, content in (("a", b"abc"), ("b", b"abc"), ("c", b"axc"), ("d", b"abcd")):
        (tmp_path / name).mkdir()
        for i, byte in enumerate(content):
            (tmp_path / name / f"{i}.jpg").write_bytes(bytes([byte]))
    a, b, c, d = (video_number(tmp_path / name) for name in "abcd")
    assert a == b and len({a, c, d}) == 3


def test_what_is_empty_or_gone_is_no_video_that_could_be_told(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    assert video_numbers(tmp_path / name for name in ("empty.mp4", "folder", "gone.mp4")) == frozenset()
