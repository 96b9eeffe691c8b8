import pytest
import torch
from torch.nn import functional as F

from mouthpiece.lipsync.portrait.mouth_patch import FLOW_PX, MOUTH_PATCH, WORK_PX
from mouthpiece.lipsync.portrait.renderer import (
    Renderer,
    Rendering,
    composite_mouth,
    crop_mouth_patch,
    make_edge_fade,
    sample_mouth_patch,
    warp,
)
from mouthpiece.lipsync.portrait.unet import ResidualUNet

REST, BARE = torch.zeros(1, 2, 32, 32), torch.zeros(1, 5, 64, 112)


def debug_renderer():
    torch.manual_seed(0)
    return Renderer((8, 8, 8, 8), (8, 8, 8), (8, 8)).eval()


@pytest.fixture(scope="module")
def unborn():
    return debug_renderer()


@pytest.fixture(scope="module")
def grown():
    renderer = debug_renderer()
    for p in renderer.parameters():
        p.data += torch.randn(p.shape) * 0.05
    return renderer


@pytest.fixture(scope="module")
def portrait():
    generator = torch.Generator().manual_seed(2)
    return F.interpolate(torch.rand(1, 3, 24, 24, generator=generator) * 2 - 1, size=WORK_PX, mode="bilinear")


def moved(x, y):
    """Lattice of a face every point of which went by (x, y) in units of the crop."""
    return REST + torch.tensor([x, y]).view(1, 2, 1, 1)


