"""What became of an input that may be damaged: what a command or function said of it, and whether that is true."""

import contextlib
import json
import os
import re
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import av
import hostile_checkpoints
from click.testing import CliRunner
from mutations import FRAMES, RATE

from i3dcli import read_video
from i3dcli.cli.main import main
from i3dcli.errors import I3DError
from i3dcli.prediction.predict import predict_inputs

LEAST = 0.9 * FRAMES  # fewer without a word is a silent loss
MOST = 2 * FRAMES
LONGEST = 4000  # characters of a line that can be read
MANY = 1000  # lines that nobody reads
FINE = {  # verdict: what it means
    "right": "as many frames as the whole has, or whatever else was asked for, and nothing said",
    "noted": "something said",
    "refused": "an error in one line",
    "traceless": "a tenth or more lost without a word, where nothing in the file says that there was more",
    "inflated": "more than twice the frames",
}
FAULTS = {
    "silent": "a tenth or more of the frames lost without a word",
    "false": "something said of a whole file, or one refused in which nothing is amiss",
    "mute": "an exit code other than 0 without a line, or 0 with an error",
    "nan": "numbers that are not finite",
    "believed": "numbers beside the weights that no network was trained with",
    "unprintable": "characters on the terminal that are not printable",
    "code": "code in a file was run",
    "flood": "so many or so long lines that nobody reads them",
    "lost": "finished flow gone, or not there, or not found again",
    "left": "temporary files or folders left",
    "traceback": "an exception that is none of ours",
    "memory": "more than 3 GB, or out of memory",
}


@dataclass
class Seen:
    """What was said of one input."""

    frames: int | None = None  # that were given
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    exit_code: int | None = None  # of a command
    traceback: str | None = None
    out_of_memory: bool = False
    stdout: str = ""
    stderr: str = ""

    @property
    def in_one_line(self):
        return len(self.errors) == 1 and "\n" not in self.errors[0].strip() and len(self.errors[0]) < LONGEST

    @property
    def fatal(self):
        """What no input may come to, or nothing."""
        return "memory" if self.out_of_memory else "traceback" if self.traceback is not None else ""

    @property
    def said(self):
        """In a few words."""
        if self.traceback is not None:
            return self.traceback.strip().splitlines()[-1]
        words = "; ".join([*self.errors, *self.notes]) or "nothing said"
        return words if self.frames is None else f"{self.frames} frames, {words}"


@contextlib.contextmanager
def watching():
    """What is seen within the block; our warnings are notes, and what is raised is an error of ours or a traceback."""
    seen = Seen()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield seen
        except I3DError as error:
            seen.errors.append(str(error))
        except MemoryError:
            seen.out_of_memory = True
        except Exception:  # noqa: BLE001  # that it comes is what is counted
            seen.traceback = traceback.format_exc()
    seen.out_of_memory |= any("out of memory" in error for error in seen.errors)
    seen.notes += [str(warning.message) for warning in caught if warning.category.__module__.startswith("i3dcli")]


def looked(model, path):
    """A video as `predict` sees it, without a command line."""
    with watching() as seen:
        for outcome in predict_inputs(model, [str(path)]):
            seen.notes += [outcome.note] if outcome.note is not None else []
            seen.errors += [str(outcome.error)] if outcome.error is not None else []
            seen.frames = seen.frames if outcome.prediction is None else outcome.prediction.num_frames
    return seen


def read(path):
    """A video as `read_video` gives it."""
    with watching() as seen:
        seen.frames = len(read_video(path, short_side=32))
    return seen


def ran(*arguments):
    """A command in this process: its lines on stderr are notes and errors."""
    with watching() as seen:
        result = CliRunner().invoke(main, list(map(str, arguments)))
        seen.exit_code, seen.stdout, seen.stderr = result.exit_code, result.stdout, result.stderr
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        seen.notes += [line for line in lines if line.startswith("Note:")]
        seen.errors += [line for line in lines if line.startswith("Error:")]
        if isinstance(result.exception, MemoryError):
            raise result.exception
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            seen.traceback = "".join(traceback.format_exception(result.exception))
    return seen


def predicted(checkpoint, path, *options):
    """A video as the command predict sees it."""
    seen = ran("predict", "--json", "--device", "cpu", "--rgb", checkpoint, path, *options)
    for line in seen.stdout.splitlines():
        record = json.loads(line)
        seen.frames = round(RATE * record.get("duration_seconds", record.get("end_seconds")))
    return seen


