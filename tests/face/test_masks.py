import numpy as np
import pytest

from mouthpiece.engine.errors import UsageError
from mouthpiece.face.crop import TEMPLATE
from mouthpiece.face.masks import REGIONS, make_edge_mask, make_region_mask


def at(mask, x, y):
    return float(mask[int(y * len(mask)), int(x * len(mask))])


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_a_mask_is_soft_symmetric_and_gone_at_the_border(name):
    mask = make_region_mask(name, 128)
    assert mask.dtype == np.float32 and mask.shape == (128, 128) and mask.min() == 0 and 0.99 < mask.max() <= 1
    assert np.allclose(mask, mask[:, ::-1], atol=1e-6)
    assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()
    assert max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max()) < 0.25


def test_each_mask_covers_its_own_part_of_the_face():
    eye, mouth = TEMPLATE[0], TEMPLATE[2]
    assert at(make_region_mask("oval", 128), *eye) == at(make_region_mask("oval", 128), *mouth) == 1
    assert at(make_region_mask("lower", 128), *mouth) == 1 and at(make_region_mask("lower", 128), *eye) == 0
    assert at(make_region_mask("mouth", 128), *mouth) == 1 and at(make_region_mask("mouth", 128), 0.5, 0.5) == 0
    assert at(make_region_mask("upper", 128), *eye) > 0.9 and at(make_region_mask("upper", 128), *mouth) == 0


def test_sizes_agree():
    large = make_region_mask("lower", 256).reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(large - make_region_mask("lower", 128)).max() < 0.03


def test_a_wider_feather_gives_a_smaller_core_in_the_same_outline():
    narrow, wide = make_region_mask("oval", 128, 0.02), make_region_mask("oval", 128, 0.2)
    assert (narrow >= wide).all() and (wide > 0.99).sum() < (narrow > 0.99).sum()
    assert ((narrow > 0) == (wide > 0)).mean() > 0.99


def test_a_mask_of_the_whole_crop_fades_at_its_border_only():
    mask = make_edge_mask(64, 0.1)
    assert mask[32, 32] == 1 and not mask[0].any() and not mask[:, -1].any() and 0 < mask[3, 32] < 1


def test_masks_cannot_be_written_to():
    for mask in (make_region_mask("oval", 32), make_edge_mask(32)):
        with pytest.raises(ValueError):
            mask[0, 0] = 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: make_region_mask("ear", 64),
        lambda: make_region_mask("oval", 0),
        lambda: make_region_mask("oval", 64, -0.1),
    ],
)
def test_nonsense_is_refused_in_words(call):
    with pytest.raises(UsageError):
        call()
