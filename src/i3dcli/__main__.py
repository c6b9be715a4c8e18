"""The command `i3d`, as `python -m i3dcli` too: the way in, and the way out."""

import contextlib
import gc
import os
import signal
import sys
import traceback

from .stopping import Interrupted

BUG = "Error: this is a fault of i3d, and not of what you gave it; please report it with the lines above\n"


def run() -> None:
    """Run the command line and end the process; after a signal as soon as all is cleaned up, whatever threads are at."""
    try:
        from .cli.main import main
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    try:
        main(prog_name="i3d")
    except Interrupted as end:
        code = end.exit_code
    except Exception:  # noqa: BLE001 - of any kind, as nobody has foreseen it
        traceback.print_exc()
        sys.stderr.write(BUG)
        sys.exit(1)
    leave(code)


def leave(code: int) -> None:
    """End the process, once generators that were left half-way have cleaned up.

    Python itself would wait for threads that decode or compile.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
