"""One damaged or hostile input of each kind: made from a seed, given to the package, and what became of it in one word."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hostile_checkpoints
import hostile_lists
import mutations
import numpy as np
import oracle
import strangers
import verdicts
from media import moving, write_video

import i3dcli
from i3dcli.data.dataset import load_dataset
from i3dcli.models.preprocessing import Preprocessing

WAYS = ("the path of predict", "read_video", "i3d predict", "i3d predict --timeline", "i3d extract-flow")
SHARES = (0.68, 0.08, 0.06, 0.03, 0.15)
UNTOUCHED = 0.03  # of the videos are whole
SMALL = ("--algorithm", "dis", "--short-side", "36", "--format", "npy")  # what extract-flow is told, for speed
SEVERITY = ("right", "noted", "refused", "flood", "unprintable", "mute", "traceback", "memory")


@dataclass
class Found:
    """What became of one input."""

    verdict: str
    group: str = "?"  # the row of its table
    what: str = ""  # the input
    said: str = ""
    frames: int | None = None
    disturbed: tuple[str, ...] = ()  # files that are not ours and are gone or changed

    @property
    def text(self):
        return f"{self.what}: {self.said}"


@dataclass
class Inputs:
    """What all inputs are made from; `folder` is emptied for each."""

    folder: Path
    checkpoint: Path
    originals: list[mutations.Original]
    wholes: dict[str, tuple[Path, str]]  # checkpoints and their streams
    shorts: list[Path]  # videos of different sizes in bytes
    model: Any = field(repr=False)
    perils: bool = False  # also what may take gigabytes or wait for ever: only for processes with limits


def make_inputs(folder, *, kinds=tuple(mutations.VIDEOS), perils=False):
    """Whole ones, in a folder that stays; results are to be made in its folder "work"."""
    for name in ("whole", "checkpoints", "work"):
        (folder / name).mkdir()
    net = oracle.lively(i3dcli.I3D(num_classes=3, in_channels=3, width=hostile_checkpoints.WIDTH))
    net.preprocessing = Preprocessing(**hostile_checkpoints.SEEN)
    i3dcli.save_checkpoint(net, folder / "tiny.pt")
    model = i3dcli.load_model(rgb=folder / "tiny.pt", device="cpu")
    originals = mutations.originals(folder / "whole", kinds)
    wholes = hostile_checkpoints.write_wholes(folder / "checkpoints")
    shorts = [write_video(folder / f"short{i}.mp4", moving(3 + i, 36, 48, seed=i)) for i in range(6)]
    return Inputs(folder / "work", folder / "tiny.pt", originals, wholes, shorts, model, perils)


def emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def video(inputs, number, *, seed=0, ways=WAYS, shares=SHARES, tell=lambda found: None):
    """A damaged video, seen in one of these ways. `tell` hears of the input before it is tried, here and below."""
    rng = np.random.default_rng([seed, 0, number])
    original = inputs.originals[number % len(inputs.originals)]
    whole = rng.random() < UNTOUCHED
    mutant = mutations.unchanged(original) if whole else mutations.mutant(rng, original, inputs.originals)
    way = str(rng.choice(ways, p=shares))
    what = f"{original.kind}, {way}: {', '.join(mutant.changes) or 'unchanged'}"
    tell(found := Found("?", original.container, what))
    path = emptied(inputs.folder) / f"video{original.suffix}"
    path.write_bytes(mutant.data)
    seen, found.disturbed = look(inputs, way, path)
    found.verdict, found.said, found.frames = verdicts.verdict(seen, mutant, original, path), seen.said, seen.frames
    return found


def oddity(inputs, name, path, way):
    """A whole video that is unlike most, of which nothing is to be said."""
    emptied(inputs.folder)
    seen, disturbed = look(inputs, way, path)
    short = way == "i3d extract-flow" and name.startswith("one frame")  # no flow is in it, and that is said
    verdict = seen.fatal or ("false" if seen.notes or bool(seen.errors) != short else "right")
    return Found(verdict, "whole, but unlike most", f"{name}, {way}", seen.said, seen.frames, disturbed)


def look(inputs, way, path):
    """A video seen in one of the ways, and what of strangers' files was disturbed by it."""
    if way == "i3d extract-flow":
        out = inputs.folder / "out"
        before = strangers.settle(out)
        return verdicts.extracted(path, out, *SMALL), strangers.disturbed(out, before)
    if way == "read_video":
        return verdicts.read(path), ()
    if way == "the path of predict":
        return verdicts.looked(inputs.model, path), ()
    options = ["--timeline", "--window", "8"] if "--timeline" in way else []
    return verdicts.predicted(inputs.checkpoint, path, *options), ()


