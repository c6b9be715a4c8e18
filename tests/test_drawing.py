import os
import threading

import numpy as np
import pytest

from i3dcli.drawing import BOX, drawable, drawable_label, fitted, text_width, write


def ink(text, size=20):
    """A picture of a text in black on white."""
    picture = np.full((2 * size, 400, 3), 255, np.uint8)
    write(picture, text, 10, 1.5 * size, size=size)
    return picture


def same(a, b):
    return np.array_equal(ink(a), ink(b))


@pytest.mark.parametrize(
    "names",
    [
        ("뛰기", "걷기"),
        ("영상.mp4", "영화.mp4"),
        ("相撲", "跳绳"),
        ("ジャンプ", "おどり"),
        ("прыжки", "прыжок"),
        ("été", "ete"),
    ],
)
def test_names_of_many_scripts_are_drawn_and_differ(names):
    first, second = names
    assert not same(first, second)
    for name in names:
        assert (ink(name) < 128).any() and drawable(name) == name and drawable_label(name, 3) == name
        assert not same(name, "?" * len(name)) and not same(name, BOX * len(name))


def test_a_name_as_macos_stores_it_is_drawn_as_it_is_read():
    assert same("영상 été.mp4".encode().decode(), "영상 e\u0301te\u0301.mp4")
    assert drawable("\u110b\u1167\u11bc") == "영"


def test_what_the_font_lacks_is_left_out_told_as_a_box_or_by_the_number_of_its_class():
    assert drawable("ṭha wǔshù o\u0331k") == "tha wushù ok"
    assert drawable("🏊 50 %? ไทย") == "□ 50 %? □□□" and not same(BOX, "?")
    assert drawable_label("🏊 swimming?", 3) == "□ swimming?"
    assert [drawable_label(label, 3) for label in ("पार्कौर", "parkour पार्कौर", "...", "🏊")] == ["class 3"] * 4


def test_what_is_written_from_the_right_is_not_drawn_from_the_left():
    assert [drawable_label(label, 3) for label in ("سباحة", "שלום", "swim שלום")] == ["class 3"] * 3
    assert drawable("שלום.mp4") == "□□□□.mp4"


def test_names_that_no_text_may_hold_are_harmless():
    assert drawable("a\x1b\n\u202e\x00") == r"a\x1b\n\u202e\x00"
    for text in ("\ud800", os.fsdecode(b"caf\xe9"), "w" * 100_000, "a" + "\u0301" * 1000, ""):
        assert ink(text).shape == (40, 400, 3) and text_width(text, 20) >= 0  # OpenCV itself crashes on surrogates
        assert drawable_label(text, 3)


def test_text_is_cut_where_it_is_too_wide():
    for text in ("passing American football", "팔굽혀펴기 팔굽혀펴기"):
        cut = fitted(text, 100, 18)
        assert cut.endswith("...") and text.startswith(cut[:-3]) and 80 < text_width(cut, 18) <= 100
    assert fitted("yoga", 100) == "yoga" and fitted("yoga", 5) == fitted("", 5) == ""


def test_text_ends_where_it_is_said_to():
    for align, left in ((0.0, 100), (0.5, 100 - text_width("뛰기 yoga", 20) / 2), (1.0, 100 - text_width("뛰기 yoga", 20))):
        picture = np.full((40, 300, 3), 255, np.uint8)
        width = write(picture, "뛰기 yoga", 100, 30, align=align, size=20)
        columns = np.argwhere((picture < 200).any((0, 2)))
        assert abs(columns.min() - left) <= 3 and abs(columns.max() - left - width) <= 3


def test_threads_draw_the_same_letters():
    texts = [chr(0xAC00 + i) * 3 for i in range(1500)]

    def draw(number):
        drawn[number] = [ink(text, 10 + i % 9) for i, text in enumerate(texts)]

    drawn = {}
    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [ink(text, 10 + i % 9) for i, text in enumerate(texts)]
    assert all(np.array_equal(a, b) for pictures in drawn.values() for a, b in zip(pictures, expected, strict=True))
