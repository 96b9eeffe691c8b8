import pytest
import torch
from torch.nn import functional as F

from mouthpiece.engine.errors import UsageError
from mouthpiece.engine.nn import Attention, DiTBlock, MixBlock, ModulatedHead, apply_rotary, make_rotary

POSITIONS_S = torch.arange(6) / 50


def awake(module, seed=0):
    """Module with every weight drawn at random: at birth the zero gates would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_attention(attention, x, mask, times_s):
    """Attention one head, one token and one source at a time."""
    width = x.shape[-1] // attention.heads
    angles = make_rotary(times_s, width)

    def split(y):
        return y.unflatten(-1, (attention.heads, width)).transpose(1, 2)

    key, value = attention.key_value(x).chunk(2, dim=-1)
    query = apply_rotary(attention.query_norm(split(attention.query(x))), angles)
    key = apply_rotary(attention.key_norm(split(key)), angles)
    value = split(value)
    out = torch.zeros_like(query)
    for b in range(x.shape[0]):
        there = [m for m in range(x.shape[1]) if mask[b, m]]
        for h in range(attention.heads):
            for n in range(x.shape[1]):
                weights = F.softmax(torch.stack([query[b, h, n] @ key[b, h, m] for m in there]) / width**0.5, 0)
                out[b, h, n] = sum(w * value[b, h, m] for w, m in zip(weights, there, strict=True))
    return attention.out(out.transpose(1, 2).flatten(2))


def test_attention_agrees_with_a_slow_loop():
    attention, x = awake(Attention(8, 2)), drawn(2, 6, 8)
    mask = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]]).bool()
    fast = attention(x, mask=mask, angles=make_rotary(POSITIONS_S, 4))
    assert torch.allclose(fast, slow_attention(attention, x, mask, POSITIONS_S), atol=1e-5)


def test_a_block_is_the_identity_at_birth():
    x = drawn(2, 6, 8)
    block = DiTBlock(8, 2, context_width=4)
    assert torch.equal(block(x, drawn(2, 8), POSITIONS_S, context=drawn(2, 3, 4)), x)
    assert torch.equal(MixBlock(8)(x), x)
    assert torch.equal(ModulatedHead(8, 3)(x, drawn(2, 8)), torch.zeros(2, 6, 3))


def test_every_weight_of_a_born_block_learns_within_two_steps():
    block, head = DiTBlock(8, 2, context_width=4), ModulatedHead(8, 3)
    weights = [*block.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(weights, lr=0.1)
    before = [w.detach().clone() for w in weights]
    for step in range(4):
        x, e = drawn(2, 6, 8, seed=step), drawn(2, 8, seed=step + 9)
        out = head(block(x, e, POSITIONS_S, context=drawn(2, 3, 4, seed=step)), e)
        optimiser.zero_grad()
        (out - drawn(2, 6, 3)).square().sum().backward()
        optimiser.step()
    names = [n for m in (block, head) for n, _ in m.named_parameters()]
    still = [n for n, w, b in zip(names, weights, before, strict=True) if torch.equal(w, b)]
    assert still == []


@pytest.mark.parametrize("block", [DiTBlock(8, 2), DiTBlock(8, 2, context_width=4), MixBlock(8, kernel=3)])
def test_absent_tokens_influence_nothing_and_come_out_as_zeros(block):
    block = awake(block)
    mask = torch.tensor([[1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 1, 1]]).bool()
    x = drawn(2, 6, 8).requires_grad_()
    extra = () if isinstance(block, MixBlock) else (drawn(2, 8), POSITIONS_S)
    out = block(x, *extra, mask=mask)
    (out * drawn(2, 6, 8, seed=5)).sum().backward()
    assert torch.equal(out[~mask], torch.zeros_like(out[~mask]))
    assert torch.equal(x.grad[~mask], torch.zeros_like(x.grad[~mask]))
    assert (x.grad[mask].abs().amax(-1) > 0).all()
    poisoned = x.detach().masked_fill(~mask.unsqueeze(-1), float("nan"))
    assert torch.equal(block(poisoned, *extra, mask=mask), out)


def test_absent_context_influences_nothing_and_an_empty_one_equals_none():
    block, x, e = awake(DiTBlock(8, 2, context_width=4)), drawn(2, 6, 8), drawn(2, 8)
    context = drawn(2, 3, 4).requires_grad_()
    mask = torch.tensor([[True, False, True], [False, False, False]])
    out = block(x, e, POSITIONS_S, context=context, context_mask=mask)
    out.square().sum().backward()
    assert torch.equal(context.grad[~mask], torch.zeros(4, 4))
    assert (context.grad[mask].abs().amax(-1) > 0).all()
    assert torch.allclose(out[1], block(x, e, POSITIONS_S)[1], atol=1e-5)
    assert (out[0] - block(x, e, POSITIONS_S)[0]).abs().max() > 1e-3
    poisoned = context.detach().masked_fill(~mask.unsqueeze(-1), float("nan"))
    assert torch.equal(block(x, e, POSITIONS_S, context=poisoned, context_mask=mask), out)


def test_every_token_hears_every_present_token():
    block = awake(DiTBlock(8, 2))
    x = drawn(1, 6, 8).requires_grad_()
    for n in range(6):
        (reach,) = torch.autograd.grad(block(x, drawn(1, 8), POSITIONS_S)[0, n].sum(), x)
        assert (reach.abs().amax(-1) > 0).all()


def test_padding_an_item_changes_none_of_its_tokens():
    block, x, e = awake(DiTBlock(8, 2)), drawn(1, 6, 8), drawn(1, 8)
    alone = block(x[:, :4], e, POSITIONS_S[:4])
    padded = block(x, e, POSITIONS_S, mask=torch.arange(6)[None] < 4)
    assert torch.allclose(padded[:, :4], alone, atol=1e-5)


def test_a_condition_per_item_equals_the_same_condition_at_each_token():
    block, x, e = awake(DiTBlock(8, 2)), drawn(2, 6, 8), drawn(2, 8)
    per_token = e.unsqueeze(1).expand(-1, 6, -1)
    assert torch.allclose(block(x, e, POSITIONS_S), block(x, per_token, POSITIONS_S), atol=1e-5)
    head = awake(ModulatedHead(8, 3))
    assert torch.allclose(head(x, e), head(x, per_token), atol=1e-5)
    changed = per_token.clone()
    changed[:, 2] += 1
    moved = (head(x, changed) - head(x, per_token)).abs().amax(-1) > 1e-3
    assert moved.tolist() == [[False, False, True, False, False, False]] * 2


def test_a_block_knows_time_differences_and_not_the_hour():
    block, x, e = awake(DiTBlock(8, 2)), drawn(1, 6, 8), drawn(1, 8)
    now = block(x, e, POSITIONS_S)
    assert torch.allclose(now, block(x, e, POSITIONS_S.double() + 3600), atol=1e-4)
    assert torch.equal(now, block(x, e, make_rotary(POSITIONS_S, 4)))
    assert (now - block(x, e, POSITIONS_S * 2)).abs().max() > 1e-3


def test_mix_block_reaches_exactly_its_kernel():
    block = awake(MixBlock(8, kernel=3, dilation=2))
    x = drawn(1, 11, 8).requires_grad_()
    (reach,) = torch.autograd.grad(block(x)[0, 5].sum(), x)
    assert reach[0].abs().amax(-1).nonzero().flatten().tolist() == [3, 5, 7]


def test_dropout_changes_training_and_not_inference():
    block, x = awake(MixBlock(8, dropout=0.5)), drawn(1, 6, 8)
    torch.manual_seed(0)
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiTBlock(10, 4), "10 does not split into 4 heads"),
        (lambda: DiTBlock(8, 0), "0 heads"),
        (lambda: MixBlock(8, kernel=4), "kernel 4"),
        (lambda: MixBlock(8, dilation=0), "dilation 0"),
        (lambda: MixBlock(8, dropout=1.0), "dropout 1"),
        (lambda: DiTBlock(8, 2)(drawn(1, 6, 8), drawn(1, 8), POSITIONS_S, context=drawn(1, 2, 4)), "cross-attention"),
        (lambda: MixBlock(8)(drawn(1, 6, 8), torch.ones(1, 6)), "not bool"),
        (lambda: Attention(8, 2, 4)(drawn(1, 6, 8), drawn(1, 2, 4), angles=make_rotary(POSITIONS_S, 4)), "rotary"),
    ],
)
def test_nonsense_is_refused_in_words(make, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make()
    assert refusal.value.hint
