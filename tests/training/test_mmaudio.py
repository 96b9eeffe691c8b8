"""Training of the flow network at debug size, with the classes that make sound."""

import torch

from mouthpiece.training.mmaudio import compute_flow_step, fit, initialize_weights, sample_step_inputs
from mouthpiece.voice.mmaudio.network import FlowNetwork
from mouthpiece.voice.mmaudio.sizes import NetworkSize

SIZE = NetworkSize(4, 6, 5, 7, 16, 2, 1, 2, True, text_seq_len=4)


def batches(seed=0, batch=8, latents=6):
    """Two kinds of picture, each with its own sound."""
    generator = torch.Generator().manual_seed(seed)
    picture, sound = torch.randn(1, 1, 6, generator=generator), 2 * torch.ones(1, latents, 4)
    while True:
        kind = torch.tensor([1.0, -1.0]).repeat(batch // 2)[:, None, None]
        sync, text = torch.randn(batch, 8, 5, generator=generator), torch.randn(batch, 4, 7, generator=generator)
        yield kind * sound, ((kind * picture).expand(-1, 3, -1).clone(), sync, text)


def test_the_loss_falls():
    network = initialize_weights(FlowNetwork(SIZE))
    losses = fit(network, batches(), 60, peak=5e-3)
    assert sum(losses[-15:]) < 0.7 * sum(losses[:15])


def test_dropped_sides_learn_the_empty_rows_and_nothing_of_the_item():
    network = FlowNetwork(SIZE)
    network.requires_grad_(True)
    latents, (clip, sync, text) = next(batches())
    clip, sync, text = (features.clone().requires_grad_(True) for features in (clip, sync, text))
    noise, time, _ = sample_step_inputs(8, (6, 4), torch.Generator().manual_seed(0))
    rows = torch.arange(8)
    compute_flow_step(network, latents, (clip, sync, text), noise, time, (rows < 2, rows >= 6)).loss.sum().backward()
    for features, dropped in ((clip, rows < 2), (sync, rows < 2), (text, rows >= 6)):
        reach = features.grad.abs().sum((1, 2)) > 0
        assert torch.equal(reach, ~dropped)
    assert network.empty_clip_feat.grad.abs().sum() > 0 and network.empty_sync_feat.grad.abs().sum() > 0


def test_times_noise_and_drops_repeat_with_their_seed_and_a_tenth_is_dropped():
    first, second = (sample_step_inputs(20_000, (1, 1), torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip([*first[:2], *first[2]], [*second[:2], *second[2]]))
    shares = [float(rows.float().mean()) for rows in first[2]]
    assert all(abs(share - 0.1) < 0.01 for share in shares) and 0 < first[1].min() and first[1].max() < 1
    assert abs(float(torch.logit(first[1].double()).std()) - 1) < 0.03