@torch.no_grad()
def test_a_new_renderer_gives_back_the_portrait_when_nothing_is_to_change(unborn, portrait):
    lattice = torch.randn(1, 2, 32, 32) * 0.02
    made = unborn(portrait, lattice, lattice, BARE)
    assert not made.flow.any() and torch.allclose(warp(portrait, made.flow), portrait, atol=1e-4)
    top, bottom, left, right = MOUTH_PATCH
    outside = torch.ones(WORK_PX, WORK_PX, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    difference = (composite_mouth(portrait, made) - portrait).abs()
    assert difference[..., outside].max() < 1e-4 and difference.max() < 0.13  # the unborn painter veils a little


@pytest.mark.parametrize("x_px, y_px", [(6, 0), (0, 6), (-4, 8)])
@torch.no_grad()
def test_the_picture_moves_towards_the_wanted_lattice(unborn, portrait, x_px, y_px):
    made = unborn(portrait, REST, moved(x_px / WORK_PX, y_px / WORK_PX), BARE)
    expected = torch.roll(portrait, (y_px, x_px), (2, 3))
    inside = (..., slice(10, -10), slice(10, -10))
    assert torch.allclose(warp(portrait, made.flow)[inside], expected[inside], atol=1e-3)


@torch.no_grad()
def test_only_the_difference_of_the_lattices_moves_anything(unborn, portrait):
    once = unborn(portrait, REST, moved(0.03, 0), BARE).flow
    assert torch.allclose(unborn(portrait, moved(0.05, 0.01), moved(0.08, 0.01), BARE).flow, once, atol=1e-6)
    assert torch.allclose(unborn(portrait, moved(0.03, 0), REST, BARE).flow, -once, atol=1e-6)


@torch.no_grad()
def test_a_batch_gives_what_its_items_give_alone(grown, portrait):
    wishes = torch.randn(3, 2, 32, 32) * 0.02
    together = grown(portrait.expand(3, -1, -1, -1), REST.expand(3, -1, -1, -1), wishes, BARE.expand(3, -1, -1, -1))
    alone = grown(portrait, REST, wishes[1:2], BARE)
    for name in ("flow", "paint", "mask"):
        assert torch.allclose(getattr(together, name)[1:2], getattr(alone, name), atol=1e-4), name


@torch.no_grad()
def test_everything_comes_in_the_shape_and_range_it_should(grown, portrait):
    made = grown(portrait, REST, moved(0.02, 0.02), BARE)
    assert made.flow.shape == (1, 2, FLOW_PX, FLOW_PX)
    assert made.paint.shape == (1, 3, 64, 112) and made.mask.shape == (1, 1, 64, 112)
    assert made.paint.abs().max() <= 1 and 0 < made.mask.min() and made.mask.max() < 1
    assert composite_mouth(portrait, made).shape == portrait.shape and grown.predict_teeth(portrait).shape == (
        1,
        2,
        64,
        112,
    )


def test_learning_reaches_portrait_lattices_and_teeth_and_every_weight(grown, portrait):
    inputs = [z.clone().requires_grad_(True) for z in (portrait, REST, moved(0.02, 0.01), torch.rand(1, 5, 64, 112))]
    (
        composite_mouth(inputs[0], grown(*inputs).add_teeth(inputs[3])).square().mean()
        + grown.predict_teeth(inputs[0]).square().mean()
    ).backward()
    assert all(z.grad.abs().sum() > 0 for z in inputs)
    assert all(p.grad is not None and p.grad.any() for p in grown.parameters())
    grown.zero_grad()


def test_the_patch_is_the_mouth_of_the_crop():
    x = torch.arange(WORK_PX * WORK_PX).view(1, 1, WORK_PX, WORK_PX)
    top, bottom, left, right = MOUTH_PATCH
    cut = crop_mouth_patch(x)
    assert cut.shape == (1, 1, bottom - top, right - left) == (1, 1, 64, 112)
    assert cut[0, 0, 0, 0] == top * WORK_PX + left and cut[0, 0, -1, -1] == (bottom - 1) * WORK_PX + right - 1
    assert left + right == WORK_PX and top / WORK_PX < 0.64 < bottom / WORK_PX  # the template's mouth lies at 0.64


def test_a_field_over_the_crop_is_read_at_the_patchs_own_pixels():
    ramp = ((torch.arange(FLOW_PX) + 0.5) / FLOW_PX).expand(1, 1, FLOW_PX, FLOW_PX)
    cut = sample_mouth_patch(ramp)[0, 0]
    assert torch.allclose(cut[0], (torch.arange(MOUTH_PATCH[2], MOUTH_PATCH[3]) + 0.5) / WORK_PX, atol=1e-6)
    down = sample_mouth_patch(ramp.transpose(2, 3))[0, 0]
    assert torch.allclose(down[:, 0], (torch.arange(MOUTH_PATCH[0], MOUTH_PATCH[1]) + 0.5) / WORK_PX, atol=1e-6)


def test_flow_reads_where_it_points_in_units_of_the_crop_and_repeats_the_edge():
    image = torch.arange(8.0).expand(1, 1, 8, 8)
    right = warp(image, torch.tensor([0.25, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8))
    assert torch.allclose(right[0, 0, 3], torch.tensor([2.0, 3, 4, 5, 6, 7, 7, 7]), atol=1e-5)
    down = warp(image.transpose(2, 3), torch.tensor([0.0, -0.125]).view(1, 2, 1, 1).expand(1, 2, 4, 4))
    assert torch.allclose(down[0, 0, :, 5], torch.tensor([0.0, 0, 1, 2, 3, 4, 5, 6]), atol=1e-5)


def test_the_edge_of_the_patch_fades_to_nothing_and_its_middle_counts_in_full():
    weight = make_edge_fade(64, 112)[0, 0]
    assert weight.shape == (64, 112)
    assert not weight[0].any() and not weight[-1].any() and not weight[:, 0].any() and not weight[:, -1].any()
    assert (weight[8:-8, 8:-8] == 1).all() and torch.allclose(weight[32, :9], torch.arange(9) / 8)
    assert torch.equal(weight, weight.flip(0)) and torch.equal(weight, weight.flip(1))


def test_paint_covers_where_the_mask_says_and_never_at_the_seam(portrait):
    paint, mask = torch.ones(1, 3, 64, 112), torch.zeros(1, 1, 64, 112)
    mask[..., 20:40, 30:80] = 1
    made = composite_mouth(portrait, Rendering(torch.zeros(1, 2, 96, 96), paint, mask))
    assert (crop_mouth_patch(made)[..., 20:40, 30:80] == 1).all()
    assert torch.allclose(crop_mouth_patch(made)[..., :20, :], crop_mouth_patch(portrait)[..., :20, :], atol=1e-4)
    full = composite_mouth(portrait, Rendering(torch.zeros(1, 2, 96, 96), paint, torch.ones_like(mask)))
    assert torch.allclose(crop_mouth_patch(full)[..., 0, :], crop_mouth_patch(portrait)[..., 0, :], atol=1e-4)


def test_composing_leaves_the_portrait_as_it_was(portrait):
    before = portrait.clone()
    composite_mouth(
        portrait, Rendering(torch.zeros(1, 2, 96, 96), torch.ones(1, 3, 64, 112), torch.ones(1, 1, 64, 112))
    )
    assert torch.equal(portrait, before)


def test_a_unet_keeps_the_size_of_a_picture_that_divides_by_its_steps():
    assert ResidualUNet(5, (8, 8, 16))(torch.randn(2, 5, 24, 40)).shape == (2, 8, 24, 40)
