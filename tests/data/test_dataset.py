import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from i3dcli import DatasetError
from i3dcli.class_names import read_class_names
from i3dcli.data.dataset import READERS, load_dataset, report_absent, report_missing, scored_part, with_validation
from i3dcli.defaults import DATASET_FORMATS

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")


@pytest.fixture(autouse=True)
def in_the_folder_of_the_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(root, *names):
    """Empty files; datasets never opens a video."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def listed(samples):
    return [(sample.key.as_posix(), sample.labels) for sample in samples]


def error(path, **options):
    """The text of the error, with paths relative to the folder of the test."""
    with pytest.raises(DatasetError) as caught:
        load_dataset(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{os.getcwd()}/", "").replace(os.getcwd(), ".")


# Folders of classes


def test_a_folder_of_classes_is_read_in_the_order_of_their_names(tmp_path):
    make(tmp_path, "run/b.mp4", "jump/a.AVI", "jump/deep/c.mkv", "jump/notes.txt", ".cache/x.mp4")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "folder: 3 train, 2 classes" and dataset.format == "folder"
    assert dataset.classes == ("jump", "run") and dataset.eval == () == dataset.missing and not dataset.multi_label
    assert listed(dataset.train) == [("jump/a", (0,)), ("jump/deep/c", (0,)), ("run/b", (1,))]
    assert dataset.train[0].path == tmp_path / "jump/a.AVI" and dataset.train[0].spans == ()


def test_what_systems_leave_behind_is_no_class_and_no_list(tmp_path):
    left = ("__MACOSX/run/._a.mp4", "__MACOSX/b.mp4", "lost+found/c.mp4", "@eaDir/d.mp4", "run/._a.mp4", ".DS_Store")
    make(tmp_path / "v", "run/a.mp4", "jump/b.mp4", *left)
    assert load_dataset(tmp_path / "v").summary == "folder: 2 train, 2 classes"
    make(tmp_path / "p", "train/run/a.mp4", "train/jump/b.mp4", "__MACOSX/train/run/._a.mp4")
    assert load_dataset(tmp_path / "p").summary == "folder: 2 train, 2 classes"
    for name in ("wave", "._wave"):
        write(tmp_path / f"h/{name}_test_split1.txt", "e.avi 1\nf.avi 2\n")
    make(tmp_path / "h", "videos/wave/e.avi", "videos/wave/f.avi")
    assert load_dataset(tmp_path / "h").classes == ("wave",)
    write(tmp_path / "k/a.csv", KINETICS + "x,e,0,10,train\n")
    make(tmp_path / "k", "__MACOSX/e.mp4", "x/e.mp4")
    assert [sample.path for sample in load_dataset(tmp_path / "k/a.csv").train] == [tmp_path / "k/x/e.mp4"]


def test_a_folder_of_numbered_pictures_is_a_video_but_the_folder_of_a_class_is_not(tmp_path):
    make(tmp_path, "run/v.1/img_00001.jpg", "run/v.1/img_00002.jpg", "run/thumb1.jpg", "run/thumb2.jpg")
    assert listed(load_dataset(tmp_path).train) == [("run/v.1", (0,))]


@pytest.mark.parametrize(("name", "part"), [("val", "val"), ("test", "test"), ("validation", "val"), ("Val", "val")])
def test_a_folder_of_parts_has_two(tmp_path, name, part):
    make(tmp_path, "train/jump/a.mp4", "train/run/b.mp4", f"{name}/run/c.mp4")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == f"folder: 2 train, 1 {part}, 2 classes"
    assert listed(dataset.eval) == [(f"{name}/run/c", (1,))]


def test_of_three_parts_the_test_part_is_left_out(tmp_path):
    make(tmp_path, "train/run/a.mp4", "val/run/b.mp4", "test/run/c.mp4")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "folder: 1 train, 1 val, 1 class, test part left out for the validation part"
    assert listed(dataset.eval) == [("val/run/b", (0,))]


@pytest.mark.parametrize("name", ["test", "train"])
def test_a_class_that_is_called_as_a_part_is_no_part(tmp_path, name):
    make(tmp_path, "bus/a.mp4", f"{name}/b.mp4", "test.txt")
    assert load_dataset(tmp_path).classes == ("bus", name)


def test_two_folders_for_one_part_are_refused(tmp_path):
    make(tmp_path, "train/run/a.mp4", "val/run/b.mp4", "validation/run/c.mp4")
    assert error(tmp_path) == "two folders for one part: .: got train, val, validation; give one by its name"


def test_lists_are_looked_for_in_a_folder_by_name(tmp_path):
    assert (
        error(tmp_path, format="list") == "no list: .: expected train.txt or train.csv in the folder; give a list by its name"
    )


def test_classes_that_are_given_set_the_order(tmp_path):
    make(tmp_path, "air_drumming/b.mp4")
    dataset = load_dataset(tmp_path, classes=("run", "Air drumming"))
    assert listed(dataset.train) == [("air_drumming/b", (1,))] and dataset.summary == "folder: 1 train, 2 classes"
    assert error(tmp_path, classes=["run"]).startswith("unknown class: .: got 'air_drumming', expected one of 1: run; ")


def test_a_class_of_the_test_part_that_train_lacks_is_named(tmp_path):
    make(tmp_path, "train/run/a.mp4", "val/jump/b.mp4")
    assert "got 'jump', expected one of 1: run; " in error(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    make(tmp_path, "run/a.mp4", "jump/notes.txt")
    assert error(tmp_path) == "no video in the folder of a class: jump: add videos, or take the folder away"


def test_a_linked_video_in_both_parts_is_found(tmp_path):
    make(tmp_path, "train/run/a.mp4", "train/run/c.mp4", "val/run/other.mp4")
    (tmp_path / "val/run/b.mp4").symlink_to(tmp_path / "train/run/a.mp4")
    assert error(tmp_path) == (
        "one video in both parts: val/run/b.mp4: got 1 of 2 val videos in train as well; take them out of one part"
    )


# Lists of `path label`


@pytest.mark.parametrize("separator", [" ", "  ", "\t", ",", ", "])
def test_any_separator_of_a_list_is_understood(tmp_path, separator):
    make(tmp_path, "a b.mp4", "x 2/c 3.mp4")
    file = write(tmp_path / "train.csv", f"a b.mp4{separator}0\n\nx 2/c 3.mp4{separator}1\n")
    dataset = load_dataset(file)
    assert listed(dataset.train) == [("a b", (0,)), ("x 2/c 3", (1,))] and dataset.classes == ("class 0", "class 1")
    assert dataset.summary == "list: 2 train, 2 classes" and not dataset.multi_label


@pytest.mark.parametrize("header", ["path label", "video,label", "\ufefffilename\tclass"])
def test_a_header_and_comments_are_passed_over(tmp_path, header):
    make(tmp_path, "a.mp4", "#1.mp4")
    file = write(tmp_path / "list.txt", f"{header}\n# batch 7\na.mp4 0\n#1.mp4 0\n")
    assert listed(load_dataset(file).train) == [("a", (0,)), ("#1", (0,))]


def test_a_quoted_path_is_read(tmp_path):
    make(tmp_path, "a, b.mp4")
    assert listed(load_dataset(write(tmp_path / "l.csv", '"a, b.mp4",0\n')).train) == [("a, b", (0,))]


def test_rawframes_of_mmaction2_have_a_count_before_the_label(tmp_path):
    make(tmp_path, "some/dir 1/img_00001.jpg", "other/img_00001.jpg")
    dataset = load_dataset(write(tmp_path / "list.txt", "some/dir 1,163,1\nother 20 0\n"))
    assert listed(dataset.train) == [("some/dir 1", (1,)), ("other", (0,))] and not dataset.multi_label


def test_several_labels_in_a_line_are_multi_label_data(tmp_path):
    make(tmp_path, "a.mp4", "b.mp4")
    dataset = load_dataset(write(tmp_path / "list.txt", "a.mp4 0 3\nb.mp4 1,2\n"))
    assert listed(dataset.train) == [("a", (0, 3)), ("b", (1, 2))]
    assert dataset.multi_label and dataset.summary == "list: 2 train, 4 classes, multi-label"


def test_a_folder_with_lists_of_parts_has_both_and_names_of_classes(tmp_path):
    make(tmp_path, "run/a.mp4", "jump/b.mp4")
    write(tmp_path / "train.csv", "run/a.mp4 1\n")
    write(tmp_path / "val.csv", "jump/b.mp4 0\n")
    write(tmp_path / "classes.txt", "jump\nrun\n")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "list: 1 train, 1 val, 2 classes" and dataset.classes == ("jump", "run")
    assert load_dataset(tmp_path, format="folder").summary == "folder: 2 train, 2 classes"
    write(tmp_path / "train.txt", "run/a.mp4 1\n")
    assert error(tmp_path) == "two lists for one part: .: train.csv and train.txt; give one by its name"


def test_relative_paths_count_from_the_list_or_from_root(tmp_path):
    make(tmp_path, "lists/a.mp4", "videos/deep/b.mp4", "far/away/run/c.mp4")
    file = write(tmp_path / "lists" / "list.txt", "a.mp4 0\n../far/away/run/c.mp4 0\n")
    assert [sample.key for sample in load_dataset(file).train] == [Path("a"), Path("run/c")]
    file = write(Path("lists/list.txt"), f"./deep/../deep/b.mp4 0\n{tmp_path}/videos/deep/b.mp4 0\n")
    samples = load_dataset("lists/list.txt", root="videos").train
    assert [(sample.key, sample.path) for sample in samples] == [(Path("deep/b"), Path("videos/deep/../deep/b.mp4"))]


def test_missing_videos_are_counted_and_left_out(tmp_path):
    make(tmp_path, "a.mp4")
    dataset = load_dataset(write(tmp_path / "list.txt", "a.mp4 0\nb.mp4 1\nb.mp4 1\n"))
    assert dataset.missing == (tmp_path / "b.mp4",) and dataset.summary == "list: 1 train, 2 classes, 1 missing"


def test_where_every_video_is_missing_root_is_suggested(tmp_path):
    file = write(tmp_path / "list.txt", "a.mp4 0\nb.mp4 1\n")
    assert error(file) == (
        "no video on disk: list.txt: none of the 2 train videos is there, the first would be a.mp4; "
        "give the folder that the videos lie in, not ., with --root"
    )


def test_a_video_named_twice_is_one_sample_unless_its_labels_differ(tmp_path):
    make(tmp_path, "a.mp4")
    file = write(tmp_path / "list.txt", "a.mp4 0\n./a.mp4 0\n")
    assert listed(load_dataset(file).train) == [("a", (0,))]
    write(file, "a.mp4 0\na.mp4 1\n")
    assert error(file) == "two labels for one video: list.txt: a.mp4 is 'class 0' and 'class 1'; keep one"
    write(file, "a.mp4 0 2\na.mp4 1 2\n")
    assert listed(load_dataset(file).train) == [("a", (0, 2, 1))]


@pytest.mark.parametrize(("names", "known"), [("", ""), ("1 jump\n2 run\n", " for 2 classes")])
def test_labels_from_1_are_noticed_and_can_be_shifted(tmp_path, names, known):
    make(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "list.txt", "a.mp4 1\nb.mp4 2\n")
    if names:
        write(tmp_path / "classInd.txt", names)
    assert error(file) == (
        f"labels start at 1: list.txt: got 1 to 2{known}, expected ids from 0; "
        "give --first-label 1, or --first-label 0 where class 0 just has no video"
    )
    dataset = load_dataset(file, first_label=1)
    assert listed(dataset.train) == [("a", (0,)), ("b", (1,))]
    assert dataset.summary == "list: 2 train, 2 classes, ids 1-based → 0-based"


def test_labels_without_class_0_are_fine_where_names_leave_room(tmp_path):
    make(tmp_path, "a.mp4")
    file = write(tmp_path / "list.txt", "a.mp4 1\n")
    assert listed(load_dataset(file, classes=["x", "y", "z"]).train) == [("a", (1,))]
    unnamed = load_dataset(file, first_label=0)
    assert (
        unnamed.classes == ("class 0", "class 1")
        and not unnamed.has_names
        and load_dataset(file, classes=tuple("xyz")).has_names
    )


@pytest.mark.parametrize(
    ("label", "first", "text"),
    [
        (
            "2",
            None,
            "label too large: list.txt: line 1: got 2, expected 0 to 1 for 2 classes; "
            "mend the label, or name all classes with --classes",
        ),
        ("-1", None, "label too small: list.txt: line 1: got -1, expected 0 or more; take unlabelled videos out"),
        ("0", 1, "label too small: list.txt: line 1: got 0, expected 1 or more; leave --first-label out"),
    ],
)
def test_a_label_that_is_no_class_is_refused(tmp_path, label, first, text):
    file = write(tmp_path / "list.txt", f"a.mp4 {label}\n")
    assert error(file, classes=("x", "y"), first_label=first) == text


def test_a_label_that_is_too_large_for_a_class_without_a_name_is_refused(tmp_path):
    file = write(make(tmp_path, "a.mp4", "b.mp4") / "list.txt", "a.mp4 0\nb.mp4 9999\n")
    assert len(load_dataset(file).classes) == 10_000
    write(file, "a.mp4 0\nb.mp4 100000000\n")
    assert error(file) == (
        "label too large: list.txt: line 2: got 100000000, expected 0 to 9999 for 10000 classes; "
        "mend the label, or name all classes with --classes"
    )


@pytest.mark.parametrize("label", ["run", "1.0", ""])
def test_a_label_that_is_no_integer_is_refused(tmp_path, label):
    file = write(tmp_path / "list.txt", f"# mine\n\na.mp4 0\nb.mp4 {label}\n")
    text = (
        f"label is not an integer: list.txt: line 4: got '{f'b.mp4 {label}'.strip()}', expected a path and the number of a "
        "class; mend the line"
    )
    assert error(file) == f"{text}, or name what the file is with --format"
    assert error(file, format="list") == text


def test_an_empty_list_is_refused(tmp_path):
    assert error(write(tmp_path / "l.txt", "")) == "not a list: l.txt: it is empty; expected one entry per line"
    assert error(write(tmp_path / "l.txt", "path label\n")) == "empty list: l.txt: expected a path and a class id per line"


def test_a_class_named_twice_is_refused(tmp_path):
    file = write(tmp_path / "list.txt", "a.mp4 0\n")
    text = "duplicate class name: {}: got 'x' twice; give each class its own name"
    assert error(file, classes=("x", "y", "x")) == text.format("the names of classes")
    write(tmp_path / "classes.txt", "x\nx\n")
    assert error(file) == text.format("classes.txt")


@pytest.mark.parametrize("text", ["0 a\n1 b 2\n", "1,a\n2,b 2\n", "2 b 2\n1 a\n", "c000 a\nc001 b 2\n", "a\nb 2\n"])
def test_names_of_classes_may_have_their_ids(tmp_path, text):
    assert read_class_names(write(tmp_path / "classes.txt", text)) == ("a", "b 2")


def test_names_that_start_with_other_numbers_keep_them(tmp_path):
    assert read_class_names(write(tmp_path / "classes.txt", "100 metres\n200 metres\n")) == ("100 metres", "200 metres")


# UCF-101 and HMDB-51


def ucf101(root, videos="UCF-101"):
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 Archery\r\n2 HandstandPushups\r\n")
    write(lists / "trainlist01.txt", "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\nArchery/v_Archery_g08_c01.avi 1\r\n")
    write(lists / "testlist01.txt", "Archery/v_Archery_g01_c01.avi\r\nArchery/v_Archery_g01_c02.avi\r\n")
    write(lists / "trainlist02.txt", "Archery/v_Archery_g01_c01.avi 1\n")
    names = [
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "Archery/v_Archery_g08_c01.avi",
        "Archery/v_Archery_g01_c01.avi",
    ]
    make(root / videos, *names)
    return lists


def test_ucf101_takes_classes_from_folders_and_ids_from_0(tmp_path):
    dataset = load_dataset(ucf101(tmp_path))
    assert dataset.summary == "ucf101 split 1: 2 train, 1 test, 2 classes, ids 1-based → 0-based, 1 missing"
    assert listed(dataset.train) == [("HandstandPushups/v_HandStandPushups_g08_c01", (1,)), ("Archery/v_Archery_g08_c01", (0,))]
    assert listed(dataset.eval) == [("Archery/v_Archery_g01_c01", (0,))]  # testlists have no labels
    assert dataset.missing == (tmp_path / "UCF-101/Archery/v_Archery_g01_c02.avi",)


def test_ucf101_is_read_from_a_list_of_it_and_a_root(tmp_path):
    lists = ucf101(tmp_path, videos="elsewhere")
    assert load_dataset(lists / "testlist01.txt", root=tmp_path / "elsewhere").summary.startswith(
        "ucf101 split 1: 2 train, 1 test"
    )
    assert load_dataset(lists / "trainlist02.txt", root=tmp_path / "elsewhere").summary.startswith(
        "ucf101 split 2: 1 train, 2 cl"
    )
    assert "give the folder that the videos lie in" in error(lists)


def test_a_split_that_does_not_exist_is_refused(tmp_path):
    lists = ucf101(tmp_path)
    assert error(lists, split=4) == "unknown split: ucfTrainTestlist: got 4, expected 1, 2 or 3; give --split 1"
    assert error(lists, split=3) == (
        "no such split: ucfTrainTestlist: expected trainlist03.txt and testlist03.txt; give --split with one there"
    )


def test_a_folder_that_is_no_class_of_ucf101_is_named(tmp_path):
    lists = ucf101(tmp_path)
    write(lists / "testlist01.txt", "Bowling/v.avi\n")
    assert error(lists).startswith(
        "unknown class: ucfTrainTestlist: got 'Bowling', expected one of 2: Archery, HandstandPushups; "
    )


def test_hmdb51_reads_its_marks_and_takes_names_as_they_are(tmp_path):
    names = ["#122_A(ct)_[1]_&_;_0.avi", "b c*?.avi", "c.avi", "d.avi"]
    make(tmp_path / "videos", *(f"brush_hair/{name}" for name in names), "wave/e.avi")
    marks = "".join(f"{name} {use} \n" for name, use in zip(names, (1, 2, 0, 1), strict=True))
    write(tmp_path / "splits/brush_hair_test_split1.txt", marks)
    write(tmp_path / "splits/wave_test_split1.txt", "e.avi 1 \n")
    write(tmp_path / "splits/wave_test_split2.txt", "e.avi 0 \n")
    dataset = load_dataset(tmp_path / "splits", root=tmp_path / "videos")
    assert dataset.summary == "hmdb51 split 1: 3 train, 1 test, 2 classes" and dataset.classes == ("brush_hair", "wave")
    assert listed(dataset.train) == [("brush_hair/#122_A(ct)_[1]_&_;_0", (0,)), ("brush_hair/d", (0,)), ("wave/e", (1,))]
    assert listed(dataset.eval) == [("brush_hair/b c*?", (0,))]
    assert load_dataset(tmp_path / "splits") == dataset  # ../videos is a usual place
    assert error(tmp_path / "splits", split=2) == "empty split: splits: nothing is marked train; give another split"


def test_a_line_of_hmdb51_without_a_mark_is_shown(tmp_path):
    write(tmp_path / "wave_test_split1.txt", "e.avi\n")
    assert error(tmp_path) == "no split line: wave_test_split1.txt: got 'e.avi', expected a video and 0, 1 or 2; mend it"


def test_lists_that_mmaction2_makes_of_hmdb51_are_read(tmp_path):
    write(tmp_path / "classInd.txt", "".join(f"{i + 1} class_{i:02}\n" for i in range(51)))
    write(tmp_path / "trainlist01.txt", "class_50/a.avi 51\n")
    write(tmp_path / "testlist01.txt", "class_07/b.avi 8\n")
    make(tmp_path / "videos", "class_50/a.avi", "class_07/b.avi")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "hmdb51 split 1: 1 train, 1 test, 51 classes, ids 1-based → 0-based"
    assert listed(dataset.train + dataset.eval) == [("class_50/a", (50,)), ("class_07/b", (7,))]


# Kinetics


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_finds_videos_below_classes_and_flat(tmp_path):
    names = ["air_drumming/---QUuC4vJs_000084_000094.mp4", "train/testifying/b_c-_000001_000011.webm", "flat.mkv"]
    make(tmp_path, *names, "testifying/absent_000003_000013.mp4")
    rows = ['"air drumming",---QUuC4vJs,84,94,validate', "testifying,b_c-,1.0,11.0,train", '"testifying",flat,0,10,train']
    file = write(tmp_path / "k.csv", KINETICS + "\n".join([*rows, "air drumming,absent,3,13,train"]))
    dataset = load_dataset(file)
    assert dataset.summary == "kinetics: 2 train, 1 val, 2 classes, 1 missing" and dataset.classes == (
        "air drumming",
        "testifying",
    )
    assert listed(dataset.train) == [("train/testifying/b_c-_000001_000011", (1,)), ("flat", (1,))]
    assert listed(dataset.eval) == [("air_drumming/---QUuC4vJs_000084_000094", (0,))]
    assert dataset.missing == (tmp_path / "air drumming/absent_000003_000013.mp4",)  # another class has one of this name


def test_kinetics_with_one_split_is_one_part(tmp_path):
    make(tmp_path, "a.mp4")
    assert load_dataset(write(tmp_path / "a.csv", KINETICS + "x,a,0,10,validate\n")).summary == "kinetics: 1 val video, 1 class"
    assert load_dataset(write(tmp_path / "a.csv", KINETICS + "x,a,0,10,train\n")).summary == "kinetics: 1 train, 1 class"


def test_kinetics_without_labels_is_refused_unless_it_is_not_needed(tmp_path):
    make(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    test = write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nc,0,10,test\n")
    assert error(test) == (
        "no label: test.csv: c.mp4 has none and can neither be trained nor scored on; give the file of a labelled part"
    )
    write(tmp_path / "train.csv", KINETICS + "x,a,0,10,train\n")
    write(tmp_path / "validate.csv", KINETICS + "x,b,0,10,validate\n")
    summary = "kinetics: 1 train, 1 val, 1 class, test part left out for the validation part"
    assert load_dataset(tmp_path).summary == summary


def test_a_folder_of_flow_is_no_video_of_kinetics(tmp_path):
    make(tmp_path, "flow/x/a/flow.json", "frames/x/a/1.jpg")
    dataset = load_dataset(write(tmp_path / "a.csv", KINETICS + "x,a,0,10,train\n"))
    assert listed(dataset.train) == [("frames/x/a", (0,))]


def test_lists_in_the_manner_of_mediapipe_are_read(tmp_path):
    make(tmp_path, "x/1.mp4", "y/1.mp4")
    file = write(tmp_path / "m.csv", "label_name,video,start,end,split\nb,x/1.mp4,0,5,train\na,y/1.mp4,0,5,test\n")
    dataset = load_dataset(file)
    assert listed(dataset.train) == [("x/1", (1,))] and listed(dataset.eval) == [("y/1", (0,))]


@pytest.mark.parametrize("row", ["x,a,zero,10,train", "x,,0,10,train", "x,a,0,10,holdout"])
def test_a_bad_line_of_kinetics_is_shown(tmp_path, row):
    assert error(write(tmp_path / "k.csv", f"{KINETICS}{row}\n")) == (
        f"no Kinetics line: k.csv: got '{row}', expected label,youtube_id,time_start,time_end,split; mend it"
    )


# Charades


CHARADES = "id,subject,script,actions,length\n"


def test_charades_has_labels_with_their_seconds(tmp_path):
    make(tmp_path, "Charades_v1_480/46GP8.mp4", "Charades_v1_480/N11GT.mp4", "Charades_v1_480/QUIET.mp4")
    rows = ['46GP8,HR43,"A, ""man""",c092 11.90 21.20;c147 0.00 12.60,24.83', "QUIET,HR43,x,,10", "GONE,HR43,x,c000 0 1,10"]
    write(tmp_path / "Charades_v1_train.csv", CHARADES + "\n".join(rows))
    write(tmp_path / "Charades_v1_test.csv", CHARADES + "N11GT,HR43,x,c156 0 9.5,10\n")
    dataset = load_dataset(tmp_path)
    assert dataset.summary == "charades: 2 train, 1 test, 157 classes, multi-label, 1 missing"
    assert listed(dataset.train) == [("46GP8", (92, 147)), ("QUIET", ())] and listed(dataset.eval) == [("N11GT", (156,))]
    assert dataset.train[0].spans == ((11.9, 21.2), (0.0, 12.6))
    assert dataset.classes[92] == "c092" and len(dataset.classes) == 157


