"""CSV and JSON for programs."""

import csv
import io
import json

import pytest

from i3dcli.text import command, csv_line, csv_text, json_line, option, worded_for_the_command_line


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_text_that_a_spreadsheet_would_compute_gets_an_apostrophe(first):
    cell = f'{first}HYPERLINK("http://x","y")'
    assert next(csv.reader(io.StringIO(csv_line([cell, 1]), newline=""))) == [f"'{cell}", "1"]


def test_numbers_and_other_texts_stay_as_they_are():
    assert csv_line([-0.5, 1e-07, -3, None, "", "a=b", "'x", "1-2"]) == "-0.5,1e-07,-3,,,a=b,'x,1-2"


@pytest.mark.parametrize("cell", ["two\nlines", "back\rspace", "a,b", 'say "so"'])
def test_a_cell_comes_back_whatever_is_in_it(cell):
    text = csv_text([["head", "er"], [cell, 1]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["head", "er"], [cell, "1"]] and text.endswith("1\n")


@pytest.mark.parametrize(
    "name", ["a\x1b[2Jb", "\x9b31m", "\x7f", "\u202egpj", "\u2066\u2028\u200b", "\U000e0041", "\ud800", "\udce9"]
)
def test_json_holds_exact_names_in_letters_that_no_terminal_obeys(name):
    text = json_line({"été 跳": name})
    assert json.loads(text) == {"été 跳": name} and text.isprintable()


def test_json_leaves_letters_as_they_are():
    assert json_line(["été 跳 \u3000"]) == '["été 跳 \u3000"]'


def test_advice_names_options_and_commands_as_its_reader_gives_them():
    def advice():
        return [option("batch_size"), option("overwrite", True), option("device", "cpu"), option("fps", 25.0), command("eval")]

    assert advice() == ["batch_size", "overwrite=True", "device='cpu'", "fps=25.0", "i3dcli.evaluate"]
    with worded_for_the_command_line():
        assert advice() == ["--batch-size", "--overwrite", "--device cpu", "--fps 25", "i3d eval"]
    assert advice()[0] == "batch_size"
