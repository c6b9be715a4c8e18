import pytest

from i3dcli.drawing import ascii_label, fitted, tick_labels, ticks


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 0.7, ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]),
        (0, 6.2, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        (0, 24000, ["0", "5k", "10k", "15k", "20k", "25k"]),
        (-0.5, 1, ["-0.5", "0", "0.5", "1"]),
        (0, 0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_ticks_are_round_and_span_the_values(low, high, labels):
    assert tick_labels(ticks(low, high)) == labels


def test_steps_have_whole_numbers_for_ticks():
    assert ticks(0, 2, least=1) == [0, 1, 2]
    assert tick_labels([0, 0.125, 0.25], percent=True) == ["0%", "12.5%", "25%"]


def test_labels_that_opencv_cannot_write_become_ascii():
    assert ascii_label("zażółć – Straße", 3) == "zazolc - Strasse"
    assert [ascii_label(label, 3) for label in ("相撲", "Ä日本", "相撲 (sumo)", "...")] == ["class 3"] * 4
    assert ascii_label("Übung?", 3) == "Ubung?"
    assert fitted("passing American football", 100, 0.6).endswith("...") and fitted("yoga", 100, 0.6) == "yoga"