def test_charades_of_pytorch_i3d_is_read_with_names_of_classes(tmp_path):
    content = {
        "46GP8": {"subset": "training", "duration": 24.83, "actions": [[1, 11.9, 21.2], [1, 0, 5]]},
        "N11GT": {"subset": "testing", "duration": 9, "actions": [[0, 0, 9]]},
    }
    make(tmp_path, "rgb/46GP8/46GP8-000001.jpg", "rgb/N11GT/N11GT-000001.jpg")
    write(tmp_path / "Charades_v1_classes.txt", "c000 Holding some clothes\nc001 Putting clothes somewhere\n")
    dataset = load_dataset(write(tmp_path / "charades.json", json.dumps(content)), root=tmp_path / "rgb")
    assert dataset.classes == ("Holding some clothes", "Putting clothes somewhere")
    assert listed(dataset.train) == [("46GP8", (1, 1))] and dataset.train[0].spans == ((11.9, 21.2), (0.0, 5.0))
    assert listed(dataset.eval) == [("N11GT", (0,))] and dataset.summary == "charades: 1 train, 1 test, 2 classes, multi-label"


def test_what_is_wrong_with_charades_is_said(tmp_path):
    assert error(write(tmp_path / "c.csv", CHARADES + "46GP8,HR43,x,c157 0 1,10\n")) == (
        "label too large: c.csv: 46GP8: got 157, expected 0 to 156 for 157 classes; "
        "mend the label, or name all classes with --classes"
    )
    assert error(write(tmp_path / "c.csv", CHARADES + "46GP8,HR43,x,c157 0,10\n")) == (
        "no Charades line: c.csv: got '46GP8,HR43,x,c157 0,10', "
        "expected the columns id and actions, as in 'c092 11.90 21.20;c147 0.00 12.60'; mend it"
    )
    for text in ("[]", "{", '{"x": {"label": "run"}}'):
        assert error(write(tmp_path / "c.json", text)) == (
            'no Charades JSON: c.json: expected {"<id>": {"subset": "training", "actions": [[92, 11.9, 21.2]]}}; '
            "give such a file, or a CSV"
        )


