"""Names of classes in text, JSON and CSV; what they are in the wrong order or without is another test's."""

import os

import pytest

from i3dcli import DatasetError
from i3dcli.class_names import read_class_names


def read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return read_class_names(tmp_path / name)


def refused(tmp_path, name, text):
    """The error, without where the file lies."""
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, name, text)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    "text",
    [
        '["jump", "run, fast"]',
        '{"0": "jump", "1": "run, fast"}',
        '{"2": "run, fast", "1": "jump"}',
        '{"run, fast": 1, "jump": 0}',
        '{"run, fast": "2", "jump": "1"}',
        '{"\\"run, fast\\"": 1, "jump": 0}',  # pytorchvideo's kinetics_classnames.json
        '\ufeff\n ["jump", "run, fast"]\n',
    ],
)
@pytest.mark.parametrize("name", ["classes.json", "classes.txt"])
def test_json_holds_names_or_names_by_id_or_ids_by_name(tmp_path, name, text):
    assert read(tmp_path, name, text) == ("jump", "run, fast")


@pytest.mark.parametrize(
    "text",
    [
        'id,name\r\n0,jump\r\n1,"run, fast"\r\n',
        'name,id\njump,0\n"run, fast",1\n',
        '0,jump\n1,"run, fast"\n',
        '"run, fast",2\njump,1\n',
        'jump\n"run, fast"\n',
        "id\tname\n1\trun, fast\n0\tjump\n",
        "0,jump\n1,run, fast\n",  # nobody's CSV, but clear
    ],
)
def test_a_csv_has_ids_and_names_in_any_order_with_or_without_a_header(tmp_path, text):
    assert read(tmp_path, "classes.csv", text) == ("jump", "run, fast")


@pytest.mark.parametrize(
    "text", ["id,name\n0,jump\n1,run\n", "name,id\njump,1\nrun,2\n", "0\tjump\n1\trun\n", "jump\t0\nrun\t1\n"]
)
def test_a_text_may_hold_what_a_csv_does(tmp_path, text):
    assert read(tmp_path, "classes.txt", text) == ("jump", "run")


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("n.txt", "[intro] talk\njump\n", ("[intro] talk", "jump")),
        ("n.txt", "{x}\n", ("{x}",)),
        ("n.csv", "jump, high\nrun, fast\n", ("jump, high", "run, fast")),
        ("n.csv", "id,name\n0,100\n1,200\n", ("100", "200")),
        ("n.csv", "name,id\n100,0\n200,1\n", ("100", "200")),
        ("n.txt", "100 metres\n200 metres\n", ("100 metres", "200 metres")),
        ("n.txt", "drink\x0cwater\nrun\u2028fast\njump\x85\x1chigh\n", ("drink\x0cwater", "run\u2028fast", "jump\x85\x1chigh")),
    ],
)
def test_names_may_look_like_something_else(tmp_path, name, text, names):
    assert read(tmp_path, name, text) == names


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        ("n.json", '{"0": "a", "2": "b"}', "no id 1, but 2"),
        ("n.json", '{"0": "a", "0": "b"}', "id 0 twice"),
        ("n.json", '{"a": 0, "b": 0}', "id 0 twice"),
        ("n.json", '{"a": 5, "b": 6}', "5 as the first id"),
        ("n.json", '{"a": -1, "b": 0}', "id -1 of 'a'"),
        ("n.json", '{"a": 0.0, "b": 1.0}', "id 0.0 of 'a'"),
        ("n.csv", "id,name\n0.0,a\n1.0,b\n", "id 0.0 of 'a'"),
        ("n.csv", "id,name\n0,a\nx,b\n", "id x of 'b'"),
        ("n.csv", "0,a\n3,b\n", "no id 1, but 3"),
        ("n.txt", "0 a\n1 b\n1 c\n", "id 1 twice"),
        ("n.txt", "a,1\nb,3\n", "no id 2, but 3"),
    ],
)
def test_ids_with_a_gap_or_twice_or_that_are_no_integers_are_refused(tmp_path, name, text, got):
    assert refused(tmp_path, name, text) == (
        f"not a list of classes: {name}: got {got}, expected each number from 0, or from 1, once; "
        "mend it, or give a JSON list of names"
    )


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        ("n.json", "{", "what is no JSON"),
        ("n.json", "[" * 100_000, "what is no JSON"),
        ("n.json", "3", "JSON that is no list and no object"),
        ("n.json", "[]", "JSON that is a list of nothing"),
        ("n.json", "[1, 2]", "JSON that is a list of something else"),
        ("n.json", '{"a": true, "b": false}', "JSON that is an object of something else"),
        ("n.json", '{"a": NaN}', "JSON that is an object of something else"),
        ("n.json", '["a", ""]', "'' for class 1"),
        ("n.json", '["a\\nb"]', r"'a\\nb' for class 0"),
        ("n.json", '["\\ud800"]', "bytes that are not UTF-8"),
        ("n.csv", "index,mid,name\n0,/m/1,a\n1,/m/2,b\n", "3 columns"),
        ("n.csv", "0," + "a" * 200_000 + "\n", "a CSV that cannot be read (field larger than field limit (131072))"),
    ],
)
def test_what_holds_no_names_is_said(tmp_path, name, text, got):
    assert refused(tmp_path, name, text).startswith(f"not a list of classes: {name}: got {got}")


@pytest.mark.parametrize("name", ["n.json", "n.csv", "n.txt"])
def test_names_of_windows_are_read(tmp_path, name):
    text = {"n.json": '["é", "run"]', "n.csv": "0,é\r\n1,run\r\n", "n.txt": "é\r\nrun\r\n"}[name]
    (tmp_path / name).write_bytes(text.encode("utf-16"))
    assert read_class_names(tmp_path / name) == ("é", "run")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    kind = "a pipe" if name == "pipe" else "a device"
    with pytest.raises(
        DatasetError, match=f"^cannot read the list: .*: got {kind}, expected a regular file; give the path of a text file$"
    ):
        read_class_names(tmp_path / name)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "n.txt", "wb") as file:
        file.truncate(5 << 30)  # of holes
    with pytest.raises(DatasetError, match=r"^too large: .*n\.txt: got more than 16 MB, expected a text file; give another$"):
        read_class_names(tmp_path / "n.txt")


@pytest.mark.parametrize(
    "text", ["1 " + " " * 10**6 + "x", "1" * 10**6, "a," * 500_000, "9" * 5_000 + " a", "a,1" + "0" * 5_000]
)
def test_lines_that_are_as_long_as_books_take_no_time(tmp_path, text):
    (tmp_path / "n.txt").write_text(text + "\n")
    if len(text) > 65_536:
        assert "line too long: n.txt: line 1: got " in refused(tmp_path, "n.txt", text)
    else:
        assert read(tmp_path, "n.txt", text) == (text,)
