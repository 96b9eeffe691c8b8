"""Sample from diffusion and flow-matching networks: schedule, solver, guidance, noise and windows.

A small library of its own; README.md has its contract and an example. Time runs from 0, noise, to 1, data.
"""

from mouthpiece.engine.sampling.adapters import (
    Adapter,
    DataAdapter,
    EpsilonAdapter,
    FlowAdapter,
    Prediction,
    VelocityAdapter,
)
from mouthpiece.engine.sampling.guidance import Guidance, make_guided_denoiser
from mouthpiece.engine.sampling.noise import draw_item_noise, draw_step_noise, draw_tick_noise
from mouthpiece.engine.sampling.sampler import KnownValues, sample
from mouthpiece.engine.sampling.schedules import (
    NoiseLevel,
    draw_training_times,
    make_betas,
    make_cosine_levels,
    make_diffusion_levels,
    make_flow_levels,
    make_karras_levels,
)
from mouthpiece.engine.sampling.solvers import SOLVERS, Denoiser, Solver, SolverHistory, make_ddim
from mouthpiece.engine.sampling.windows import (
    Window,
    compute_overlap_weights,
    overlap_add,
    plan_windows,
    stream_windows,
)

__all__ = [
    "SOLVERS",
    "Adapter",
    "DataAdapter",
    "Denoiser",
    "EpsilonAdapter",
    "FlowAdapter",
    "Guidance",
    "KnownValues",
    "NoiseLevel",
    "Prediction",
    "Solver",
    "SolverHistory",
    "VelocityAdapter",
    "Window",
    "compute_overlap_weights",
    "draw_item_noise",
    "draw_step_noise",
    "draw_tick_noise",
    "draw_training_times",
    "make_betas",
    "make_cosine_levels",
    "make_ddim",
    "make_diffusion_levels",
    "make_flow_levels",
    "make_guided_denoiser",
    "make_karras_levels",
    "overlap_add",
    "plan_windows",
    "sample",
    "stream_windows",
]