# Any source


def test_what_is_no_dataset_is_said(tmp_path):
    assert tuple(READERS) == DATASET_FORMATS
    assert error(tmp_path / "x") == "no such path: x: expected a folder of classes, a list, or annotations; give one"
    formats = "folder, list, ucf101, hmdb51, kinetics, charades"
    assert error(make(tmp_path, "a.mp4", "b.mp4")) == (
        f"no dataset: .: got a folder of 2 files, first 'a.mp4', expected one of {formats}; "
        "give a folder with a folder of videos for each class, or a list of paths and labels"
    )
    assert error(tmp_path / "a.mp4").startswith("no dataset: a.mp4: got a video, expected one of folder, list, ")
    assert error(tmp_path, format="ucf") == f"unknown format: .: got 'ucf', expected auto or one of {formats}"


def test_an_option_that_would_do_nothing_is_refused(tmp_path):
    make(tmp_path, "run/a.mp4")
    text = "option without use: .: got {}, but this is read as folder; leave it out"
    assert error(tmp_path, first_label=1) == text.format("--first-label")
    assert error(tmp_path, root=tmp_path) == text.format("--root")
    assert error(tmp_path, split=2) == text.format("--split")


@pytest.mark.parametrize("format", DATASET_FORMATS)
def test_a_source_that_is_not_of_the_format_given_is_refused(tmp_path, format):
    make(tmp_path, "a.mp4")
    assert error(tmp_path, format=format)
    assert error(tmp_path / "a.mp4", format=format)


