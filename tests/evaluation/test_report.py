"""The report as text, and as Chromium shows it."""

import csv
import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import cv2
import numpy as np
import pytest
from media import texture
from processes import PATIENCE

from i3dcli import I3DError
from i3dcli.evaluation.report import Mistake, Report, as_data, mcnemar_sentence, write_confusion, write_per_class, write_report
from i3dcli.metrics import Paired, class_accuracy, confusion, fuse, mcnemar, measure, measure_multi_label, rank
from i3dcli.text import shown

NASTY = '</script><script>alert("1")</script><!-- & \'{{data}} \u2028 été 跳\udce9'
CLASSES = ("zumba", NASTY, "archery", "bowling", "never seen", "diving")


def example():
    """A report of 60 videos in six classes, of which one does not occur."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2, 3, 5], [6, 9, 12, 15, 18]))
    truth = 2.0 * np.eye(6)[labels]
    rgb, flow = rng.normal(size=(2, 60, 6)) + truth
    logits = {"rgb": rgb, "flow": flow, "two_stream": fuse(rgb, flow)}
    predicted = {stream: rank(scores)[:, 0] for stream, scores in logits.items()}
    matrices = {stream: confusion(labels, best, 6) for stream, best in predicted.items()}
    jpeg = cv2.imencode(".jpg", texture(60, 80))[1].tobytes()
    paired = mcnemar(predicted["rgb"] == labels, predicted["flow"] == labels)
    return Report(
        title=f"Held-out {NASTY}",
        command="i3d eval --out 'a & b' <split>",
        protocol="Centre crop.",
        total=63,
        measured={stream: measure(scores, labels) for stream, scores in logits.items()},
        classes=CLASSES,
        class_counts=matrices["two_stream"].sum(axis=1),
        class_accuracies={stream: class_accuracy(matrix) for stream, matrix in matrices.items()},
        confusion=matrices["two_stream"],
        comparisons=[mcnemar_sentence("rgb", "flow", paired)],
        agreement=paired,
        mistakes=[
            Mistake("videos/a.mp4", np.int64(0), 2, np.float32(0.99), {"rgb": (0, 0.5), "flow": (2, 0.9)}, jpeg, jpeg),
            Mistake(f"videos/{NASTY}.mp4", 3, 1, 0.9, {"rgb": (1, 0.5)}, None, None),
        ],
        unreadable=[("videos/broken.mp4", "not a video")],
        missing=2,
    )


class Page(HTMLParser):
    """The elements of a page, with the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts.append((self.elements[-1][1], data))


@pytest.fixture
def page(tmp_path):
    write_report(tmp_path / "report.html", example())
    return Page((tmp_path / "report.html").read_text("utf-8"))


def test_the_page_holds_its_data_whatever_the_names(page):
    attributes, text = page.scripts[0]
    assert attributes == {"type": "application/json", "id": "data"} and text.isascii() and "<" not in text
    data = json.loads(text)
    assert data == json.loads(json.dumps(as_data(example())))
    assert data["classes"][1] == shown(NASTY) and data["title"] == f"Held-out {shown(NASTY)}"
    assert data["scores"]["rgb"][4] is None and data["counts"] == [6, 9, 12, 15, 0, 18]
    assert sum(n for _, _, n in data["confusion"]) == 60
    assert data["mistakes"][0]["rgb"].startswith("data:image/jpeg;base64,/9j/") and data["mistakes"][1]["rgb"] is None


