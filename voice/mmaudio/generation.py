"""Noise to standardised latents by MMAudio's flow, through the sampler that all networks share."""

from engine.sampling import FlowAdapter, Guidance, flow_levels, sample
from engine.sampling.guidance import guide
from engine.sampling.schedules import Level

STEPS, STRENGTH = 25, 4.5  # what the publisher uses


def spread(tree, batch):
    """Conditions of one item given to `batch` items without copying. Source: ours."""
    return {name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in tree.items()}


def guidance_of(strength):
    """The Guidance of a strength s: s conditional + (1 - s) null; below 1 the conditional side alone, unguided (None).

    Source: MMAudio; 2207.12598 equation 6.
    """
    return Guidance((float(strength),)) if strength >= 1 else None


def guided_flow(network, x, time, conditions, null, strength):
    """The guided flow at one time, (B, N, C); for comparisons. Source: ours."""
    guidance, level = guidance_of(strength), Level(time, time, 1 - time)
    model = FlowAdapter(network)
    if guidance is None:
        return model.ask(x, level, conditions)
    prediction = guide(model, [conditions], null, guidance)(x, level)
    return prediction.data - prediction.noise


def generate(network, noise, conditions, null, *, strength=STRENGTH, levels=None, given=None, on_step=None, solver="euler"):
    """Standardised latents like the noise.

    network: FlowNetwork, or what answers like it.
    noise: (B, N, latent_dim); B takes share the conditions.
    conditions, null: trees from FlowNetwork.conditions, for one item or for B.
    strength: of the guidance.  levels: from flow_levels; None is STEPS even ones.
    given: sampling.Given, latents to keep.  on_step: called with (done, all).  solver: as for sampling.sample.
    Source: MMAudio, 2412.15322 section 3.1.
    """
    return sample(
        FlowAdapter(network), noise, levels or flow_levels(STEPS), spread(conditions, len(noise)),
        null=spread(null, len(noise)), guidance=guidance_of(strength), solver=solver, given=given, on_step=on_step,
    )  # fmt: skip
