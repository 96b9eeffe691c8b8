import numpy as np
import pytest
import torch

from mouthpiece.engine.encoders.motion import (
    CODE_WIDTH,
    CROP_PX,
    EXPRESSION_WIDTH,
    LATTICE_NODES,
    MotionEncoder,
    MotionSpace,
    ResBlock,
    encode_crops,
    make_coordinate_grid,
)


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(EXPRESSION_WIDTH, 2 * LATTICE_NODES * LATTICE_NODES)) * 0.01
    parts = (
        basis.reshape(-1, 2, LATTICE_NODES, LATTICE_NODES),
        np.linalg.pinv(basis).T,
        np.arange(1, 7) * 0.1,
        rng.normal(size=26),
    )
    return MotionSpace(*(torch.tensor(part, dtype=torch.float32) for part in parts))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    net = MotionEncoder(8)
    for p in net.parameters():
        p.data += torch.randn(p.shape) * 0.1
    return net.eval()


def test_the_code_of_the_lattice_of_a_code_is_the_code(space):
    code = torch.randn(2, 5, CODE_WIDTH)
    lattice = space.to_lattice(code)
    assert lattice.shape == (2, 5, 2, LATTICE_NODES, LATTICE_NODES)
    assert torch.allclose(space.to_code(lattice), code[..., :EXPRESSION_WIDTH], atol=1e-4)


def test_lattices_ignore_the_head_and_pose_is_nothing_else(space):
    code = torch.randn(3, CODE_WIDTH)
    other = code.clone()
    other[:, EXPRESSION_WIDTH:] += 1
    assert torch.equal(space.to_lattice(code), space.to_lattice(other))
    assert torch.allclose(space.to_pose(code), code[:, 26:] * torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


def test_mouth_opening_is_linear_and_zero_at_rest(space):
    a, b = torch.randn(4, CODE_WIDTH), torch.randn(4, CODE_WIDTH)
    assert not space.compute_mouth_opening(torch.zeros(4, CODE_WIDTH)).any()
    assert torch.allclose(
        space.compute_mouth_opening(a + 2 * b),
        space.compute_mouth_opening(a) + 2 * space.compute_mouth_opening(b),
        atol=1e-4,
    )


def test_a_new_encoder_sees_no_displacement_once_its_last_bias_is_taken_away():
    torch.manual_seed(0)
    net = MotionEncoder(8)
    out = net(torch.randn(2, 3, CROP_PX, CROP_PX))
    assert out.shape == (2, 2, LATTICE_NODES, LATTICE_NODES) and torch.equal(out, out[:1, :, :1, :1].expand_as(out))


def test_a_residual_block_is_born_as_the_identity():
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(ResBlock(16)(x), x)


def test_codes_of_crops_do_not_depend_on_the_batch(encoder, space):
    crops = np.random.default_rng(1).integers(0, 256, (5, CROP_PX, CROP_PX, 3)).astype(np.uint8)
    together = encode_crops(encoder, space, crops)
    alone = np.concatenate([encode_crops(encoder, space, c[None]) for c in crops])
    assert together.shape == (5, EXPRESSION_WIDTH) and np.abs(together - alone).max() < 1e-4 * np.abs(alone).max()
    assert np.abs(encode_crops(encoder, space, crops, batch=2) - together).max() < 1e-4 * np.abs(alone).max()


def slope(size_px):
    """The same picture at any size: brightness rising to the right, and downward in green."""
    at = (np.arange(size_px) + 0.5) / size_px * 200 + 20
    x, y = np.meshgrid(at, at)
    return np.round(np.stack([x, y, (x + y) / 2], -1)).astype(np.uint8)[None]


@pytest.mark.parametrize("size_px", [64, 192, 256])
def test_crops_of_any_size_give_the_codes_of_the_size_looked_at(encoder, space, size_px):
    a, b = encode_crops(encoder, space, slope(size_px)), encode_crops(encoder, space, slope(CROP_PX))
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_coordinates_are_pixel_centres_x_first():
    at = make_coordinate_grid(2, 4)
    assert at.shape == (1, 2, 2, 4)
    assert at[0, 0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75] and at[0, 1, :, 0].tolist() == [-0.5, 0.5]
