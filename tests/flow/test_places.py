import random
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from media import moving, write_video

from i3dcli.flow.claims import Claims
from i3dcli.flow.places import candidates, folded, places
from i3dcli.video.find import Found, find_videos, without_suffix

STEMS = (
    *("x", "X", "film", "Film", "a.b", "a", ".x", "..", "...", ".", " x", "x ", "x.", "x.mp4", "film.avi", "ﬁlm", "ß", "ss"),
    *("é", unicodedata.normalize("NFD", "é"), "한", unicodedata.normalize("NFD", "한"), "İ", "con", "-", "@x", "%s", "x\ny"),
    *(".x.partial", ".x.old", ".x.mp4.partial", "failures.jsonl", "flow.json", ".failures.jsonl.i3d", "x~0123456789abcdef"),
    *("y" * 240, "y" * 247, "y" * 251, "é" * 120, "z" * 250),
)
SUFFIXES = (".mp4", ".avi", ".MP4", ".webm", ".mp4.mp4", "")
ROUNDS = 2000


def random_tree(rng):
    """Names of videos, such that no video's name is also a folder's in the same input; of each, the input and the key."""
    names = set()
    for _ in range(rng.randint(2, 9)):
        folders = [rng.choice(STEMS) + rng.choice(("", "", ".mp4")) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
        names.add((rng.choice("ab"), *folders, rng.choice(STEMS) + rng.choice(SUFFIXES)))
    usable = [name for name in names if not {".", ".."} & set(name) and all(len(part.encode()) < 256 for part in name)]
    return [Path(*name) for name in usable if not any(other != name and other[: len(name)] == name for other in usable)]


def found(name):
    """What `find_videos` makes of a video in one of the inputs a and b."""
    return Found(Path("/nowhere") / name, without_suffix(Path(*name.parts[1:])))


def in_each_others_way(one, two):
    return one[: len(two)] == two[: len(one)]


def test_in_thousands_of_trees_no_place_is_shared_above_another_or_reserved():
    rng = random.Random(0)
    moved = 0
    for _ in range(ROUNDS):
        videos = [found(name) for name in random_tree(rng)]
        allowed = places(videos)
        for first, second in combinations([[folded(place) for place in options] for options in allowed.values()], 2):
            assert not any(in_each_others_way(one, two) for one in first for two in second)
        for video, options in allowed.items():
            assert (
                set(options) <= set(candidates(video.key, video.path)) and options[-1] == candidates(video.key, video.path)[-1]
            )
            moved += options[0] != video.key
            for place in options:
                assert place.parts and not place.is_absolute() and not {".", ".."} & set(place.parts)
                assert all(len(part.encode()) <= 246 for part in place.parts)
                assert place.parts[0].casefold() != "failures.jsonl" and "flow.json" not in place.parts
                assert not any(
                    part.startswith(".") and part.lower().endswith((".partial", ".old", ".tmp")) for part in place.parts
                )
        shuffled = rng.sample(videos, len(videos))
        assert places(shuffled) == allowed
    assert ROUNDS < moved < 6 * ROUNDS


def test_a_video_alone_keeps_the_place_that_it_always_had():
    for name in ("x.mp4", "a/b.c.avi", "run/v_x_g01_c01.avi", "a.mp4/frames"):
        video = found(Path("a", name))
        assert places([video])[video][0] == video.key
    assert found(Path("a/run/v.1.avi")).key == Path("run/v.1")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["film.mp4", "film/a.mp4"], ["film.mp4", "film/a.mp4"]),
        (["x.mp4", "x.avi", "y.mp4"], ["x.mp4", "x.avi", "y"]),
        (["x.mp4", "X.mp4", "x.avi"], [None, None, "x.avi"]),
        (["x.mp4", "x.avi", "x.mp4.mp4"], [None, "x.avi", "x.mp4"]),
        (["a/..mp4", "..mp4"], ["a/..mp4", "..mp4"]),
        (["failures.jsonl.mp4", "a/failures.jsonl.mp4"], ["failures.jsonl.mp4", "a/failures.jsonl"]),
        (["x~0123456789abcdef.mp4"], ["x~0123456789abcdef.mp4"]),
        (["x~0123456789abcdef/y.mp4"], [None]),
    ],
)
def test_who_is_in_anothers_way_keeps_the_suffix_or_gets_a_hash(names, expected):
    videos = [found(Path("a", name)) for name in names]
    allowed = places(videos)
    for video, place in zip(videos, expected, strict=True):
        got = allowed[video][0]
        assert got == Path(place) if place else len(got.parts) == 1 and got.name[-17] == "~" and got != video.key


def test_what_lies_in_the_folder_is_never_chosen(tmp_path):
    """Files, folders and links of others in it, at, above and below the places of random videos; no video is opened."""
    rng = random.Random(1)
    avoided = 0
    for number in range(300):
        out = tmp_path / str(number)
        out.mkdir()
        videos = [video for video in map(found, random_tree(rng)) if all(len(p.encode()) < 200 for p in video.path.parts)]
        allowed = places(videos)
        usual = sorted({place for options in allowed.values() for place in options[:-1]})
        for place in rng.sample(usual, min(3, len(usual))):
            lay_something(rng, out / place)
        before = sorted(out.rglob("*"))
        for video, options in allowed.items():
            folder = Claims(out).choose(video, options)
            avoided += folder != out / options[0]
            assert folder in [out / place for place in options] and not folder.is_symlink() and not folder.exists()
            above = [path for path in folder.parents if path != out and path.is_relative_to(out)]
            assert not any(path.is_file() or (path / "flow.json").exists() for path in above)
        assert sorted(out.rglob("*")) == before
    assert avoided > 100


def lay_something(rng, path):
    """A file, a folder with a file, flow, or a link that leads nowhere, at a path or above or below it."""
    path = rng.choice((path, path.parent, path / "more")) if path.parent.parent.exists() else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folders = [lambda p, name=name: (p.mkdir(), (p / name).touch()) for name in ("notes.txt", "flow.json")]
        rng.choice((Path.touch, *folders, lambda p: p.symlink_to("nowhere")))(path)
    except OSError:  # something is there already
        pass


def test_the_key_of_a_name_of_dots_is_the_name(tmp_path):
    for name in ("..mp4", "...mp4", "a..mp4"):
        write_video(tmp_path / name, moving(2, 16, 16))
    keys = sorted(video.key.name for video in find_videos(str(tmp_path)))
    assert keys == ["...mp4", "..mp4", "a."]
