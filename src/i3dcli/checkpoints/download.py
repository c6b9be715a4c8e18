"""Published files, fetched once and verified: resumable, by one process at a time, whole or not at all.

A file counts as genuine when its git blob id, sha1("blob <size>\\0" + bytes), is the one in the publisher's own
repository at the pinned commit, so nobody has to trust a checksum of ours.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import CheckpointError
from ..files import locked_by_file
from ..text import shown

TIMEOUT_SECONDS = 30.0  # without a single byte
TRIES = 3  # a broken transfer goes on where it broke
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class WeightFile:
    """One published file: the address of its folder, its name below that and below a weights folder, its git blob id.

    A file that comes with the package has no address.
    """

    folder_url: str
    name: str
    blob_id: str
    megabytes: float  # about

    @property
    def url(self) -> str:
        return self.folder_url + self.name

    @property
    def bundled(self) -> bool:
        return not self.folder_url


def verify(path: Path, file: WeightFile, *, advice: str | None = None) -> None:
    """Raise CheckpointError unless the bytes at `path` have the published git blob id.

    `advice` is what its text says to do, where that is not to take the file anew.
    """
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.blob_id:
        advice = advice or ("install i3d again" if file.bundled else f"delete it and take {file.url}")
        raise CheckpointError(f"wrong bytes: {shown(path)}: git blob {digest.hexdigest()}, expected {file.blob_id}; {advice}")


def download(file: WeightFile, folder: Path, *, timeout: float = TIMEOUT_SECONDS) -> Path:
    """Fetch `file` into `folder`, resuming what an earlier try left; the name appears only once its bytes are verified.

    Raises OSError or HTTPException when the host cannot deliver, CheckpointError when it delivers other bytes.
    """
    lock = folder / f"{file.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked_by_file(lock, wait=True):
        return download_alone(file, folder, timeout=timeout)


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
            partial.unlink(missing_ok=True)  # more is here than there: start again
        except (OSError, http.client.HTTPException):
            if not left:
                raise
    try:
        verify(partial, file, advice=f"from {file.url} (what was downloaded is deleted)")
    except CheckpointError:
        partial.unlink()
        raise
    os.replace(partial, path)
    return path


def transfer(url: str, partial: Path, *, timeout: float) -> None:
    """One HTTP request that appends to `partial` what is missing of `url`; raises OSError when less arrives than announced."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "i3d", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except ValueError as error:  # a redirect to what is no address
        raise ConnectionError(f"the host's answer makes no sense: {error}") from error
    with answer as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the host ignores ranges and sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
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
