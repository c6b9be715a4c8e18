"""Which numbers of a line are labels, which names are there, and what is no list."""

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from i3dcli import DatasetError, VideoError
from i3dcli.class_names import read_class_names
from i3dcli.data.dataset import load_dataset
from i3dcli.data.entries import parse_entry
from i3dcli.video.find import find_videos
from i3dcli.video.reader import Video

pytestmark = pytest.mark.usefixtures("as_on_the_command_line")


def folders(root, *names):
    """Folders of one picture each, as lists of frames name them."""
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "img_00001.jpg").touch()


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def written(path, text):
    path.write_text(text)
    return path


def labels(dataset):
    return [sample.labels for sample in dataset.train]


def error(path, **options):
    with pytest.raises(DatasetError) as caught:
        load_dataset(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "").replace(str(path.parent), ".")


# Labels, or a count of frames before them


def test_the_count_of_frames_of_a_folder_that_is_called_as_a_video_is_no_label(tmp_path):
    folders(tmp_path, "v_Archery_g01_c01.avi", "v_Archery_g01_c02.avi", "v_Bowling_g01_c01.AVI")
    lines = "v_Archery_g01_c01.avi 121 0\nv_Archery_g01_c02.avi 87 0\nv_Bowling_g01_c01.AVI 3 1\n"
    dataset = load_dataset(written(tmp_path / "list.txt", lines))
    assert labels(dataset) == [(0,), (0,), (1,)] and dataset.summary == "list: 3 train, 2 classes"


def test_all_numbers_after_a_file_are_labels_whatever_it_is_called(tmp_path):
    files(tmp_path, "a.mp4", "b.divx", "c")
    dataset = load_dataset(written(tmp_path / "list.txt", "a.mp4 3 7 1\nb.divx 3 7\nc 0 7\n"))
    assert labels(dataset) == [(3, 7, 1), (3, 7), (0, 7)] and dataset.multi_label


def test_of_files_and_folders_in_one_list_each_is_read_as_what_it_is(tmp_path):
    folders(tmp_path, "a.mp4", "b")
    files(tmp_path, "c.mp4")
    assert labels(load_dataset(written(tmp_path / "list.txt", "a.mp4 90 1\nb 80 0 1\nc.mp4 0 1\n"))) == [(1,), (0, 1), (0, 1)]


@pytest.mark.parametrize(("make", "classes", "multi"), [(folders, 2, False), (files, 121, True)])
def test_what_is_not_on_disk_is_taken_for_what_the_others_are(tmp_path, make, classes, multi):
    make(tmp_path, "a.avi", "b.avi")
    dataset = load_dataset(written(tmp_path / "list.txt", "a.avi 100 0\nb.avi 120 1\ngone.avi 110 1\n"))
    assert (len(dataset.classes), dataset.multi_label, len(dataset.missing)) == (classes, multi, 1)


def test_where_the_others_do_not_tell_what_is_not_on_disk_makes_no_classes(tmp_path):
    folders(tmp_path, "a.avi")
    files(tmp_path, "b.avi")
    dataset = load_dataset(written(tmp_path / "list.txt", "a.avi 100 0\nb.avi 1\ngone.avi 110 1\n"))
    assert len(dataset.classes) == 2 and [path.name for path in dataset.missing] == ["gone.avi"]


def test_the_validation_list_tells_it_of_the_training_list(tmp_path):
    folders(tmp_path / "v", "b.avi")
    written(tmp_path / "train.txt", "a.avi 100 0\n")
    written(tmp_path / "val.txt", "b.avi 120 1\n")
    assert "none of the 1 train videos is there" in error(tmp_path, root=tmp_path / "v")
    folders(tmp_path / "v", "a.avi")
    assert len(load_dataset(tmp_path, root=tmp_path / "v").classes) == 2


def test_numbers_that_may_be_either_are_not_guessed_at(tmp_path):
    assert error(written(tmp_path / "list.txt", "a.avi 121 0\nb.avi 87 1\n")) == (
        "no video on disk: list.txt: line 1: in 'a.avi' '121 0' the first number is a label of a video, or the count of frames "
        "of a folder, and nothing is at a.avi; give the folder that the videos lie in, not ., with --root"
    )


# Lines


