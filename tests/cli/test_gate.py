"""Errors as lines, signals as ends, and results that cannot be printed."""

import contextlib
import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from commands import one_line

from i3dcli import stopping
from i3dcli.__main__ import BUG, run
from i3dcli.checkpoints import zoo
from i3dcli.cli.gate import say
from i3dcli.cli.main import main
from i3dcli.scores import Scores, write_scores
from i3dcli.stopping import SIGNALS, Interrupted, ended_by_signals

posix = pytest.mark.skipif(os.name == "nt", reason="there are no such files and signals")


def shell(redirection):
    command = f"{sys.executable} -m i3dcli predict --list-models {redirection}"
    return subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
def test_results_on_a_full_disk_are_one_line():
    result = shell("> /dev/full")
    text = "Error: cannot print: standard output: No space left on device; make room, or send it elsewhere\n"
    assert (result.returncode, result.stderr) == (1, text)


@posix
def test_results_for_nobody_are_one_line():
    result = shell(">&-")
    assert (result.returncode, result.stderr) == (
        1,
        "Error: cannot print: standard output: it is closed; send it to a file\n",
    )


@posix
def test_a_reader_that_has_seen_enough_is_no_error():
    result = shell("| head -n 1 > /dev/null")
    assert (result.returncode, result.stderr) == (0, "")


@posix
def test_closed_standard_streams_are_no_error_and_no_file_takes_their_place(tmp_path):
    script = (
        "import sys; from i3dcli.cli.gate import prepare_streams, say; prepare_streams(); say('note', err=True); "
        "say(str(open(sys.argv[1], 'w').fileno()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    result = subprocess.run(f"{shlex.join(command)} <&- 2>&-", shell=True, stdout=subprocess.PIPE, text=True)
    assert (result.returncode, int(result.stdout) > 2) == (0, True)


def test_a_result_is_printed_though_a_note_cannot_be(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    say("a note", err=True)
    say("a result")
    assert capsys.readouterr().out == "a result\n"


def test_a_note_is_one_line_whatever_is_in_it(capsys):
    say("Note: a\nError: b\x1b[2J\u202e", err=True)
    assert capsys.readouterr().err == "Note: a\\nError: b\\x1b[2J\\u202e\n"


@pytest.mark.parametrize(
    ("charset", "table"),
    [("utf-8", "  0.095–0.905  "), ("cp1252", "  0.095–0.905  "), ("cp949", "  0.095-0.905  ")],
)
def test_a_table_is_printed_on_every_console(tmp_path, charset, table):
    logits = {"rgb": np.eye(2, dtype=np.float32)}
    write_scores(tmp_path / "scores.npz", Scores(("a", "b"), ("x", "y"), logits, np.array([0, 0])))
    result = CliRunner(charset=charset).invoke(main, ["eval", "--scores", str(tmp_path / "scores.npz")])
    assert (result.exit_code, result.exception) == (0, None) and table in result.stdout


@pytest.mark.parametrize("option", ["--json", "--csv", "--top-k=1"])
def test_names_that_a_console_lacks_are_printed_as_numbers(video, quick, tmp_path, option):
    names = tmp_path / "labels.txt"
    names.write_text("".join(f"달é–😀{i}\n" for i in range(10)), "utf-8")
    command = ["predict", str(video), "--rgb", str(quick["rgb"]), "--classes", str(names), "--device", "cpu", option]
    result = CliRunner(charset="koi8-r").invoke(main, command)
    assert (result.exit_code, result.exception) == (0, None)
    dash = "-" if option == "--top-k=1" else r"\u2013"
    assert rf"\ub2ec\u00e9{dash}\ud83d\ude00" in result.stdout
    if option == "--json":
        assert json.loads(result.stdout)["top"][0]["label"].startswith("달é–😀")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EMFILE, "Too many open files", "a\nb.mp4"), r"cannot go on: a\nb.mp4: Too many open files; mend this"),
        (ImportError("libGL.so.1: cannot open shared object file"), "a library cannot be loaded: libGL.so.1: cannot open"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory: Unable to allocate 9 GiB; look at smaller pictures"),
        (RuntimeError("can't start new thread"), "out of memory: can't start new thread; look at"),
    ],
)
def test_what_the_machine_lacks_is_one_line(monkeypatch, error, line):
    one_line(listing(monkeypatch, error), 1, line)


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    assert isinstance(listing(monkeypatch, KeyError("bug")).exception, KeyError)


def test_a_current_folder_that_is_gone_is_one_line(monkeypatch):
    def gone():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", gone)
    one_line(CliRunner().invoke(main, ["predict", "x.mp4"]), 1, "no current folder")


