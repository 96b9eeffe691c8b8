"""Contact sheets: every cell stands above its own moment; any length, with and without sound or face."""

import numpy as np
import pytest
from PIL import Image

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.media.reading import VideoReader
from mouthpiece.evaluation.contact_sheet import (
    CELL_PX,
    FAINT_COLOUR,
    GAP_PX,
    HEADING_PX,
    LEFT_MARGIN_PX,
    MAX_STRIPS,
    OTHER_COLOUR,
    OWN_COLOUR,
    SPEECH_COLOUR,
    WAVE_COLOUR,
    SheetClip,
    crop_mouth,
    draw_contact_sheet,
    fit_cell,
    list_column_times,
    pick_cells,
    split_strips,
    write_contact_sheet,
)
from mouthpiece.evaluation.video_metrics import measure_video


def pixels_of(path):
    return np.asarray(Image.open(path))


def count(pixels, colour):
    return int((pixels == colour).all(-1).sum())


@pytest.mark.parametrize(("duration_s", "strips"), [(0.04, 1), (0.5, 1), (4.2, 1), (8, 2), (600, MAX_STRIPS)])
def test_strips_cover_the_clip_whatever_its_length(duration_s, strips):
    spans = split_strips(duration_s)
    assert len(spans) == strips
    assert spans[0, 0] == 0 and spans[-1, 1] == pytest.approx(duration_s)
    assert np.allclose(spans[1:, 0], spans[:-1, 1]) and np.allclose(np.ptp(spans, axis=1), duration_s / strips)


def test_columns_stand_over_the_middles_of_equal_parts():
    assert list_column_times(np.array([[0, 2], [2, 4]]), 4) == pytest.approx(
        [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    )


def test_a_cell_shows_the_frame_on_screen_at_its_moment(spoken):
    clip = measure_video(spoken)
    cells = pick_cells(clip, np.array([0.0, 0.079, 0.5, 0.5001, 1.59, 1.61]))
    assert cells[5] is None
    with VideoReader(spoken) as reader:
        frames = [fit_cell(frame.pixels) for frame in reader]
    for cell, index in zip(cells, (0, 1, 12, 12, 39)):
        assert np.array_equal(cell[0], frames[index]), index


def test_pictures_fit_whole_into_their_cell():
    wide = fit_cell(np.full((50, 200, 3), 7, np.uint8))
    assert wide.shape == (CELL_PX, CELL_PX, 3)
    assert count(wide, (7, 7, 7)) == CELL_PX * CELL_PX // 4
    assert count(fit_cell(np.full((400, 100, 3), 7, np.uint8)), (7, 7, 7)) == CELL_PX * CELL_PX // 4


def test_the_mouth_cell_is_centred_on_the_mouth(spoken, puppet):
    clip = measure_video(spoken)
    frame = np.zeros_like(puppet.pixels)
    x, y = clip.points[0, 2:].mean(0).round().astype(int)
    frame[y - 3 : y + 4, x - 3 : x + 4] = 255
    cell = crop_mouth(frame, clip, 0)[..., 0] > 128
    middle = np.argwhere(cell).mean(0)
    assert np.abs(middle - CELL_PX / 2).max() < 4


def test_a_sheet_shows_waveform_voice_and_mouth(spoken, tmp_path):
    write_contact_sheet(spoken, tmp_path / "sheet.png", columns=6)
    sheet = pixels_of(tmp_path / "sheet.png")
    assert sheet.shape[1] == LEFT_MARGIN_PX + 6 * (CELL_PX + GAP_PX)
    plot = sheet[HEADING_PX + 2 * (CELL_PX + GAP_PX) :, LEFT_MARGIN_PX:]
    assert count(plot, WAVE_COLOUR) > 300 and count(plot, SPEECH_COLOUR) > 1000 and count(plot, OWN_COLOUR) > 200
    assert count(plot, OTHER_COLOUR) == 0
    quiet, spoken_part = plot[:, 5:100], plot[:, 160:420]
    assert count(quiet, SPEECH_COLOUR) == 0 and count(spoken_part, SPEECH_COLOUR) > 1000


def test_the_other_clip_has_its_own_row_and_colour(spoken, late, tmp_path):
    write_contact_sheet(late, tmp_path / "alone.png", columns=4)
    write_contact_sheet(late, tmp_path / "both.png", against=spoken, columns=4)
    alone, both = pixels_of(tmp_path / "alone.png"), pixels_of(tmp_path / "both.png")
    assert both.shape[0] == alone.shape[0] + CELL_PX + GAP_PX
    assert count(both[-150:], OTHER_COLOUR) > 200 and count(both[-150:], OWN_COLOUR) > 150


def test_without_sound_or_face_a_sheet_is_still_drawn(silent_film, faceless, tmp_path):
    write_contact_sheet(silent_film, tmp_path / "a.png")
    write_contact_sheet(faceless, tmp_path / "b.png", columns=3)
    silent, empty = pixels_of(tmp_path / "a.png"), pixels_of(tmp_path / "b.png")
    assert count(silent, WAVE_COLOUR) == 0 and count(silent[HEADING_PX:], OWN_COLOUR) > 50
    assert (
        count(empty[HEADING_PX + 2 * (CELL_PX + GAP_PX) :], OWN_COLOUR) == 0
        and count(empty, FAINT_COLOUR) > 3 * 4 * 100
    )


def test_ten_minutes_fit_on_one_sheet(spoken):
    clip = measure_video(spoken)
    strips = split_strips(600)
    wave = np.zeros(16_000 * 600, np.float32)
    wave[16_000 * 300 :][:1600] = 0.5
    sheet = draw_contact_sheet([SheetClip(clip, [None] * 12 * len(strips))], strips, 12, wave)
    assert sheet.dtype == np.uint8 and sheet.shape[0] < 4000 and count(sheet, WAVE_COLOUR) > 50


def test_a_sheet_refuses_what_it_cannot_do(spoken, tmp_path):
    with pytest.raises(UsageError, match="columns 0"):
        write_contact_sheet(spoken, tmp_path / "a.png", columns=0)
    with pytest.raises(UsageError, match="input"):
        write_contact_sheet(spoken, spoken)
    (tmp_path / "there.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="already there"):
        write_contact_sheet(spoken, tmp_path / "there.png", overwrite=False)
    with pytest.raises(InvalidInputError):
        write_contact_sheet(tmp_path / "missing.mp4", tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["there.png"] and (tmp_path / "there.png").read_bytes() == b"mine"
