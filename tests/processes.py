"""`i3d` in processes of its own that start at once: they are forked from a server, which has loaded all that they may need.

Such a process has a group of its own, the usual signals, and the arguments, folder and environment that it is given, and it
ends as any Python does. That `python -m i3dcli` starts so too is what the tests of `cli/` and those with torchrun see.
"""

import atexit
import contextlib
import faulthandler
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed
from compiled import Finder

PATIENCE = 300  # seconds until a test fails that waits in vain; other work may take the cores meanwhile
PAUSE = 0.005  # seconds between two looks
WIDTH = 16  # bytes of a number that is told
DEATHS = (-signal.SIGKILL, -signal.SIGXFSZ)  # the exit codes of those that are `dying`

TRACES = "import faulthandler, signal; faulthandler.register(signal.SIGUSR1)"  # where each thread is, on stderr

alive = []  # processes that a test has started


class Process:
    """A process of ours, with what `subprocess.Popen` has; what it writes goes to files, so that it waits for no reader."""

    def __init__(self, module, arguments, *, before="", environment=None):
        self.args, self.returncode = [module, *map(str, arguments)], None
        self._files = contextlib.ExitStack()
        self._out = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - `close` closes it
        self._err = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._told, theirs = socket.socketpair()
        variables = {**os.environ, **(environment or {})}
        request = {"arguments": self.args, "before": before, "folder": os.getcwd(), "environment": variables}
        data = json.dumps(request).encode()
        ends = [theirs.fileno(), self._out.fileno(), self._err.fileno()]
        socket.send_fds(server(), [len(data).to_bytes(8, "big")], ends)
        server().sendall(data)
        theirs.close()
        self.pid = int(self._told.recv(WIDTH))
        alive.append(self)

    @property
    def stdout(self):
        """What it has written so far."""
        return content(self._out)

    @property
    def stderr(self):
        return content(self._err)

    def poll(self):
        """Its exit code, or None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout=PATIENCE):
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout, self.stdout, self.stderr)
            self.returncode = int(self._told.recv(WIDTH))
            self._told.close()
        return self.returncode

    def communicate(self, timeout=PATIENCE):
        """What it wrote to stdout and stderr, once it has ended."""
        self.wait(timeout)
        return self.stdout, self.stderr

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def close(self):
        """End it and its group, whatever they are at; torchrun, whose processes have groups of their own, may end them."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.terminate()
            self.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        self._files.close()


class FreshProcess(subprocess.Popen):
    """`i3d` in a new Python, with what `Process` has."""

    def __init__(self, arguments, *, environment):
        code = f"{TRACES}; from i3dcli.__main__ import run; run()"
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes them
        command = [sys.executable, "-c", code, *map(str, arguments)]
        variables = {**os.environ, **environment}
        super().__init__(command, stdout=self._out, stderr=self._err, env=variables, start_new_session=True)
        alive.append(self)

    def communicate(self, timeout=PATIENCE):
        self.wait(timeout)
        return content(self._out), content(self._err)

    def close(self):
        self.kill()
        self.wait()
        self._out.close()
        self._err.close()


def content(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def start(*arguments, **options):
    """Start `i3d` with these arguments; the code `before` runs in the process before it."""
    return Process("i3dcli", arguments, **options)


def start_ranks(*arguments, count=2, before="", fresh=False):
    """Start `i3d` in as many processes as torchrun would, of which each knows its rank and where the others meet.

    A `fresh` one is a new Python. Of forked ranks that train to the end, one did not end, in two of fifteen runs of all tests.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
    common |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
    ranks = []
    for rank in range(count):
        environment = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        if fresh:
            ranks.append(FreshProcess(arguments, environment=environment))
        else:
            ranks.append(start(*arguments, before=before, environment=environment))
        ranks[-1].store = store  # which is there as long as one of them
    return ranks


def dying(folder, moment, *, after=None):
    """Code that lets a process die as it changes a file below a folder for the `moment`-th time: no clock decides when.

    It dies before the change; or, of a file that it opens to write, once a little of it is written. Changes are counted from
    the one on before which the file `after` is there.
    """
    return f"""
import os, resource, signal, sys

def look(event, arguments, count=[0], changes=("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")):
    if event in changes and arguments[1] != "r" and str(arguments[0]).startswith({str(folder)!r}):
        if os.path.exists({str(after or "/")!r}):
            count[0] += 1
            if count[0] == {moment} and arguments[1] != "w":
                os.kill(os.getpid(), signal.SIGKILL)
            elif count[0] == {moment}:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99))
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

