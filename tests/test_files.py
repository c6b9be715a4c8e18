import os
import socket
import threading
from pathlib import Path

import pytest

from i3dcli import DatasetError, I3DError
from i3dcli.class_names import read_class_names
from i3dcli.datasets import load_dataset
from i3dcli.errors import shown
from i3dcli.file_names import frame_names
from i3dcli.files import atomic_write, check_is_file, check_writable, find_videos, locked, picture_paths


def test_a_file_appears_whole(tmp_path):
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(I3DError, match=r"cannot write: .*absent/file: No such file"),
        atomic_write(tmp_path / "absent" / "file") as path,
    ):
        path.write_text("x")
    with pytest.raises(I3DError, match="create it first"):
        check_writable(tmp_path / "absent" / "file")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files there")
def test_what_could_be_read_for_ever_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")  # a whole path may be too long for an address
    for name in ("file", "link"):
        check_is_file(tmp_path / name, DatasetError, what="the list", advice="give a list")
    cases = {tmp_path: "a folder", tmp_path / "pipe": "a pipe", tmp_path / "socket": "a socket", "/dev/zero": "a device"}
    for path, kind in cases.items():
        with pytest.raises(DatasetError) as caught:
            check_is_file(path, DatasetError, what="the list", advice="give a list")
        assert str(caught.value) == f"cannot read the list: {path}: got {kind}, expected a regular file; give a list"
    for name, reason in {"absent": "No such file or directory", "a\0b": "embedded null byte"}.items():
        with pytest.raises(DatasetError, match=rf"^cannot read the list: .*: {reason}; give a list$"):
            check_is_file(f"{tmp_path}/{name}", DatasetError, what="the list", advice="give a list")


@pytest.mark.skipif(os.name == "nt", reason="links and permissions are others there")
def test_a_link_stays_one_and_a_replaced_file_leaves_its_permissions(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(I3DError, match=r"^cannot write: .*/pipe: it is no regular file; give another name$"):
            write(tmp_path / "pipe")


def test_what_is_read_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    check_writable("other.pt", others=["weights.pt"])
    with pytest.raises(I3DError, match=r"^cannot write: weights.pt: it is what is read or written besides; give another name$"):
        check_writable("weights.pt", others=["a.mp4", tmp_path / "weights.pt"])


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_a_lock_is_held_by_one_and_is_lost_with_what_it_is_on(tmp_path, make):
    path = tmp_path / "it"
    make(path)
    with locked(path) as first, locked(path) as second:
        assert (first, second) == (True, False)
    with locked(path) as again:
        assert again
    with locked(tmp_path / "absent") as held:
        assert not held


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_who_waited_for_a_lock_on_what_was_removed_meanwhile_is_told(tmp_path):
    (tmp_path / "it").touch()

    def wait():
        with locked(tmp_path / "it", wait=True) as held:
            told.append(held)

    told, waiting = [], threading.Thread(target=wait)
    with locked(tmp_path / "it"):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        (tmp_path / "it").unlink()
        (tmp_path / "it").touch()
    waiting.join()
    assert told == [False]


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


def test_names_that_are_not_unicode_can_be_shown():
    assert shown(os.fsdecode(b"caf\xe9\n.mp4")) == "caf�\\n.mp4"


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


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    for name in (".file.i3d.tmp", ".file.i3d1.tmp"):
        (tmp_path / name).write_text("half")
    strangers = {tmp_path / name for name in (".file.tmp", ".file.123.tmp", ".other.i3d.tmp", "file.tmp")}
    for path in strangers:
        path.write_text("mine")
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert {*tmp_path.iterdir()} == {tmp_path / "file", *strangers}
    assert (tmp_path / "file").read_text() == "new" and all(path.read_text() == "mine" for path in strangers)


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_two_that_write_one_file_at_a_time_do_not_disturb_each_other(tmp_path):
    with atomic_write(tmp_path / "file") as first:
        first.write_text("first")
        with atomic_write(tmp_path / "file") as second:
            second.write_text("second")
        assert first != second and (tmp_path / "file").read_text() == "second"
        with atomic_write(tmp_path / "file") as third:
            third.write_text("third")
    assert (tmp_path / "file").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_the_temporary_file_of_another_process_that_begins_meanwhile_is_left_alone(tmp_path, monkeypatch):
    def replaced(source, target, replace=os.replace):
        replace(source, target)
        Path(source).write_text("another's")

    monkeypatch.setattr(os, "replace", replaced)
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("ours")
    assert temporary.read_text() == "another's" and (tmp_path / "file").read_text() == "ours"


def test_a_file_that_came_meanwhile_stays_and_what_was_written_is_kept_beside_it(tmp_path):
    with atomic_write(tmp_path / "new.npz", overwrite=False) as temporary:
        temporary.write_text("ours")
    (tmp_path / "file-2.npz").write_text("also theirs")
    with (
        pytest.raises(
            I3DError, match=r"^a file came there meanwhile: .*/file.npz: what was to be written is in .*/file-3.npz$"
        ),
        atomic_write(tmp_path / "file.npz", overwrite=False) as temporary,
    ):
        temporary.write_text("ours")
        (tmp_path / "file.npz").write_text("theirs")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"new.npz": "ours", "file.npz": "theirs", "file-2.npz": "also theirs", "file-3.npz": "ours"}


def test_a_long_name_has_a_temporary_file_that_can_be_made(tmp_path):
    for name in ("x" * 255, "é" * 127):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name


# What systems leave behind


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
