import os
from pathlib import Path

import pytest

from i3dcli import DatasetError
from i3dcli.class_names import read_class_names
from i3dcli.data.dataset import load_dataset
from i3dcli.file_names import frame_names
from i3dcli.video.find import find_videos, picture_paths


def test_a_linked_folder_is_searched_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "clip.MP4").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert find_videos(str(tmp_path)) == [(tmp_path / "a" / "clip.MP4", Path("a/clip"))]


def test_a_file_whose_name_starts_with_at_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@home.mp4").touch()
    assert find_videos("@home.mp4") == [(Path("@home.mp4"), Path("@home"))]


@pytest.mark.parametrize(("content", "text"), [(b"", "it is empty"), (b"a\0b", "it is not text")])
def test_what_is_no_list_is_refused(tmp_path, content, text):
    (tmp_path / "list.txt").write_bytes(content)
    for read in (read_class_names, lambda path: find_videos(f"@{path}")):
        with pytest.raises(DatasetError, match=text):
            read(tmp_path / "list.txt")


def test_the_mark_that_windows_puts_before_a_text_is_no_part_of_it(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfjump\r\nrun\r\n")
    assert read_class_names(tmp_path / "classes.txt") == ("jump", "run")


def test_a_name_that_two_classes_have_is_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("jump\nrun\njump\n")
    with pytest.raises(DatasetError, match=r"^duplicate class name: .*classes\.txt: got 'jump' twice; give each class its own"):
        read_class_names(tmp_path / "classes.txt")


def test_a_list_holds_no_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("self.txt").write_text("@self.txt\n")
    assert find_videos("@self.txt") == [(Path("@self.txt"), Path("@self.txt"))]


def test_only_the_suffix_of_a_video_is_left_out_of_its_key(tmp_path):
    for folder in ("take.1", "take.2"):
        (tmp_path / folder).mkdir()
        for name in ("1.jpg", "2.jpg"):
            (tmp_path / folder / name).touch()
    (tmp_path / "list.txt").write_text("take.1\ntake.2\na.b.mp4\n")
    keys = [Path("take.1"), Path("take.2"), Path("a.b")]
    assert [found.key for found in find_videos(f"@{tmp_path / 'list.txt'}")] == keys
    assert [find_videos(str(tmp_path / name))[0].key for name in ("take.1", "take.2", "a.b.mp4")] == keys
    assert [found.key for found in find_videos(str(tmp_path))] == keys[:2]


def test_a_list_in_a_folder_of_pictures_names_it_by_a_dot(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(".\n")
    assert find_videos(f"@{tmp_path / 'list.txt'}") == [(tmp_path, Path(tmp_path.name))]


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found_in(folder):
    return [found.path.relative_to(folder).as_posix() for found in find_videos(str(folder))]


def test_numbered_pictures_beside_a_video_hide_nothing(tmp_path):
    touch(tmp_path, "shot_1.png", "shot_2.png", "vid.mp4", "more/shot_1.png", "more/shot_2.png", "more/a.avi", "more/b/c.mkv")
    assert found_in(tmp_path) == ["more/a.avi", "more/b/c.mkv", "vid.mp4"]


@pytest.mark.parametrize("below", [["deep/in/a.mp4"], ["frames/1.jpg", "frames/2.jpg"]])
def test_what_lies_below_a_named_folder_of_pictures_wins(tmp_path, below):
    touch(tmp_path, "1.png", "2.png")
    assert found_in(tmp_path) == ["."]
    touch(tmp_path, *below)
    assert found_in(tmp_path) == [below[0] if len(below) == 1 else "frames"]


def test_folders_below_a_folder_of_pictures_are_searched(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "a/b/c.mp4")
    assert found_in(tmp_path) == ["a", "a/b/c.mp4"]


def test_an_empty_name_is_refused():
    with pytest.raises(DatasetError, match=r"^no video: '': the name is empty; give the path"):
        find_videos("")


@pytest.mark.parametrize(
    ("name", "what"), [("http://host/a.mp4", "an address"), ("S3://a/b", "an address"), ("-", "standard input")]
)
def test_what_is_no_path_is_to_be_downloaded_first(tmp_path, monkeypatch, name, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DatasetError, match=f"^no video: {name}: got {what}, expected the path .*; download it to a file first$"
    ):
        find_videos(name)
    if name == "-":
        Path(name).touch()
        assert find_videos(name) == [(Path(name), Path(name))]


def test_labels_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "labels.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"^not a list of classes: .*labels.txt: got bytes that are not UTF-8; save it"):
        read_class_names(tmp_path / "labels.txt")


LEFT = (
    *("._clip.mp4", "__MACOSX/._clip.mp4", "__MACOSX/clip.mp4", ".Trashes/old.mp4"),
    *("@eaDir/clip.mp4/SYNOVIDEO_1.jpg", "@eaDir/clip.mp4/SYNOVIDEO_2.jpg", "#recycle/old.mp4"),
    *("$RECYCLE.BIN/old.mp4", "System Volume Information/old.mp4", "lost+found/old.mp4"),
)


def test_what_systems_leave_behind_is_no_video(tmp_path):
    touch(tmp_path, "clip.mp4", *LEFT, *(f"deep/{name}" for name in LEFT))
    assert found_in(tmp_path) == ["clip.mp4"]
    assert find_videos(str(tmp_path / "._clip.mp4"))[0].path == tmp_path / "._clip.mp4"  # whoever names it means it


def test_what_macos_leaves_behind_is_no_picture_of_a_video(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "a/._1.jpg", "a/._2.jpg", "a/._thumb.mp4", "b/._1.jpg", "b/._2.jpg")
    assert found_in(tmp_path) == ["a"] and [path.name for path in picture_paths(tmp_path / "a")] == ["1.jpg", "2.jpg"]


def test_a_name_of_digits_that_are_no_numbers_is_sorted_too():
    assert frame_names(["a²1.jpg", "²2.jpg", "x10.jpg", "x9.jpg", "²1.jpg", "²no.jpg"]) == [
        *("a²1.jpg", "x9.jpg", "x10.jpg", "²1.jpg", "²2.jpg")
    ]


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "a/clip.mp4", "closed/clip.mp4")
    scan = os.scandir

    def scan_or_refuse(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_or_refuse)
    text = f"^cannot read: {tmp_path}/closed: Permission denied; check its permissions, or name other folders$"
    for read in (find_videos, load_dataset):
        with pytest.raises(DatasetError, match=text):
            read(str(tmp_path))


def test_a_list_may_name_a_video_that_starts_as_a_comment_does(tmp_path):
    touch(tmp_path, "#122_A_0.avi")
    (tmp_path / "list.txt").write_text("# mine\n#122_A_0.avi\n")
    assert [found.path.name for found in find_videos(f"@{tmp_path / 'list.txt'}")] == ["#122_A_0.avi"]
    (tmp_path / "list.txt").write_text("# mine\n")
    with pytest.raises(DatasetError, match=r"^empty list: .*list\.txt: got comments only, expected one entry per line"):
        find_videos(f"@{tmp_path / 'list.txt'}")
