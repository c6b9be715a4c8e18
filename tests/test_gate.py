"""Errors as lines, signals as ends, and results that cannot be printed."""

import os
import signal
import subprocess
import sys

import pytest

from i3dcli.gate import ended_by_signals

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
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_by_way_of_its_cleaning_up(name):
    number, cleaned = getattr(signal, name), []
    before = signal.signal(number, signal.SIG_DFL)  # these tests may run where it is ignored
    try:
        with pytest.raises(SystemExit) as ended, ended_by_signals():
            try:
                os.kill(os.getpid(), number)
            finally:
                cleaned.append(True)
        assert ended.value.code == 128 + number and cleaned
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


@posix
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
