import numpy as np
import pytest

from lipsync.finder import Eye
from lipsync.lids import BAND, LEAST_BAND, OVER, Lid


def lid(height=0.04):
    x = np.linspace(0.3, 0.42, 40)
    half = height / 2 * np.sqrt(np.clip(1 - ((x - 0.36) / 0.05) ** 2, 0, 1))
    return Lid(Eye(x, 0.34 - half, 0.34 + half))


def column(x, low=0.2, high=0.45):
    y = np.linspace(low, high, 500)
    return y, np.stack([np.full_like(y, x), y], -1)[:, None]


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_a_lid_never_folds_and_its_edge_comes_down_as_far_as_it_is_told(share):
    y, at = column(0.36)
    rows, cover = lid().lowered(share, at, 0.001)
    assert (np.diff(rows[:, 0]) > 0).all()
    edge = 0.32 + share * 0.04 * (1 + OVER)
    assert rows[np.abs(y - edge).argmin(), 0] == pytest.approx(0.32, abs=1e-3)
    assert (cover[y < edge] == 1).all() and (cover[y > edge + 0.004] == 0).all()


def test_a_brow_and_the_skin_beside_the_eye_stay_where_they_are():
    y, at = column(0.36)
    rows, _ = lid().lowered(1.0, at, 0.001)
    above = y < 0.32 - BAND * 0.04
    assert np.allclose(rows[above, 0], y[above])
    y, at = column(0.301)
    assert np.allclose(lid().lowered(1.0, at, 0.001)[0][:, 0], y, atol=1e-6)


def test_what_a_lid_changes_lies_in_its_box():
    shut = lid()
    top, bottom, left, right = shut.box
    y, x = np.mgrid[0.2:0.5:300j, 0.25:0.5:300j]
    at = np.stack([x, y], -1)
    rows, cover = shut.lowered(1.0, at, 0.0005)
    changed = (np.abs(rows - y) * cover > 1e-6)
    assert changed.any() and (y[changed] > top).all() and (y[changed] < bottom).all() and (x[changed] > left).all() and (x[changed] < right).all()


def test_skin_stretches_up_to_a_low_brow_and_not_into_it():
    x = np.linspace(0.3, 0.42, 40)
    half = 0.02 * np.sqrt(np.clip(1 - ((x - 0.36) / 0.05) ** 2, 0, 1))
    eye = Eye(x, 0.34 - half, 0.34 + half)
    light = np.full((400, 400), 150.0)
    plain = Lid(eye, light).band
    assert np.allclose(plain, Lid(eye).band) and np.allclose(plain, BAND * eye.height)
    light[100:116] = 60                                          # a brow whose lower edge lies at 0.29
    low = Lid(eye, light).band
    middle = np.argmin(np.abs(x - 0.36))
    assert eye.upper[middle] - low[middle] > 0.28 and (low >= LEAST_BAND * eye.height - 1e-9).all()
    y, at = column(0.36)
    rows, _ = Lid(eye, light).lowered(1.0, at, 0.001)
    assert np.allclose(rows[y < 0.28, 0], y[y < 0.28]) and (np.diff(rows[:, 0]) > 0).all()
