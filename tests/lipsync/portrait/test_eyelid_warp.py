import numpy as np
import pytest

from mouthpiece.lipsync.portrait.eyelid_warp import (
    OVERLAP_HEIGHTS,
    SKIN_BAND_HEIGHTS,
    SKIN_BAND_MIN_HEIGHTS,
    UpperEyelid,
)
from mouthpiece.lipsync.portrait.opening_segmenter import EyeContour


def lid(height=0.04):
    x = np.linspace(0.3, 0.42, 40)
    half = height / 2 * np.sqrt(np.clip(1 - ((x - 0.36) / 0.05) ** 2, 0, 1))
    return UpperEyelid(EyeContour(x, 0.34 - half, 0.34 + half))


def column(x, low=0.2, high=0.45):
    y = np.linspace(low, high, 500)
    return y, np.stack([np.full_like(y, x), y], -1)[:, None]


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_a_lid_warp_never_folds_and_its_edge_comes_down_as_far_as_its_share(share):
    y, at = column(0.36)
    rows, cover = lid().compute_warp(share, at, 0.001)
    assert (np.diff(rows[:, 0]) > 0).all()
    edge = 0.32 + share * 0.04 * (1 + OVERLAP_HEIGHTS)
    assert rows[np.abs(y - edge).argmin(), 0] == pytest.approx(0.32, abs=1e-3)
    assert (cover[y < edge] == 1).all() and (cover[y > edge + 0.004] == 0).all()


def test_a_brow_and_the_skin_beside_the_eye_stay_where_they_are():
    y, at = column(0.36)
    rows, _ = lid().compute_warp(1.0, at, 0.001)
    above = y < 0.32 - SKIN_BAND_HEIGHTS * 0.04
    assert np.allclose(rows[above, 0], y[above])
    y, at = column(0.301)
    assert np.allclose(lid().compute_warp(1.0, at, 0.001)[0][:, 0], y, atol=1e-6)


def test_what_a_lid_changes_lies_in_its_box():
    shut = lid()
    top, bottom, left, right = shut.box
    y, x = np.mgrid[0.2:0.5:300j, 0.25:0.5:300j]
    at = np.stack([x, y], -1)
    rows, cover = shut.compute_warp(1.0, at, 0.0005)
    changed = np.abs(rows - y) * cover > 1e-6
    assert (
        changed.any()
        and (y[changed] > top).all()
        and (y[changed] < bottom).all()
        and (x[changed] > left).all()
        and (x[changed] < right).all()
    )


def test_skin_stretches_up_to_a_low_brow_and_not_into_it():
    x = np.linspace(0.3, 0.42, 40)
    half = 0.02 * np.sqrt(np.clip(1 - ((x - 0.36) / 0.05) ** 2, 0, 1))
    eye = EyeContour(x, 0.34 - half, 0.34 + half)
    light = np.full((400, 400), 150.0)
    plain = UpperEyelid(eye, light).skin_band
    assert np.allclose(plain, UpperEyelid(eye).skin_band) and np.allclose(plain, SKIN_BAND_HEIGHTS * eye.height)
    light[100:116] = 60  # a brow whose lower edge lies at 0.29
    low = UpperEyelid(eye, light).skin_band
    middle = np.argmin(np.abs(x - 0.36))
    assert eye.upper[middle] - low[middle] > 0.28 and (low >= SKIN_BAND_MIN_HEIGHTS * eye.height - 1e-9).all()
    y, at = column(0.36)
    rows, _ = UpperEyelid(eye, light).compute_warp(1.0, at, 0.001)
    assert np.allclose(rows[y < 0.28, 0], y[y < 0.28]) and (np.diff(rows[:, 0]) > 0).all()
