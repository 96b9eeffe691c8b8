import itertools
from fractions import Fraction

import pytest
import torch

from mouthpiece.engine.core import (
    ABSENT,
    CODE_WIDTH,
    GENERATED,
    GIVEN,
    PACKED_WIDTH,
    AVCore,
    StreamConditions,
    build_core,
    pack_streams,
    unpack_streams,
)
from mouthpiece.engine.sampling import FlowAdapter, KnownValues, draw_item_noise, make_flow_levels, sample
from mouthpiece.engine.timeline import ARTICULATION_HZ, MOTION_HZ

STATES = (ABSENT, GIVEN, GENERATED)
SOUND = slice(CODE_WIDTH, None)


def grown_core(seed=0):
    """A debug core whose every weight matters, as after training."""
    torch.manual_seed(seed)
    core = AVCore(width=24, depth=2, heads=2)
    for p in core.parameters():
        p.data += torch.randn(p.shape) * 0.1
    return core.eval()


def told(motion, sound, batch=2, ticks=9, seed=1):
    values = torch.randn(batch, ticks, PACKED_WIDTH, generator=torch.Generator().manual_seed(seed))
    return StreamConditions(values, torch.full((batch, ticks), motion), torch.full((batch, ticks), sound))


def noise_of(known, seed=2):
    return torch.randn(known.values.shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def core():
    return grown_core()


def test_streams_packed_and_unpacked_are_what_they_were():
    motion, sound = torch.randn(3, 7, 32), torch.randn(3, 14, 43)
    packed = pack_streams(motion, sound)
    assert packed.shape == (3, 7, PACKED_WIDTH) == (3, 7, 118)
    assert all(torch.equal(a, b) for a, b in zip(unpack_streams(packed), (motion, sound)))
    assert torch.equal(packed[:, 3, 32:75], sound[:, 6]) and torch.equal(packed[:, 3, 75:], sound[:, 7])


@pytest.mark.parametrize("motion, sound", itertools.product(STATES, STATES))
def test_noise_of_streams_that_are_given_or_absent_does_not_matter(core, motion, sound):
    known, time = told(motion, sound), torch.tensor([0.2, 0.7])
    x = noise_of(known)
    out = core(x, time, known)
    assert out.shape == x.shape and torch.isfinite(out).all()
    for stream, state in ((slice(0, CODE_WIDTH), motion), (SOUND, sound)):
        other = x.clone()
        other[..., stream] += 1
        assert torch.equal(core(other, time, known), out) == (state != GENERATED)
        clean = known.values.clone()
        clean[..., stream] += 1
        assert torch.equal(core(x, time, known._replace(values=clean)), out) == (state != GIVEN)


def test_an_absent_stream_may_even_be_no_number(core):
    known = told(GENERATED, ABSENT)
    x = noise_of(known)
    out = core(x, torch.tensor([0.5, 0.5]), known)
    x[..., SOUND] = known.values[..., SOUND] = float("nan")
    assert torch.equal(core(x, torch.tensor([0.5, 0.5]), known), out)


def test_no_gradient_reaches_sound_that_is_absent_and_some_reaches_sound_that_is_given(core):
    for state in (ABSENT, GIVEN):
        known = told(GENERATED, state)
        known.values.requires_grad_(True)
        core(noise_of(known), torch.tensor([0.5, 0.5]), known)[..., :CODE_WIDTH].sum().backward()
        assert bool(known.values.grad[..., SOUND].any()) == (state == GIVEN)
        assert not known.values.grad[..., :CODE_WIDTH].any()


def test_the_flow_time_matters_only_to_what_is_generated(core):
    known = told(GIVEN, ABSENT)
    x = noise_of(known)
    early, late = (core(x, torch.full((2,), t), known) for t in (0.1, 0.9))
    assert torch.equal(early, late)
    known = told(GENERATED, ABSENT)
    early, late = (core(x, torch.full((2,), t), known) for t in (0.1, 0.9))
    assert not torch.allclose(early, late)


def test_a_batch_gives_what_its_items_give_alone(core):
    states = torch.tensor(list(itertools.product(STATES, STATES)))
    known = StreamConditions(torch.randn(9, 11, PACKED_WIDTH), *(s[:, None].repeat(1, 11) for s in states.T))
    x, time = torch.randn(9, 11, PACKED_WIDTH), torch.rand(9)
    together = core(x, time, known)
    for i in range(9):
        alone = core(x[i : i + 1], time[i : i + 1], StreamConditions(*(k[i : i + 1] for k in known)))
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_a_new_core_predicts_no_velocity_so_learning_starts_calm():
    known = told(GENERATED, GIVEN)
    assert not AVCore(24, 1, 2)(noise_of(known), torch.tensor([0.1, 0.8]), known).any()


def test_plain_tuples_and_lists_tell_as_much_as_known_does(core):
    known = told(GENERATED, GIVEN)
    x, time = noise_of(known), torch.tensor([0.3, 0.3])
    assert torch.equal(core(x, time, list(known)), core(x, time, known))


def test_two_articulation_ticks_make_one_of_motion():
    assert Fraction(ARTICULATION_HZ) == 2 * Fraction(MOTION_HZ) and PACKED_WIDTH == CODE_WIDTH + 2 * 43


def test_flow_matching_teaches_a_core_to_follow_its_sound():
    torch.manual_seed(3)
    core, generator = AVCore(width=48, depth=1, heads=2), torch.Generator().manual_seed(4)
    optimizer = torch.optim.Adam(core.parameters(), 3e-3)

    def batch(count):
        track = torch.randn(count, 8, 1, generator=generator)
        values = torch.cat([track.expand(-1, -1, CODE_WIDTH), track.expand(-1, -1, PACKED_WIDTH - CODE_WIDTH)], -1)
        return values.contiguous(), torch.full((count, 8), GENERATED), torch.full((count, 8), GIVEN)

    for _ in range(140):
        known = StreamConditions(*batch(16))
        time, noise = torch.rand(16, generator=generator), torch.randn(known.values.shape, generator=generator)
        x = torch.lerp(noise, known.values, time[:, None, None])
        loss = ((core(x, time, known) - (known.values - noise))[..., :CODE_WIDTH] ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    known = StreamConditions(*batch(16))
    made = sample(
        FlowAdapter(core.eval()), draw_item_noise((8, PACKED_WIDTH), 0, range(16)), make_flow_levels(8), known
    )
    track, drawn = known.values[..., 0].flatten(), made[..., :CODE_WIDTH].mean(-1).flatten()
    assert float(torch.corrcoef(torch.stack([track, drawn]))[0, 1]) > 0.8


def test_in_filling_keeps_what_stands_and_the_core_sees_it_clean(core):
    seen = []

    def network(x, time, known):
        seen.append(known)
        return core(x, time, known)

    known = told(GENERATED, GENERATED, batch=1, ticks=12)
    known.motion[:, :4], known.articulation[:, 7:] = GIVEN, GIVEN
    mask = torch.zeros(1, 12, PACKED_WIDTH, dtype=torch.bool)
    mask[:, :4, :CODE_WIDTH], mask[:, 7:, SOUND] = True, True
    out = sample(
        FlowAdapter(network),
        draw_item_noise((12, PACKED_WIDTH), 0, [0]),
        make_flow_levels(4),
        known,
        given=KnownValues(known.values, mask),
    )
    assert torch.equal(out[mask], known.values[mask]) and not torch.isclose(out, known.values)[~mask].all()
    changed = known.values.clone()
    changed[:, 4:, :CODE_WIDTH] += 1  # what is not given is not read
    again = sample(
        FlowAdapter(core),
        draw_item_noise((12, PACKED_WIDTH), 0, [0]),
        make_flow_levels(4),
        known._replace(values=changed),
        given=KnownValues(known.values, mask),
    )
    assert torch.equal(out, again) and len(seen) == 4


def test_given_phones_are_heard_as_their_likeness_to_all_and_generated_ones_as_they_are():
    torch.manual_seed(5)
    plain, kin = AVCore(24, 1, 2), AVCore(24, 1, 2, relatives=True)
    for p in plain.parameters():
        p.data += torch.randn(p.shape) * 0.1
    kin.load_state_dict(plain.state_dict())  # weights are of the same shapes; what they mean is in the config
    time = torch.tensor([0.4, 0.4])
    known = told(GENERATED, GENERATED)
    x = noise_of(known)
    assert torch.equal(plain(x, time, known), kin(x, time, known))
    known = told(GENERATED, GIVEN)
    motion, sound = unpack_streams(known.values)
    alike = torch.cat([sound[..., :40] @ kin.phone_similarity, sound[..., 40:]], -1)
    assert not torch.allclose(plain(x, time, known), kin(x, time, known))
    assert torch.allclose(
        plain(x, time, known._replace(values=pack_streams(motion, alike))), kin(x, time, known), atol=1e-5
    )


def test_a_core_is_built_as_its_file_says(core):
    for relatives in (False, True):
        net = AVCore(24, 2, 2, relatives)
        assert build_core(net.state_dict(), net.config).config == net.config
    assert build_core(core.state_dict(), dict(width=24, depth=2, heads=2)).phone_similarity is None
