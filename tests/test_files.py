import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from i3dcli import DatasetError, I3DError
from i3dcli.files import LOCK, atomic_write, check_is_file, check_writable, held, locked, locked_by_file
from i3dcli.text import shown


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


def test_a_folder_is_held_by_one_and_nothing_is_left_in_it(tmp_path):
    with held(tmp_path):
        for _ in range(2):
            with pytest.raises(I3DError, match=rf"^in use: {tmp_path}: another process is writing to it; wait for its end"):
                held(tmp_path).__enter__()
        assert os.listdir(tmp_path) == [LOCK]
    with pytest.raises(KeyboardInterrupt), held(tmp_path):
        raise KeyboardInterrupt
    with held(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine"), lambda path: path.symlink_to("other")])
def test_what_others_keep_where_a_lock_would_be_is_left_alone(tmp_path, make):
    (tmp_path / "other").write_text("mine")
    make(tmp_path / LOCK)
    with pytest.raises(I3DError, match=rf"^cannot write: {tmp_path / LOCK}: a file is there that is no lock; choose another"):
        held(tmp_path).__enter__()
    assert (tmp_path / "other").read_text() == "mine" and os.path.lexists(tmp_path / LOCK)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(I3DError, match=r"^cannot write: .*: Permission denied; choose another --out$"):
        held(tmp_path).__enter__()


HOLD = """
import os, sys, time
from pathlib import Path
from i3dcli.files import held
with held(Path(sys.argv[1])):
    child = os.fork() if "fork" in sys.argv else 1
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_killed_process_holds_nothing_even_where_processes_that_it_forked_live_on(tmp_path, how):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, how], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        with pytest.raises(I3DError, match=r"^in use: "):
            held(tmp_path).__enter__()
        process.kill()
        process.wait()
        assert os.listdir(tmp_path) == [LOCK]  # taken again
        with held(tmp_path):
            pass
        assert os.listdir(tmp_path) == []
        if how == "fork":
            os.kill(child, signal.SIGKILL)


COUNT = """
import sys, time
from pathlib import Path
from i3dcli.files import locked_by_file
folder = Path(sys.argv[1])
for _ in range(40):
    with locked_by_file(folder / "lock", wait=True) as ours:
        number = int((folder / "number").read_text())
        time.sleep(0.001)
        (folder / "number").write_text(str(number + ours))
"""


def test_processes_that_wait_for_a_lock_whose_file_comes_and_goes_take_turns(tmp_path):
    (tmp_path / "number").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "number").read_text() == "160" and os.listdir(tmp_path) == ["number"]


def test_a_lock_is_for_threads_too(tmp_path):
    def wait():
        with locked_by_file(tmp_path / "lock", wait=True) as ours:
            told.append(ours)

    told, waiting = [], threading.Thread(target=wait)
    with locked_by_file(tmp_path / "lock") as first, locked_by_file(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not told
    waiting.join()
    assert told == [True] and os.listdir(tmp_path) == []


def test_names_that_are_not_unicode_can_be_shown():
    assert shown(os.fsdecode(b"caf\xe9\n.mp4")) == "caf�\\n.mp4"


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