@pytest.mark.parametrize(
    ("line", "name", "numbers"),
    [
        ("a.mp4 0", "a.mp4", (0,)),
        ("a b.MP4,3, 7\t1", "a b.MP4", (3, 7, 1)),
        ("a.mp4 b.mp4 -1", "a.mp4 b.mp4", (-1,)),
        ("x 1.mp4 2.mp4 3", "x 1.mp4 2.mp4", (3,)),
        ("some/dir 1,163,1", "some/dir 1", (163, 1)),
        ("some/dir,163 1", "some/dir,163", (1,)),
        ("dir 20 0", "dir", (20, 0)),
        ("7 0", "7", (0,)),
        ('"a, b.mp4",0', "a, b.mp4", (0,)),
        ("a\x0cb\u2028.mp4 0", "a\x0cb\u2028.mp4", (0,)),
        ("a.mp4", "", None),
        ("7", "", None),
        ("a.mp4 1.0", "", None),
        ("a.mp4 " + "9" * 5_000, "", None),
        ("a.mp4 ٣", "", None),
    ],
)
def test_a_line_is_a_path_and_the_numbers_that_end_it(line, name, numbers):
    entry = parse_entry(1, line)
    assert entry == (None if numbers is None else (1, name, numbers))


@pytest.mark.parametrize("part", ["a.mp4 ", " 1", "1,", "-", "\t", "a b ", ".mp4 1 ", ", 1 x"])
def test_the_longest_line_takes_no_time_to_read_and_a_longer_one_is_refused(tmp_path, part):
    begun = time.process_time()
    parse_entry(1, part * (200_000 // len(part)))
    assert time.process_time() - begun < 2  # it was 25 seconds for 40 kB
    text = error(written(tmp_path / "list.txt", "x.mp4 0\n" + "x" + part * (200_000 // len(part)) + "x 1\n"))
    assert text.startswith("line too long: list.txt: line 2: got ")


@pytest.mark.parametrize("name", ["trainlist01.txt", "wave_test_split1.txt", "k.csv", "Charades_v1_train.csv"])
def test_the_longest_lines_of_annotations_take_no_time_either(tmp_path, name):
    header = {"k.csv": "label,youtube_id,time_start,time_end,split\n", "Charades_v1_train.csv": "id,actions\n"}.get(name, "")
    written(tmp_path / "classInd.txt", "1 x\n")
    begun = time.process_time()
    for text in (f"a{' ' * 60_000}b{' 1' * 2_000}c", "1" * 60_000, "a," * 30_000, f"x,a,{'9' * 400},10,train"):
        assert error(written(tmp_path / name, f"{header}{text}\n"))
    assert time.process_time() - begun < 5


# Text as systems write it


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_are_read_as_any_system_writes_them(tmp_path, encoding, end):
    files(tmp_path, "é.mp4", "b.mp4")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "list.txt").write_bytes((mark + end.join(("é.mp4 0", "", "b.mp4 1", ""))).encode(encoding))
    assert labels(load_dataset(tmp_path / "list.txt")) == [(0,), (1,)]
    (tmp_path / "only.txt").write_bytes((mark + end.join(("é.mp4", "b.mp4"))).encode(encoding))
    assert [found.path.name for found in find_videos(f"@{tmp_path / 'only.txt'}")] == ["é.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("a.mp4 0\n".encode("utf-16-le"), "it is UTF-16 without its mark; save it as UTF-8"),
        ("a.mp4 0\n".encode("utf-16")[:-1], "got damaged utf-16-le; save it as UTF-8"),
        (b"a.mp4 0\n\0", "it is not text; expected one entry per line"),
    ],
)
def test_text_that_is_none_is_named_as_what_it_is(tmp_path, data, what):
    (tmp_path / "list.txt").write_bytes(data)
    assert error(tmp_path / "list.txt") == f"not a list: list.txt: {what}"


@pytest.mark.skipif(os.name == "nt", reason="names there hold none of these")
@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_name_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path, odd):
    names = [f"a{odd}b.mp4", f"c.mp4{odd}"]
    files(tmp_path, *names)
    written(tmp_path / "list.txt", "".join(f"{name} {i}\n" for i, name in enumerate(names)))
    assert [sample.path.name for sample in load_dataset(tmp_path / "list.txt").train] == names
    written(tmp_path / "only.txt", "".join(f"{name}\n" for name in names))
    assert [found.path.name for found in find_videos(f"@{tmp_path / 'only.txt'}")] == names


@pytest.mark.skipif(os.name == "nt", reason="backslashes separate there")
def test_backslashes_of_windows_separate_where_nothing_is_called_so(tmp_path):
    files(tmp_path, "v/a/b.mp4", "v\\c.mp4")
    written(tmp_path / "list.txt", "v\\a\\b.mp4 0\nv\\c.mp4 1\nv\\gone.mp4 1\n")
    dataset = load_dataset(tmp_path / "list.txt")
    assert [sample.path for sample in dataset.train] == [tmp_path / "v/a/b.mp4", tmp_path / "v\\c.mp4"]
    assert dataset.train[0].key == Path("v/a/b") and dataset.missing == (tmp_path / "v\\gone.mp4",)
    written(tmp_path / "only.txt", "v\\a\\b.mp4\nv\\c.mp4\n")
    assert find_videos(f"@{tmp_path / 'only.txt'}") == [
        (tmp_path / "v/a/b.mp4", Path("v/a/b")),
        (tmp_path / "v\\c.mp4", Path("v\\c")),
    ]


@pytest.mark.skipif(os.name == "nt", reason="backslashes separate there")
def test_backslashes_of_windows_separate_in_annotations_too(tmp_path):
    files(tmp_path, "Archery/v_Archery_g01_c01.avi", "x/1.mp4")
    written(tmp_path / "classInd.txt", "1 Archery\n")
    written(tmp_path / "trainlist01.txt", "Archery\\v_Archery_g01_c01.avi 1\n")
    assert [sample.key for sample in load_dataset(tmp_path).train] == [Path("Archery/v_Archery_g01_c01")]
    rows = written(tmp_path / "m.csv", "label_name,video,start,end,split\nx,x\\1.mp4,0,5,train\n")
    assert [sample.key for sample in load_dataset(rows).train] == [Path("x/1")]


@pytest.mark.skipif(os.name == "nt", reason="backslashes separate there")
def test_backslashes_that_lead_nowhere_are_named_as_the_cause(tmp_path):
    text = error(written(tmp_path / "list.txt", "C:\\v\\a.mp4 0\n"))
    assert text == (
        r"no video on disk: list.txt: none of the 1 train videos is there, the first would be C:\v\a.mp4; a backslash is no "
        "separator here, write / and give the folder that the videos lie in, not ., with --root"
    )
    with pytest.raises(VideoError, match=r"No such file or directory; a backslash is no separator here, give it with /$"):
        Video("v\\a.mp4")


# What is no list


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "pipe.csv", "pipe.json"])
def test_a_pipe_or_a_device_in_place_of_a_list_is_one_line_at_once(tmp_path, name):
    for pipe in ("pipe", "pipe.csv", "pipe.json"):
        os.mkfifo(tmp_path / pipe)
    kind = "a device" if name.startswith("/") else "a pipe"
    for read in (load_dataset, lambda path: find_videos(f"@{path}")):
        text = f"^cannot read the list: .*{name}: got {kind}, expected a regular file; give the path of a text file$"
        with pytest.raises(DatasetError, match=text):
            read(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
@pytest.mark.parametrize("name", ["train.txt", "train.csv", "trainlist01.txt", "wave_test_split1.txt", "Charades_v1_train.csv"])
def test_a_pipe_in_a_folder_of_lists_is_one_line_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert error(tmp_path)


@pytest.mark.parametrize("name", ["list.txt", "k.csv", "charades.json"])
def test_a_list_of_gigabytes_is_not_read(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        file.write(b"id,actions\n" if name == "k.csv" else b"{")
        file.truncate(5 << 30)  # of holes
    assert error(tmp_path / name).startswith(f"too large: {name}: got more than ")


@pytest.mark.parametrize("format", ["list", "ucf101", "kinetics", "charades"])
def test_a_name_that_no_file_system_takes_is_missing(tmp_path, format):
    name = "n" * 5_000
    written(tmp_path / "classInd.txt", "1 x\n")
    text = {
        "list": f"{name}.mp4 0\n",
        "ucf101": f"x/{name}.avi 1\n",
        "kinetics": f"label_name,video,start,end,split\nx,{name}.mp4,0,5,train\n",
        "charades": f"id,actions\n{name},c000 0 1\n",
    }[format]
    path = written(tmp_path / ("trainlist01.txt" if format == "ucf101" else "l.txt"), text)
    assert "no video on disk: " in error(path, format=format)
    assert find_videos(f"@{written(tmp_path / 'only.txt', f'{name}.mp4')}")[0].path.name == f"{name}.mp4"


@pytest.mark.parametrize("label", ["1.5", "true", "NaN", "Infinity", "1e400", "[" * 50_000])
def test_what_is_no_action_of_charades_is_refused(tmp_path, label):
    for actions in (f"[[{label}, 0, 1]]", f"[[0, 0, {label}]]" if label != "1.5" else "3"):
        if "true" in actions and actions.endswith("true]]"):
            continue  # a second, to Python
        path = written(tmp_path / "c.json", '{"x": {"subset": "training", "actions": ' + actions + "}}")
        assert error(path).startswith("no Charades JSON: c.json: expected ")


# Mutations


def mutated(data, rng):
    """The bytes of a file after a few of the accidents that happen to them."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        accident = rng.randrange(8)
        if accident == 0:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif accident == 1:
            del data[at : at + rng.randint(1, 30)]
        elif accident == 2:
            data[at:at] = rng.choice(
                [b"\r", b"\0", b"\xff\xfe", b"\xe2\x80\xa8", b'"', b"\\", b",", b"-", b"{", b"1e999", b"NaN"]
            )
        elif accident == 3:
            data[at:at] = str(rng.choice([-1, 2**31, 10**30, 0.5])).encode()
        elif accident == 4:
            data[at:at] = data[: rng.randrange(len(data) + 1)]
        elif accident == 5:
            data = bytearray(data.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-8-sig", "latin-1"]), "replace"))
        elif accident == 6:
            data[at:at] = rng.choice([b" ", b"9", b"a", b"["]) * rng.choice([5, 5_000, 70_000])
        else:
            lines = data.split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
    return bytes(data)


ODD = (b"\r", b"\0", b"\xff\xfe", b"\xe2\x80\xa8", b'"', b"\\", b",", b"-", b"{", b"1e999", b"NaN")
CHARADES = {"a": {"subset": "training", "actions": [[0, 0.5, 1]]}, "b": {"subset": "testing", "actions": []}}
SOURCES = {
    "list.txt": "path label\n# mine\na.mp4 0\nb.mp4 3 7 1\n\nsome/dir 163 1\nc d.mp4,2\n",
    "trainlist01.txt": "x/v_x_g01_c01.avi 1\ny/v_y_g01_c01.avi 2\n",
    "x_test_split1.txt": "v_x_g01_c01.avi 1 \nother.avi 2 \n",
    "kinetics.csv": "label,youtube_id,time_start,time_end,split\nx,a,0,10,train\ny,b,1,11,validate\n",
    "charades.csv": 'id,actions\na,"c000 0.0 1.5;c001 1 2"\nb,\n',
    "charades.json": json.dumps(
        {"a": {"subset": "training", "actions": [[0, 0.5, 1]]}, "b": {"subset": "testing", "actions": []}}
    ),
    "names.txt": "1 x\n2 y\n",
    "names.csv": 'id,name\n0,"x, z"\n1,y\n',
    "names.json": '{"0": "x", "1": "y"}',
    "only.txt": "a.mp4\nsome/dir\n# no\nx\\v_x_g01_c01.avi\n",
}


def test_mutated_lists_are_read_or_refused_in_one_line(tmp_path):
    """Seeded: 40 mutations of each kind of list, annotation and file of names; anything but these two outcomes fails."""
    rng = random.Random(14)
    files(tmp_path / "v", "a.mp4", "b.mp4", "c d.mp4", "x/v_x_g01_c01.avi", "y/v_y_g01_c01.avi")
    folders(tmp_path / "v", "some/dir")
    counts = Counter()
    begun = time.process_time()
    for name, text in SOURCES.items():
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        written(folder / "classInd.txt", "1 x\n2 y\n")
        for _ in range(40):
            (folder / name).write_bytes(mutated(text.encode(), rng))
            try:
                if name.startswith("names"):
                    found = read_class_names(folder / name)
                elif name == "only.txt":
                    found = find_videos(f"@{folder / name}")
                else:
                    dataset = load_dataset(folder / name, root=tmp_path / "v")
                    found = dataset.train + dataset.eval
                counts["read" if found else "nothing"] += 1
            except DatasetError as problem:
                lines = str(problem).encode().count(b"\n")
                counts["refused in one line" if not lines and len(str(problem)) < 6_000 else str(problem)] += 1
    assert time.process_time() - begun < 30
    assert counts == {"read": 107, "refused in one line": 293}
