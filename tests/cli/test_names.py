"""Names of classes that a stranger chose, on their way to people."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from commands import predicting

from i3dcli.checkpoints.inflate import GoogLeNet, Inflation
from i3dcli.data.dataset import Sample, report_absent
from i3dcli.defaults import STREAMS
from i3dcli.evaluation.evaluate import as_report
from i3dcli.evaluation.findings import Evaluation, assess, evaluation_table, sweep_table
from i3dcli.evaluation.report import as_data, write_confusion, write_per_class
from i3dcli.prediction import load
from i3dcli.prediction.two_stream import TwoStream
from i3dcli.scores import Scores
from i3dcli.text import shown, shown_class

CONTROLS = "\x1b[2J\x9b31m\x07\nError: all is lost\r\u2028\u202egpj.\u2066\u200f\u200b\ufeff\u3164"
HOSTILE = f"=run{CONTROLS}{'a' + chr(0x301) * 60}" + "w" * 5000


def harmless(text):
    """Nothing in it but signs of ink, and lines of a width that people can read."""
    assert all(line.isprintable() and len(line) < 600 and not line.startswith("Error") for line in text.split("\n"))
    return not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u3164]|\u0301{5}", text)


@pytest.fixture
def run(quick, quick_model, monkeypatch):
    """`i3d predict` with a model each of whose classes has a hostile name of its own."""
    labels = [f"{HOSTILE}{i}" for i in range(10)]
    model = TwoStream(quick_model.nets, name="\x1b[31m\n.pt", classes=labels, device=torch.device("cpu"))
    monkeypatch.setattr(load, "load_model", lambda *arguments, **how: model)
    return predicting(quick)


@pytest.mark.parametrize("options", [[], ["--timeline"]])
def test_tables_are_harmless(run, video, options):
    result = run(video, *options)
    assert result.exit_code == 0 and harmless(result.stdout)
    assert shown_class(f"{HOSTILE}0")[:40] in result.stdout and r"\x1b[31m\n.pt" in result.stdout


def test_json_and_csv_hold_the_exact_name(run, video):
    line = run(video, "--json").stdout
    assert json.loads(line)["top"][0]["label"].startswith(HOSTILE) and line.rstrip("\n").isprintable()
    rows = list(csv.DictReader(io.StringIO(run(video, "--csv").stdout_bytes.decode(), newline="")))
    assert rows[0]["label"].startswith(f"'{HOSTILE}")


def test_pictures_hold_harmless_names(run, video, tmp_path):
    assert run(video, "--plot", tmp_path / "plot.svg", "--annotate", tmp_path / "video.mp4").exit_code == 0
    assert harmless("\n".join(filter(None, (node.text for node in ElementTree.parse(tmp_path / "plot.svg").iter()))))


def test_what_eval_writes_for_people_is_harmless_and_for_spreadsheets_no_formula(tmp_path):
    classes = ("=1+1", HOSTILE)
    logits = {stream: np.array([[1, 0], [1, 0], [0, 1]], np.float32) for stream in STREAMS}
    scores = Scores((f"{CONTROLS}.mp4", "b", "c"), classes, logits, np.array([1, 0, 1]))
    evaluation = Evaluation(scores, assess(scores))
    report = as_report(evaluation, command=f"i3d eval '{CONTROLS}'", protocol=None, samples=())
    data = as_data(report)
    for text in (
        evaluation_table(evaluation),
        sweep_table(scores),
        data["command"],
        *data["classes"],
        data["mistakes"][0]["video"],
    ):
        assert harmless(text)
    write_per_class(tmp_path / "per_class.csv", report)
    write_confusion(tmp_path / "confusion.csv", classes, np.eye(2, dtype=np.int64))
    for name in ("per_class.csv", "confusion.csv"):
        rows = list(csv.reader(io.StringIO((tmp_path / name).read_bytes().decode(), newline="")))
        assert [row[0] for row in rows[1:]] == ["'=1+1", f"'{HOSTILE}"]


def test_notes_name_absent_classes_harmlessly(tmp_path):
    notes = []
    report_absent([Sample(tmp_path, tmp_path, (0,))], ("a", f"{CONTROLS}1", HOSTILE), notes.append)
    assert harmless(notes[0]) and "2 of 3 classes" in notes[0]


def test_inflating_names_tensors_harmlessly():
    key, weights = "Conv3d_1a_7x7.conv3d.weight", torch.zeros(1, 1, 7, 7)

    class Net(torch.nn.Module):
        num_classes = 2

        def state_dict(self):
            return {key: weights[None]}

    assert harmless(Inflation(Net(), GoogLeNet({key: weights}, {key: f"{CONTROLS}conv1.weight"}), None).as_table())


def test_letters_of_all_scripts_are_shown_as_they_are():
    names = ["été", "跳绳", "ở đâu", "पार्कौर", "سباحة", "ngā mahi", "🏊 50 %", "a/b_c-d.mp4"]
    assert [shown(name) for name in names] == names


def test_a_long_name_is_cut_where_people_read_it_and_nowhere_else():
    assert len(shown_class("w" * 5000)) == len(shown_class("\x1b" * 200)) == 200 and shown("w" * 5000) == "w" * 5000
    assert shown_class("w" * 200) == "w" * 200
