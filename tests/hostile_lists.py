"""Lists of `path label`, lists of videos and names of classes, as people write them and as nobody should."""

import os
import shutil

import numpy as np

WAYS = {"dataset": "list, read", "eval": "list, i3d eval", "videos": "list of videos", "labels": "names of classes"}
SHARES = {"dataset": 0.4, "eval": 0.15, "videos": 0.2, "labels": 0.25}
LISTS = {  # of three videos v0.mp4 … v2.mp4 and classes 0 … 2
    "spaces": "".join(f"v{i}.mp4 {i}\n" for i in range(3)),
    "commas": "path,label\n" + "".join(f"v{i}.mp4,{i}\n" for i in range(3)),
    "tabs": "".join(f"v{i}.mp4\t{i}\n" for i in range(3)),
    "several": "v0.mp4 0 1\nv1.mp4 1\nv2.mp4 2 0\n",
    "quoted": '"v0.mp4",0\n"v 1.mp4",1\n"v2.mp4",2\n',
    "frames": "v0 12 0\nv1 12 1\nv2 12 2\n",
    "kinetics": "label,youtube_id,time_start,time_end,split\nrun,v0,0,1,train\njump,v1,0,1,train\nsit,v2,0,1,train\n",
    "comments": "# videos\nv0.mp4 0\n# more\nv1.mp4 1\n\nv2.mp4 2\n",
    "missing": "v0.mp4 0\nabsent.mp4 1\nv2.mp4 2\n",
}
VIDEOS = "v0.mp4\nv1.mp4\n# v2.mp4\nv2.mp4\n"
NAMES = "run\njump\nsit\n"
LINES = (  # that take the place of one
    *(
        "v0.mp4",
        "v0.mp4 -1",
        "v0.mp4 1e3",
        "v0.mp4 3.5",
        f"v0.mp4 {10**30}",
        "v0.mp4 9999",
        "v0.mp4 10001",
        "v0.mp4 ٣",
        "0",
        " ",
    ),
    *(
        "\ufeffv0.mp4 0",
        "v0.mp4\u20280",
        "v0.mp4\x850",
        "v0.mp4 0\rv1.mp4 1",
        "v0.mp4\x000",
        "\x1b[2Jv0.mp4 0",
        "\u202e4pm.0v 0",
    ),
    *(
        "C:\\videos\\v0.mp4 0",
        "./v0.mp4 0",
        "../v0.mp4 0",
        "/dev/zero 0",
        "/dev/zero",
        "fifo.mp4 0",
        "fifo.mp4",
        ". 0",
        ".",
        "/",
    ),
    *(
        "list.txt",
        "@list.txt",
        "http://a.b/v.mp4 0",
        "file:v0.mp4 0",
        "pipe:0",
        "concat:v0.mp4|v1.mp4 0",
        "%03d.mp4 0",
        "v*.mp4 0",
    ),
    *(
        "x" * 5000 + ".mp4 0",
        "x/" * 2000 + "v.mp4 0",
        "~/v0.mp4 0",
        "$HOME/v0.mp4 0",
        '"v0.mp4 0',
        "v0.mp4 0 # run",
        "v0.mp4;0",
    ),
    *("a " * 20_000 + "b", "1 " * 20_000 + "x", "a.mp4 " * 7_000 + "x", "," * 40_000, "\t" * 40_000 + "x", ".mp4" * 10_000),
    *(
        "run\x1b[31m",
        "run\nError: all is well",
        "=cmd|' /C calc'!A0",
        "jump",
        "ru\u0301n",
        "class 0",
        "0 run",
        "1 run",
        "x" * 10**6,
    ),
)
WHOLE = {  # in place of a text
    "empty": b"",
    "json list": b'["run", "jump", "sit"]',
    "json of ids": b'{"0": "run", "1": "jump", "2": "sit"}',
    "json of names": b'{"run": 0, "jump": 1, "sit": 2}',
    "json, odd": b'{"run": [0], "jump": null, "sit": {"a": NaN}}',
    "json, deep": b"[" * 100_000,
    "csv of ids": b"id,name\n0,run\n1,jump\n2,sit\n",
    "numbered": b"1 run\n2 jump\n3 sit\n",
    "utf-16": NAMES.encode("utf-16"),
    "latin-1": "r\xfcn\nj\xfcmp\ns\xeft\n".encode("latin-1"),
    "zeros": bytes(10_000),
    "one long line": b"x" * 4_000_000,
    "many lines": b"absent/video.mp4 0\n" * 50_000,
    "many videos": b"".join(b"absent/video%d.mp4\n" % i for i in range(50_000)),
    "many classes": b"".join(b"class %d\n" % i for i in range(200_000)),
    "blank lines": b"\n" * 1_000_000,
}
PLACES = ("fifo", "/dev/zero", "/dev/null", "folder", "broken link", "link to itself", "socket")  # in place of a file