sys.addaudithook(look)
"""


def wait_for(condition, *processes):
    """Wait until something is so; fails if a process ends before, or if it takes too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        ended = [process for process in processes if process.poll() is not None]
        if not ended:
            assert time.monotonic() < end, [process.stderr for process in processes]
            time.sleep(PAUSE)
        elif not condition():
            raise AssertionError(f"ended before: {[(process.returncode, process.stderr) for process in ended]}")


def ends_of(ranks):
    """What each rank wrote to stdout and stderr, once all have ended; fails where one goes on long after another has ended."""
    end = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in ranks):
        if any(process.returncode is not None for process in ranks):
            end = min(end, time.monotonic() + PATIENCE / 5)
        if time.monotonic() > end:
            late = [process for process in ranks if process.poll() is None]
            for process in late:
                process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            told = [(process.returncode, content(process._err)) for process in ranks]
            raise AssertionError(f"not all ranks end: {told}")
        time.sleep(PAUSE)
    return [process.communicate() for process in ranks]


def close_all():
    """End what a test, or a failure in it, has left running."""
    while alive:
        alive.pop().close()


# The server


@functools.cache
def server():
    """A connection to the server of this process; it ends when the connection does."""
    ours, theirs = socket.socketpair()
    command, nothing = [sys.executable, __file__, str(theirs.fileno())], subprocess.DEVNULL
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=nothing, stdout=nothing, start_new_session=True)
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # which comes first
    return ours


def load():
    """Load all modules that a command may, and what torch loads only once it is at work."""
    package = importlib.import_module("i3dcli").__path__
    ours = [module.name for module in pkgutil.walk_packages(package, "i3dcli.")]
    ours = [name for name in ours if not name.endswith(("__main__", "triton", "cuda"))]
    for name in ("torch._dynamo", "torch.distributed.launcher.api", *ours):
        importlib.import_module(name)
    gc.freeze()  # nor does a process that ends look through all this


def serve(connection):
    """Fork for each request that comes; gives one, with its files, in the process that is to do it."""
    while header := receive(connection, 8):
        size, files = header
        request = json.loads(receive(connection, int.from_bytes(size, "big"))[0])
        if os.fork() == 0:
            connection.close()
            return request, files
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def receive(connection, size):
    """So many bytes, and files that came with them; None at the end."""
    data, files = b"", []
    while len(data) < size:
        part, more, _, _ = socket.recv_fds(connection, size - len(data), 3)
        if not part:
            return None
        data, files = data + part, files + more
    return data, files


def go_on_in_child(told):
    """Go on in a child that has a group of its own and tells its number; the parent waits for it and tells how it ended."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os.write(told, f"{os.waitstatus_to_exitcode(status):{WIDTH}}".encode())
        os._exit(0)
    os.setsid()
    os.write(told, f"{os.getpid():{WIDTH}}".encode())
    os.close(told)


def become(request):
    """Be the process that was asked for."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1)
    sys.argv = request["arguments"]
    exec(request["before"], {"__name__": "before"})
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def main():
    connection = socket.socket(fileno=int(sys.argv[1]))
    del sys.path[0]  # this folder, which `python -m i3dcli` would not look into
    sys.meta_path.insert(0, Finder)
    load()
    sys.meta_path.remove(Finder)
    request, (told, *files) = serve(connection)
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    go_on_in_child(told)
    become(request)


if __name__ == "__main__":
    main()
