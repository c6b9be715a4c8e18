"""The kernels of TV-L1, compiled once for all processes of the tests, and kept until their source changes."""

import fcntl
import os
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path

import numpy as np

KERNELS = "i3dcli.flow._tvl1_cpu"
SIZE = (40, 56)
FLOW = f"""
import sys, numpy as np
from i3dcli.flow.tvl1 import tvl1
previous, following = np.random.default_rng(0).integers(0, 256, (2, *{SIZE}), np.uint8)
sys.stdout.buffer.write(tvl1(previous, following).tobytes())
"""


class Finder:
    """Before the first import of the kernels in a process: have them compiled, or wait for the process that does."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == KERNELS:
            compile_once(PathFinder.find_spec(name, path).origin)


def folder():
    return Path(os.environ["NUMBA_CACHE_DIR"])


def compile_once(source):
    """Compile the kernels where they are not yet, in a process whose flow is kept: see `first_flow`."""
    about = Path(source).stat()
    stamp = f"{source} {about.st_mtime_ns} {about.st_size} numba {version('numba')}"  # what numba looks at, too
    done = folder() / "compiled.txt"
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != stamp:
            result = subprocess.run([sys.executable, "-c", FLOW], capture_output=True, check=True)
            (folder() / "flow.bin").write_bytes(result.stdout)
            done.write_text(stamp)


def first_flow():
    """What the process that compiled has computed by FLOW, (2,H,W)."""
    return np.frombuffer((folder() / "flow.bin").read_bytes(), np.float32).reshape(2, *SIZE)