def hostile_text(rng, text):
    """The bytes of a text with some of its lines or characters changed, and what was done."""
    if rng.random() < 0.12:
        name = str(rng.choice(list(WHOLE)))
        return WHOLE[name], name
    lines, changes = text.splitlines(), []
    for _ in range(rng.choice([1, 1, 2, 4])):
        change = str(rng.choice(["line", "line", "line", "character", "character", "twice", "gone", "swapped", "ends", "code"]))
        at = int(rng.integers(len(lines) or 1))
        changes.append(change)
        if change == "line":
            new = LINES[int(rng.integers(len(LINES)))]
            lines[at : at + 1] = [new]
            changes[-1] = repr(new[:30])
        elif change == "character" and lines:
            where = int(rng.integers(len(lines[at]) + 1))
            odd = str(rng.choice(["", *" ,\t\"'\\#;:=\x00\x1b\u202e\ufeff0-é/"]))
            lines[at] = lines[at][:where] + odd + lines[at][where + 1 :]
        elif change == "twice" and lines:
            lines.insert(at, lines[at])
        elif change == "gone" and lines:
            del lines[at]
        elif change == "swapped" and lines:
            lines[at], lines[0] = lines[0], lines[at]
    end = "\r\n" if "ends" in changes else "\n"
    data = "".join(line + end for line in lines).encode("utf-8", "surrogatepass")
    if "code" in changes:
        data = str(data, "utf-8", "replace").encode(str(rng.choice(["utf-16", "utf-8-sig", "latin-1", "cp1252"])), "replace")
    return data, ", ".join(changes)


def hostile_list(rng, folder, video, ways=tuple(WAYS), *, perils=True):
    """Write a list, drawn from `rng`, beside three videos: its path, how it is to be read, and what was done."""
    for name in ("v0.mp4", "v1.mp4", "v2.mp4", "v 1.mp4"):
        shutil.copy(video, folder / name)
    os.mkfifo(folder / "fifo.mp4")
    shares = np.array([SHARES[way] for way in ways])
    way = str(rng.choice(ways, p=shares / shares.sum()))
    text = {"videos": VIDEOS, "labels": NAMES}.get(way) or LISTS[str(rng.choice(list(LISTS)))]
    if perils and rng.random() < 0.03:
        place = str(rng.choice(PLACES))
        return put(folder / "list.txt", place), way, place
    data, what = hostile_text(rng, text)
    (folder / "list.txt").write_bytes(data)
    return folder / "list.txt", way, what


def put(path, place):
    """Something else than a file at `path`, or a device's path."""
    if place.startswith("/"):
        return place
    if place == "fifo":
        os.mkfifo(path)
    elif place == "folder":
        path.mkdir()
    elif place == "socket":
        os.mknod(path, 0o140644)
    else:
        path.symlink_to(path.name if place == "link to itself" else "nowhere")
    return path