@pytest.mark.parametrize("part", ["val", "test"])
def test_what_is_scored_is_the_part_that_is_not_trained_on(tmp_path, part):
    make(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "lists/train.txt", "a.mp4 0\ngone.mp4 1\n")
    write(tmp_path / f"lists/{part}.txt", "b.mp4 0\nlost.mp4 1\nlost.mp4 1\n")
    dataset = load_dataset(tmp_path / "lists", root=tmp_path)
    assert dataset.missing == (tmp_path / "gone.mp4", tmp_path / "lost.mp4")
    scored = scored_part(dataset)
    assert listed(scored.eval) == [("b", (0,))] and scored.train == () and scored.missing == (tmp_path / "lost.mp4",)
    assert scored.summary == f"list: 1 {part} video, 2 classes, 1 missing" and scored_part(scored) == scored


def test_all_of_a_source_without_parts_is_scored(tmp_path):
    make(tmp_path, "a.mp4", "b.mp4")
    scored = scored_part(load_dataset(write(tmp_path / "list.txt", "a.mp4 0\nb.mp4 0\nlost.mp4 1\n")))
    assert listed(scored.eval) == [("a", (0,)), ("b", (0,))] and scored.missing == (tmp_path / "lost.mp4",)
    assert scored.summary == "list: 2 videos, 2 classes, 1 missing" and scored_part(scored) == scored


