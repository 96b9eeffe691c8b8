"""Portraits as people have them: what cannot be used is refused in one sentence, what can be used works."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mouthpiece.engine.media.images import read_image
from mouthpiece.face.detect import Face


def save(desk, pixels, name="other.png", **settings):
    """Writes a picture by Pillow; gives its name."""
    Image.fromarray(pixels).save(desk / name, **settings)
    return name


def test_a_file_that_is_not_there_is_refused(refuse):
    assert refuse(5, portrait="nobody.png") == "nobody.png: no such file. Check the name; a picture is needed here."


def test_a_name_too_long_for_the_system_is_refused_too(refuse):
    assert "no such file" in refuse(5, portrait="a" * 300 + ".png")


def test_a_folder_is_refused(refuse, desk):
    (desk / "folder.png").mkdir()
    assert refuse(5, portrait="folder.png") == "folder.png: this is a folder. Give one picture."


def test_an_empty_file_is_refused(refuse, desk):
    (desk / "empty.png").touch()
    assert "the file is empty (0 bytes)" in refuse(5, portrait="empty.png")


def test_text_under_the_name_of_a_picture_is_refused(refuse, desk):
    (desk / "text.png").write_text("Dear Sir or Madam,\n" * 50)
    assert "not a picture" in refuse(5, portrait="text.png")


def test_a_sound_in_the_place_of_the_portrait_is_refused(refuse):
    assert "line.wav: not a picture" in refuse(5, portrait="line.wav")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_picture_that_is_cut_off_is_refused(refuse, desk, share):
    whole = (desk / "portrait.png").read_bytes()
    (desk / "half.png").write_bytes(whole[: int(share * len(whole))])
    assert "broken or cut off" in refuse(5, portrait="half.png")


def test_a_picture_of_one_pixel_is_refused(refuse, desk):
    name = save(desk, np.zeros((1, 1, 3), np.uint8))
    assert refuse(5, portrait=name) == "other.png: 1 x 1 pixels is too small. Each side needs at least 32."


def test_more_pixels_than_memory_should_hold_are_refused_from_the_header_alone(refuse, desk):
    Image.new("1", (14_000, 14_000)).save(desk / "wall.png")
    assert "million pixels" in refuse(5, portrait="wall.png")


def test_a_picture_of_twelve_thousand_pixels_works_and_places_count_in_its_own_pixels(perform, desk, head):
    wall = np.full((1_000, 12_000), 128, np.uint8)
    grey = cv2.cvtColor(head, cv2.COLOR_RGB2GRAY)
    for x in (2_000, 9_000):
        wall[:, x : x + 1_000] = cv2.resize(grey, (1_000, 1_000))
    save(desk, wall, "wall.png", compress_level=1)
    x, y = 9_000 + 500, 117 * 1_000 / 256
    facts = perform("--face", f"{x},{y:.0f}", "--frame", "crop", portrait="wall.png")
    assert facts["face_source"] == "mtcnn"
    assert abs(facts["face_at_px"][0] - x) < 50 and abs(facts["face_at_px"][1] - y) < 50


def as_cmyk(desk, head):
    Image.fromarray(head).convert("CMYK").save(desk / "other.jpg", quality=95)
    return "other.jpg"


def with_alpha(desk, head):
    alpha = np.full((*head.shape[:2], 1), 255, np.uint8)
    alpha[:20] = 0
    return save(desk, np.concatenate([head, alpha], 2))


def turned_by_exif(desk, head):
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(desk, np.ascontiguousarray(np.rot90(head)), "other.jpg", exif=exif, quality=95)


def in_sixteen_bits(desk, head):
    cv2.imwrite(str(desk / "other.png"), head[..., ::-1].astype(np.uint16) * 257)
    return "other.png"


def in_sixteen_grey_bits(desk, head):
    grey = cv2.cvtColor(head, cv2.COLOR_RGB2GRAY)
    cv2.imwrite(str(desk / "other.png"), grey.astype(np.uint16) * 257)
    return "other.png"


def in_grey(desk, head):
    return save(desk, cv2.cvtColor(head, cv2.COLOR_RGB2GRAY))


def by_palette(desk, head):
    Image.fromarray(head).quantize(128).save(desk / "other.png")
    return "other.png"


KINDS = (as_cmyk, with_alpha, turned_by_exif, in_sixteen_bits, in_sixteen_grey_bits, in_grey, by_palette)


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_a_picture_of_any_usual_kind_works_and_shows_the_face_where_it_is(perform, desk, head, write):
    name = write(desk, head)
    facts = perform(portrait=name)
    assert (facts["width_px"], facts["height_px"]) == (96, 96)
    assert np.abs(np.subtract(facts["face_at_px"], (128, 117))).max() < 4
    assert np.abs(read_image(desk / name).pixels[100:200].mean() - head[100:200].mean()) < 12


def test_a_picture_without_a_face_is_refused_and_works_once_the_place_is_given(refuse, perform, desk):
    name = save(desk, np.full((160, 200, 3), (90, 120, 60), np.uint8))
    sentence = refuse(5, portrait=name)
    assert sentence.startswith("other.png: no face found (best score 0.") and "--face x,y" in sentence
    facts = perform("--face", "100,80", portrait=name)
    assert facts["face_source"] == "hand" and facts["face_at_px"] == [100, 80]


def test_a_place_outside_the_picture_is_a_usage_problem(refuse):
    assert "lies outside the picture (256 x 256 px)" in refuse(2, "--face", "300,20")


def test_of_three_faces_the_largest_speaks_unless_another_is_named(perform, refuse, desk, head):
    row = np.full((320, 800, 3), 128, np.uint8)
    for x, side in ((10, 160), (220, 300), (560, 220)):
        row[10 : 10 + side, x : x + side] = cv2.resize(head[:200, 28:228], (side, side), interpolation=cv2.INTER_AREA)
    name = save(desk, row, "row.png")
    assert 220 < perform(portrait=name)["face_at_px"][0] < 520
    assert 560 < perform("--face", "1", portrait=name, output="second.mp4")["face_at_px"][0] < 780
    sentence = refuse(5, "--face", "3", portrait=name, output="third.mp4")
    assert "face 3 asked for, 3 found" in sentence and "--face 0 to 2" in sentence


def test_a_face_seen_from_the_side_is_refused_unless_pointed_at(refuse, perform, monkeypatch):
    points = np.array([[110.0, 100], [130, 100], [112, 140], [132, 140]])
    side = Face(np.array([80.0, 60, 180, 180]), points, 0.99, "mtcnn", np.array([165.0, 120]))
    monkeypatch.setattr("mouthpiece.face.detect.find_faces_mtcnn", lambda image: [side])
    sentence = refuse(5)
    assert "turned about" in sentence and "--face x,y" in sentence
    assert perform("--face", "130,120")["face_source"] == "mtcnn"


def test_a_face_at_the_border_of_the_picture_works(perform, desk, head):
    name = save(desk, np.ascontiguousarray(head[60:200, 70:190]))
    assert perform(portrait=name)["frames"] == 5
    assert perform("--frame", "crop", portrait=name, output="crop.mp4")["frames"] == 5


def test_a_portrait_with_odd_sides_is_written_with_even_ones_and_the_facts_say_so(call, desk, head):
    from mouthpiece.engine.media.probing import probe

    save(desk, np.ascontiguousarray(head[:201, :223]))
    words = ("animate", str(desk / "other.png"), str(desk / "line.wav"), "-o", str(desk / "out.mp4"), "--fps", "12")
    answer = call(*words, "-q")
    assert answer.code == 0 and "224x202" in answer.out
    info = probe(desk / "out.mp4")
    assert (info.width_px, info.height_px) == (224, 202)