FRAGMENTS = (
    "film",
    "a",
    "A",
    "x",
    "é",
    "e\u0301",
    "ß",
    "new\nline",
    "\x1b[31m",
    " ",
    "-",
    "n" * 100,
    "\udcff",
    "名",
    "0",
    "CON",
)
FILES = (  # names of videos that aim at something
    *("film.mp4", "film.avi", "film/scene1.mp4", "film/scene2.mp4", "film/film.mp4", "film.mp4/in.mp4", "film.mp4.mp4"),
    *("..mp4", "...mp4", "a/..mp4", "a/...mp4", ".mp4", ".hidden.mp4", "....mp4", ". .mp4"),
    *("x.mp4", ".x.partial.mp4", ".x.old.mp4", ".x.mp4", "x.partial.mp4", ".x.partial/in.mp4", "x/in.mp4", "x.mkv"),
    *(
        "failures.jsonl.mp4",
        "failures.jsonl/in.mp4",
        "flow.json.mp4",
        "flow.mp4",
        "flow.json/in.mp4",
        ".failures.jsonl.1.tmp.mp4",
    ),
    *("notes.txt.mp4", "notes.mp4", "config.json.mp4", ".notes.txt.1.tmp.mp4", "deep.mp4", "deep/er.mp4", "deep/er/and.mp4"),
    *(
        "a.b.mp4",
        "a..mp4",
        "a .mp4",
        " a.mp4",
        "A.mp4",
        "a.MP4",
        "a.mp4",
        "a.avi",
        "\u00e9.mp4",
        "e\u0301.mp4",
        "stra\u00dfe.mp4",
    ),
    *("n" * 247 + ".mp4", "n" * 247 + ".avi", "n" * 251 + ".mp4", "é" * 123 + ".mp4", "n" * 240 + "/" + "m" * 247 + ".mp4"),
    *(
        "new\nline.mp4",
        "\x1b[31mred.mp4",
        "\udcff.mp4",
        "@list.mp4",
        "-o.mp4",
        "%03d.mp4",
        "a\\b.mp4",
        "~.mp4",
        "a:b.mp4",
        "*.mp4",
    ),
)


def hostile_names(rng):
    """Some relative paths of videos, no file of which is a folder of another."""
    names = []
    for _ in range(int(rng.integers(2, 6))):
        name = FILES[int(rng.integers(len(FILES)))]
        if rng.random() < 0.25:
            parts = [FRAGMENTS[int(i)] for i in rng.integers(len(FRAGMENTS), size=int(rng.choice([1, 2, 3])))]
            name = str(rng.choice(["", "/", "."])).join(parts) + str(rng.choice([".mp4", ".avi", ".MKV"]))
        if rng.random() < 0.2:
            name = "film/" + name
        clash = any(f"{one}/".startswith(f"{two}/") for other in names for one, two in ((name, other), (other, name)))
        if (
            not clash
            and not name.startswith("/")
            and max(len(part.encode("utf-8", "surrogateescape")) for part in name.split("/")) < 256
        ):
            names.append(name)
    return names or ["film.mp4"]


def is_named(name, form):
    """Whether a folder that holds a video of this name, or a list with this line, names it; hidden folders are passed over."""
    if form == "folder":
        return os.path.basename(name) != ".mp4" and not any(part.startswith(".") for part in name.split("/")[:-1])
    return form == "files" or (name.strip() == name and not name.startswith(("#", "@")) and name.splitlines() == [name])


def strangers_beside(rng, names):
    """Files of other people in the places that such names aim at: text by relative path."""
    files = {}
    for name in names:
        stem = name[:-4]
        places = (
            f"{stem}/theirs.txt",
            f"{stem}.txt",
            f"{name}/theirs.txt",
            name,
            stem,
            f".{os.path.basename(stem)}.partial/theirs.txt",
        )
        if rng.random() < 0.5:
            files[places[int(rng.integers(len(places)))]] = f"theirs, near {len(name)}"
    return files