def extracted(path, out, *options):
    """A video as the command extract-flow leaves it in a folder."""
    seen = ran("extract-flow", path, "--out", out, *options)
    for line in seen.stdout.splitlines():
        seen.frames = 1 + json.loads(Path(line, "flow.json").read_text("utf-8"))["num_flows"]
    return seen


def verdict_on_checkpoint(seen, path, change):
    """In one word, what became of a checkpoint that a command was given."""
    if os.path.exists(Path(path).with_name("canary")):
        return "code"
    if seen.fatal:
        return seen.fatal
    if not is_printable(seen.stdout + seen.stderr):
        return "unprintable"
    if seen.exit_code:
        return "refused" if seen.in_one_line else "mute"
    if re.search(r"\bnan\b|\binf(inity)?\b", seen.stdout, re.IGNORECASE):
        return "nan"
    return "believed" if change == "changed_metadata" and hostile_checkpoints.is_absurd(path) else "right"


def verdict_on_list(seen):
    """In one word, what became of a list: errors are a line for each video, and not a flood of them."""
    if seen.fatal:
        return seen.fatal
    if not is_printable(seen.stdout + seen.stderr):
        return "unprintable"
    lines = [*seen.errors, *seen.notes] if seen.exit_code is None else seen.stderr.splitlines()
    if len(lines) > MANY or any(len(line) > LONGEST or "\n" in line for line in lines):
        return "flood"
    if (seen.errors and seen.exit_code == 0) or (seen.exit_code and not lines):
        return "mute"
    return "refused" if seen.errors else "noted" if seen.notes else "right"


def is_printable(text):
    return all(character.isprintable() or character in "\n\r" for character in text)


def verdict(seen, mutant, original, path):
    """In one word, what became of the video at `path`, which holds the bytes of `mutant`; see above."""
    if seen.fatal:
        return seen.fatal
    if seen.errors or seen.exit_code:
        if not seen.in_one_line or seen.exit_code == 0:
            return "mute"
        return "false" if is_whole(path, original) else "refused"
    if seen.frames is None:
        return "mute"
    if seen.notes:
        return "false" if mutant.data == original.data else "noted"
    if seen.frames < LEAST:
        return "traceless" if not has_trace(path, seen.frames, mutant, original) else "silent"
    return "inflated" if seen.frames > MOST else "right"


def has_trace(path, frames, mutant, original):
    """Whether a file tells that it had more frames than these.

    It does not where bytes were only taken away, none of the missing frames is still in it, and no number in it, of
    frames or of seconds, is that of more.
    """
    enough = frames / 0.9
    if original.container == "gif":  # its blocks have neither numbers nor sizes: what lies in another's cannot be told
        return any(n > enough for n in claims(path).values())
    return not mutant.only_cut or mutant.packets_left(original) > enough or any(n > enough for n in claims(path).values())


def claims(path):
    """How many frames a file claims to have, by where it says so; as FFmpeg reads it, not as we do."""
    try:
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            seconds = {
                "stream": (stream.duration or 0) * (stream.time_base or 0),
                "file": (container.duration or 0) / av.time_base,
            }
            numbers = {"count": stream.frames, "index": len(stream.index_entries)}
            return numbers | {name: float(value) * RATE for name, value in seconds.items()}
    except (av.FFmpegError, IndexError, ValueError):
        return {}


def is_whole(path, original):
    """Whether FFmpeg finds in a file just what is in the whole: packets, their times, the decoder's header, and claims."""
    found = fingerprint(path)
    return found is not None and found == whole_fingerprint(original, path)


def whole_fingerprint(original, path):
    if original not in WHOLE:
        copy = Path(path).with_name(f"whole{original.suffix}")
        copy.write_bytes(original.data)
        WHOLE[original] = fingerprint(copy)
        copy.unlink()
    return WHOLE[original]


WHOLE = {}


def fingerprint(path):
    """What the pictures of a file are to a decoder; None where it cannot be read to its end."""
    try:
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            header = (stream.codec_context.name, stream.codec_context.extradata, stream.width, stream.height)
            packets = [(p.pts, p.dts, p.duration, p.is_keyframe, p.is_corrupt, bytes(p)) for p in container.demux(stream)]
        return header, packets, claims(path)
    except (av.FFmpegError, IndexError, ValueError, AttributeError):
        return None