def test_no_name_adds_an_element(page):
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_page_is_self_contained(page, tmp_path):
    for _, attributes in page.elements:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(|{{", text.replace("{{data}}", ""))
    assert "default-src 'none'" in text


def test_style_and_script_are_in_the_page_whole(tmp_path):
    write_report(tmp_path / "report.html", example())
    text = (tmp_path / "report.html").read_text("utf-8")
    for name in ("report.css", "report.js"):
        part = (resources.files("i3dcli") / "assets" / name).read_text("utf-8")
        assert len(part) > 5000 and text.count(part) == 1
        assert not re.search("</(style|script)", part)  # which would end it early


def test_streams_are_listed_in_one_order():
    content = example()
    data = as_data(replace(content, measured=dict(reversed(content.measured.items()))))
    assert [row["name"] for row in data["rows"]] == ["RGB", "Flow", "Two-stream"]
    assert data["rows"][2]["top1_interval"] == content.measured["two_stream"].top1_interval


def test_mcnemars_test_is_told_in_words():
    assert mcnemar_sentence("two_stream", "rgb", Paired(50, 20, 3, 0, 0.00049)) == (
        "Two-stream and RGB differ significantly (McNemar’s exact test, p = 0.00049): "
        "only Two-stream is right on 20, only RGB on 3."
    )
    assert "do not differ significantly" in mcnemar_sentence("rgb", "flow", Paired(1, 1, 1, 1, 1.0))
    assert "p < 0.0001" in mcnemar_sentence("rgb", "flow", Paired(0, 99, 0, 0, 1e-9))


def test_tables_can_be_read_back(tmp_path):
    content = replace(example(), classes=('a, "b"', "été", *CLASSES[2:]))
    write_per_class(tmp_path / "per_class.csv", content)
    write_confusion(tmp_path / "confusion.csv", content.classes, content.confusion)
    header, *rows = csv.reader((tmp_path / "per_class.csv").read_text("utf-8").splitlines())
    assert header == ["class", "count", "rgb", "flow", "two_stream"]
    assert [row[0] for row in rows] == list(content.classes) and [int(row[1]) for row in rows] == [6, 9, 12, 15, 0, 18]
    assert rows[4][2:] == ["", "", ""] and float(rows[0][4]) == content.class_accuracies["two_stream"][0]
    header, *rows = csv.reader((tmp_path / "confusion.csv").read_text("utf-8").splitlines())
    assert header[1:] == list(content.classes) and [[int(n) for n in row[1:]] for row in rows] == content.confusion.tolist()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"class_counts": np.zeros(5, int)}, r"6 classes, got array.shape = \(5,\)"),
        ({"class_accuracies": {"rgb": np.zeros((6, 1))}}, r"array.shape = \(6, 1\)"),
        ({"confusion": np.zeros((6, 5), int)}, r"expected \(6, 6\), got self.confusion.shape = \(6, 5\)"),
        ({"measured": {}}, "expected some of rgb, flow, two_stream"),
        ({"class_accuracies": {"depth": np.zeros(6)}}, "depth"),
    ],
)
def test_mistakes_are_named(changes, text):
    with pytest.raises(ValueError, match=text):
        replace(example(), **changes)


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(I3DError, match="cannot write"):
        write_report(tmp_path / "absent" / "report.html", example())


# Runs BODY in a page and leaves what that puts into `result`, with all errors, in the page around it.
PROBE = """<script>
const errors = [], result = {};
addEventListener("error", event => errors.push(event.message));
addEventListener("load", async () => {
  const $ = id => document.getElementById(id);
  const texts = selector => [...document.querySelectorAll(selector)].map(e => e.textContent);
  const change = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event(id === "search" ? "input" : "change")); };
  try {
    BODY
  } catch (error) { errors.push(String(error)); }
  const escaped = c => "\\\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
  const text = JSON.stringify({errors, ...result}).replace(/[^ -~]|[<>&]/g, escaped);
  const element = Object.assign(top.document.createElement("pre"), {id: "NAME", textContent: text});
  top.document.body.append(element);
});
</script></head>"""
USED = """
    result.title = $("title").textContent; result.command = $("command").textContent;
    result.results = texts("#results tbody th, #results .value"); result.unreadable = texts("#unreadable li");
    for (const order of ["name", "count", "worst", "best"]) { change("sort", order); result[order] = texts("#bars .name"); }
    const picture = document.querySelector("article img");
    picture.loading = "eager"; await picture.decode(); result.picture = [picture.naturalWidth, picture.naturalHeight];
    const pressed = () => texts("#bars button[aria-pressed=true] .name");
    const shown = () => [texts("article code"), pressed(), $("class").value, $("chip").hidden];
    result.before = shown();
    document.querySelector('#bars button[data-class="2"]').click(); result.clicked = shown();
    change("class", "3"); result.selected = shown();
    $("chip").querySelector("button").click(); result.cleared = shown();
    change("search", "A.MP4"); result.searched = shown();
    const canvas = $("canvas"), box = canvas.getBoundingClientRect();
    const clientX = box.left + matrix.left + 2.5 * matrix.cell, clientY = box.top + 0.5 * matrix.cell;
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
    result.tip = $("tip").textContent; canvas.dispatchEvent(new PointerEvent("pointerleave")); result.gone = $("tip").hidden;
    for (const key of ["ArrowDown", "ArrowDown"]) canvas.dispatchEvent(new KeyboardEvent("keydown", {key}));
    result.cell = $("cell").textContent;
"""
MEASURED = """
    pointAt([5, 5]);  // the tip of the last column must not stick out
    result.sizes = [document.documentElement.scrollWidth, document.documentElement.clientWidth, innerWidth];
    result.tip = $("tip").getBoundingClientRect().right;
    result.wide = [...document.querySelectorAll("section, article")].filter(e => e.scrollWidth > e.clientWidth).length;
"""
READ = """
    result.values = texts("#results .value"); result.heads = texts("#results thead th");
    result.hidden = ["matrix-section", "mistakes", "unreadable-section"].map(id => $(id).hidden);
"""
HANGUL = """
    result.title = [$("title").textContent, document.title]; result.names = texts("#bars .name");
    result.card = texts("article .truth, article .predicted, article code");
"""
WIDTHS = (400, 1000, 1600)


def multi_label():
    return replace(
        example(),
        measured={"flow": measure_multi_label(np.eye(6)[:, :2], np.eye(6, dtype=bool)[:, :2])},
        classes=CLASSES[:2],
        class_counts=np.array([1, 1]),
        class_accuracies={"flow": np.ones(2)},
        **{"confusion": None, "agreement": None, "mistakes": (), "comparisons": (), "unreadable": (), "missing": 0},
    )


