import types

import numpy as np
import pytest

from mouthpiece.engine.errors import MissingDependencyError
from mouthpiece.face import matte
from mouthpiece.face.crop import make_crop
from mouthpiece.face.matte import compute_crop_coordinates, compute_matte, get_head_window, isolate_person

SIDE_PX = 100


def face_at(x, y, side_px=SIDE_PX):
    """Points of a frontal face whose crop is side_px long, its middle at x, y."""
    return (np.array([[0.355, 0.34], [0.645, 0.34], [0.40, 0.64], [0.60, 0.64]]) - 0.5) * side_px + [x, y]


def figure(shape, x, y, side_px=SIDE_PX):
    """Shares of a head and shoulders, 1 inside."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]]
    head = np.hypot((cols - x) / (0.4 * side_px), (rows - y + 0.05 * side_px) / (0.55 * side_px)) < 1
    body = (rows > y + 0.4 * side_px) & (np.abs(cols - x) < 0.8 * side_px)
    return (head | body).astype(np.float32)


def plain(shape):
    return np.full((*shape, 3), 90, np.uint8)


def test_places_put_the_eyes_where_the_crop_has_them():
    points = face_at(120, 90)
    at = compute_crop_coordinates(points, (200, 240))
    eye = at[round(points[0, 1]), round(points[0, 0])]
    assert np.abs(eye - [0.355, 0.34]).max() < 0.01


def test_a_matte_covers_the_figure_and_nothing_else():
    share = figure((260, 300), 150, 110)
    found = isolate_person(share, face_at(150, 110), plain(share.shape))
    assert np.array_equal(found > 0.5, share > 0.5)


def test_what_does_not_touch_the_person_is_not_the_person():
    share = figure((260, 420), 120, 110)
    other = np.zeros_like(share)
    other[40:200, 330:400] = 1
    found = isolate_person(np.maximum(share, other), face_at(120, 110), plain(share.shape))
    assert not found[:, 320:].any() and found[110, 120] == 1


def test_a_neighbour_who_touches_is_parted_half_way_between_the_faces():
    one, two = face_at(120, 110), face_at(260, 110)
    share = np.maximum(figure((260, 400), 120, 110), figure((260, 400), 260, 110))
    share[100:150, 120:260] = 1  # arm in arm
    found = isolate_person(share, one, plain(share.shape), lambda: [one, two])
    assert found[110, 120] == 1 and found[110, 180] == 1
    assert not found[:, 200:].any()


def test_holes_in_the_person_are_filled():
    share = figure((260, 300), 150, 110)
    share[170:180, 150:160] = 0
    share[70:80, 150:158] = 0.2
    assert np.array_equal(
        isolate_person(share, face_at(150, 110), plain(share.shape)) > 0.5, figure((260, 300), 150, 110) > 0.5
    )


@pytest.mark.parametrize("share", [np.zeros((200, 200), np.float32), figure((200, 200), 40, 110, 50)])
def test_no_person_around_the_face_is_no_matte(share):
    assert isolate_person(share, face_at(130, 90), plain(share.shape)) is None


def test_an_ear_lost_before_a_dark_wall_is_found_by_its_colour():
    share = figure((260, 300), 150, 110)
    pixels = np.random.default_rng(0).normal(0, 2, (260, 300, 3)) + np.where(
        share[..., None] > 0.5, (190, 140, 110), (20, 20, 22)
    )
    ear = np.s_[100:115, 183:191]
    cut = share.copy()
    cut[95:120, 180:] = 0
    pixels = pixels.clip(0, 255).astype(np.uint8)
    lost = isolate_person(cut, face_at(150, 110), np.where(cut[..., None] > 0.5, pixels, 20).astype(np.uint8))
    assert isolate_person(cut, face_at(150, 110), pixels)[104:111, 181:186].min() > 0.5 and not lost[ear].any()


def test_a_matte_lies_where_the_network_saw_the_person_in_a_large_picture():
    pixels = plain((900, 1200))
    points = face_at(700, 400, 300)
    rows, cols = get_head_window(make_crop(points, 100), (1200, 900))
    seen = []

    def network(view):
        seen.append(view.shape)
        full = figure((900, 1200), 700, 400, 300)[rows, cols]
        i, j = ((np.arange(n) + 0.5) * m / n for n, m in zip(view.shape[:2], full.shape))
        return full[i.astype(int)][:, j.astype(int)]

    found = compute_matte(pixels, points, network)
    wanted = figure((900, 1200), 700, 400, 300)
    assert max(seen[0]) == matte.NETWORK_PX and found.dtype == np.float32 and found.shape == (900, 1200)
    assert (np.abs(found[rows, cols] - wanted[rows, cols]) > 0.5).mean() < 0.01
    outside = np.ones(found.shape, bool)
    outside[rows, cols] = False
    assert outside.any() and not found[outside].any()


def test_a_neighbour_is_known_even_where_the_window_cuts_his_face(monkeypatch):
    one, two = face_at(150, 150), face_at(280, 150)
    cut = get_head_window(make_crop(one, 100), (420, 300))[1].stop
    assert 260 < cut < 300
    monkeypatch.setattr(matte, "find_faces_fast", lambda pixels: [types.SimpleNamespace(points=p) for p in (two, one)])
    found = compute_matte(plain((300, 420)), one, lambda view: np.ones(view.shape[:2], np.float32))
    assert found[150, 205] > 0.9 and not found[150, 225:].any()


def test_a_face_at_the_border_has_a_matte_within_the_picture(monkeypatch):
    monkeypatch.setattr(matte, "find_faces_fast", lambda pixels: [])
    found = compute_matte(plain((200, 160)), face_at(150, 40), lambda view: np.ones(view.shape[:2], np.float32))
    assert found.shape == (200, 160) and found[40, 150] == 1


def test_damaged_weights_are_refused_with_a_remedy(tmp_path):
    path = tmp_path / "rvm.onnx"
    path.write_bytes(b"other")
    with pytest.raises(MissingDependencyError) as caught:
        matte._open_session(path)
    assert "Install" in caught.value.hint and str(path) in caught.value.message


def test_without_the_weights_mediapipe_takes_its_place(monkeypatch):
    monkeypatch.setattr(matte, "find_matting_weights", lambda: None)
    assert matte.choose_matting_network() is matte.segment_with_mediapipe


@pytest.mark.parametrize("name", ["segment_with_rvm", "segment_with_mediapipe"])
def test_a_network_tells_a_person_from_the_room(name):
    import skimage.data

    if name == "segment_with_rvm" and matte.find_matting_weights() is None:
        pytest.skip("the weights of RobustVideoMatting were left out")
    pixels = skimage.data.astronaut()
    points = np.array([[206.0, 100.0], [246.0, 98.0], [211.0, 139.0], [243.0, 138.0]])  # of her face
    found = compute_matte(pixels, points, getattr(matte, name))
    assert found[60:160, 205:250].min() > 0.9  # face and hair
    assert found[20:110, 310:350].max() < 0.1  # wall
    assert found[40:110, 390:430].max() < 0.1  # the shuttle beside her