@pytest.mark.parametrize(
    ("where", "arguments", "kept"),
    [
        ("prediction.load.load_model", ["predict", "v"], "nothing is predicted yet"),
        ("prediction.two_stream.TwoStream.views", ["predict", "v"], "0 videos predicted and printed; nothing else is kept"),
        ("data.views.Views.__iter__", ["predict", "v", "--timeline"], "0 windows predicted and printed; nothing else is kept"),
        ("flow.extract.extract_videos", ["extract-flow", "v", "--out", "o"], "0 extracted; run it again to go on"),
        ("checkpoints.inflate.inflate_checkpoint", ["inflate", "v", "--out", "o"], "nothing is kept"),
        ("training.train.load_dataset", ["train", "v", "--out", "o"], "no checkpoint was written yet"),
        (
            "evaluation.evaluate.load_dataset",
            ["eval", "v", "--model", "camera-motion"],
            "nothing is kept; with --out it would be",
        ),
        ("checkpoints.zoo.models_table", ["predict", "--list-models"], "nothing is kept"),
    ],
)
def test_ctrl_c_is_130_and_a_line_of_what_is_kept_in_every_command(where, arguments, kept, video, quick, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    os.symlink(video, "v")
    monkeypatch.setattr(f"i3dcli.{where}", interrupted)
    weights = ["--rgb", str(quick["rgb"]), "--device", "cpu"] if arguments[:2] == ["predict", "v"] else []
    result = CliRunner().invoke(main, [*arguments, *weights])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", f"Interrupted: {kept}\n")


def test_of_the_processes_of_torchrun_the_first_one_tells(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = listing(monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "")


def test_a_fault_of_ours_ends_with_a_line_that_says_so(monkeypatch, capsys):
    monkeypatch.setattr("i3dcli.cli.main.main", lambda **how: {}["bug"])
    with pytest.raises(SystemExit) as ended:
        run()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and lines[-2:] == ["KeyError: 'bug'", BUG.rstrip()]


@posix
def test_a_process_that_is_interrupted_cleans_up_and_waits_for_no_thread(monkeypatch):
    def half_way():
        try:
            yield
        finally:
            done.append("cleaned")

    def interrupted(**how):
        frames = half_way()
        next(frames)
        raise Interrupted(signal.SIGTERM)

    done = []
    monkeypatch.setattr("i3dcli.cli.main.main", interrupted)
    monkeypatch.setattr(os, "_exit", done.append)
    before = signal.getsignal(signal.SIGINT)
    try:
        run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["cleaned", 143]


def listing(monkeypatch, error):
    """The result of a command in which this is raised."""

    def failing():
        raise error

    monkeypatch.setattr(zoo, "models_table", failing)
    return CliRunner().invoke(main, ["predict", "--list-models"])


@pytest.fixture
def usual_signals():
    """The signals as a shell leaves them to a command; these tests may run where some are ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@posix
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_command_by_way_of_its_cleaning_up(number):
    cleaned = []
    with pytest.raises(SystemExit) as ended, ended_by_signals():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(True)
    assert ended.value.code == 128 + number and cleaned == [True]
    assert signal.getsignal(number) is signal.SIG_DFL


@posix
@pytest.mark.usefixtures("usual_signals")
def test_an_interruption_that_a_callback_of_c_swallows_comes_again(monkeypatch):
    monkeypatch.setattr(stopping, "LATER", 0.01)
    with pytest.raises(Interrupted), ended_by_signals():
        with contextlib.suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


@posix
@pytest.mark.usefixtures("usual_signals")
def test_an_interruption_waits_until_a_library_is_loaded(monkeypatch):
    monkeypatch.setattr(stopping, "SOON", 0.01)
    loaded = []
    code = compile("os.kill(os.getpid(), signal.SIGINT); time.sleep(0.05); loaded.append(1)", "<frozen importlib._x>", "exec")
    with pytest.raises(Interrupted), ended_by_signals():
        exec(code, {"os": os, "signal": signal, "time": time, "loaded": loaded})
        time.sleep(10)
    assert loaded


@posix
@pytest.mark.usefixtures("usual_signals")
def test_cleaning_up_is_not_interrupted_by_the_same_interruption(monkeypatch):
    monkeypatch.setattr(stopping, "LATER", 0.01)
    cleaned = []
    with pytest.raises(Interrupted), ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            time.sleep(0.05)
            cleaned.append(True)
    assert cleaned


@posix
def test_a_second_ctrl_c_ends_at_once():
    script = """
import os, signal, time
from i3dcli.stopping import Interrupted, ended_by_signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore for what they start in the background
with ended_by_signals():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGINT


@posix
@pytest.mark.usefixtures("usual_signals")
def test_under_torchrun_a_second_signal_leaves_cleaning_up_alone(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    cleaned = []
    with pytest.raises(Interrupted), ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)
    assert cleaned


@posix
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_line_that_nobody_could_read_is_shown_by_its_ends():
    name = "x" * 5000
    result = CliRunner().invoke(main, ["predict", name, "--rgb", "none.pt", "--model", "m"])
    assert result.exit_code == 2 and len(result.stderr) < 300
    result = CliRunner().invoke(main, ["predict", "a.mp4", "--rgb", name])
    start, end = result.stderr.split(" … ")
    assert (
        result.exit_code == 1 and start.startswith("Error: cannot read weights: xxx") and end.endswith("checkpoint's .index\n")
    )
    assert len(result.stderr) < 2100
