import av
import cv2
import numpy as np
import pytest
from media import DISPLAY, set_matrix, with_exif, write_video

from i3dcli.video.orientation import orientation, woven
from i3dcli.video.reader import Video, read_video

CORNERS = {"A": (255, 255, 255), "B": (255, 0, 0), "C": (0, 255, 0), "D": (0, 0, 255)}
SHOWN = {1: "AB CD", 2: "BA DC", 3: "DC BA", 4: "CD AB", 5: "AC BD", 6: "CA DB", 7: "DB CA", 8: "BD AC"}  # by EXIF's number


def picture(layout="AB CD", height=64, width=96):
    """Four coloured quarters, row by row."""
    top, bottom = layout.split()
    quarters = [[np.full((height // 2, width // 2, 3), CORNERS[name], np.uint8) for name in row] for row in (top, bottom)]
    return np.concatenate([np.concatenate(row, axis=1) for row in quarters])


def layout(frame):
    """The names of the quarters of a frame, row by row."""
    height, width, _ = frame.shape
    names = [
        min(CORNERS, key=lambda name: np.abs(frame[row, column].astype(int) - CORNERS[name]).sum())
        for row in (height // 4, height * 3 // 4)
        for column in (width // 4, width * 3 // 4)
    ]
    return "".join(names[:2]) + " " + "".join(names[2:])


@pytest.mark.parametrize("exif", SHOWN)
def test_a_display_matrix_turns_and_mirrors_a_video(tmp_path, exif):
    path = set_matrix(write_video(tmp_path / "phone.mp4", [picture()] * 2), DISPLAY[exif])
    frame = next(iter(Video(path, short_side=32)))
    assert layout(frame) == SHOWN[exif] and frame.shape == ((48, 32, 3) if exif >= 5 else (32, 48, 3))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("exif", SHOWN)
def test_exif_turns_and_mirrors_pictures(tmp_path, exif, suffix):
    coded = cv2.imencode(suffix, picture()[..., ::-1])[1].tobytes()
    (tmp_path / f"1{suffix}").write_bytes(with_exif(coded, exif))
    (frame,) = Video(tmp_path, short_side=32)
    assert layout(frame) == SHOWN[exif] and frame.shape == ((48, 32, 3) if exif >= 5 else (32, 48, 3))


def test_another_angle_is_taken_for_the_nearest_quarter_turn(tmp_path):
    path = write_video(tmp_path / "v.mp4", [picture()] * 2)
    found = []
    for degrees in (30, 60, 170):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        found.append(layout(next(iter(Video(set_matrix(path, (cos, sin, -sin, cos)), short_side=32)))))
    assert found == [SHOWN[1], SHOWN[6], SHOWN[3]]


def test_a_matrix_that_says_nothing_leaves_the_picture_as_it_is(tmp_path):
    path = set_matrix(write_video(tmp_path / "v.mp4", [picture()] * 2), (0, 0, 0, 0))
    assert layout(next(iter(Video(path, short_side=32)))) == SHOWN[1]


def test_the_matrix_of_the_container_counts_before_that_of_the_stream(tmp_path):
    path = write_video(tmp_path / "v.mp4", [picture()] * 2, codec="libx264")
    with av.open(path) as given, av.open(tmp_path / "turned.mp4", "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        turn = av.BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", given.streams.video[0])
        for packet in given.demux(video=0):
            for turned in turn.filter(packet if packet.size else None):
                turned.stream = stream
                out.mux(turned)
    (tmp_path / "both.mp4").write_bytes((tmp_path / "turned.mp4").read_bytes())
    set_matrix(tmp_path / "both.mp4", DISPLAY[4])
    assert [layout(read_video(tmp_path / name)[0].permute(1, 2, 0).numpy()) for name in ("turned.mp4", "both.mp4")] == [
        SHOWN[8],
        SHOWN[4],
    ]


def test_pictures_that_lie_differently_come_in_the_shape_of_the_first(tmp_path):
    coded = cv2.imencode(".jpg", picture()[..., ::-1])[1].tobytes()
    for i, exif in enumerate((6, 1, 6)):
        (tmp_path / f"{i}.jpg").write_bytes(with_exif(coded, exif))
    assert read_video(tmp_path, short_side=32).shape == (3, 3, 48, 32)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mpg", "mpeg2video", {"flags": "+ilme+ildct"}),
        ("v.mp4", "libx264", {"x264-params": "interlaced=1"}),
    ],
)
def test_both_fields_are_scaled_as_one_picture(tmp_path, name, codec, options):
    striped = np.zeros((64, 64, 3), np.uint8)
    striped[1::2] = (255, 60, 60)  # one field is black, the other red
    path = write_video(tmp_path / name, [striped] * 2, codec=codec, options=options)
    with av.open(path) as container:
        decoded = next(container.decode(video=0))
    assert decoded.interlaced_frame and not woven(decoded).interlaced_frame
    frame = next(iter(Video(path, short_side=32))).astype(int)
    assert np.abs(np.diff(frame[4:-4], axis=0)).max() <= 6  # no line of one field beside one of the other
    assert abs(frame[..., 0].mean() - 127) < 8 and abs(frame[..., 1].mean() - 30) < 8
    planes = [decoded.to_ndarray(format="yuv420p"), woven(decoded).to_ndarray(format="yuv420p")]
    assert (planes[0] == planes[1]).all() and woven(decoded).colorspace == decoded.colorspace


def test_a_progressive_frame_is_left_alone(tmp_path):
    with av.open(write_video(tmp_path / "v.mp4", [picture()] * 2)) as container:
        frame = next(container.decode(video=0))
    assert woven(frame) is frame and orientation(frame) == (False, False, False)


def test_pixels_count_as_square(tmp_path):
    path = write_video(tmp_path / "v.mp4", [picture()] * 2, codec="libx264", options={"aspect": "3:1"})
    with av.open(path) as container:
        assert container.streams.video[0].sample_aspect_ratio == 3
    assert next(iter(Video(path, short_side=32))).shape == (32, 48, 3)
