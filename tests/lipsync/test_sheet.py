"""Contact sheets: every cell stands above its own moment; any length, with and without sound or face."""

import numpy as np
import pytest
from PIL import Image

from engine.errors import Refused, UsageProblem
from engine.media import VideoReader
from lipsync.clip import watch
from lipsync.sheet import (
    CELL_PX,
    FAINT,
    GAP_PX,
    HEAD_PX,
    LEFT_PX,
    MOST_STRIPS,
    OTHER,
    OURS,
    VOICE,
    WAVE,
    Shown,
    draw_sheet,
    fitted,
    moments_of,
    mouth_of,
    pick_cells,
    strips_of,
    write_sheet,
)


def pixels_of(path):
    return np.asarray(Image.open(path))


def count(pixels, colour):
    return int((pixels == colour).all(-1).sum())


@pytest.mark.parametrize(("duration_s", "strips"), [(0.04, 1), (0.5, 1), (4.2, 1), (8, 2), (600, MOST_STRIPS)])
def test_strips_cover_the_clip_whatever_its_length(duration_s, strips):
    spans = strips_of(duration_s)
    assert len(spans) == strips
    assert spans[0, 0] == 0 and spans[-1, 1] == pytest.approx(duration_s)
    assert np.allclose(spans[1:, 0], spans[:-1, 1]) and np.allclose(np.ptp(spans, axis=1), duration_s / strips)


def test_columns_stand_over_the_middles_of_equal_parts():
    assert moments_of(np.array([[0, 2], [2, 4]]), 4) == pytest.approx([0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75])


def test_a_cell_shows_the_frame_on_screen_at_its_moment(spoken):
    clip = watch(spoken)
    cells = pick_cells(clip, np.array([0.0, 0.079, 0.5, 0.5001, 1.59, 1.61]))
    assert cells[5] is None
    with VideoReader(spoken) as reader:
        frames = [fitted(frame.pixels) for frame in reader]
    for cell, index in zip(cells, (0, 1, 12, 12, 39)):
        assert np.array_equal(cell[0], frames[index]), index


def test_pictures_fit_whole_into_their_cell():
    wide = fitted(np.full((50, 200, 3), 7, np.uint8))
    assert wide.shape == (CELL_PX, CELL_PX, 3)
    assert count(wide, (7, 7, 7)) == CELL_PX * CELL_PX // 4
    assert count(fitted(np.full((400, 100, 3), 7, np.uint8)), (7, 7, 7)) == CELL_PX * CELL_PX // 4


def test_the_mouth_cell_is_centred_on_the_mouth(spoken, puppet):
    clip = watch(spoken)
    frame = np.zeros_like(puppet.pixels)
    x, y = clip.points[0, 2:].mean(0).round().astype(int)
    frame[y - 3 : y + 4, x - 3 : x + 4] = 255
    cell = mouth_of(frame, clip, 0)[..., 0] > 128
    middle = np.argwhere(cell).mean(0)
    assert np.abs(middle - CELL_PX / 2).max() < 4


def test_a_sheet_shows_waveform_voice_and_mouth(spoken, tmp_path):
    write_sheet(spoken, tmp_path / "sheet.png", columns=6)
    sheet = pixels_of(tmp_path / "sheet.png")
    assert sheet.shape[1] == LEFT_PX + 6 * (CELL_PX + GAP_PX)
    plot = sheet[HEAD_PX + 2 * (CELL_PX + GAP_PX) :, LEFT_PX:]
    assert count(plot, WAVE) > 300 and count(plot, VOICE) > 1000 and count(plot, OURS) > 200
    assert count(plot, OTHER) == 0
    quiet, spoken_part = plot[:, 5:100], plot[:, 160:420]
    assert count(quiet, VOICE) == 0 and count(spoken_part, VOICE) > 1000


def test_the_other_clip_has_its_own_row_and_colour(spoken, late, tmp_path):
    write_sheet(late, tmp_path / "alone.png", columns=4)
    write_sheet(late, tmp_path / "both.png", against=spoken, columns=4)
    alone, both = pixels_of(tmp_path / "alone.png"), pixels_of(tmp_path / "both.png")
    assert both.shape[0] == alone.shape[0] + CELL_PX + GAP_PX
    assert count(both[-150:], OTHER) > 200 and count(both[-150:], OURS) > 150


def test_without_sound_or_face_a_sheet_is_still_drawn(silent_film, faceless, tmp_path):
    write_sheet(silent_film, tmp_path / "a.png")
    write_sheet(faceless, tmp_path / "b.png", columns=3)
    silent, empty = pixels_of(tmp_path / "a.png"), pixels_of(tmp_path / "b.png")
    assert count(silent, WAVE) == 0 and count(silent[HEAD_PX:], OURS) > 50
    assert count(empty[HEAD_PX + 2 * (CELL_PX + GAP_PX) :], OURS) == 0 and count(empty, FAINT) > 3 * 4 * 100


def test_ten_minutes_fit_on_one_sheet(spoken):
    clip = watch(spoken)
    strips = strips_of(600)
    wave = np.zeros(16_000 * 600, np.float32)
    wave[16_000 * 300 :][:1600] = 0.5
    sheet = draw_sheet([Shown(clip, [None] * 12 * len(strips))], strips, 12, wave)
    assert sheet.dtype == np.uint8 and sheet.shape[0] < 4000 and count(sheet, WAVE) > 50


def test_a_sheet_refuses_what_it_cannot_do(spoken, tmp_path):
    with pytest.raises(UsageProblem, match="columns 0"):
        write_sheet(spoken, tmp_path / "a.png", columns=0)
    with pytest.raises(UsageProblem, match="input"):
        write_sheet(spoken, spoken)
    (tmp_path / "there.png").write_bytes(b"mine")
    with pytest.raises(UsageProblem, match="already there"):
        write_sheet(spoken, tmp_path / "there.png", overwrite=False)
    with pytest.raises(Refused):
        write_sheet(tmp_path / "missing.mp4", tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["there.png"] and (tmp_path / "there.png").read_bytes() == b"mine"
