import pytest
import torch

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.sampling import EpsilonAdapter, FlowAdapter, Guidance, NoiseLevel, make_flow_levels, sample
from mouthpiece.engine.sampling.guidance import make_guided_denoiser

LEVEL = NoiseLevel(0.5, 0.5, 0.5)
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


class Counted:
    """A network that pulls towards its condition, and counts calls and items."""

    def __init__(self):
        self.calls, self.items = 0, 0

    def __call__(self, x, time, conditions):
        self.calls += 1
        self.items += x.shape[0]
        return conditions["pull"] * torch.cos(x) + conditions["extra"][0] - time.view(-1, 1)


def tree(pull, extra=0.0):
    return {"pull": torch.full((2, 1), pull), "extra": [torch.full((2, 3), extra)], "kind": "toy", "none": None}


NULL, SOUND, TEXT = tree(0.0), tree(1.0, 0.2), tree(-2.0, 0.5)


def ask(guidance, conditions, kind=FlowAdapter, level=LEVEL):
    network = Counted()
    return make_guided_denoiser(kind(network), conditions, NULL, guidance)(X, level), network


def raw(conditions, level=LEVEL):
    return Counted()(X, torch.full((2,), level.time), conditions)


def test_each_condition_pulls_by_its_own_scale():
    prediction, _ = ask(Guidance(scales=(2.5, 0.5)), [SOUND, TEXT])
    expected = raw(NULL) + 2.5 * (raw(SOUND) - raw(NULL)) + 0.5 * (raw(TEXT) - raw(NULL))
    velocity = prediction.data - prediction.noise
    assert torch.allclose(velocity, expected, atol=1e-5)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("scales", [(2.5, 0.5), (1.0, 1.0), (3.0, 0.0), (0.5, 0.5), (-1.0, 4.0)])
def test_batched_and_sequential_guidance_agree(scales, rescale):
    together, batched = ask(Guidance(scales, rescale=rescale), [SOUND, TEXT])
    apart, sequential = ask(Guidance(scales, rescale=rescale, mode="sequential"), [SOUND, TEXT])
    assert torch.allclose(together.data, apart.data, atol=1e-5)
    assert batched.calls == 1
    assert batched.items == sequential.items == 2 * sequential.calls


@pytest.mark.parametrize(
    ("scales", "networks"),
    [
        ((1.0,), 1),
        ((0.0,), 1),
        ((2.0,), 2),
        ((0.5,), 2),
        ((1.0, 0.0), 1),
        ((0.0, 0.0), 1),
        ((2.0, 0.0), 2),
        ((0.5, 0.5), 2),
        ((1.0, 1.0), 3),
        ((2.0, 3.0), 3),
    ],
)
def test_what_has_no_weight_is_not_computed(scales, networks):
    _, network = ask(Guidance(scales, mode="sequential"), [SOUND, TEXT][: len(scales)])
    assert network.calls == networks


def test_scale_one_is_the_condition_and_scale_zero_the_null_to_the_bit():
    for scale, condition in ((1.0, SOUND), (0.0, NULL)):
        plain = FlowAdapter(Counted())(X, LEVEL, condition)
        assert torch.equal(ask(Guidance((scale,)), [SOUND])[0].data, plain.data)


def test_guidance_acts_inside_its_interval_alone():
    guidance = Guidance((3.0, 0.5), interval=(0.4, 0.8))
    early, inside = NoiseLevel(0.2, 0.2, 0.8), NoiseLevel(0.5, 0.5, 0.5)
    calmed, _ = ask(Guidance((1.0, 0.5)), [SOUND, TEXT], level=early)
    assert torch.allclose(ask(guidance, [SOUND, TEXT], level=early)[0].data, calmed.data)
    strong, _ = ask(Guidance((3.0, 0.5)), [SOUND, TEXT], level=inside)
    assert torch.equal(ask(guidance, [SOUND, TEXT], level=inside)[0].data, strong.data)


def test_guidance_outside_its_interval_costs_one_call_of_one_condition():
    network = Counted()
    guidance = Guidance((3.0,), interval=(0.5, 1.0), mode="sequential")
    sample(FlowAdapter(network), X, make_flow_levels(4), [SOUND], null=NULL, guidance=guidance)
    assert network.calls == 1 + 1 + 2 + 2


def test_full_rescale_restores_the_deviation_of_the_conditioned_output():
    full, _ = ask(Guidance((4.0,), rescale=1.0), [SOUND], EpsilonAdapter)
    none, _ = ask(Guidance((4.0,)), [SOUND], EpsilonAdapter)
    assert torch.allclose(full.noise.std(1), raw(SOUND).std(1), atol=1e-5)
    assert not torch.allclose(none.noise.std(1), raw(SOUND).std(1), atol=1e-2)


def test_sampling_with_scale_one_equals_sampling_without_guidance():
    guided = sample(FlowAdapter(Counted()), X, make_flow_levels(4), SOUND, null=NULL, guidance=Guidance((1.0,)))
    assert torch.equal(guided, sample(FlowAdapter(Counted()), X, make_flow_levels(4), SOUND))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Guidance(()), "one a condition"),
        (lambda: Guidance((float("nan"),)), "not numbers"),
        (lambda: Guidance(interval=(0.8, 0.2)), "interval"),
        (lambda: Guidance(rescale=1.5), "rescale 1.5"),
        (lambda: Guidance(mode="both"), "'both'"),
        (lambda: ask(Guidance((2.0,)), [SOUND, TEXT]), "2 conditions came with 1"),
        (lambda: ask(Guidance((2.0,)), [None]), "differ in kind"),
        (lambda: ask(Guidance((2.0,)), [{"pull": torch.ones(2, 1)}]), "names"),
        (lambda: ask(Guidance((2.0,)), [tree(1.0) | {"kind": "other"}]), "not a tensor"),
        (lambda: ask(Guidance((2.0,)), [tree(1.0) | {"extra": []}]), "number"),
        (lambda: ask(Guidance((2.0,)), [tree(1.0) | {"pull": torch.ones(3, 1)}]), "batch of 2"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