def test_validation_data_is_matched_by_the_names_of_classes(tmp_path):
    train = load_dataset(make(tmp_path / "t", "jump/a.mp4", "run/b.mp4", "swim/c.mp4"))
    val = load_dataset(make(tmp_path / "v", "run/d.mp4", "Swim/e.mp4"))
    both = with_validation(train, val)
    assert both.classes == train.classes and both.train == train.train
    assert listed(both.eval) == [("Swim/e", (2,)), ("run/d", (1,))]
    assert both.summary == "folder: 3 train, 2 val, 3 classes, val from folder"
    with pytest.raises(DatasetError, match=r"unknown class: training data: got 'jump', expected one of 2: Swim, run; "):
        with_validation(val, train)


def test_validation_data_gives_its_test_part(tmp_path):
    train = load_dataset(make(tmp_path / "t", "run/a.mp4"))
    val = load_dataset(make(tmp_path / "v", "train/run/b.mp4", "val/run/c.mp4"))
    assert listed(with_validation(train, val).eval) == [("val/run/c", (0,))]


def test_ids_of_a_list_without_names_are_those_of_the_training_data(tmp_path):
    train = load_dataset(make(tmp_path, "jump/a.mp4", "run/b.mp4"))
    file = write(tmp_path / "v/val.txt", "c.mp4 1\n")
    make(tmp_path, "v/c.mp4", "v/d.mp4")
    assert listed(with_validation(train, load_dataset(file, first_label=0)).eval) == [("c", (1,))]
    write(file, "c.mp4 0\nd.mp4 2\n")
    with pytest.raises(DatasetError, match="got 'class 2', expected one of 2: jump, run; "):
        with_validation(train, load_dataset(file))


