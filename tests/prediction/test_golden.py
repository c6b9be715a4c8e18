"""DeepMind's sample clip gives what DeepMind published of it; needs the weights and the clip, which are not in the repository.

Both are looked for in the weights folders, such as $I3D_WEIGHTS; weights/README.md says where they come from. The numbers
are those of `out/` in google-deepmind/kinetics-i3d: at commit 6da69a3 for the scratch weights, as later ones hold the outputs
of the ImageNet weights under the names of both.
"""

from functools import cache

import numpy as np
import pytest
import torch

from i3dcli import load_checkpoint
from i3dcli.checkpoints import zoo
from i3dcli.checkpoints.download import WeightFile

CLIP = {  # stream → name and git blob id of the clip's array, (1, 79, 224, 224, C) in [-1, 1]
    "rgb": ("v_CricketShot_g04_c01_rgb.npy", "d756c5020a6e0fb56a99b210e32f5865da712bba"),
    "flow": ("v_CricketShot_g04_c01_flow.npy", "ee00e78e6f380caa5463de878d7c85ad7a01e668"),
}
IMAGENET = {  # of the logits: norm, greatest, and its probability; second greatest, and its label
    "rgb": (87.108871, 25.856646, 0.9999968, 12.330335, "playing kickball"),
    "flow": (63.252754, 15.957031, 0.9477566, 12.808723, "hurling (sport)"),
    "sum": (138.468658, 41.813675, 1.0, 21.493977, "hurling (sport)"),
}
SCRATCH = {
    "rgb": (87.217987, 19.4886, 0.996896, 12.6938, "robot dancing"),
    "flow": (85.503799, 15.4269, 0.697696, 13.6819, "hurling (sport)"),
    "sum": (162.726547, 34.9155, 0.999958, 24.669, "hurling (sport)"),
}
PUBLISHED = {"kinetics400": IMAGENET, "kinetics400-deepmind": IMAGENET, "kinetics400-scratch": SCRATCH}


def found(*files):
    path = zoo.find_weights(files)
    return path if path is not None else pytest.skip(f"no {files[-1].name} in {' or '.join(map(str, zoo.weights_folders()))}")


@cache
def logits(name, stream):
    """(400,) float32 logits of the sample clip, by one stream of a model."""
    clip = np.load(found(WeightFile(zoo.DEEPMIND, *CLIP[stream], 0.0)))
    weights = found(*zoo.find_model(name).files[stream])
    with torch.inference_mode():
        return load_checkpoint(weights)(torch.from_numpy(clip).float().permute(0, 4, 1, 2, 3))[0]


@pytest.mark.parametrize("what", ["rgb", "flow", "sum"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sample_clip_gives_the_published_numbers(name, what):
    norm, first, probability, second, runner_up = PUBLISHED[name][what]
    total = logits(name, "rgb") + logits(name, "flow") if what == "sum" else logits(name, what)
    labels, top = zoo.find_model(name).classes, total.topk(2)
    assert [labels[i] for i in top.indices] == ["playing cricket", runner_up]
    assert float(total.norm()) == pytest.approx(norm, rel=1e-4)
    assert top.values.tolist() == pytest.approx([first, second], abs=2e-3)
    assert float(total.softmax(0).max()) == pytest.approx(probability, abs=2e-4)
