import numpy as np

from lipsync.lids import eyes_of, lidded, squeezed


def shutting(height):
    """A flow that shuts eyes of some rows of 96 ending at row 36, in both columns of eyes."""
    y, x = np.mgrid[0:96, 0:96]
    across = (np.abs(x - 34) < 8) | (np.abs(x - 62) < 8)
    lid = np.where(y < 34, -height, np.where(y > 36, 0.0, -height * (36 - y) / 2)) / 96 * across
    return np.stack([0 * lid, lid], -1).astype(np.float32)


def test_what_a_flow_squeezes_is_found_and_what_it_moves_as_a_whole_is_not():
    assert squeezed(shutting(6)).max() > 0.95 and not squeezed(np.full((96, 96, 2), 0.05, np.float32)).any()


def test_the_open_eyes_of_a_portrait_are_where_a_shutting_flow_reads_between_its_lids():
    eyes = eyes_of(shutting(6))
    row, column = np.nonzero(eyes)
    assert 56 <= row.min() <= 62 and 70 <= row.max() <= 76 and not eyes[:, 84:110].any()
    assert eyes[:, 60:78].any(0).all() and eyes[:, 116:134].any(0).all()
    assert not eyes_of(np.zeros((96, 96, 2), np.float32)).any()


def test_lids_have_the_colour_of_the_skin_around_and_a_dark_line_below():
    taken = np.full((192, 192, 3), (200, 150, 130), np.uint8)
    taken[60:74, 60:80] = 255                                    # an open eye, and a brow as dark as lashes
    taken[46:56, 60:130] = 30
    eyes = np.zeros((192, 192), bool)
    eyes[60:74, 60:80] = True
    out = lidded(taken, eyes)
    assert np.abs(out[62, 70] - (200, 150, 130)).max() < 10 and out[68:74, 70].min() < 70
    assert np.array_equal(out[90:], taken[90:].astype(np.float32))