def in_hangul():
    mistake = Mistake("영상/뛰기.mp4", 0, 1, 0.9, {})
    return replace(example(), title="시험", classes=("뛰기", "걷기", *CLASSES[2:]), mistakes=[mistake])


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    """What pages left in `result`, by name; fails on any error of a page or in the console.

    Each is in a frame of one page, as to start Chromium takes long and its windows are at least 500 pixels wide.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium, which is not installed")
    folder = tmp_path_factory.mktemp("report")
    pages = {"used": (example(), USED, 1600), "multi_label": (multi_label(), READ, 1600)}
    pages["hangul"] = (in_hangul(), HANGUL, 1600)
    pages |= {f"{width}": (example(), MEASURED, width) for width in WIDTHS}
    frames = []
    for name, (content, body, width) in pages.items():
        write_report(folder / "report.html", content)
        probe = PROBE.replace("NAME", name).replace("BODY", body)
        text = (folder / "report.html").read_text("utf-8").replace("</head>", probe, 1)
        frames.append(f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{html.escape(text)}"></iframe>')
    (folder / "frames.html").write_text("".join(frames), "utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    options += ["--window-size=1700,1000", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    url, home = (folder / "frames.html").as_uri(), {**os.environ, "HOME": str(folder)}  # where it would keep settings
    done = subprocess.run([chromium, *options, url], capture_output=True, timeout=PATIENCE, env=home)
    assert b"CONSOLE" not in done.stderr, done.stderr.decode()
    results = {name: json.loads(re.search(rb'id="%b">([^<]*)<' % name.encode(), done.stdout)[1]) for name in pages}
    assert [result.pop("errors") for result in results.values()] == [[]] * len(pages)
    return results


def test_the_browser_shows_what_was_measured(browsed):
    content, found = example(), browsed["used"]
    values = [f"{100 * x:.1f}%" for m in content.measured.values() for x in (m.top1, m.top5, m.mean_class)]
    assert [text for text in found["results"] if "%" in text] == values
    assert found["results"][::4] == ["RGB60 of 63", "Flow60 of 63", "Two-stream60 of 63"]
    assert (found["title"], found["command"]) == (shown(content.title), content.command)
    assert found["unreadable"] == ["videos/broken.mp4 not a video", "2 videos not on disk"]


def test_classes_are_sorted(browsed):
    content, found = example(), browsed["used"]
    names = list(map(shown, CLASSES))
    scores = dict(zip(names, content.class_accuracies["two_stream"].tolist(), strict=True))
    by_name = sorted(names, key=lambda name: (name != shown(NASTY), name))  # marks before letters
    assert found["name"] == by_name
    assert found["count"] == ["diving", "bowling", "archery", shown(NASTY), "zumba", "never seen"]
    present = [name for name in by_name if name != "never seen"]
    assert found["worst"] == [*sorted(present, key=lambda name: scores[name]), "never seen"]
    assert found["best"] == [*sorted(present, key=lambda name: -scores[name]), "never seen"]


def test_mistakes_are_filtered_by_class_and_path(browsed):
    found, first, second = browsed["used"], "videos/a.mp4", shown(f"videos/{NASTY}.mp4")
    assert found["before"] == found["cleared"] == [[first, second], [], "", True]
    assert found["clicked"] == [[first], ["archery"], "2", False]
    assert found["selected"] == [[second], ["bowling"], "3", False]
    assert found["searched"][0] == [first]


def test_thumbnails_are_decoded(browsed):
    assert browsed["used"]["picture"] == [80, 60]


def test_cells_of_the_confusion_matrix_are_told(browsed):
    matrix, found = example().confusion, browsed["used"]
    assert found["tip"] == f"zumba → archery: {matrix[0, 2]} of 6 videos ({100 * matrix[0, 2] / 6:.1f}%)" and found["gone"]
    assert found["cell"].startswith(f"{shown(NASTY)} → zumba: {matrix[1, 0]} of 9 videos")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(browsed, width):
    found = browsed[f"{width}"]
    needed, there, window = found["sizes"]
    assert needed <= there <= window == width and 0 < found["tip"] <= there and found["wide"] == 0


def test_multi_label_data_shows_average_precision(browsed):
    heads = ["Stream", "Mean average precision"]
    assert browsed["multi_label"] == {"values": ["100.0%"], "heads": heads, "hidden": [True] * 3}


def test_names_in_hangul_are_shown_as_they_are(browsed):
    data, found = as_data(in_hangul()), browsed["hangul"]
    assert data["classes"][:2] == ["뛰기", "걷기"] and data["mistakes"][0]["video"] == "영상/뛰기.mp4"
    assert found["title"] == ["시험"] * 2 and found["card"] == ["뛰기", "걷기", "영상/뛰기.mp4"]
    assert {"뛰기", "걷기"} <= {*found["names"]}
