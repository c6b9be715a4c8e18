"""What is believed of a number that somebody else wrote down."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from i3dcli.cli.main import main
from i3dcli.defaults import RANGES, TVL1, TVL1_RANGES, Range
from i3dcli.models.preprocessing import Preprocessing
from i3dcli.text import briefly

ABSURD = (0, -1, 10**9, 10**30, 1e300, math.inf, -math.inf, math.nan, True, "5", None, b"5", [5], {}, torch.tensor(5))


@pytest.mark.parametrize(
    ("record", "field", "allowed"),
    [(cls, *item) for cls, ranges in ((Preprocessing, RANGES), (TVL1, TVL1_RANGES)) for item in ranges.items()],
)
def test_every_number_has_a_range_and_no_other_is_believed(record, field, allowed):
    for value in (allowed.least, allowed.most):
        value = int(value) if allowed.whole else float(value)
        assert getattr(record(**{field: value}), field) == value
    for value in (value for value in ABSURD if value is True or value not in allowed):
        with pytest.raises(ValueError, match=rf"^{record.__name__}: {field}: got .*, expected {re.escape(str(allowed))}$"):
            record(**{field: value})
    assert sum(value in allowed for value in ABSURD) == (field == "epsilon")  # which may be zero


@pytest.mark.parametrize("option", ["--warps", "--scales", "--inner-iterations", "--outer-iterations", "--tau", "--scale-step"])
def test_options_have_the_ranges_of_their_fields(option):
    allowed = TVL1_RANGES[option.removeprefix("--").replace("-", "_")]
    for value in ("1000000000", "-1"):
        result = CliRunner().invoke(main, ["extract-flow", "x.mp4", "--out", "flow", f"{option}={value}"])
        assert result.exit_code == 2 and result.stderr.startswith(f"Error: Invalid value for '{option}': {value}")
        assert f" is not in the range {allowed.least}<=x<={allowed.most}." in result.stderr


def test_no_field_that_is_a_number_lacks_a_range():
    numbers = {f.name for cls in (Preprocessing, TVL1) for f in dataclasses.fields(cls) if isinstance(f.default, (int, float))}
    assert numbers == RANGES.keys() | TVL1_RANGES.keys() | {"median"}


@pytest.mark.parametrize("median", [2, 4, True, 5.0, -1, "5", None])
def test_a_median_filter_has_one_of_four_sizes(median):
    with pytest.raises(ValueError, match=r"^TVL1: median: got .*, expected one of 0, 1, 3, 5$"):
        TVL1(median=median)


@pytest.mark.parametrize(
    "change", [{"flow_algorithm": name} for name in ("", "a\nb", "a\0", "x" * 10_000, 5)] + [{"flow_parameters": {"tau": 1}}]
)
def test_an_algorithm_is_a_name_and_its_parameters_are_tvl1s(change):
    with pytest.raises(ValueError, match=f"^Preprocessing: {next(iter(change))}: got "):
        Preprocessing(**change)


def test_numbers_of_numpy_are_numbers():
    assert np.int64(5) in Range(1, 5) and np.float32(0.5) in Range(0, 1, whole=False)
    assert np.float64(5) not in Range(1, 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "nan"),
        (True, "True"),
        (None, "None"),
        (12, "12"),
        (10**4000, "an integer of more than 20 digits"),
        ("a\n" + "b" * 100, "'a\\n" + "b" * 38 + "…'"),
        ("\ud800", "'\ufffd'"),
        ([[]], "a value of type list"),
    ],
)
def test_a_value_of_any_kind_is_told_in_a_few_characters(value, text):
    assert briefly(value) == text