def test_validation_data_may_not_hold_training_data(tmp_path):
    train = load_dataset(make(tmp_path, "run/b.mp4"))
    with pytest.raises(DatasetError, match=r"one video in both parts: .*run/b\.mp4: got 1 of 1 val videos in train as well"):
        with_validation(train, train)


def test_reading_datasets_needs_neither_torch_nor_av():
    code = "import sys, i3dcli.data.dataset; print(sorted({'torch', 'av', 'numpy', 'cv2'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert result.stdout == "[]\n"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_or_list_that_may_not_be_read_is_an_error(tmp_path):
    folder = make(tmp_path / "videos", "run/v.mp4")
    for path in (folder, write(tmp_path / "list.txt", "videos/run/v.mp4 0\n")):
        path.chmod(0)
        assert error(path) == f"cannot read: {path.name}: permission denied; check its permissions"
        path.chmod(0o700)


def test_missing_videos_are_named_once_and_strictly_refused(tmp_path):
    names = [f"v{i:02d}.mp4" for i in range(14)]
    for name in names[:2]:
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))
    dataset = load_dataset(tmp_path / "a.txt")
    notes = []
    report_missing(dataset, notes.append)
    some = ", ".join(str(tmp_path / name) for name in names[2:12])
    assert notes == [f"Note: 12 videos missing: {some} and 2 more; left out"]
    with pytest.raises(
        DatasetError, match=r"^12 videos missing: .* and 2 more: expected all that are listed; leave --strict out"
    ):
        report_missing(dataset, notes.append, strict=True)
    (tmp_path / "a.txt").write_text("v00.mp4 0\nv02.mp4 1\n")
    report_missing(load_dataset(tmp_path / "a.txt"), notes.append)
    assert notes[1:] == [f"Note: 1 video missing: {tmp_path}/v02.mp4; left out"]


def test_classes_without_a_video_are_counted_and_the_first_named(tmp_path):
    make(tmp_path, "a.mp4", "b.mp4")
    notes = []
    for label in (1, 2, 30):
        dataset = load_dataset(write(tmp_path / "list.txt", f"a.mp4 0\nb.mp4 {label}\n"))
        report_absent(dataset.train, dataset.classes, notes.append)
    some = ", ".join(f"class {i}" for i in range(1, 11))
    assert notes == ["Note: no video of 1 of 3 classes: class 1", f"Note: no video of 29 of 31 classes: {some} and 19 more"]