def checkpoint(inputs, number, *, seed=0, tell=lambda found: None):
    """A hostile checkpoint that predict is given."""
    rng = np.random.default_rng([seed, 1, number])
    folder = emptied(inputs.folder)
    path, stream, what, change = hostile_checkpoints.hostile_checkpoint(rng, folder, inputs.wholes, perils=inputs.perils)
    tell(found := Found("?", change.replace("_", " "), what))
    form = ["--json"] if rng.random() < 0.5 else []
    seen = verdicts.ran("predict", "--device", "cpu", f"--{stream}", path, *form, inputs.shorts[-1])
    found.verdict, found.said = verdicts.verdict_on_checkpoint(seen, path, change), seen.said
    return found


def labels(inputs, number, *, seed=0, ways=tuple(hostile_lists.WAYS), tell=lambda found: None):
    """A hostile list, read in one of these ways."""
    rng = np.random.default_rng([seed, 2, number])
    path, way, what = hostile_lists.hostile_list(rng, emptied(inputs.folder), inputs.shorts[0], ways, perils=inputs.perils)
    tell(found := Found("?", hostile_lists.WAYS[way], what))
    rgb = ("--device", "cpu", "--rgb", inputs.checkpoint)
    if way == "dataset":
        with verdicts.watching() as seen:
            load_dataset(path)
    elif way == "eval":
        seen = verdicts.ran("eval", path, *rgb)
    elif way == "videos":
        seen = verdicts.ran("predict", f"@{path}", *rgb)
    else:
        seen = verdicts.ran("predict", inputs.shorts[0], "--classes", path, *rgb)
    found.verdict, found.said = verdicts.verdict_on_list(seen), seen.said
    return found


def names(inputs, number, *, seed=0, tell=lambda found: None):
    """Videos with hostile names, extracted in several runs into a folder with strangers' files in the places they aim at.

    Lost is flow that a later run destroyed, or that is not there, or not found again, although nothing was said.
    """
    rng = np.random.default_rng([seed, 3, number])
    folder = emptied(inputs.folder)
    tree, out = folder / "in", folder / "out"
    paths = []
    for name, source in zip(hostile_lists.hostile_names(rng), inputs.shorts, strict=False):
        paths.append(tree / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, paths[-1])
    relative = [str(path.relative_to(tree)) for path in paths]
    files = strangers.FILES | hostile_lists.strangers_beside(rng, relative)
    before = strangers.settle(out, files)
    (tree / "list.txt").write_bytes(b"".join(os.fsencode(name) + b"\n" for name in relative))
    forms = {"folder": [tree], "files": [str(path) for path in rng.permutation(paths)], "list": [f"@{tree / 'list.txt'}"]}
    form = str(rng.choice(list(forms)))
    runs = [forms[form], [*forms[form], "--shard", "1/2"], [*forms[form], "--shard", "0/2"]]
    runs = [[paths[0]], *runs] if form == "files" or rng.random() < 0.3 else runs
    tell(found := Found("?", "names", f"{form} {[name[-40:] for name in relative]}"))
    found.verdict, done, errors = "right", {}, []
    for run in runs:
        seen = verdicts.ran("extract-flow", *run, "--out", out, *SMALL)
        found.verdict = max(found.verdict, verdicts.verdict_on_list(seen), key=SEVERITY.index)
        found.said = seen.said
        errors = [*errors, *seen.errors] if "--shard" in run else seen.errors
        gone = [place for place, content in done.items() if strangers.tree(place) != content]
        if gone:
            found.verdict, found.said = "lost", f"destroyed: {gone[0].relative_to(out)}: {seen.said}"
            break
        sidecars = [path for path in out.rglob("flow.json") if path.is_file() and not strangers.is_theirs(path, out, files)]
        done = {sidecar.parent: strangers.tree(sidecar.parent) for sidecar in sidecars}
    if found.verdict not in ("lost", "mute", "traceback", "memory"):
        wanted = [path for path, name in zip(paths, relative, strict=True) if hostile_lists.is_named(name, form)]
        found.verdict, found.said = whole_or_not(inputs, found, out, forms[form], wanted, done, errors, files)
    found.disturbed = strangers.disturbed(out, before)
    return found


def whole_or_not(inputs, found, out, videos, paths, done, errors, files):
    """The verdict on a folder of flow after all runs, and what was said of it."""
    left = [path for path in out.rglob(".*") if path.name.endswith((".partial", ".old", ".tmp"))]
    left = [path for path in left if path not in done and not strangers.is_theirs(path, out, files)]
    if left:
        return "left", f"{left[0].relative_to(out)}: {found.said}"
    sizes = {json.loads((place / "flow.json").read_text("utf-8"))["source_bytes"] for place in done}
    missing = [path for path in paths if path.stat().st_size not in sizes]
    if len(missing) > len(errors):
        return "lost", f"no flow of {missing[0].name}: {found.said}"
    flow = inputs.wholes["ours, flow"][0]
    seen = verdicts.ran("predict", "--json", "--device", "cpu", "--flow", flow, "--flow-dir", out, *videos)
    if len(seen.stdout.splitlines()) < len(paths) - len(errors):
        return "lost", f"not found again: {seen.said}"
    return found.verdict, found.said
